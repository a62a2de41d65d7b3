"""What ffprobe says of a file, a URL or a generated pattern.

Sources are opened exactly as the engine opens them (see `sources`).
"""

from __future__ import annotations

import re
import subprocess

import msgspec
from msgspec import Struct, field

from ffrtmp.errors import FarmError
from ffrtmp.spec import Pattern
from ffrtmp_agent.media.sources import input_options, is_url, url_of

# What ffprobe writes of a stranger's file may be any number; what is read of it has a bound.
_CLOCK = re.compile(r"([0-9]{1,8}):([0-9]{2}):([0-9]{2}(?:\.[0-9]{1,12})?)")
_RATE = re.compile(r"([0-9]{1,12})/([0-9]{1,12})")
_WHOLE = re.compile(r"[0-9]{1,18}")
_LONGEST_S = 1e12
_GUESSED = "Estimating duration from bitrate"


class Stream(Struct, frozen=True):
    """One stream, as ffprobe tells it; numbers come as text."""

    codec_type: str = ""
    codec_name: str = ""
    width: int = 0
    height: int = 0
    sample_aspect_ratio: str = "1:1"
    avg_frame_rate: str = "0/0"
    duration: str = ""
    nb_frames: str = ""
    disposition: dict[str, int] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)

    @property
    def duration_s(self) -> float:
        """Its length, 0 where the container does not tell (Matroska tells in a tag)."""
        if (seconds := _seconds(self.duration)) > 0:
            return seconds
        clock = _CLOCK.match(self.tags.get("DURATION", ""))
        return int(clock[1]) * 3600 + int(clock[2]) * 60 + float(clock[3]) if clock else 0.0


class Format(Struct, frozen=True):
    """The container, as ffprobe tells it."""

    format_name: str = ""
    duration: str = ""
    size: str = ""


class Media(Struct, frozen=True):
    """All that is asked of a media file."""

    streams: tuple[Stream, ...] = ()
    format: Format = Format()
    guessed: bool = False  # the length is an estimate from the bitrate

    @property
    def video(self) -> Stream | None:
        """The first picture stream that is no cover art."""
        for stream in self.streams:
            if stream.codec_type == "video" and not stream.disposition.get("attached_pic"):
                return stream
        return None

    @property
    def sounds(self) -> tuple[Stream, ...]:
        """All sound tracks."""
        return tuple(stream for stream in self.streams if stream.codec_type == "audio")

    @property
    def duration_s(self) -> float:
        """Length of the whole, 0 where it is not known."""
        return _seconds(self.format.duration) or max((stream.duration_s for stream in self.streams), default=0.0)


def probe(source: str, *, timeout_s: float | None = None) -> Media:
    """What is in a file or behind a URL; raises FarmError with ffprobe's own line when it cannot be read in time."""
    argv = ["ffprobe", "-hide_banner", "-loglevel", "warning", *input_options(source)]
    argv += ["-show_format", "-show_streams", "-of", "json", "-i", url_of(source)]
    try:
        done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, timeout=timeout_s, check=False)
    except subprocess.TimeoutExpired:
        raise FarmError(f"ffprobe did not answer in {timeout_s:g} s") from None
    except OSError as error:
        raise FarmError(f"ffprobe cannot be started: {error.strerror}", hint="install ffmpeg") from error
    said = done.stderr.decode("utf-8", "replace")
    if done.returncode != 0:
        raise FarmError((said.strip().splitlines() or ["ffprobe failed and said nothing"])[-1])
    return understood(done.stdout, said)


def understood(answer: bytes, said: str) -> Media:
    """What ffprobe answered, `said` being what it complained of; raises FarmError where it is no answer."""
    try:
        media = msgspec.json.decode(answer, type=Media)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise FarmError(f"ffprobe's answer is not understood: {error}") from error
    return msgspec.structs.replace(media, guessed=_GUESSED in said)


def duration_s(source: str, *, pattern: Pattern | None = None, timeout_s: float = 10.0) -> float:
    """Expected length for the progress display. 0 where it is not known: the engine will say why."""
    if pattern is not None:
        return pattern.duration_s
    try:
        return probe(source, timeout_s=timeout_s).duration_s
    except FarmError:
        return 0.0


def demuxed_s(source: str) -> float:
    """The true length of a source whose container does not tell: read from end to end, not decoded. 0: unreadable."""
    argv = ["ffmpeg", "-nostdin", "-v", "error", "-progress", "pipe:1", *input_options(source), "-i", url_of(source)]
    argv += ["-map", "0:V?", "-map", "0:a?", "-c", "copy", "-f", "null", "-"]
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", check=False)
    times = [line.partition("=")[2] for line in done.stdout.splitlines() if line.startswith("out_time_us=")]
    return _seconds(times[-1]) / 1e6 if done.returncode == 0 and times else 0.0


def size_bytes(media: Media, source: str) -> int | None:
    """Of a source; a URL's as its server told it."""
    told = media.format.size
    if _WHOLE.fullmatch(told):
        return int(told)
    return None if is_url(source) else 0


def frame_rate(stream: Stream) -> float:
    """Pictures a second, 0 where it is not known."""
    told = _RATE.fullmatch(stream.avg_frame_rate)
    return int(told[1]) / int(told[2]) if told and int(told[2]) else 0.0


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        return 0.0
    return seconds if 0 <= seconds <= _LONGEST_S else 0.0
