"""Disks that can be made full and empty again."""

from __future__ import annotations

import resource
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

Fill = Callable[[], None]


@contextmanager
def small_disk(folder: Path) -> Iterator[tuple[Path, Fill, Fill]]:
    """A file system of 8 MiB: its folder, and how to fill it and make room again. Needs the right to mount."""
    disk = folder / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", disk], check=True, capture_output=True)
    filler = disk / "filler"

    def fill() -> None:
        with filler.open("ab", buffering=0) as file, suppress(OSError):
            while True:
                file.write(bytes(4096))

    try:
        yield disk, fill, filler.unlink
    finally:
        subprocess.run(["umount", "--lazy", disk], check=True)


@contextmanager
def bounded_files(folder: Path) -> Iterator[tuple[Path, Fill, Fill]]:
    """Files that may not grow: a write past the end of the shortest one fails with EFBIG, as one over a quota does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill() -> None:
        sizes = [file.stat().st_size for file in folder.iterdir() if file.name.endswith("-wal")]
        resource.setrlimit(resource.RLIMIT_FSIZE, (min(sizes), hard))

    def room() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    try:
        yield folder, fill, room
    finally:
        room()


@cache
def can_mount() -> bool:
    """Whether this process may mount a file system."""
    if shutil.which("mount") is None:
        return False
    with tempfile.TemporaryDirectory() as folder:
        if subprocess.run(["mount", "-t", "tmpfs", "tmpfs", folder], check=False, capture_output=True).returncode:
            return False
        subprocess.run(["umount", "--lazy", folder], check=True)
        return True


# The bound on file sizes works everywhere; the full disk where it can be had.
FULL = {"quota": bounded_files, **({"full disk": small_disk} if can_mount() else {})}
