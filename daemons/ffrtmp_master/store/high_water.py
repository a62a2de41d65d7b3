"""No number is used twice, also after a backup was put back: the side file that knows better than an old database.

The file `DATABASE.numbers.json` stands beside the database and in no backup. It holds the lineage, the newest turn, and a
job number below which every number may have been given out. The number is raised in blocks, on disk *before* a turn that
uses a number of the block is committed. The turn is noted after each commit without waiting for the disk: that
survives a kill of the process, and after a power cut it is merely older, which accuses nobody wrongly.

So a database is *behind* when the file knows a turn that the database has not: somebody put an older one in its place.
"""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from pathlib import Path

import msgspec

from ..rows import StoreBroken, StoreRefused

BLOCK = 1000  # numbers reserved at a time
_PADDED_BYTES = 256  # the note of a turn overwrites the file in place, so its length must not change


class HighWater(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the file says: `below` is more than every job number that may have been used.

    `restores`: how often an older database has been found in the place of this one.
    """

    lineage: str
    turn: int
    below: int
    restores: int = 0


class NumbersFile:
    """The side file of one open database. It reserves `block` numbers at a time."""

    def __init__(self, database: Path, block: int = BLOCK) -> None:
        self.block = block
        self.path = database.with_name(database.name + ".numbers.json")
        self._descriptor = -1
        self._now: HighWater | None = None

    def read(self) -> HighWater | None:
        """What stands in the file; None where there is none, or none that can be read."""
        try:
            return msgspec.json.decode(self.path.read_bytes(), type=HighWater)
        except FileNotFoundError:
            return None
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None

    def exists(self) -> bool:
        """Whether there is a file, readable or not."""
        return self.path.exists()

    def write(self, mark: HighWater) -> None:
        """Replace the file and wait until it is on disk. Raises StoreRefused without room, else StoreBroken."""
        fresh = self.path.with_name(self.path.name + ".new")
        try:
            descriptor = os.open(fresh, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            try:
                _put(descriptor, mark)
                os.fsync(descriptor)
                fresh.replace(self.path)
                sync_folder(self.path.parent)
            except BaseException:
                os.close(descriptor)
                raise
        except OSError as error:
            with suppress(OSError):
                fresh.unlink(missing_ok=True)
            raise _refusal(self.path, error) from error
        self.close()
        self._descriptor, self._now = descriptor, mark

    @property
    def restores(self) -> int:
        """How often an older database has been found in the place of this one."""
        return self._now.restores if self._now is not None else 0

    def reserve(self, next_job: int) -> None:
        """Before numbers below `next_job` are committed: make the file cover them."""
        if self._now is not None and next_job > self._now.below:
            self.write(msgspec.structs.replace(self._now, below=next_job + self.block))

    def note(self, lineage: str, turn: int) -> None:
        """After a commit. Nothing is waited for; the block's guarantee does not rest on it."""
        if self._now is not None and self._descriptor >= 0:
            self._now = msgspec.structs.replace(self._now, lineage=lineage, turn=turn)
            with suppress(OSError):
                _put(self._descriptor, self._now)

    def close(self) -> None:
        """Let go of the file."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def _put(descriptor: int, mark: HighWater) -> None:
    os.pwrite(descriptor, msgspec.json.encode(mark).ljust(_PADDED_BYTES - 1) + b"\n", 0)


def _refusal(path: Path, error: OSError) -> StoreRefused | StoreBroken:
    if error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE}:
        return StoreRefused(f"cannot write {path}: {error.strerror}")
    return StoreBroken(f"cannot write {path}: {error.strerror}")


def sync_folder(folder: Path) -> None:
    """Put the names in a folder on disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def behind(mark: HighWater, lineage: str, turn: int, ancestors: dict[str, int]) -> bool:
    """Whether a database with this lineage and turn is older than what the file has seen."""
    if mark.lineage == lineage:
        return mark.turn > turn
    return mark.lineage not in ancestors or mark.turn > ancestors[mark.lineage]
