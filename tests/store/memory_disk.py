"""A disk that forgets, tears, fails and fills up: what a power cut or a dying drive does to a folder, without either.

`Disk` stands under one folder. What is written to it goes into real files, as into the page cache of a kernel; the disk
keeps in memory what of it is *durable*: what was synced, file by file, and which names the folder had when it was last
synced. So it can tell at any moment what a machine would find after the power went (`image`), and it can make any step
fail. A *step* is one write, sync, truncation, removal or rename, counted from 1.

    with Disk(folder) as disk:
        disk.fail_at(17, "io")
        ...                             # Store.open(folder / "farm.db", ...) and all that follows
        found = disk.image("mixed", random.Random(seed))
    lay_out(found, another_folder)      # what the next start sees

SQLite comes here through a VFS of apsw that is the process's default while the disk is in use, the rest (the numbers file,
backups, a restore) through `os`. The folder should be on a tmpfs: the real syncs are not wanted.

What it takes a real disk for: a write reaches the platter in sectors of 512 bytes, in any order, until it is synced. A
folder's changes reach it in their order. After a failed sync the pages count as clean and are gone after a power cut,
whatever later syncs say.
"""

from __future__ import annotations

import errno
import itertools
import os
import random
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import apsw

SECTOR_BYTES = 512
Fault = Literal["io", "full", "quota"]
Cut = Literal["killed", "lost", "torn", "mixed"]
CUTS: tuple[Cut, ...] = ("killed", "lost", "torn", "mixed")
_NOT_KEPT = ("-shm", ".lock")  # made anew by whoever comes first
_names = itertools.count(1)


class PowerCut(Exception):
    """The machine is off: nothing is written any more."""


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that was about to be done: `what` is write, sync, truncate, remove or rename; `name` the file's."""

    number: int
    what: str
    name: str


@dataclass(slots=True)
class _Write:
    """Bytes at a place; `data` is None for a truncation to `offset` bytes."""

    number: int
    offset: int
    data: bytes | None


@dataclass(slots=True)
class _File:
    """What is known of one inode. The descriptor keeps its number from being used again."""

    descriptor: int
    durable: bytearray = field(default_factory=bytearray)
    unsynced: list[_Write] = field(default_factory=list)

    def visible(self) -> bytes:
        return os.pread(self.descriptor, os.fstat(self.descriptor).st_size, 0)


