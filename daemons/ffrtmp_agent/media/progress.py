"""What ffmpeg's `-progress` output says: blocks of key=value lines, each ended by progress=continue or progress=end.

The file is read while it is written and is cut at its start when it grows, so the tail may begin and end in the middle
of a line. Values that ffmpeg does not know yet are "N/A".
"""

from __future__ import annotations

import re
from pathlib import Path

from ffrtmp.spec import Progress

TAIL_BYTES = 4096  # several blocks
_NUMBER = re.compile(r"\s*(-?\d+(?:\.\d+)?)")
_MOST = 1e15  # what an engine counts stays below; what stands in its file may be anything
_CLOCK = re.compile(r"(-?)(\d+):(\d\d):(\d\d(?:\.\d+)?)")


def parse(tail: str | bytes, total_s: float) -> Progress | None:
    """The state at the last complete block; None while there is none. `total_s` is the expected length, 0: unknown."""
    text = tail.decode("ascii", "replace") if isinstance(tail, bytes) else tail
    whole_lines, _, _ = text.rpartition("\n")
    values: dict[str, str] = {}
    complete: dict[str, str] | None = None
    for line in whole_lines.splitlines():
        key, found, value = line.partition("=")
        if not found:
            continue
        values[key.strip()] = value.strip()
        if key == "progress":
            complete = dict(values)
    return None if complete is None else _progress(complete, total_s)


def read(path: Path, total_s: float) -> Progress | None:
    """The same of a progress file; None where there is no file yet or nothing in it."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - TAIL_BYTES))
            return parse(file.read(TAIL_BYTES), total_s)
    except FileNotFoundError:
        return None


def _progress(values: dict[str, str], total_s: float) -> Progress:
    return Progress(
        out_time_s=_out_time_s(values),
        total_s=total_s,
        frames=int(_number(values, "frame")),
        fps=_number(values, "fps"),
        speed=_number(values, "speed"),
        bitrate_bps=round(_number(values, "bitrate") * 1000),  # written as "1205.1kbits/s"
        dropped=int(_number(values, "drop_frames")),
        duplicated=int(_number(values, "dup_frames")),
    )


def _number(values: dict[str, str], key: str) -> float:
    """The number that a value starts with, never below zero and bounded; 0 where it is not known."""
    match = _NUMBER.match(values.get(key, ""))
    return min(max(0.0, float(match[1])), _MOST) if match else 0.0


def _out_time_s(values: dict[str, str]) -> float:
    if _NUMBER.match(values.get("out_time_us", "")):
        return _number(values, "out_time_us") / 1e6
    clock = _CLOCK.match(values.get("out_time", ""))
    if clock is None or clock[1]:
        return 0.0
    return min(float(clock[2]) * 3600 + int(clock[3]) * 60 + float(clock[4]), _MOST)
