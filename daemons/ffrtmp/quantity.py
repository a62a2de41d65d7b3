"""Lengths of time and sizes as people write them: "15s", "6h", "16MiB".

One parser for flags, environment, configuration files, scenarios and the command line, so that a unit means the same
everywhere. Decimal and binary multiples are told apart (10MB is 10,000,000, 10MiB is 10,485,760), and a bare letter is
binary for sizes, as systemd reads MemoryMax=10M.
"""

from __future__ import annotations

import re

_TIME_S = {
    "us": 1e-6,
    "ms": 1e-3,
    "": 1.0,
    "s": 1.0,
    "sec": 1.0,
    "m": 60.0,
    "min": 60.0,
    "h": 3600.0,
    "d": 86_400.0,
    "day": 86_400.0,
    "days": 86_400.0,
    "w": 604_800.0,
}
_SIZE_POWERS = "kmgtp"
_PART = re.compile(r"(\d{1,24}(?:\.\d{1,24})?)\s*([a-zA-Z]*)\s*")  # longer ones are no lengths or sizes


def parse_duration_s(text: str) -> float:
    """Seconds of "15s", "1.5h", "1h 30min", or a bare number of seconds; raises ValueError for anything else."""
    total, position = 0.0, 0
    text = text.strip()
    while position < len(text):
        part = _PART.match(text, position)
        if part is None or part[2].lower() not in _TIME_S:
            raise ValueError(f'"{text}" is not a length of time; write it as 15s, 10min or 6h')
        total += float(part[1]) * _TIME_S[part[2].lower()]
        position = part.end()
    if not text:
        raise ValueError("a length of time is empty; write it as 15s, 10min or 6h")
    return total


def parse_size_bytes(text: str) -> int:
    """Bytes of "16MiB", "2G" (binary), "2GB" (decimal), or a bare number; raises ValueError for anything else."""
    part = _PART.fullmatch(text.strip())
    factor = None if part is None else _size_factor(part[2].lower())
    if part is None or factor is None:
        raise ValueError(f'"{text}" is not a size; write it as 512MiB or 2GiB')
    return round(float(part[1]) * factor)


def _size_factor(unit: str) -> int | None:
    if unit in ("", "b"):
        return 1
    power = _SIZE_POWERS.find(unit[0]) + 1
    if power and unit[1:] in ("", "i", "ib"):
        return int(1024**power)
    if power and unit[1:] == "b":
        return int(1000**power)
    return None


def format_duration(seconds: float) -> str:
    """The shortest exact form that `parse_duration_s` reads back: 21600.0 is "6h"."""
    for unit, length in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= length and seconds % length == 0:
            return f"{seconds / length:g}{unit}"
    return f"{seconds:g}s"


def format_size(size_bytes: int) -> str:
    """The shortest exact form that `parse_size_bytes` reads back: 16777216 is "16MiB"."""
    for power, unit in ((4, "TiB"), (3, "GiB"), (2, "MiB"), (1, "KiB")):
        if size_bytes and size_bytes % 1024**power == 0:
            return f"{size_bytes // 1024**power}{unit}"
    return f"{size_bytes}"