class Disk:
    """The disk under `folder`; see above. One at a time in a process."""

    def __init__(self, folder: Path, steps: int = 0) -> None:
        """`steps`: how many were made before, where this is the same disk after a crash."""
        self.folder = folder
        self.steps = steps
        self.watch: Callable[[Step], None] = lambda _step: None  # called before each step, which may be the last one
        self.full = False  # no write has room
        self.off = False  # the power went
        self.struck: list[tuple[Step, Fault]] = []  # the faults that came to be
        self._plan: dict[int, Fault] = {}
        self._lasting: tuple[int, Fault] | None = None
        self._files: dict[int, _File] = {}
        self._names: dict[str, int] = {}  # as they are durable: name -> inode
        self._renames: list[tuple[str, int | None]] = []  # not yet durable: the name now means this inode, or none
        self._errno = 0
        self._lock = threading.RLock()
        self._before: dict[str, Any] = {}
        self._vfs: _Vfs | None = None

    def __enter__(self) -> Disk:
        for path in self._listing():
            self._names[path.name] = path.stat().st_ino
            file = self._known(path)
            file.durable[:] = file.visible()
        self._renames.clear()
        self._vfs = _Vfs(self)
        for name in ("fsync", "pwrite", "sendfile", "replace", "unlink", "link"):
            self._before[name] = getattr(os, name)
            setattr(os, name, getattr(self, f"_os_{name}"))
        return self

    def __exit__(self, *_error: object) -> None:
        for name, function in self._before.items():
            setattr(os, name, function)
        if self._vfs is not None:
            apsw.set_default_vfs("unix")
            self._vfs.unregister()
        for file in self._files.values():
            os.close(file.descriptor)
        self._files.clear()

    # ---- what a test asks for ------------------------------------------------------------------------------------

    def fail_at(self, step: int, fault: Fault) -> None:
        """Let this step fail: with an I/O error, for want of room, or over a quota."""
        self._plan[step] = fault

    def fail_from(self, step: int, fault: Fault) -> None:
        """Let this step fail and all that follow, until `mend`."""
        self._lasting = (step, fault)

    def mend(self) -> None:
        """Let nothing fail any more."""
        self._plan.clear()
        self._lasting = None

    def image(self, how: Cut, chance: random.Random) -> dict[str, bytes]:
        """What the next start finds, name by name, where everything stops now.

        killed: the process only, all that was written is there. lost: the power, and nothing unsynced is there. torn: the
        power, in the middle of the last write. mixed: the power, and `chance` says which sectors are there.
        """
        with self._lock:
            if how == "killed":
                return {path.name: self._known(path).visible() for path in self._listing()}
            torn = max((w.number for f in self._files.values() for w in f.unsynced), default=0) if how == "torn" else 0
            names = dict(self._names)
            kept = {"lost": 0, "torn": len(self._renames)}.get(how, chance.randint(0, len(self._renames)))
            for name, inode in self._renames[:kept]:
                names.pop(name, None)
                if inode is not None:
                    names[name] = inode
            return {name: self._content(self._files[inode], how, torn, chance) for name, inode in names.items()}

    def _content(self, file: _File, how: Cut, torn: int, chance: random.Random) -> bytes:
        content = bytearray(file.durable)
        if how == "lost":
            return bytes(content)
        for write in file.unsynced:
            if write.data is None:
                if how == "torn" or chance.random() < 0.5:
                    del content[write.offset :]
                continue
            for start, part in _sectors(write):
                there = start < write.offset + len(write.data) // 2 if write.number == torn else how == "torn"
                if there or (how == "mixed" and chance.random() < 0.5):
                    _put(content, start, part)
        return bytes(content)

    # ---- steps ---------------------------------------------------------------------------------------------------

    def step(self, what: str, name: str) -> int:
        """Count a step, and fail it where that is asked for; returns 0, or the errno it fails with. Raises PowerCut."""
        with self._lock:
            if self.off:
                raise PowerCut
            self.steps += 1
            step = Step(self.steps, what, name)
            self.watch(step)
            if self.off:
                raise PowerCut
            fault = self._plan.get(self.steps)
            if fault is None and self._lasting is not None and self.steps >= self._lasting[0]:
                fault = self._lasting[1]
            if fault is None and self.full and what == "write":
                fault = "full"
            if fault in ("full", "quota") and what not in ("write", "rename"):
                fault = None  # these need no room
            if fault is None:
                return 0
            self.struck.append((step, fault))
            self._errno = {"io": errno.EIO, "full": errno.ENOSPC, "quota": errno.EDQUOT}[fault]
            return self._errno

    def wrote(self, path: Path, offset: int, data: bytes | None) -> None:
        """Bytes went to the page cache; None: the file was cut to `offset` bytes."""
        with self._lock:
            self._known(path).unsynced.append(_Write(self.steps, offset, data))

    def synced(self, path: Path, failed: bool = False) -> None:
        """What was written to a file is durable; or, where the sync failed, it will never be."""
        with self._lock:
            file = self._known(path)
            if not failed:
                for write in file.unsynced:
                    _put(file.durable, write.offset, write.data)
            file.unsynced.clear()

    def synced_names(self) -> None:
        """The folder is as it looks."""
        with self._lock:
            listing = self._listing()
            for path in listing:
                self._known(path)
            self._names = {path.name: path.stat().st_ino for path in listing}
            self._renames.clear()

    def named(self, path: Path) -> None:
        """A name was made, removed, or means another file."""
        with self._lock:
            if path.exists():
                self._known(path)
                self._renames.append((path.name, path.stat().st_ino))
            else:
                self._renames.append((path.name, None))

    def holds(self, path: object) -> bool:
        """Whether this is a file of ours that a crash must deal with."""
        text = os.fspath(path)  # type: ignore[call-overload]
        return os.path.dirname(text) == str(self.folder) and not text.endswith(_NOT_KEPT)  # noqa: PTH120

    @property
    def last_errno(self) -> int:
        """Of the last fault."""
        return self._errno

    def _listing(self) -> list[Path]:
        return [path for path in self.folder.iterdir() if self.holds(path) and path.is_file()]

    def _known(self, path: Path) -> _File:
        inode = path.stat().st_ino
        if inode not in self._files:
            self._files[inode] = _File(os.open(path, os.O_RDONLY | os.O_CLOEXEC))
            self._renames.append((path.name, inode))
        return self._files[inode]

    # ---- what does not come through SQLite -----------------------------------------------------------------------

    def _here(self, descriptor: int) -> Path | None:
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        return path if path == self.folder or self.holds(path) else None

    def _check(self, what: str, name: str) -> None:
        if number := self.step(what, name):
            raise OSError(number, os.strerror(number))

    def _os_fsync(self, descriptor: int) -> None:
        path = self._here(descriptor)
        if path is None:
            self._before["fsync"](descriptor)
            return
        self._check("sync", path.name)
        if path == self.folder:
            self.synced_names()
            return
        file = self._known(path)
        file.durable[:] = file.visible()
        file.unsynced.clear()

    def _os_pwrite(self, descriptor: int, data: bytes, offset: int) -> int:
        path = self._here(descriptor)
        if path is not None:
            self._check("write", path.name)
            self.wrote(path, offset, bytes(data))
        return int(self._before["pwrite"](descriptor, data, offset))

    def _os_sendfile(self, target: int, source: int, offset: int, count: int) -> int:
        path = self._here(target)
        if path is not None:
            self._check("write", path.name)
        sent = int(self._before["sendfile"](target, source, offset, count))
        if path is not None and sent:
            self.wrote(path, offset, os.pread(source, sent, offset))
        return sent

    def _os_replace(self, source: Path, target: Path, **more: Any) -> None:
        ours = self.holds(target)
        if ours:
            self._known(Path(source))
            self._check("rename", Path(target).name)
        self._before["replace"](source, target, **more)
        if ours:
            self.named(Path(source))
            self.named(Path(target))

    def _os_link(self, source: Path, target: Path, **more: Any) -> None:
        ours = self.holds(target)
        if ours:
            self._check("rename", Path(target).name)
        self._before["link"](source, target, **more)
        if ours:
            self.named(Path(target))

    def _os_unlink(self, path: Path, **more: Any) -> None:
        ours = self.holds(path) and os.path.lexists(path)
        if ours:
            self._check("remove", Path(path).name)
        self._before["unlink"](path, **more)
        if ours:
            self.named(Path(path))


