"""The disk guard: no new work for a disk that is nearly full.

Both bounds hold at once: a share, because file systems grow slow and fragmented when nearly full, and an amount,
because a share of a small disk is nothing.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class DiskGuard:
    """What must stay free on a disk that jobs write to."""

    min_free_percent: float = 5.0
    min_free_bytes: int = 2 << 30


@dataclass(frozen=True, slots=True)
class Space:
    """Of one file system: what an unprivileged writer may still use, and its whole size."""

    free_bytes: int
    total_bytes: int

    @property
    def free_percent(self) -> float:
        """0..100; a file system without a size (some network ones) counts as empty."""
        return 100.0 * self.free_bytes / self.total_bytes if self.total_bytes > 0 else 100.0


def read_space(path: Path) -> Space:
    """The space of the file system that `path` is on; raises OSError where it cannot be seen."""
    found = os.statvfs(path)
    return Space(free_bytes=found.f_bavail * found.f_frsize, total_bytes=found.f_blocks * found.f_frsize)


def too_full(space: Space, guard: DiskGuard, *, wanted_bytes: int = 0) -> str | None:
    """Why nothing more may be written, or None. `wanted_bytes` is what the work would add."""
    left = Space(space.free_bytes - wanted_bytes, space.total_bytes)
    needing = f" after {size_text(wanted_bytes)} for the job" if wanted_bytes else ""
    if space.total_bytes <= 0:
        return None
    if left.free_bytes < guard.min_free_bytes:
        return f"{size_text(max(left.free_bytes, 0))} would be free{needing}; {size_text(guard.min_free_bytes)} must stay free"
    if left.free_percent < guard.min_free_percent:
        return (
            f"{max(left.free_percent, 0.0):.1f} % would be free{needing}; {guard.min_free_percent:g} % must stay free"
        )
    return None


def disk_reason(path: Path, guard: DiskGuard, *, wanted_bytes: int = 0) -> str | None:
    """Why nothing more may be written under `path`, or None. A path that cannot be seen is a reason too."""
    try:
        space = read_space(path)
    except OSError as error:
        return f"{path}: {error.strerror}"
    reason = too_full(space, guard, wanted_bytes=wanted_bytes)
    return f"{path}: {reason}" if reason else None


def size_text(size_bytes: int) -> str:
    """A size as a reason or an advice tells it, rounded: "2.0 GiB", "16.0 MiB"."""
    for power, unit in ((4, "TiB"), (3, "GiB"), (2, "MiB"), (1, "KiB")):
        if size_bytes >= 1024**power:
            return f"{size_bytes / 1024**power:.1f} {unit}"
    return f"{size_bytes} B"
