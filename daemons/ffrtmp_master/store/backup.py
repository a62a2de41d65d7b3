"""Copying a store while it works, and putting a copy back.

A backup is two files: the database at the path that is named, the logs beside it with `.logs` added. Each is a whole
SQLite database in one file. It is copied from a snapshot that a reading connection holds, so commits go on
meanwhile and wait for nothing; the WAL grows by what they write until the copy is done.

Putting one back happens offline, with the master stopped. The replaced files are kept. The database is marked, and the
next start opens a new lineage and raises the numbers of jobs and attempts (loading.py), because those that were
given out since the backup are in use out there.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import apsw

from ffrtmp.errors import Exit, FarmError

from . import schema
from .database import check_kind, exclusive, own_like, read_only, rows
from .high_water import sync_folder

STEP_PAGES = 512  # copied at a time
_COMPANIONS = ("-wal", "-shm", "-journal")


@dataclass(frozen=True, slots=True)
class BackupMade:
    """A finished backup: `size_bytes` of both files, and the newest turn in it."""

    path: Path
    size_bytes: int
    turn: int


@dataclass(frozen=True, slots=True)
class Restored:
    """A backup that was put back: its newest turn, and where the replaced files are now."""

    turn: int
    kept: tuple[Path, ...]


def logs_beside(path: Path) -> Path:
    """The logs' file of the backup at `path`."""
    return path.with_name(path.name + ".logs")


def backup(database: Path, logs: Path, path: Path) -> BackupMade:
    """Copy a store that may be in use to `path` and `path`.logs, mode 0600, replacing an older backup there.

    The files appear whole or not at all. Raises FarmError where that fails.
    """
    targets = (path, logs_beside(path))
    for target in targets:
        if any(target.exists() and target.samefile(own) for own in (database, logs)):
            raise FarmError(f"{target} is the store itself", hint="name another path for the backup", code=Exit.USAGE)
    try:
        with ExitStack() as stack:
            # Both snapshots are taken before anything is copied, so that the two files tell of the same moment.
            sources = [stack.enter_context(_snapshot(file)) for file in (database, logs)]
            turn = int(rows(sources[0], "SELECT turn FROM meta")[0][0])
            fresh = [stack.enter_context(_temporary(target)) for target in targets]
            for source, file in zip(sources, fresh, strict=True):
                _copy(source, file)
            size = sum(file.stat().st_size for file in fresh)
            for file, target in reversed(list(zip(fresh, targets, strict=True))):
                file.replace(target)  # the database comes last: where it stands, its logs stand too
        sync_folder(path.parent)
    except OSError as error:
        raise FarmError(
            f"cannot write the backup {path}: {error.strerror}", hint="check the folder and its room"
        ) from error
    except apsw.Error as error:
        raise FarmError(f"cannot make the backup {path}: {error}", hint="check the folder and its room") from error
    return BackupMade(path, size, turn)


@contextmanager
def _snapshot(path: Path) -> Iterator[apsw.Connection]:
    connection = read_only(path)
    try:
        connection.execute("BEGIN")
        rows(connection, "SELECT count(*) FROM sqlite_schema")  # the snapshot is that of the first read
        yield connection
    finally:
        connection.close()