def lay_out(image: dict[str, bytes], folder: Path) -> None:
    """Put what a crash has left into a folder, which is made."""
    folder.mkdir()
    for name, content in image.items():
        (folder / name).write_bytes(content)


def _sectors(write: _Write) -> list[tuple[int, bytes]]:
    """The parts of a write that are written as one, by their place in the file."""
    assert write.data is not None
    parts = []
    start, end = write.offset, write.offset + len(write.data)
    while start < end:
        stop = min(end, start - start % SECTOR_BYTES + SECTOR_BYTES)
        parts.append((start, write.data[start - write.offset : stop - write.offset]))
        start = stop
    return parts


def _put(content: bytearray, offset: int, data: bytes | None) -> None:
    if data is None:
        del content[offset:]
        return
    if len(content) < offset:
        content.extend(bytes(offset - len(content)))
    content[offset : offset + len(data)] = data


class _Vfs(apsw.VFS):
    """SQLite's way to the disk: the system's own VFS, with every change seen on its way."""

    def __init__(self, disk: Disk) -> None:
        self._disk = disk
        super().__init__(f"memory-disk-{next(_names)}", "unix", makedefault=True)

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> apsw.VFSFile:
        path = None if name is None else Path(name.filename() if isinstance(name, apsw.URIFilename) else name)
        if path is None or not self._disk.holds(path):
            return apsw.VFSFile("unix", name, flags)
        return _VfsFile(self._disk, path, name, flags)

    def xDelete(self, filename: str, syncdir: bool) -> None:
        path = Path(filename)
        if not self._disk.holds(path) or not path.exists():
            return super().xDelete(filename, syncdir)
        if self._disk.step("remove", path.name):
            raise apsw.exception_for(apsw.SQLITE_IOERR_DELETE)
        super().xDelete(filename, syncdir)
        self._disk.named(path)
        return self._disk.synced_names() if syncdir else None

    def xGetLastError(self) -> tuple[int, str]:
        return self._disk.last_errno, os.strerror(self._disk.last_errno)


class _VfsFile(apsw.VFSFile):
    """One open file of SQLite's."""

    def __init__(self, disk: Disk, path: Path, name: Any, flags: list[int]) -> None:
        self._disk = disk
        self._path = path
        fresh = not path.exists()
        super().__init__("unix", name, flags)
        # As the system's VFS does: the first sync of a new journal or WAL syncs its folder too.
        self._sync_folder = fresh and bool(flags[0] & (apsw.SQLITE_OPEN_MAIN_JOURNAL | apsw.SQLITE_OPEN_WAL))
        if fresh:
            disk.named(path)

    def xWrite(self, data: bytes, offset: int) -> None:
        failed = self._disk.step("write", self._path.name)
        if failed:
            raise apsw.exception_for(apsw.SQLITE_FULL if failed == errno.ENOSPC else apsw.SQLITE_IOERR_WRITE)
        super().xWrite(data, offset)
        self._disk.wrote(self._path, offset, bytes(data))

    def xTruncate(self, newsize: int) -> None:
        if self._disk.step("truncate", self._path.name):
            raise apsw.exception_for(apsw.SQLITE_IOERR_TRUNCATE)
        super().xTruncate(newsize)
        self._disk.wrote(self._path, newsize, None)

    def xSync(self, flags: int) -> None:
        failed = bool(self._disk.step("sync", self._path.name))
        self._disk.synced(self._path, failed)
        if failed:
            raise apsw.exception_for(apsw.SQLITE_IOERR_FSYNC)
        if self._sync_folder:
            self._disk.synced_names()
            self._sync_folder = False
