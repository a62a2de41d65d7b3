"""One SQLite file and its one writer: opening it, transactions, and what an error means.

Why this is more than `connect` and `COMMIT`
--------------------------------------------
A turn may be answered only when it is on disk, and the master must know which of three things a failed commit was:

*Refused*: nothing was written and nothing is broken, as with a full disk. SQLite says SQLITE_FULL for ENOSPC, but a file
system quota or a size limit arrives as SQLITE_IOERR_WRITE with EDQUOT or EFBIG, and a WAL index that cannot grow as
SQLITE_IOERR_SHMSIZE. All of them are the same to a user: no room.

*Broken*: the kernel drops dirty pages after a failed fsync and reports success the next time, so nothing that happens
after one can be trusted. Automatic checkpoints swallow exactly these errors (their result is thrown away by SQLite's own
hook), therefore they are off and `transaction` runs them itself where it can see them fail.

*Gone*: somebody removed or replaced the file while it was open. SQLite goes on writing into the unlinked one; only a look
at the inode shows it. The WAL counts too: it holds the newest turns. Where nothing was put in its place, the open
connection is the last that has it all, and puts it back before the master ends.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import apsw

from ffrtmp.errors import Exit, FarmError

from ..rows import StoreBroken, StoreRefused

log = logging.getLogger(__name__)

CHECKPOINT_PAGES = 1000  # a commit that leaves a WAL at least this long copies it into the database
WAL_KEPT_BYTES = 64 << 20  # a longer WAL file is cut when it is started over
BUSY_TIMEOUT_MS = 1000  # only a stranger (the sqlite3 shell) can hold a lock against us

_ROOM_ERRNOS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_REFUSED_CLASSES = (apsw.FullError, apsw.BusyError, apsw.LockedError, apsw.NoMemError)
_REFUSED_CODES = frozenset({apsw.SQLITE_IOERR_SHMSIZE, apsw.SQLITE_IOERR_NOMEM})


class RowsRejected(StoreRefused):
    """The turn's rows break a rule of the schema: a fault of ours. Nothing was written and nothing is broken."""


def rows(connection: apsw.Connection, sql: str, bindings: Sequence[Any] | dict[str, Any] = ()) -> list[tuple[Any, ...]]:
    """All rows of a query. The statement is finished afterwards, so no transaction stays open."""
    return connection.execute(sql, bindings).fetchall()


def verdict(error: apsw.Error, system_errno: int) -> StoreRefused | StoreBroken:
    """What an SQLite error at a write means. `system_errno` is the connection's last operating system error."""
    code = getattr(error, "extendedresult", 0)
    if isinstance(error, apsw.ConstraintError | apsw.MismatchError | apsw.TooBigError):
        return RowsRejected(f"the turn breaks a rule of the store: {error}")
    if isinstance(error, apsw.ReadOnlyError) and code != apsw.SQLITE_READONLY_DBMOVED:
        return StoreRefused(f"the store cannot be written: {error}")
    if isinstance(error, apsw.FullError) or (
        isinstance(error, apsw.IOError) and code == apsw.SQLITE_IOERR_WRITE and system_errno in _ROOM_ERRNOS
    ):
        return StoreRefused("the disk of the store is full")
    if isinstance(error, _REFUSED_CLASSES) or code in _REFUSED_CODES:
        return StoreRefused(f"the store is busy or out of room: {error}")
    return StoreBroken(f"the store failed: {error} (code {code}, errno {system_errno})")


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return (found.st_dev, found.st_ino)


@contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Hold the database at `path` against another master or a restore; raises FarmError when it is held already."""
    lock = path.with_name(path.name + ".lock")
    try:
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise FarmError(f"cannot open {lock}: {error.strerror}", hint="check the folder and its owner") from error
    try:
        own_like(path, lock)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise FarmError(
                f"the database {path} is in use by another process",
                hint="only one ffrtmp-master can have it; stop the other one first",
                code=Exit.REFUSED,
            ) from None
        yield
    finally:
        os.close(descriptor)


def own_like(path: Path, fresh: Path) -> None:
    """What root makes beside a database belongs to the master, who owns the database, or else its folder."""
    if os.geteuid() == 0:
        model = (path if path.exists() else path.parent).stat()
        os.chown(fresh, model.st_uid, model.st_gid)


class Database:
    """A file with its writing connection. All use of it is under `lock`, so any thread may come."""

    def __init__(self, path: Path, connection: apsw.Connection) -> None:
        self.path = path
        self.connection = connection
        self.lock = threading.RLock()
        self.broken = False
        self._wal = path.with_name(path.name + "-wal")
        self._identity = _identity(path)
        self._wal_identity: tuple[int, int] | None = None
        self._wal_pages = 0
        connection.set_wal_hook(self._committed)

    @classmethod
    def open(cls, path: Path, application_id: int, migrations: Sequence[str]) -> Database:
        """Open or create, and bring the schema up to date; FarmError where that is impossible.

        `migrations[n]` leads from schema version n to n + 1.
        """
        try:
            if not path.exists():
                os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
            connection = _connect(path)
        except OSError as error:
            raise FarmError(f"cannot make {path}: {error.strerror}", hint="check the folder and its owner") from error
        except apsw.Error as error:
            raise _unusable(path, error) from error
        try:
            migrate(connection, path, application_id, migrations)
            return cls(path, connection)
        except apsw.Error as error:
            connection.close()
            raise _unusable(path, error) from error
        except BaseException:
            connection.close()
            raise

    @contextmanager
    def transaction(self) -> Iterator[apsw.Connection]:
        """All or nothing, on disk when the block is left. Raises StoreRefused (undone) or StoreBroken (stop)."""
        with self.lock:
            if self.broken:
                raise StoreBroken("the store has failed before")
            try:
                self.connection.execute("BEGIN IMMEDIATE")
                yield self.connection
                self.connection.execute("COMMIT")
            except apsw.Error as error:
                raise self._undone(error) from error
            except BaseException:
                self._roll_back()
                raise
            self._look_at_files()
            if self._wal_pages >= CHECKPOINT_PAGES:
                self.checkpoint()

    def checkpoint(self) -> None:
        """Copy the WAL into the database as far as readers allow; no room for it is no error, the WAL keeps it all."""
        try:
            self.connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
        except apsw.Error as error:
            found = verdict(error, self.connection.system_errno)
            if isinstance(found, StoreBroken):
                self.broken = True
                raise found from error
            log.warning("checkpoint of %s put off: %s", self.path, found)

    def close(self) -> None:
        """Close the file, and put it back first where it was removed. The WAL goes unless a reader still has it."""
        with self.lock:
            if _identity(self.path) is None:
                log.error("%s was removed while it was open%s", self.path, self._save())
            self.connection.close()

    def _committed(self, _connection: apsw.Connection, _name: str, pages: int) -> int:
        self._wal_pages = pages
        return apsw.SQLITE_OK

    def _undone(self, error: apsw.Error) -> StoreRefused | StoreBroken:
        found = verdict(error, self.connection.system_errno)
        if isinstance(found, StoreBroken):
            self.broken = True
        self._roll_back()
        return found

    def _roll_back(self) -> None:
        if not self.connection.in_transaction:
            return  # SQLite has undone it by itself, as it does for some errors
        try:
            self.connection.execute("ROLLBACK")
        except apsw.Error:
            self.broken = True
            log.exception("rollback failed")

    def _look_at_files(self) -> None:
        """What was committed must be in the files that stand at the paths, or it is lost at the next start."""
        wal = _identity(self._wal)
        if self._wal_identity is None:
            self._wal_identity = wal
        if _identity(self.path) != self._identity or wal is None or wal != self._wal_identity:
            self.broken = True
            saved = self._save()
            raise StoreBroken(f"{self.path} or its WAL was removed or replaced while it was open{saved}")

    def _save(self) -> str:
        """Put back what only this connection still has, where nobody put anything in its place; what was done, in words."""
        try:
            there = _identity(self.path)
            if there == self._identity:
                self.connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_FULL)
                return "; what the WAL held is in the database"
            if there is not None:
                return ""
            self._copy_to_its_place()
            return "; it was put back as it was"
        except (apsw.Error, OSError) as error:
            log.exception("%s cannot be put back", self.path)
            return f"; it could not be put back: {error}"

    def _copy_to_its_place(self) -> None:
        """Write the unlinked database anew at its path; FileExistsError where somebody has put one there meanwhile."""
        fresh = self.path.with_name(self.path.name + ".saved")
        fresh.unlink(missing_ok=True)
        descriptor = os.open(fresh, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            self.connection.execute("VACUUM INTO ?", (str(fresh),))
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        for name in ("-wal", "-shm"):  # first: an old WAL beside a new database would be replayed into it
            self.path.with_name(self.path.name + name).unlink(missing_ok=True)
        os.link(fresh, self.path)
        fresh.unlink()
        folder = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _connect(path: Path) -> apsw.Connection:
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE, statementcachesize=200)
    try:
        connection.set_busy_timeout(BUSY_TIMEOUT_MS)
        for pragma in (
            "auto_vacuum = INCREMENTAL",  # holds for a file that is still empty
            "journal_mode = WAL",
            "synchronous = FULL",
            "wal_autocheckpoint = 0",
            f"journal_size_limit = {WAL_KEPT_BYTES}",
            "foreign_keys = ON",
            "trusted_schema = OFF",
            "temp_store = MEMORY",
            "cache_size = -16384",
        ):
            rows(connection, f"PRAGMA {pragma}")
    except BaseException:
        connection.close()
        raise
    return connection


def read_only(path: Path) -> apsw.Connection:
    """A connection that only asks."""
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY, statementcachesize=100)
    connection.set_busy_timeout(250)
    return connection


def version_of(connection: apsw.Connection) -> int:
    """The schema version of an open database."""
    return int(rows(connection, "PRAGMA user_version")[0][0])


def check_kind(connection: apsw.Connection, path: Path, application_id: int, newest: int) -> None:
    """Raise FarmError when this is another program's database, or a newer ffrtmp's."""
    kind = int(rows(connection, "PRAGMA application_id")[0][0])
    if kind != application_id:
        raise FarmError(f"{path} is not a database of ffrtmp", hint="name another file", code=Exit.REFUSED)
    if version_of(connection) > newest:
        raise FarmError(
            f"{path} was written by a newer ffrtmp (schema {version_of(connection)}, this one knows {newest})",
            hint="install the newer version again, or restore a backup that this one made",
            code=Exit.REFUSED,
        )


def migrate(connection: apsw.Connection, path: Path, application_id: int, migrations: Sequence[str]) -> None:
    """Bring the schema to `len(migrations)`, each step in a transaction of its own."""
    if rows(connection, "SELECT count(*) FROM sqlite_schema") == [(0,)]:
        rows(connection, f"PRAGMA application_id = {application_id}")
    check_kind(connection, path, application_id, len(migrations))
    for version in range(version_of(connection), len(migrations)):
        connection.execute("BEGIN IMMEDIATE")
        try:
            connection.execute(migrations[version])
            rows(connection, f"PRAGMA user_version = {version + 1}")
            connection.execute("COMMIT")
        except BaseException:
            with suppress(apsw.Error):
                connection.execute("ROLLBACK")
            raise
        log.info("schema of %s brought to version %d", path, version + 1)


def quick_check(connection: apsw.Connection, path: Path) -> None:
    """Look through the whole file; raises FarmError when it is damaged."""
    try:
        found = [str(row[0]) for row in rows(connection, "PRAGMA quick_check(1)")]
    except apsw.Error as error:
        raise damaged(path, str(error)) from error
    if found != ["ok"]:
        raise damaged(path, found[0])


def damaged(path: Path, detail: str) -> FarmError:
    """What a user is told of a file that cannot be trusted."""
    return FarmError(
        f"the database {path} is damaged: {detail}",
        hint="put a backup back with: ffrtmpctl db restore BACKUP (the damaged file is kept aside)",
    )


def _unusable(path: Path, error: apsw.Error) -> FarmError:
    if isinstance(error, apsw.CorruptError | apsw.NotADBError):
        return damaged(path, str(error))
    return FarmError(f"cannot use {path}: {error}", hint="check free space, the folder and its owner")
