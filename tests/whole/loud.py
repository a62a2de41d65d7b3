"""Jobs whose log can be checked line by line: ffmpeg's loudness meter says a line each tenth of a second of sound."""

from __future__ import annotations

import re
import shutil

from clips import generated

from daemons import Farm

_TOLD = re.compile(r"Parsed_ebur128_0 .*\bt: ([0-9.]+) ")


def tenths(log: str) -> list[int]:
    """Which tenths of a second ffmpeg has told of, in the order of the log."""
    return [round(float(found) * 10) for found in _TOLD.findall(log)]


def measure(farm: Farm, seconds: float, output: str, *words: str) -> int:
    """Submit a job that measures so much sound; with "-re" among `words` at the sound's own pace."""
    clip = generated(seconds, 16, 16, 1.0, name="loud.mkv")
    there = farm.media / f"loud{seconds:g}.mkv"
    if not there.exists():  # an earlier job may be reading it
        shutil.copyfile(clip, there)
    engine = ("-i", "{input}", "-af", "ebur128", "-c:v", "copy", "-c:a", "flac", "{output}")
    return farm.run(f"media:loud{seconds:g}.mkv", f"media:{output}", *words, *engine)
