"""P10: every change of state is one row of history, and replaying the rows gives the state."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Protocol

import apsw

from ffrtmp.errors import FarmError
from ffrtmp.farm.job import IllegalTransition, State, check

from . import schema
from .database import check_kind, damaged, exclusive, rows

PROBLEMS_MAX = 100  # a damaged store is told in this many sentences


class Change(Protocol):
    """A row of history, as far as states go. `effects.Record` is one."""

    @property
    def job(self) -> int: ...

    @property
    def before(self) -> State | None: ...

    @property
    def after(self) -> State: ...


class BrokenHistory(Exception):
    """The rows do not follow from one another."""


def replay(history: Iterable[Change]) -> dict[int, State]:
    """The state of each job after these rows, oldest first. Rows that change no state are notes and passed over.

    Raises BrokenHistory where a row does not begin where the one before it ended, or takes an edge that there is not.
    """
    states: dict[int, State] = {}
    for row in history:
        if row.before is row.after:
            continue
        if states.get(row.job) is not row.before:
            raise BrokenHistory(f"job {row.job}: a row from {row.before} follows {states.get(row.job)}")
        try:
            check(row.before, row.after)
        except IllegalTransition as error:
            raise BrokenHistory(f"job {row.job}: {error}") from error
        states[row.job] = row.after
    return states


class _Row:
    __slots__ = ("after", "before", "job")

    def __init__(self, job: int, before: str | None, after: str) -> None:
        self.job = job
        self.before = None if before is None else State(before)
        self.after = State(after)


def _stored(connection: apsw.Connection) -> Iterator[_Row]:
    for job, before, after in connection.execute("SELECT job, before, after FROM events ORDER BY seq"):
        yield _Row(int(str(job)), None if before is None else str(before), str(after))


def problems(connection: apsw.Connection) -> list[str]:
    """What is wrong with the history and the counters of a store, in sentences; empty when all is well."""
    try:
        replayed = replay(_stored(connection))
    except BrokenHistory as error:
        return [str(error)]
    found = []
    for number, state in connection.execute("SELECT number, state FROM jobs ORDER BY number"):
        told = replayed.pop(int(str(number)), None)
        if told is None or told.value != state:
            found.append(f"job {number} is {state}, its history says {told.value if told else 'nothing'}")
    found += [f"job {number} has a history and no row" for number in replayed]
    counted = rows(connection, "SELECT state, queue, count(*) FROM jobs GROUP BY state, queue ORDER BY state, queue")
    kept = rows(connection, "SELECT state, queue, jobs FROM counters WHERE jobs > 0 ORDER BY state, queue")
    if counted != kept:
        found.append(f"the counters say {kept}, the jobs {counted}")
    return found[:PROBLEMS_MAX]


def examine(path: Path) -> list[str]:
    """Offline: everything that can be checked in a database file, in sentences; empty when all is well.

    Raises FarmError when it is in use, no database of this ffrtmp, or damaged beyond reading.
    """
    if not path.exists():
        raise FarmError(f"there is no database {path}", hint="name the file that --db names")
    try:
        with exclusive(path):
            return _examine(path)
    except apsw.Error as error:
        raise damaged(path, str(error)) from error


def _examine(path: Path) -> list[str]:
    # Not read-only: such a connection leaves a WAL index behind that belongs to whoever looked.
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)
    try:
        check_kind(connection, path, schema.APPLICATION_ID, len(schema.MIGRATIONS))
        found = [str(row[0]) for row in rows(connection, "PRAGMA integrity_check(20)") if row[0] != "ok"]
        found += [f"a row of {row[0]} refers to nothing" for row in rows(connection, "PRAGMA foreign_key_check")]
        return found or problems(connection)
    finally:
        connection.close()
