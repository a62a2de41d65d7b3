"""What stands behind the flags: texts of people made into the numbers that the API takes.

Each function is an argparse type: it returns the value or raises ArgumentTypeError with a sentence.
"""

from __future__ import annotations

import posixpath
import re
from argparse import ArgumentTypeError
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeVar

from ffrtmp.quantity import parse_duration_s, parse_size_bytes

JOB = re.compile(r"[1-9][0-9]{0,17}|[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_PATTERN = re.compile(r"(\d+)x(\d+)(?:@(\d+(?:\.\d+)?))?(?::(.+))?")
_REMOTE = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_ROOTED = re.compile(r"[^/:]+:(?!//)")
N = TypeVar("N")


def _said(read: Callable[[str], N], text: str) -> N:
    try:
        return read(text)
    except ValueError as error:
        raise ArgumentTypeError(str(error)) from None


def job(text: str) -> str:
    """A job's number or UUID."""
    if not JOB.fullmatch(text):
        raise ArgumentTypeError(f'"{text}" is no job: give its number or its UUID')
    return text


def duration_s(text: str) -> float:
    """Seconds of 90, 90s, 10min, 1h 30min."""
    return _said(parse_duration_s, text)


def size_bytes(text: str) -> int:
    """Bytes of 512MiB, 2G."""
    return _said(parse_size_bytes, text)


def cpu_milli(text: str) -> int:
    """Thousandths of a core, of 2, 0.5 or 1500m."""
    try:
        milli = float(text[:-1]) if text.endswith("m") else float(text) * 1000
    except ValueError:
        milli = 0.0
    if not 1 <= milli <= 1_000_000_000:
        raise ArgumentTypeError(f'"{text}" is no number of cores; write it as 2, 0.5 or 1500m')
    return round(milli)


def between(lowest: int, highest: int) -> Callable[[str], int]:
    """A whole number from `lowest` to `highest`."""

    def read(text: str) -> int:
        if not re.fullmatch(r"[+-]?\d{1,18}", text) or not lowest <= int(text) <= highest:
            raise ArgumentTypeError(f'"{text}" is not a whole number from {lowest} to {highest}')
        return int(text)

    return read


def pattern(text: str) -> dict[str, float]:
    """The fields of a Pattern, of WIDTHxHEIGHT[@RATE][:DURATION]."""
    parts = _PATTERN.fullmatch(text)
    if parts is None:
        raise ArgumentTypeError(f'"{text}" is no test pattern; write it as 1280x720@30:60 (size, rate, seconds)')
    fields: dict[str, float] = {"width": int(parts[1]), "height": int(parts[2])}
    if parts[3]:
        fields["fps"] = float(parts[3])
    if parts[4]:
        fields["duration_s"] = duration_s(parts[4])
    return fields


def is_url(text: str) -> bool:
    """Whether it names something on the network."""
    return _REMOTE.match(text) is not None


def media_path(text: str) -> str:
    """URLs and ROOT:relative as they are; a path of this host made absolute, because the master has another folder."""
    if not text:
        raise ArgumentTypeError("a path is empty")
    if is_url(text) or _ROOTED.match(text):
        return text
    return posixpath.join(Path.cwd(), posixpath.normpath(text)) + ("/" if text.endswith("/") else "")


def local_path(text: str) -> str:
    """A path of this host, absolute."""
    return str(Path(text).absolute())


def since(text: str) -> str:
    """A moment in UTC: a length of time ago (24h), or a date or time as 2026-01-31 or 2026-01-31T12:00."""
    try:
        moment = datetime.now(UTC) - timedelta(seconds=parse_duration_s(text))
    except ValueError:
        try:
            moment = datetime.fromisoformat(text).astimezone(UTC)
        except ValueError:
            raise ArgumentTypeError(f'"{text}" is no moment; write it as 24h (ago) or 2026-01-31T12:00') from None
    except OverflowError:
        raise ArgumentTypeError(f'"{text}" is too long ago') from None
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
