"""The master's disk: SQLite's own files, and what of them was synced. It loses the rest, tears it, fails or fills up.

Writes go into real files (best on a tmpfs), as into a kernel's page cache; nothing is really synced. What has been written
since the last sync of a file is remembered with what stood there before. So `cut` can leave what a power cut might have
left: of the writes that were not synced each is there, or not, or one is there in part.

A disk that is `dead` takes nothing more: it is that of a process which was killed in the middle of its work.
"""

from __future__ import annotations

import contextlib
import errno
import os
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import apsw

SECTOR_BYTES = 512
NAME = "ffrtmp-simulation"


@dataclass
class Unsynced:
    """What was written to one file since its last sync: place, old bytes, new bytes; and the size it had then."""

    size: int = -1
    writes: list[tuple[int, bytes, bytes]] = field(default_factory=list)


@dataclass
class Disk:
    """The disk under one folder, for one life of a process."""

    folder: str
    dead: bool = False
    full: bool = False
    fail_sync: bool = False
    dies_after: int = -1  # so many more writes, and then never one again
    writes: int = 0
    struck: dict[str, int] = field(default_factory=dict)
    files: dict[str, Unsynced] = field(default_factory=dict)

    def note(self, what: str) -> None:
        """Count a fault that came to be."""
        self.struck[what] = self.struck.get(what, 0) + 1

    def cut(self, chance: random.Random) -> None:
        """The power is gone: of what was not synced only a part is left. The files must be closed."""
        for name, unsynced in self.files.items():
            if unsynced.writes and Path(name).exists():
                self.note("unsynced writes lost")
                _lose(Path(name), unsynced, chance)
        self.files.clear()


def _lose(path: Path, unsynced: Unsynced, chance: random.Random) -> None:
    content = bytearray(path.read_bytes())
    for offset, old, _new in reversed(unsynced.writes):
        content[offset : offset + len(old)] = old
    del content[unsynced.size :]
    whole = chance.random() < 0.3  # nothing got there
    torn = chance.randrange(len(unsynced.writes))
    for number, (offset, _old, new) in enumerate(unsynced.writes):
        if whole or (chance.random() < 0.5 and number != torn):
            continue
        part = new[: SECTOR_BYTES * chance.randrange(1 + len(new) // SECTOR_BYTES)] if number == torn else new
        if len(content) < offset + len(part):
            content.extend(bytes(offset + len(part) - len(content)))
        content[offset : offset + len(part)] = part
    path.write_bytes(bytes(content))


_disks: dict[str, Disk] = {}
_errno = [0]


def _disk_of(name: str) -> Disk | None:
    return _disks.get(os.path.dirname(name))  # noqa: PTH120  # called for each file that is opened


class _Vfs(apsw.VFS):
    def __init__(self) -> None:
        super().__init__(NAME, "unix")

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> apsw.VFSFile:
        path = name.filename() if isinstance(name, apsw.URIFilename) else name
        disk = _disk_of(path) if path else None
        if disk is None or path is None or path.endswith("-shm"):
            return apsw.VFSFile("unix", name, flags)
        return _File(disk, path, name, flags)

    def xDelete(self, filename: str, syncdir: bool) -> None:
        disk = _disk_of(filename)
        if disk is not None:
            if disk.dead:
                return
            disk.files.pop(filename, None)
        super().xDelete(filename, False)

    def xGetLastError(self) -> tuple[int, str]:
        return _errno[0], os.strerror(_errno[0])


class _File(apsw.VFSFile):
    def __init__(self, disk: Disk, path: str, name: Any, flags: list[int]) -> None:
        super().__init__("unix", name, flags)
        self.disk = disk
        self.unsynced = disk.files.setdefault(path, Unsynced())

    def xWrite(self, data: Any, offset: int) -> None:
        disk, unsynced = self.disk, self.unsynced
        if disk.dies_after >= 0:
            if disk.dies_after == 0:
                disk.dead = True
                disk.note("died between two writes")
            disk.dies_after -= 1
        if disk.dead:
            raise _error(apsw.SQLITE_IOERR_WRITE, errno.EIO)
        if disk.full:
            disk.note("write without room")
            raise _error(apsw.SQLITE_FULL, errno.ENOSPC)
        disk.writes += 1
        size = super().xFileSize()
        if unsynced.size < 0:
            unsynced.size = size
        there = min(len(data), size - offset)
        old = super().xRead(there, offset) if there > 0 else b""
        unsynced.writes.append((offset, old, bytes(data)))
        super().xWrite(data, offset)

    def xTruncate(self, newsize: int) -> None:
        if self.disk.dead:
            raise _error(apsw.SQLITE_IOERR_TRUNCATE, errno.EIO)
        super().xTruncate(newsize)
        self.unsynced.writes.clear()  # a shorter file is taken to be on disk at once
        self.unsynced.size = -1

    def xSync(self, flags: int) -> None:
        disk = self.disk
        if disk.dead:
            raise _error(apsw.SQLITE_IOERR_FSYNC, errno.EIO)
        if disk.fail_sync:
            disk.fail_sync = False
            disk.note("sync failed")
            raise _error(apsw.SQLITE_IOERR_FSYNC, errno.EIO)
        self.unsynced.writes.clear()
        self.unsynced.size = -1


def _error(code: int, number: int) -> Exception:
    _errno[0] = number
    return apsw.exception_for(code)


@contextlib.contextmanager
def simulated(folder: Path) -> Iterator[None]:
    """All of SQLite's files below `folder` are on `mount`ed disks in this block, and those of others where they always are."""
    vfs = _Vfs()
    before = "unix"
    apsw.set_default_vfs(NAME)
    try:
        yield
    finally:
        apsw.set_default_vfs(before)
        vfs.unregister()
        for name in [name for name in _disks if Path(name).is_relative_to(folder)]:
            del _disks[name]


def mount(folder: Path) -> Disk:
    """A fresh life of the disk at `folder`."""
    disk = _disks[str(folder)] = Disk(str(folder))
    return disk