@contextmanager
def _temporary(target: Path) -> Iterator[Path]:
    fresh = target.with_name(f".{target.name}.new")
    fresh.unlink(missing_ok=True)
    try:
        os.close(os.open(fresh, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        yield fresh
    finally:
        for name in (fresh, *(fresh.with_name(fresh.name + companion) for companion in _COMPANIONS)):
            name.unlink(missing_ok=True)


def _copy(source: apsw.Connection, file: Path) -> None:
    target = apsw.Connection(str(file), flags=apsw.SQLITE_OPEN_READWRITE)
    try:
        rows(target, "PRAGMA journal_mode = OFF")  # a copy that fails is thrown away
        with target.backup("main", source, "main") as copying:
            while not copying.done:
                copying.step(STEP_PAGES)
        rows(target, "PRAGMA journal_mode = DELETE")  # one file, no WAL beside it
    finally:
        target.close()
    sync_file(file)


def sync_file(path: Path) -> None:
    """Put a closed file on disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def restore(backup_path: Path, path: Path, logs_path: Path, fresh_lineage: str) -> Restored:
    """Put a backup in the place of a store that nobody has open; `fresh_lineage` names the history that begins.

    The replaced files are kept beside it as NAME.before-restore-N. Raises FarmError when the store is in use, or the backup
    is damaged, incomplete or of a newer ffrtmp; then nothing has changed. Nor has it where the disk fails, but for one
    case, which the error tells: that the database is put back and its logs may not be.
    """
    sources = (backup_path, logs_beside(backup_path))
    ids = (schema.APPLICATION_ID, schema.LOGS_APPLICATION_ID)
    newest = (len(schema.MIGRATIONS), len(schema.LOGS_MIGRATIONS))
    with exclusive(path):
        for source, kind, version in zip(sources, ids, newest, strict=True):
            _check(source, kind, version)
        try:
            return _put_back(sources, (path, logs_path), fresh_lineage)
        except OSError as error:
            raise _not_put_back(path, str(error.strerror)) from error
        except apsw.Error as error:
            raise _not_put_back(path, str(error)) from error


def _put_back(sources: tuple[Path, Path], targets: tuple[Path, Path], fresh_lineage: str) -> Restored:
    with ExitStack() as stack:
        fresh = [stack.enter_context(_temporary(target)) for target in targets]
        for source, file in zip(sources, fresh, strict=True):
            shutil.copyfile(source, file)
        turn = _mark(fresh[0], fresh[1], fresh_lineage)
        for file in fresh:
            sync_file(file)
        for target in targets:
            _fold_in(target)
        # The database first. Cut short between the two, its logs are longer than it knows, which does no harm; the other
        # way round a database that nobody has put back would have lost them.
        kept = _replace(fresh[0], targets[0])
        try:
            sync_folder(targets[0].parent)
            kept += _replace(fresh[1], targets[1])
            sync_folder(targets[1].parent)
        except OSError as error:
            raise FarmError(
                f"the database is put back, but its logs may not be: {error.strerror}",
                hint="put the same backup back again",
            ) from error
        return Restored(turn, tuple(kept))


def _fold_in(target: Path) -> None:
    """Have the WAL of what is to be replaced in the file itself: if this is cut short, what stands there is whole."""
    if target.exists():
        with suppress(apsw.Error):  # what is damaged is kept as it is
            connection = apsw.Connection(str(target), flags=apsw.SQLITE_OPEN_READWRITE)
            try:
                rows(connection, "PRAGMA synchronous = FULL")
                connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
            finally:
                connection.close()


def _not_put_back(path: Path, detail: str) -> FarmError:
    return FarmError(f"cannot put the backup back: {detail}", hint=f"check the folder {path.parent} and its room")


def _check(path: Path, application_id: int, newest: int) -> None:
    if not path.is_file():
        raise FarmError(f"there is no backup file {path}", hint="a backup is two files: PATH and PATH.logs")
    connection: apsw.Connection | None = None
    try:
        connection = read_only(path)
        check_kind(connection, path, application_id, newest)
        found = str(rows(connection, "PRAGMA integrity_check(1)")[0][0])
        if found != "ok":
            raise FarmError(f"the backup {path} is damaged: {found}", hint="take an older backup")
    except apsw.Error as error:
        raise FarmError(f"the backup {path} is damaged: {error}", hint="take an older backup") from error
    finally:
        if connection is not None:
            connection.close()


def _mark(database: Path, logs: Path, fresh_lineage: str) -> int:
    """Mark the copy as restored; drop logs of jobs that it does not know. Returns its newest turn."""
    connection = apsw.Connection(str(database), flags=apsw.SQLITE_OPEN_READWRITE)
    try:
        connection.execute("UPDATE meta SET restored = ?, clean = 1", (fresh_lineage,))
        turn, next_job = rows(connection, "SELECT turn, next_job FROM meta")[0]
    finally:
        connection.close()
    connection = apsw.Connection(str(logs), flags=apsw.SQLITE_OPEN_READWRITE)
    try:
        connection.execute("DELETE FROM chunks WHERE job >= ?", (next_job,))
        connection.execute("DELETE FROM logs WHERE job >= ?", (next_job,))
    finally:
        connection.close()
    return int(turn)


def _replace(fresh: Path, target: Path) -> list[Path]:
    """Put `fresh` at `target` and keep what stood there, with its WAL: a foreign WAL would spoil the new file."""
    kept: list[Path] = []
    if target.exists():
        aside = _free_name(target)
        aside.hardlink_to(target)  # the name is never without a database, whenever this is cut short
        kept.append(aside)
    else:
        aside = _free_name(target)
    for companion in _COMPANIONS:
        with suppress(FileNotFoundError):
            target.with_name(target.name + companion).replace(aside.with_name(aside.name + companion))
    own_like(target, fresh)
    fresh.replace(target)
    return kept


def _free_name(target: Path) -> Path:
    number = 1
    while (name := target.with_name(f"{target.name}.before-restore-{number}")).exists():
        number += 1
    return name
