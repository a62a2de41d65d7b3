"""Forgetting old jobs, a slice at a time, so that no turn waits long for it.

A job goes with all that belongs to it: its log first, because the logs are another file and a job without a log can be
retired again, a log without a job never. A job stays while an attempt of it may still be alive.
"""

from __future__ import annotations

import apsw

from . import logs
from .database import Database, rows

AUDIT_ROWS_MAX = 100_000  # the newest ones are kept
VACUUM_PAGES = 256  # pages given back to the file system a call

# `jobs.number` in full: an attempt has a number too.
_OLD_JOBS = (
    "SELECT number, (SELECT count(*) FROM events WHERE job = jobs.number) + (SELECT count(*) FROM attempts"
    " WHERE job = jobs.number) + 1 FROM jobs WHERE ended_s IS NOT NULL AND ended_s < ?"
    " AND NOT EXISTS (SELECT 1 FROM attempts WHERE job = jobs.number AND there = 1) ORDER BY ended_s LIMIT ?"
)


def retire(store: Database, log_store: Database, before_s: float, limit: int) -> int:
    """Delete what ended before `before_s`, about `limit` rows; returns how many, 0 when nothing is left to delete.

    A single job's history and attempts are never split, its log may be. Raises StoreRefused or StoreBroken.
    """
    with store.lock:
        candidates = rows(store.connection, _OLD_JOBS, (before_s, limit))
    with log_store.transaction() as connection:
        jobs, budget = _forget_logs(connection, candidates, limit)
    with store.transaction() as connection:
        connection.executemany("DELETE FROM jobs WHERE number = ?", [(job,) for job in jobs])
        budget -= _forget_rest(connection, before_s, max(0, budget))
    gone = limit - budget
    if gone:
        give_back(store)
        give_back(log_store)
    return gone


def _forget_logs(connection: apsw.Connection, candidates: list[tuple[int, int]], budget: int) -> tuple[list[int], int]:
    """The jobs whose logs are gone and whose rows may go now, and what is left of the budget."""
    jobs: list[int] = []
    for job, size in candidates:
        if budget <= 0 or (jobs and size > budget):
            break
        budget -= logs.forget(connection, job, budget)
        if budget <= 0:
            break  # there may be more of its log
        budget -= size
        jobs.append(job)
    return jobs, budget


def _forget_rest(connection: apsw.Connection, before_s: float, budget: int) -> int:
    gone = 0
    for sql in (
        "DELETE FROM idempotency WHERE (scope, key) IN (SELECT scope, key FROM idempotency WHERE at_s < ? LIMIT ?)",
        "DELETE FROM tickets WHERE public_key IN (SELECT public_key FROM tickets WHERE expires_s < ? LIMIT ?)",
    ):
        connection.execute(sql, (before_s, budget - gone))
        gone += connection.changes()
    connection.execute(
        "DELETE FROM audit WHERE id IN (SELECT id FROM audit WHERE id <= (SELECT max(id) FROM audit) - ? LIMIT ?)",
        (AUDIT_ROWS_MAX, budget - gone),
    )
    return gone + connection.changes()


def give_back(database: Database) -> None:
    """Return some free pages to the file system; a full vacuum would stop everything for seconds."""
    with database.transaction() as connection:
        rows(connection, f"PRAGMA incremental_vacuum({VACUUM_PAGES})")
