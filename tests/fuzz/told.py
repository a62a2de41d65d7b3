"""What programs and other hosts tell: progress, ffprobe's answer, tickets."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import msgspec
from fuzz.engine import DEEP, REFUSED
from fuzz.shapes import TEXT, bitten, sound, spoilt, written
from hypothesis import strategies as st

from ffrtmp import keys, wire
from ffrtmp.errors import FarmError
from ffrtmp.keys import KeyPair, Ticket
from ffrtmp.spec import Audio, JobSpec, Recipe, Source, Video
from ffrtmp_agent.media import checks, probe, progress
from ffrtmp_master import manners
from ffrtmp_master.rows import TicketRow
from ffrtmp_master.tickets import Entry, Tickets

NOW_S = 1_000_000.0


class ProgressFiles:
    """Ends of ffmpeg's progress files; what is read of one can be sent and is taken by a master."""

    name = "progress"

    @contextmanager
    def open(self) -> Iterator[None]:
        yield

    def examples(self) -> st.SearchStrategy[Any]:
        number = st.integers(0, 10**7).map(str) | st.floats(0, 1e5).map(str)
        odd = st.sampled_from(
            ("N/A", "", "-1", "9" * 500, "1e400", "nan", "00:00:01.500000", "-00:00:00.1", "1" * 200 + ".5", "٣")
        )
        words = (
            "frame",
            "fps",
            "bitrate",
            "out_time_us",
            "out_time_ms",
            "out_time",
            "dup_frames",
            "drop_frames",
            "speed",
        )
        line = st.tuples(st.sampled_from(words) | TEXT, number | number | odd, st.sampled_from(("", "x", "kbits/s")))
        lines = st.lists(line.map(lambda part: f"{part[0]}={part[1]}{part[2]}"), max_size=12)
        block = st.tuples(lines, st.sampled_from(("continue", "end"))).map(
            lambda b: "\n".join([*b[0], f"progress={b[1]}\n"])
        )
        text = st.lists(block, min_size=1, max_size=3).map("".join).map(lambda t: t.encode("utf-8", "replace"))
        return st.tuples(bitten(text), st.sampled_from((0.0, 10.0, 1e9)))

    def attempt(self, example: Any) -> str:
        found = progress.parse(*example)
        if found is None:
            return REFUSED
        report = wire.AttemptReport("u", 1, 1, "running", progress=found)
        beat = wire.Heartbeat(1, 1, attempts=(report,))
        assert wire.decode_from_agent(wire.encode(beat)) == beat
        assert manners.offence(beat, 32) == ""
        assert found.percent is None or 0 <= found.percent <= 100
        assert found.eta_s is None or math.isfinite(found.eta_s)
        return DEEP


class Probes:
    """ffprobe's answers about a source and an output, down to the verdict and the figures."""

    name = "ffprobe's output"

    @contextmanager
    def open(self) -> Iterator[None]:
        yield

    def examples(self) -> st.SearchStrategy[Any]:
        seconds = st.floats(0, 1e5).map(str) | st.sampled_from(("", "N/A", "inf", "nan", "-1", "1e308", "9" * 400))
        hints = {
            "codec_type": st.sampled_from(("video", "audio", "data")),
            "codec_name": st.sampled_from(("h264", "aac", "png")),
            "duration": seconds,
            "size": st.integers(0, 1 << 50).map(str) | st.sampled_from(("", "N/A", "9" * 30, "1.5", "²")),
            "avg_frame_rate": st.sampled_from(
                ("30/1", "30000/1001", "0/0", "1/0", "", "1e400", "1e99999999", "9" * 5000)
            ),
            "tags": st.dictionaries(
                st.just("DURATION"), st.sampled_from(("00:00:01.5", "9" * 5000 + ":00:00", "x")), max_size=1
            ),
        }
        answer = bitten(spoilt(sound(probe.Media, hints)).map(written))
        return st.tuples(answer, answer, st.sampled_from(("/media/in.mov", "http://127.0.0.1/a")))

    def attempt(self, example: Any) -> str:
        reached = False
        media = []
        for raw in example[:2]:
            try:
                media.append(probe.understood(raw, ""))
                reached = True
            except FarmError:
                media.append(probe.Media())
        source, output = media
        recipe = Recipe("x", video=Video(width=1280, height=720), audio=Audio())
        spec = JobSpec(recipe, Source(url="http://127.0.0.1/a"))
        try:
            checks.check_media(recipe, output, checks.expected(spec, source, ""), [])
        except checks.Bad as bad:
            wire.encode(bad.failure)
        for each in media:
            assert math.isfinite(each.duration_s)
            assert each.duration_s >= 0
            size = probe.size_bytes(each, example[2])
            assert size is None or 0 <= size <= manners.WHOLE_MOST
            for stream in each.streams:
                assert math.isfinite(probe.frame_rate(stream))
        return DEEP if reached else REFUSED


class TicketTexts:
    """Tickets as they are pasted, and what the master says to a host that knocks with one."""

    name = "ticket"

    @contextmanager
    def open(self) -> Iterator[None]:
        self._keys = KeyPair.of_secret("0" * 40)
        self._text = Ticket("tcp://127.0.0.1:1", self._keys.public, self._keys, int(NOW_S) + 60, "a").text
        yield

    def examples(self) -> st.SearchStrategy[Any]:
        raw = st.binary(min_size=32, max_size=32)
        hub = st.sampled_from(("tcp://127.0.0.1:8081", "tcp://127.0.0.1:8081", "tcp://[::1]:1", "tcp://x\n:1"))
        until = st.sampled_from([int(NOW_S) + 60] * 9 + [0, -1, (1 << 63) - 1])
        right = st.tuples(hub, raw, raw, until, TEXT).map(list)
        payload = (right | spoilt(right, 1)).map(msgspec.msgpack.encode)
        made = bitten(payload).map(lambda body: f"ffrtmp1.{keys._letters(keys._checksum(body) + body)}")
        pasted = bitten(st.just(self._text.encode())).map(lambda text: text.decode("utf-8", "replace"))
        enroll = spoilt(sound(wire.Enroll, {"public_key": st.just("1" * 40), "name": st.sampled_from(("", "a"))})).map(
            written
        )
        return st.tuples(st.one_of([made] * 7 + [pasted] * 2 + [TEXT]), enroll)

    def attempt(self, example: Any) -> str:
        text, raw = example
        try:
            ticket = Ticket.parse(text, NOW_S)
        except FarmError as error:
            assert error.hint
            return REFUSED
        assert Ticket.parse(ticket.text, NOW_S) == ticket
        tickets = Tickets([TicketRow(ticket.keys.public, ticket.expires_at, ticket.name)])
        try:
            enroll = msgspec.json.decode(raw, type=wire.Enroll)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return DEEP
        judged = tickets.judge(ticket.keys.public, enroll, NOW_S)
        assert isinstance(judged, Entry | wire.Sorry)
        return DEEP


TARGETS = (ProgressFiles, Probes, TicketTexts)
