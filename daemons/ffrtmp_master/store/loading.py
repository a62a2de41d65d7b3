"""What a starting master gets from the disk, and the beginning of a new lineage where an old database came back."""

from __future__ import annotations

from pathlib import Path

import apsw

from ffrtmp.farm.job import Attempt, Grant, Job
from ffrtmp.farm.node import Node

from ..rows import Loaded, TicketRow
from . import codec
from .database import Database, quick_check, rows
from .high_water import HighWater, NumbersFile, behind
from .turns import leave_lineage

ATTEMPTS_RAISED = 100  # more hand-outs of one job than can have happened since the backup
LOGS_CHECKED_BYTES = 1 << 30  # larger log files are not read through at the start; no promise hangs on them


def begin(database: Database, numbers: NumbersFile, fresh_lineage: str) -> bool:
    """Open a life: a new store gets its lineage, a restored one a new lineage and numbers beyond the old ones.

    Returns whether the store was found to be restored.
    """
    with database.transaction() as connection:
        connection.execute("INSERT INTO meta (id, lineage) VALUES (1, ?) ON CONFLICT DO NOTHING", (fresh_lineage,))
        lineage, turn, next_job, marked = rows(connection, "SELECT lineage, turn, next_job, restored FROM meta")[0]
        mark = numbers.read()
        unreadable = mark is None and numbers.exists()
        ahead = mark is not None and behind(mark, lineage, turn, ancestors(connection))
        restored = bool(marked) or unreadable or ahead
        restores = (mark.restores if mark is not None else 0) + restored
        if restored:
            next_job = max(next_job, mark.below if mark is not None else next_job + numbers.block)
            _branch(connection, marked or fresh_lineage, lineage, turn, next_job, restores)
            lineage = marked or fresh_lineage
        connection.execute("UPDATE meta SET clean = 0, restored = ''")
    below = next_job + numbers.block if mark is None or restored else max(mark.below, next_job)
    numbers.write(HighWater(lineage, turn, below, restores))
    return restored


def _branch(connection: apsw.Connection, fresh: str, parent: str, turn: int, next_job: int, restores: int) -> None:
    """The numbers of attempts are fencing tokens: those given out since the backup must not come again.

    Nor those that were given out after it had been put back before: each time begins further up.
    """
    leave_lineage(connection, parent, turn, 0.0)
    connection.execute("UPDATE meta SET lineage = ?, next_job = ?", (fresh, next_job))
    connection.execute("UPDATE jobs SET attempt = attempt + ? WHERE ended_s IS NULL", (ATTEMPTS_RAISED * restores,))


def check_after_crash(database: Database, logs: Database) -> None:
    """Look for damage where the last life did not end in order; raises FarmError."""
    if rows(database.connection, "SELECT clean FROM meta") == [(0,)]:
        quick_check(database.connection, database.path)
        if size_of(logs.path) <= LOGS_CHECKED_BYTES:
            quick_check(logs.connection, logs.path)


def size_of(path: Path) -> int:
    """Bytes of a file, 0 where there is none."""
    return path.stat().st_size if path.exists() else 0


def ancestors(connection: apsw.Connection) -> dict[str, int]:
    """Lineages that are this store's own past, and the turn at which each was left."""
    return dict(rows(connection, "SELECT lineage, left_turn FROM lineages"))


def load(connection: apsw.Connection, offset_s: float, restored: bool, restores: int) -> Loaded:
    """All that is open, on the clock of this life: farm time = wall time - `offset_s`."""
    pool = codec.TermsPool()
    lineage, turn, next_job, paused = rows(connection, "SELECT lineage, turn, next_job, paused_queues FROM meta")[0]
    return Loaded(
        turn=turn,
        lineage=lineage,
        ancestors=ancestors(connection),
        next_job=next_job,
        paused_queues=frozenset(codec.QUEUES[word] for word in paused.split()),
        jobs=_jobs(connection, offset_s, pool),
        attempts=_attempts(connection, offset_s, pool),
        grants=_grants(connection, offset_s),
        nodes=_nodes(connection),
        tickets=tuple(
            TicketRow(*row)
            for row in rows(connection, "SELECT public_key, expires_s, name, replaces, used_for FROM tickets")
        ),
        restored=restored,
        restores=restores,
    )


def _jobs(connection: apsw.Connection, offset_s: float, pool: codec.TermsPool) -> tuple[Job, ...]:
    sql = f"SELECT {codec.JOB_COLUMNS} FROM jobs WHERE ended_s IS NULL ORDER BY number"
    return tuple(codec.job_of(row, offset_s, pool) for row in connection.execute(sql))


def _attempts(connection: apsw.Connection, offset_s: float, pool: codec.TermsPool) -> tuple[Attempt, ...]:
    sql = f"SELECT {codec.ATTEMPT_COLUMNS} FROM attempts WHERE there = 1 ORDER BY job, number"
    return tuple(codec.attempt_of(row, offset_s, pool) for row in connection.execute(sql))


def _grants(connection: apsw.Connection, offset_s: float) -> tuple[Grant, ...]:
    sql = f"SELECT {codec.GRANT_COLUMNS} FROM grants ORDER BY job"
    return tuple(codec.grant_of(row, offset_s) for row in connection.execute(sql))


def _nodes(connection: apsw.Connection) -> tuple[Node, ...]:
    sql = f"SELECT {codec.NODE_COLUMNS} FROM nodes ORDER BY name"
    return tuple(codec.node_of(row) for row in connection.execute(sql))
