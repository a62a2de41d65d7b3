"""What the fuzzing broke, one by one; each was raised out of a place that nothing may be raised out of."""

from __future__ import annotations

import math
from pathlib import Path

import msgspec
import pytest
from fuzz.wires import listening
from store.little_master import key_of, little_master

from ffrtmp import keys, scenario, wire
from ffrtmp.config import source
from ffrtmp.config_master import MasterConfig
from ffrtmp.errors import FarmError
from ffrtmp.farm import events as ev
from ffrtmp.keys import Ticket
from ffrtmp.spec import JobSpec, Recipe, Source
from ffrtmp_agent.attempt import AttemptDir
from ffrtmp_agent.claims import State
from ffrtmp_agent.media import probe
from ffrtmp_master.store.high_water import NumbersFile

DEEP = b"\x82\xa4" + b"\x91" * 5000
NO_TEXT = msgspec.msgpack.encode({"type": "Goodbye", "session": 1}).replace(b"Goodbye", b"Good\x80ye")


@pytest.mark.parametrize("frame", [DEEP, NO_TEXT], ids=["nested", "no UTF-8"])
def test_p12_a_frame_that_is_no_message_is_told_by_one_error(frame: bytes):
    for decode in (wire.decode_from_agent, wire.decode_from_master):
        with pytest.raises(msgspec.DecodeError):
            decode(frame)


def test_p12_an_offer_of_a_job_from_a_queue_that_there_is_not_is_dropped_with_the_reason(tmp_path: Path):
    with listening(), little_master(tmp_path) as master:
        master.ask(lambda n: ev.AddNode(n, "a", key_of("a")))
        master.turn()
        session = master.hello("a")
        master.hear("a", wire.AdoptionOffer(session, "u", 1, 1, JobSpec(Recipe("x"), Source()), "", "high"))
        assert master.board.complaints.counts == {"a message that makes no sense was dropped": 1}


@pytest.mark.parametrize(
    "answer", [b'{"format":{"duration":"\x80"}}', b'{"x":' + b"[" * 5000], ids=["no UTF-8", "nested"]
)
def test_p12_an_answer_of_ffprobe_that_cannot_be_read_is_an_error_with_a_sentence(answer: bytes):
    with pytest.raises(FarmError, match="not understood"):
        probe.understood(answer, "")


@pytest.mark.parametrize("rate", ["1e99999999", "1e400", "9" * 5000, "1/0", "²/1"])
def test_p12_a_frame_rate_beyond_all_sense_is_not_known_and_takes_no_time(rate: str):
    assert probe.frame_rate(probe.Stream(avg_frame_rate=rate)) == 0.0


@pytest.mark.parametrize("text", ["inf", "1e308", "-1", "nan", "9" * 5000, "N/A"])
def test_p12_a_length_or_size_beyond_all_sense_is_not_known(text: str):
    tags = {"DURATION": f"{text}:00:00"}
    media = probe.Media((probe.Stream(duration=text, tags=tags),), probe.Format(duration=text, size=text))
    assert media.duration_s == 0.0
    assert probe.size_bytes(media, "/media/in.mov") == 0
    assert math.isfinite(media.streams[0].duration_s)


@pytest.mark.parametrize("content", [b'{"phase":"\x80"}', b'{"x":' + b"[" * 5000], ids=["no UTF-8", "nested"])
def test_p12_a_claim_of_the_jobs_user_that_is_no_text_is_no_claim(tmp_path: Path, content: bytes):
    folder = tmp_path / "1.1"
    folder.mkdir()
    for name in ("state", "verified", "outcome"):
        (folder / name).write_bytes(content)
    attempt = AttemptDir(folder)
    assert attempt.state() == State()
    assert attempt.verdict() is None


@pytest.mark.parametrize("content", [b"\x80", b'{"x":' + b"[" * 5000])
def test_p1_a_numbers_file_that_was_spoilt_counts_as_unreadable(tmp_path: Path, content: bytes):
    numbers = NumbersFile(tmp_path / "farm.db")
    numbers.path.write_bytes(content)
    assert numbers.read() is None
    assert numbers.exists()


ODD = {
    "digits": "max_retries = " + "9" * 5000,
    "big": "max_retries = " + "9" * 400,
    "nested": "max_retries = " + "[" * 5000,
}


@pytest.mark.parametrize("text", [*ODD.values(), f'log_max = "{"9" * 400}"'], ids=[*ODD, "size"])
def test_p12_a_configuration_with_a_number_or_a_nesting_beyond_all_bounds_is_refused_in_words(
    tmp_path: Path, text: str
):
    (tmp_path / "f.toml").write_text(text)
    with pytest.raises(FarmError):
        source(MasterConfig, {"config": str(tmp_path / "f.toml")}, {}).load()


BEYOND = {
    "bitrate": f'[video]\nbitrate = "{"9" * 400}M"',
    "width of a picture that nobody makes": f'kind = "probe"\ncontainer = "json"\n[video]\nwidth = {"9" * 30}\nheight = 16',
}


@pytest.mark.parametrize("text", [*ODD.values(), *BEYOND.values()], ids=[*ODD, *BEYOND])
def test_p12_a_scenario_with_a_number_or_a_nesting_beyond_all_bounds_is_refused_in_words(tmp_path: Path, text: str):
    (tmp_path / "x.toml").write_text(text)
    with pytest.raises(FarmError) as refused:
        scenario.load((tmp_path,))
    assert refused.value.hint


def test_p12_a_ticket_that_is_nested_without_end_is_damaged():
    body = b"\x91" * 2000
    with pytest.raises(FarmError, match="damaged"):
        Ticket.parse(f"ffrtmp1.{keys._letters(keys._checksum(body) + body)}", 0.0)
