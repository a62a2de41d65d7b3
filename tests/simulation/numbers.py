"""The numbers file of the master, beside its database: no room for it, no way to write it, and what a power cut leaves of it.

It is not SQLite's, so `disk` does not see it. What is in the way here is real: a link to /dev/full, or a folder, stands where
the file's next version is to be written.
"""

from __future__ import annotations

import random
from contextlib import suppress
from pathlib import Path


class Numbers:
    """The numbers file under one folder. `fault` is empty, "full" or "broken"."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "farm.db.numbers.json"
        self.fault = ""
        self._fresh = self.path.with_name(self.path.name + ".new")
        self._synced = b""
        self._inode = -1

    def before(self, *, full: bool) -> None:
        """The master may be about to write it: put the obstacle there, or take it away. `full`: so is the disk."""
        with suppress(FileNotFoundError):
            if self._fresh.is_dir():
                self._fresh.rmdir()
            else:
                self._fresh.unlink()
        if full or self.fault == "full":
            self._fresh.symlink_to("/dev/full")
        elif self.fault == "broken":
            self._fresh.mkdir()

    def after(self) -> None:
        """It may have been written: then all of it is on disk. What is noted in its place is not."""
        with suppress(FileNotFoundError):
            inode = self.path.stat().st_ino
            if inode != self._inode:
                self._inode, self._synced = inode, self.path.read_bytes()

    def power_cut(self, chance: random.Random) -> None:
        """What was noted since the last sync may be lost."""
        if self._synced and chance.random() < 0.7:
            self.path.write_bytes(self._synced)
