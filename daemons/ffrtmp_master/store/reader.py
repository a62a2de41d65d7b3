"""The store's answers to questions: one `Reader` a thread, on connections of its own that only read.

A reader sees a turn as soon as it is committed. Every question is short, bounded and served by an index (a test asks
SQLite's planner), so that it may be asked on the thread of the event loop; none leaves a transaction open, which
would keep the WAL from being started over.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

import apsw

from ffrtmp.errors import FarmError
from ffrtmp.farm.job import Queue, State
from ffrtmp.spec import JobSpec

from ..rows import IdempotencyRow, JobFilter
from . import codec, listing, logs
from .database import read_only, rows, verdict
from .logs import Piece
from .records import (
    ATTEMPT_ROW_COLUMNS,
    EVENT_ROW_COLUMNS,
    JOB_ROW_COLUMNS,
    AttemptRow,
    AuditRecord,
    EventRow,
    JobPage,
    JobRow,
    NodeRow,
    SlaCounts,
    attempt_row,
    event_row,
    job_row,
)

KEYS_MAX = 10_000  # of one question about many jobs or outputs
ROWS_MAX = 1000
SLA_JOBS_MAX = 100_000  # the newest ones count
LOG_BYTES = 256 << 10
SLA_QUEUE_S = 30.0
SLA_PROCESSING_S = 600.0
# Faults of what was asked, of its input, and of the way to a source on the network or its server: no farm can help them.
NOT_THE_FARMS = ("user_error", "input_error", "network_error")


class Reader:
    """Questions to the database at `path` and the logs at `logs_path`. All may raise StoreRefused or StoreBroken."""

    def __init__(self, path: Path, logs_path: Path) -> None:
        """Both files must exist; raises FarmError where they cannot be opened."""
        try:
            self._store = read_only(path)
            self._logs = read_only(logs_path)
        except apsw.Error as error:
            raise FarmError(f"cannot read {path}: {error}", hint="is the path right, and may you read it?") from error

    def close(self) -> None:
        """Let go of the files."""
        self._store.close()
        self._logs.close()

    def __enter__(self) -> Reader:
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.close()

    @contextmanager
    def _asking(self, connection: apsw.Connection) -> Iterator[apsw.Connection]:
        try:
            yield connection
        except apsw.Error as error:
            raise verdict(error, connection.system_errno) from error

    def _rows(self, sql: str, bindings: Sequence[Any] | dict[str, Any] = ()) -> list[tuple[Any, ...]]:
        with self._asking(self._store) as connection:
            return rows(connection, sql, bindings)

    # ---- jobs ----------------------------------------------------------------------------------------------------

    def job(self, key: int | str) -> JobRow | None:
        """The job of this number or this UUID, both exact."""
        column = "number" if isinstance(key, int) else "uuid"
        if isinstance(key, int) and not 0 < key < 1 << 63:
            return None
        found = self._rows(f"SELECT {JOB_ROW_COLUMNS} FROM jobs WHERE {column} = ?", (key,))
        return job_row(found[0]) if found else None

    def jobs(
        self,
        wanted: JobFilter | None = None,
        *,
        after: int | None = None,
        limit: int = 100,
        newest_first: bool = True,
    ) -> JobPage:
        """A page of jobs in the order of their numbers, see JobPage for `next`, the `after` of the following page."""
        with self._asking(self._store) as connection:
            return listing.page(connection, wanted or JobFilter(), listing.Span(after, limit, newest_first))

    def spec(self, number: int) -> JobSpec | None:
        """What was asked for."""
        return self.specs((number,)).get(number)

    def specs(self, numbers: Iterable[int]) -> dict[int, JobSpec]:
        """What was asked for, by job; at most KEYS_MAX jobs, unknown ones are left out."""
        sql = "SELECT number, spec FROM jobs WHERE number IN (SELECT value FROM json_each(?))"
        return {number: codec.spec_of(blob) for number, blob in self._rows(sql, (_list(numbers),))}

    def known(self, uuids: Iterable[str]) -> frozenset[str]:
        """Those of these UUIDs that are jobs', open or ended."""
        sql = "SELECT uuid FROM jobs WHERE uuid IN (SELECT value FROM json_each(?))"
        return frozenset(row[0] for part in _parts(list(uuids)) for row in self._rows(sql, (_list(part),)))

    def open_outputs(self, keys: Iterable[str]) -> dict[str, int]:
        """Which of these outputs open jobs have taken, and which job has."""
        sql = (
            "SELECT output_key, number FROM jobs WHERE output_key IN (SELECT value FROM json_each(?))"
            " AND ended_s IS NULL AND output_key <> ''"
        )
        return {key: number for part in _parts(list(keys)) for key, number in self._rows(sql, (_list(part),))}

    def history(self, job: int, *, after: int = 0, limit: int = ROWS_MAX) -> tuple[EventRow, ...]:
        """Rows of history, oldest first, beyond the row with the number `after`."""
        return tuple(
            event_row(row)
            for row in self._rows(
                f"SELECT {EVENT_ROW_COLUMNS} FROM events WHERE job = ? AND seq > ? ORDER BY seq LIMIT ?",
                (job, after, _few(limit)),
            )
        )

    def attempts(self, job: int, *, after: int = 0, limit: int = ROWS_MAX) -> tuple[AttemptRow, ...]:
        """All attempts that there ever were, oldest first, beyond the attempt `after`."""
        with self._asking(self._logs) as connection:
            sizes = logs.sizes(connection, job)
        found = self._rows(
            f"SELECT {ATTEMPT_ROW_COLUMNS} FROM attempts WHERE job = ? AND number > ? ORDER BY number LIMIT ?",
            (job, after, _few(limit)),
        )
        return tuple(attempt_row(row, sizes.get(row[1], 0)) for row in found)

    # ---- the farm ------------------------------------------------------------------------------------------------

    def counts(self) -> dict[tuple[State, Queue], int]:
        """How many jobs are in each state and queue; what is not named is 0."""
        found = self._rows("SELECT state, queue, jobs FROM counters WHERE jobs > 0")
        return {(State(state), codec.QUEUES[queue]): jobs for state, queue, jobs in found}

    def nodes(self) -> dict[str, NodeRow]:
        """All nodes by name."""
        found = self._rows(f"SELECT {codec.NODE_COLUMNS}, info, info_at_s FROM nodes ORDER BY name")
        return {row[0]: NodeRow(codec.node_of(row[:-2]), row[-2], row[-1]) for row in found}

    def sla(self, since_s: float) -> SlaCounts:
        """The service level of production jobs that ended since then (of the newest SLA_JOBS_MAX).

        Left out: canceled and rejected jobs, and failures in NOT_THE_FARMS. The processing time of a live job has
        no bound to miss. A platform failure counts as missed.
        """
        row = self._rows(
            f"""
            SELECT count(*),
                   count(*) FILTER (WHERE NOT failed AND NOT late AND NOT slow),
                   count(*) FILTER (WHERE late), count(*) FILTER (WHERE slow), count(*) FILTER (WHERE failed)
            FROM (SELECT state <> 'completed' AS failed,
                         coalesce(started_s, ended_s) - submitted_s > :queue_s AS late,
                         queue <> 'live' AND coalesce(ended_s - started_s, 0.0) > :processing_s AS slow
                  FROM (SELECT state, queue, submitted_s, started_s, ended_s, reason FROM jobs
                        WHERE classification = 'production' AND ended_s IS NOT NULL AND ended_s >= :since_s
                        ORDER BY ended_s DESC LIMIT {SLA_JOBS_MAX})
                  WHERE state IN ('completed', 'failed', 'timed_out')
                    AND NOT (state <> 'completed' AND coalesce(reason, '') IN {NOT_THE_FARMS}))
            """,
            {"since_s": since_s, "queue_s": SLA_QUEUE_S, "processing_s": SLA_PROCESSING_S},
        )[0]
        return SlaCounts(*map(int, row))

    def idempotency(self, scope: str, key: str) -> IdempotencyRow | None:
        """The answer that was given to this request before."""
        found = self._rows(
            "SELECT scope, key, body_digest, answer FROM idempotency WHERE scope = ? AND key = ?", (scope, key)
        )
        return IdempotencyRow(*found[0]) if found else None

    def audit(self, *, after: int = 0, limit: int = ROWS_MAX) -> tuple[AuditRecord, ...]:
        """Who did what, oldest first, beyond the row with the number `after`."""
        sql = "SELECT id, at_s, turn, who, action, target, outcome FROM audit WHERE id > ? ORDER BY id LIMIT ?"
        return tuple(AuditRecord(*row) for row in self._rows(sql, (after, _few(limit))))

    def identity(self) -> tuple[str, int]:
        """The store's lineage and newest turn."""
        lineage, turn = self._rows("SELECT lineage, turn FROM meta")[0]
        return str(lineage), int(turn)

    # ---- logs ----------------------------------------------------------------------------------------------------

    def log_size(self, job: int, attempt: int) -> int:
        """The end of an attempt's log as far as it was heard: from where the agent sends on."""
        with self._asking(self._logs) as connection:
            return logs.size(connection, job, attempt)

    def log_attempts(self, job: int) -> tuple[int, ...]:
        """The attempts of a job that have a log, in order."""
        with self._asking(self._logs) as connection:
            return tuple(logs.sizes(connection, job))

    def read_log(self, job: int, attempt: int, offset: int = 0, limit_bytes: int = LOG_BYTES) -> tuple[Piece, ...]:
        """Pieces of a log from `offset` on, together at most `limit_bytes`; read on at the last one's `end`."""
        with self._asking(self._logs) as connection:
            return logs.read(connection, job, attempt, max(0, offset), limit_bytes)

    def tail_start(self, job: int, attempt: int, lines: int) -> int:
        """The offset from which the last `lines` lines of a log stand (at most 4 MiB before its end)."""
        with self._asking(self._logs) as connection:
            return logs.tail_start(connection, job, attempt, lines)

    def tail(self, job: int, attempt: int, lines: int) -> tuple[Piece, ...]:
        """The last `lines` lines of a log (at most 4 MiB)."""
        return self.read_log(job, attempt, self.tail_start(job, attempt, lines), logs.TAIL_BYTES_MAX)

    def job_log(self, job: int) -> Iterator[bytes]:
        """The log of a job, attempt after attempt, in portions of about LOG_BYTES; each step is one short question.

        Where there are several attempts each begins with a heading line. Cuts are marked.
        """
        attempts = self.log_attempts(job)
        nodes = {row.number: row.node for row in self.attempts(job)}
        for attempt in attempts:
            if len(attempts) > 1:
                yield heading(attempt, nodes.get(attempt, ""), first=attempt == attempts[0])
            offset = 0
            while pieces := self.read_log(job, attempt, offset):
                yield b"".join(piece.text for piece in pieces)
                offset = pieces[-1].end


def heading(attempt: int, node: str, *, first: bool = False) -> bytes:
    """The line above an attempt's log where a job has several."""
    return (b"" if first else b"\n") + f"==> attempt {attempt}{f' on {node}' if node else ''} <==\n".encode()


def _list(values: Iterable[int] | Iterable[str]) -> str:
    found = list(values)
    if len(found) > KEYS_MAX:
        raise ValueError(f"at most {KEYS_MAX} at once")
    return json.dumps(found)


def _parts(keys: list[str]) -> Iterator[list[str]]:
    for start in range(0, len(keys), KEYS_MAX):
        yield keys[start : start + KEYS_MAX]


def _few(limit: int) -> int:
    return max(1, min(limit, ROWS_MAX))
