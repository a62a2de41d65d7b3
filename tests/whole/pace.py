"""Jobs that take as long as their film lasts and hardly any work: a copy at the film's own pace."""

from __future__ import annotations

import shutil

from clips import generated

from daemons import Farm


def lay_clip(farm: Farm, duration_s: float) -> None:
    """Put a small film at media:in.mkv."""
    shutil.copyfile(generated(duration_s, 160, 90, 10.0, name="clip.mkv"), farm.media / "in.mkv")


def paced(farm: Farm, output: str, *words: str) -> int:
    """Submit a job that takes as long as media:in.mkv lasts; the agents need --allow-run."""
    return farm.run("media:in.mkv", f"media:{output}", "-re", "-i", "{input}", "-c", "copy", "{output}", words=words)
