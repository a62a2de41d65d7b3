"""One turn's rows, written in an open transaction.

The order matters: jobs that end let go of their outputs before new jobs take them; jobs stand before what refers to them.
Each write of a row that must be there checks that it was: a turn that would change a job that has ended, or one that the
store does not know, is refused as a whole and never half believed.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import apsw

from ffrtmp.farm.effects import Record
from ffrtmp.farm.job import Attempt, AttemptId, Grant, Job, State
from ffrtmp.farm.node import Node
from ffrtmp.spec import JobSpec

from ..rows import AttemptResult, NewSpec, TurnRows
from . import codec
from .database import RowsRejected, rows

_JOB_UPDATED = (
    "state, queue, priority, arrival_s, due_s, attempt, current, failures, lost, max_retries, on_disconnect,"
    f" live, verdict, {codec.FAILURE_COLUMNS}, requirements"
)
_SPEC_COLUMNS = "submitted_s, ended_s, scenario, classification, output_key, submitted_by, idempotency, retry_of, spec"


def _named(columns: str) -> str:
    return ", ".join(f":{name.strip()}" for name in columns.split(","))


def _set(columns: str) -> str:
    return ", ".join(f"{name.strip()} = :{name.strip()}" for name in columns.split(","))


def _excluded(columns: str) -> str:
    return ", ".join(f"{name.strip()} = excluded.{name.strip()}" for name in columns.split(","))


_INSERT_JOB = (
    f"INSERT INTO jobs ({codec.JOB_COLUMNS}, {_SPEC_COLUMNS})"
    f" VALUES ({_named(codec.JOB_COLUMNS)}, {_named(_SPEC_COLUMNS)})"
)
_UPDATE_JOB = f"UPDATE jobs SET {_set(_JOB_UPDATED)}, ended_s = :ended_s WHERE number = :number AND ended_s IS NULL"
_UPSERT_ATTEMPT = (
    f"INSERT INTO attempts ({codec.ATTEMPT_COLUMNS}, there, started_s)"
    f" VALUES ({_named(codec.ATTEMPT_COLUMNS)}, 1, iif(:accepted, :at_s, NULL))"
    f" ON CONFLICT (job, number) DO UPDATE SET {_excluded(codec.ATTEMPT_COLUMNS)}, there = 1,"
    " started_s = coalesce(started_s, excluded.started_s)"
)
_NODE_OF_JOB = (
    "UPDATE jobs SET node = found.node FROM (SELECT node FROM attempts WHERE job = :job AND number = :current) AS found"
    " WHERE jobs.number = :job AND jobs.node <> found.node"
)
_RESULT = (
    f"UPDATE attempts SET ended_s = coalesce(ended_s, :at_s), how = :how, {_set(codec.FAILURE_COLUMNS)},"
    " results = coalesce(:results, results), size_bytes = coalesce(:size_bytes, size_bytes),"
    " digest = coalesce(:digest, digest) WHERE job = :job AND number = :number"
)
# A note may speak of a job that retention has taken meanwhile; it goes where the job went.
_EVENT = (
    f"INSERT INTO events (job, attempt, at_s, turn, before, after, kind, text, node, {codec.FAILURE_COLUMNS})"
    " SELECT :job, :attempt, :at_s, :turn, :before, :after, :kind, :text, :node, :reason, :transient, :line, :hint"
    " WHERE EXISTS (SELECT 1 FROM jobs WHERE number = :job)"
)
_UPSERT_NODE = (
    f"INSERT INTO nodes ({codec.NODE_COLUMNS}) VALUES ({_named(codec.NODE_COLUMNS)})"
    f" ON CONFLICT (name) DO UPDATE SET {_excluded(codec.NODE_COLUMNS)}"
)
_UPSERT_GRANT = (
    f"INSERT INTO grants ({codec.GRANT_COLUMNS}) VALUES ({_named(codec.GRANT_COLUMNS)})"
    f" ON CONFLICT (job) DO UPDATE SET {_excluded(codec.GRANT_COLUMNS)}"
)
_UPSERT_TICKET = (
    "INSERT INTO tickets (public_key, expires_s, name, replaces, used_for) VALUES (?, ?, ?, ?, ?)"
    " ON CONFLICT (public_key) DO UPDATE SET expires_s = excluded.expires_s, name = excluded.name,"
    " replaces = excluded.replaces, used_for = excluded.used_for"
)


def write(connection: apsw.Connection, turn: TurnRows) -> None:
    """Write a turn. Raises RowsRejected, or apsw.Error, and then the transaction must be rolled back."""
    _write_nodes(connection, turn)
    _write_jobs(connection, turn)
    _write_attempts(connection, turn)
    _write_history(connection, turn)
    _write_grants(connection, turn)
    _write_requests(connection, turn)
    _write_meta(connection, turn)


def _must_change(connection: apsw.Connection, what: str) -> None:
    if connection.changes() != 1:
        raise RowsRejected(what)


def _write_nodes(connection: apsw.Connection, turn: TurnRows) -> None:
    # Removed ones first, and keys that move to another name freed, because a key belongs to one node.
    kept = {name: node for name, node in turn.changes.nodes.items() if isinstance(node, Node)}
    connection.executemany("DELETE FROM nodes WHERE name = ?", [(n,) for n in turn.changes.nodes if n not in kept])
    connection.executemany(
        "UPDATE nodes SET key = '(moving) ' || name WHERE name = ? AND key <> ?", [(n, kept[n].key) for n in kept]
    )
    connection.executemany(_UPSERT_NODE, [codec.node_columns(node) for node in kept.values()])
    connection.executemany(
        "UPDATE nodes SET info = ?, info_at_s = ? WHERE name = ?",
        [(info, turn.at_s, name) for name, info in turn.node_info.items()],
    )


def _write_jobs(connection: apsw.Connection, turn: TurnRows) -> None:
    new = {spec.number for spec in turn.specs}
    for number, job in turn.ended.items():
        if number not in new:
            _update_job(connection, job, turn, turn.at_s)
    for spec in turn.specs:
        _insert_job(connection, spec, turn)
    for number, change in turn.changes.jobs.items():
        if isinstance(change, Job):
            if number not in new:
                _update_job(connection, change, turn, None)
        elif number not in turn.ended and rows(
            connection, "SELECT 1 FROM jobs WHERE number = ? AND ended_s IS NULL", (number,)
        ):
            raise RowsRejected(f"job {number} is gone without an end")


def _update_job(connection: apsw.Connection, job: Job, turn: TurnRows, ended_s: float | None) -> None:
    connection.execute(_UPDATE_JOB, {**codec.job_columns(job, turn.offset_s), "ended_s": ended_s})
    _must_change(connection, f"job {job.number} has ended already, or is not known and came without a specification")


def _insert_job(connection: apsw.Connection, new: NewSpec, turn: TurnRows) -> None:
    job = turn.ended.get(new.number) or turn.changes.jobs.get(new.number)
    if not isinstance(job, Job):
        raise RowsRejected(f"job {new.number} has a specification, but no record")
    connection.execute(_INSERT_JOB, {**codec.job_columns(job, turn.offset_s), **_spec_columns(new, job, turn)})


def _spec_columns(new: NewSpec, job: Job, turn: TurnRows) -> dict[str, Any]:
    spec: JobSpec = new.spec
    return {
        "submitted_s": turn.at_s,
        "ended_s": turn.at_s if job.terminal else None,
        "scenario": spec.recipe.scenario,
        "classification": spec.classification,
        "output_key": new.output_key,
        "submitted_by": new.submitted_by,
        "idempotency": new.idempotency,
        "retry_of": spec.retry_of,
        "spec": codec.pack(spec),
    }


def _write_attempts(connection: apsw.Connection, turn: TurnRows) -> None:
    for key, change in turn.changes.attempts.items():
        if isinstance(change, Attempt):
            connection.execute(_UPSERT_ATTEMPT, {**codec.attempt_columns(change, turn.offset_s), "at_s": turn.at_s})
        else:
            connection.execute(
                "UPDATE attempts SET there = 0, ended_s = coalesce(ended_s, ?) WHERE job = ? AND number = ?",
                (turn.at_s, *key),
            )
    connection.executemany(_NODE_OF_JOB, _current_attempts(turn))
    for key, result in turn.attempt_results.items():
        _write_result(connection, key, result, turn.at_s)


def _current_attempts(turn: TurnRows) -> Iterable[dict[str, int]]:
    for job in (*turn.changes.jobs.values(), *turn.ended.values()):
        if isinstance(job, Job) and job.current:
            yield {"job": job.number, "current": job.current}


def _write_result(connection: apsw.Connection, key: AttemptId, result: AttemptResult, at_s: float) -> None:
    job, number = key
    results = None if result.results is None else codec.pack(result.results)
    connection.execute(
        _RESULT,
        {
            "job": job,
            "number": number,
            "at_s": at_s,
            "how": result.how,
            "results": results,
            **codec.failure_columns(result.failure),
            **codec.fingerprint_columns(result.fingerprint),
        },
    )
    if results is not None and result.how in {"published", "completed"}:
        connection.execute("UPDATE jobs SET results = ? WHERE number = ?", (results, job))


def _write_history(connection: apsw.Connection, turn: TurnRows) -> None:
    connection.executemany(_EVENT, [_event_columns(record, turn) for record in turn.records])
    connection.executemany(
        "UPDATE jobs SET started_s = ? WHERE number = ? AND started_s IS NULL",
        [(turn.at_s, r.job) for r in turn.records if r.after is State.RUNNING and r.before is not State.RUNNING],
    )


def _event_columns(record: Record, turn: TurnRows) -> dict[str, Any]:
    return {
        "job": record.job,
        "attempt": record.attempt,
        "at_s": turn.at_s,
        "turn": turn.turn,
        "before": None if record.before is None else record.before.value,
        "after": record.after.value,
        "kind": record.kind,
        "text": record.text,
        "node": record.node,
        **codec.failure_columns(record.failure),
    }


def _write_grants(connection: apsw.Connection, turn: TurnRows) -> None:
    for job, change in turn.changes.grants.items():
        if isinstance(change, Grant):
            connection.execute(_UPSERT_GRANT, codec.grant_columns(change, turn.offset_s))
            # The grant goes, the attempt's row stays: whatever becomes of its node, the output can be told for the job's own.
            connection.execute(
                "UPDATE attempts SET size_bytes = :size_bytes, digest = :digest"
                " WHERE job = :job AND number = :attempt AND :digest IS NOT NULL",
                {"job": job, "attempt": change.attempt, **codec.fingerprint_columns(change.fingerprint)},
            )
        else:
            connection.execute("DELETE FROM grants WHERE job = ?", (job,))


def _write_requests(connection: apsw.Connection, turn: TurnRows) -> None:
    connection.executemany(
        "INSERT INTO idempotency (scope, key, body_digest, answer, at_s) VALUES (?, ?, ?, ?, ?)",
        [(row.scope, row.key, row.body_digest, row.answer, turn.at_s) for row in turn.idempotency],
    )
    connection.executemany(
        "INSERT INTO audit (at_s, turn, who, action, target, outcome) VALUES (?, ?, ?, ?, ?, ?)",
        [(turn.at_s, turn.turn, row.who, row.action, row.target, row.outcome) for row in turn.audit],
    )
    connection.executemany(
        _UPSERT_TICKET, [(t.public_key, t.expires_s, t.name, t.replace, t.used_for) for t in turn.tickets]
    )


def _write_meta(connection: apsw.Connection, turn: TurnRows) -> None:
    if turn.lineage is not None:
        connection.execute("UPDATE meta SET lineage = ?", (turn.lineage.lineage,))
        leave_lineage(connection, turn.lineage.parent, turn.lineage.branch_turn, turn.at_s)
    connection.execute(
        "UPDATE meta SET turn = :turn, at_s = :at_s, next_job = max(next_job, :next_job), paused_queues = :paused"
        " WHERE turn < :turn",
        {
            "turn": turn.turn,
            "at_s": turn.at_s,
            "next_job": turn.next_job,
            "paused": " ".join(sorted(queue.label for queue in turn.paused_queues)),
        },
    )
    _must_change(connection, f"turn {turn.turn} is not newer than the store's")


def leave_lineage(connection: apsw.Connection, lineage: str, turn: int, at_s: float) -> None:
    """Note up to which turn a lineage is this store's own past."""
    connection.execute(
        "INSERT INTO lineages (lineage, left_turn, at_s) VALUES (?, ?, ?)"
        " ON CONFLICT (lineage) DO UPDATE SET left_turn = min(left_turn, excluded.left_turn)",
        (lineage, turn, at_s),
    )
