"""The farm's records as columns and back.

What is asked for or checked has a column of its own; sets and nested records are msgpack in a fixed order, so that equal
ones are equal bytes. On disk times are wall clock: `offset_s` = wall - farm, see rows.py. The farm's 0.0 for "no time" is
NULL on disk, because turned into wall time it would be a time.
"""

from __future__ import annotations

import json
from typing import Any

import msgspec

from ffrtmp.farm.job import (
    Attempt,
    Failure,
    Fingerprint,
    Grant,
    Job,
    OnDisconnect,
    Priority,
    Queue,
    Reason,
    Requirements,
    State,
    Terms,
    Want,
)
from ffrtmp.farm.node import Capacity, Node
from ffrtmp.spec import JobSpec, Results

QUEUES = {queue.label: queue for queue in Queue}
PRIORITIES = {priority.label: priority for priority in Priority}

_encoder = msgspec.msgpack.Encoder(order="deterministic")
_requirements = msgspec.msgpack.Decoder(Requirements)
_capacity = msgspec.msgpack.Decoder(Capacity)
_spec = msgspec.msgpack.Decoder(JobSpec)
_results = msgspec.msgpack.Decoder(Results)

FAILURE_COLUMNS = "reason, transient, line, hint"
JOB_COLUMNS = (
    "number, uuid, state, queue, priority, arrival_s, due_s, attempt, current, failures, lost, max_retries,"
    f" on_disconnect, live, verdict, {FAILURE_COLUMNS}, requirements"
)
ATTEMPT_COLUMNS = "job, number, uuid, node, want, live, accepted, doubted, paused, offered_s, fence_s, requirements"
GRANT_COLUMNS = "job, attempt, request, size_bytes, digest, until_s, settling"
NODE_COLUMNS = "name, key, address, capacity, labels, drained, incarnation, accept_lower"


def pack(record: object) -> bytes:
    """A record as msgpack; equal records give equal bytes."""
    return _encoder.encode(record)


def spec_of(blob: bytes) -> JobSpec:
    """A stored specification."""
    return _spec.decode(blob)


def results_of(blob: bytes | None) -> Results | None:
    """Stored figures of an attempt or a job."""
    return None if blob is None else _results.decode(blob)


def requirements_of(blob: bytes) -> Requirements:
    """Stored requirements."""
    return _requirements.decode(blob)


def numbers(text: str) -> tuple[int, ...]:
    """Numbers with blanks between."""
    return tuple(int(word) for word in text.split())


def to_wall(farm_s: float, offset_s: float) -> float | None:
    """A time for the disk; 0.0 means none."""
    return None if farm_s == 0.0 else farm_s + offset_s


def to_farm(wall_s: float | None, offset_s: float) -> float:
    """A time for the farm; none is 0.0."""
    return 0.0 if wall_s is None else wall_s - offset_s


def failure_columns(failure: Failure | None) -> dict[str, Any]:
    """FAILURE_COLUMNS of a failure or of none."""
    if failure is None:
        return {"reason": None, "transient": None, "line": None, "hint": None}
    return {
        "reason": failure.reason.value,
        "transient": failure.transient,
        "line": failure.line,
        "hint": failure.hint,
    }


def failure_of(reason: str | None, transient: int | None, line: str | None, hint: str | None) -> Failure | None:
    """The failure that stands in FAILURE_COLUMNS."""
    return None if reason is None else Failure(Reason(reason), bool(transient), line or "", hint or "")


def fingerprint_columns(fingerprint: Any) -> dict[str, Any]:
    """size_bytes and digest of a fingerprint (the farm's or the wire's) or of none."""
    if fingerprint is None:
        return {"size_bytes": None, "digest": None}
    return {"size_bytes": fingerprint.size_bytes, "digest": fingerprint.digest}


def fingerprint_of(size_bytes: int | None, digest: str | None) -> Fingerprint | None:
    """The fingerprint that stands in two columns."""
    return None if size_bytes is None else Fingerprint(size_bytes, digest or "")


def job_columns(job: Job, offset_s: float) -> dict[str, Any]:
    """JOB_COLUMNS of a job."""
    terms = job.terms
    return {
        "number": job.number,
        "uuid": job.uuid,
        "state": job.state.value,
        "queue": terms.queue.label,
        "priority": terms.priority.label,
        "arrival_s": job.arrival_s + offset_s,
        "due_s": to_wall(job.due_s, offset_s),
        "attempt": job.attempt,
        "current": job.current,
        "failures": job.failures,
        "lost": " ".join(map(str, job.lost)),
        "max_retries": terms.max_retries,
        "on_disconnect": terms.on_disconnect.value,
        "live": terms.live,
        "verdict": None if job.verdict is None else job.verdict.value,
        "requirements": pack(terms.requirements),
        **failure_columns(job.failure),
    }


class TermsPool:
    """Terms that are alike are one object in memory: a million waiting jobs share a few."""

    def __init__(self) -> None:
        self._requirements: dict[bytes, Requirements] = {}
        self._terms: dict[tuple[Any, ...], Terms] = {}

    def requirements(self, blob: bytes) -> Requirements:
        """The requirements of these bytes."""
        found = self._requirements.get(blob)
        if found is None:
            found = self._requirements[blob] = requirements_of(blob)
        return found

    def terms(self, queue: str, priority: str, blob: bytes, max_retries: int, on_disconnect: str, live: int) -> Terms:
        """The terms of these columns."""
        key = (queue, priority, blob, max_retries, on_disconnect, live)
        found = self._terms.get(key)
        if found is None:
            found = self._terms[key] = Terms(
                queue=QUEUES[queue],
                priority=PRIORITIES[priority],
                requirements=self.requirements(blob),
                max_retries=max_retries,
                on_disconnect=OnDisconnect(on_disconnect),
                live=bool(live),
            )
        return found


def job_of(row: tuple[Any, ...], offset_s: float, pool: TermsPool) -> Job:
    """The job that stands in JOB_COLUMNS."""
    (number, uuid, state, queue, priority, arrival_s, due_s, attempt, current, failures, lost, *rest) = row
    (max_retries, on_disconnect, live, verdict, reason, transient, line, hint, requirements) = rest
    return Job(
        number=number,
        uuid=uuid,
        terms=pool.terms(queue, priority, requirements, max_retries, on_disconnect, live),
        arrival_s=arrival_s - offset_s,
        state=State(state),
        attempt=attempt,
        current=current,
        failures=failures,
        lost=numbers(lost),
        due_s=to_farm(due_s, offset_s),
        failure=failure_of(reason, transient, line, hint),
        verdict=None if verdict is None else State(verdict),
    )


def attempt_columns(attempt: Attempt, offset_s: float) -> dict[str, Any]:
    """ATTEMPT_COLUMNS of an attempt."""
    return {
        "job": attempt.job,
        "number": attempt.number,
        "uuid": attempt.uuid,
        "node": attempt.node,
        "want": attempt.want.value,
        "live": attempt.live,
        "accepted": attempt.accepted,
        "doubted": attempt.doubted,
        "paused": attempt.paused,
        "offered_s": to_wall(attempt.offered_s, offset_s),
        "fence_s": to_wall(attempt.fence_s, offset_s),
        "requirements": pack(attempt.requirements),
    }


def attempt_of(row: tuple[Any, ...], offset_s: float, pool: TermsPool) -> Attempt:
    """The attempt that stands in ATTEMPT_COLUMNS."""
    job, number, uuid, node, want, live, accepted, doubted, paused, offered_s, fence_s, requirements = row
    return Attempt(
        job=job,
        number=number,
        uuid=uuid,
        node=node,
        requirements=pool.requirements(requirements),
        live=bool(live),
        want=Want(want),
        accepted=bool(accepted),
        doubted=bool(doubted),
        paused=bool(paused),
        offered_s=to_farm(offered_s, offset_s),
        fence_s=to_farm(fence_s, offset_s),
    )


def grant_columns(grant: Grant, offset_s: float) -> dict[str, Any]:
    """GRANT_COLUMNS of a grant."""
    return {
        "job": grant.job,
        "attempt": grant.attempt,
        "request": grant.request,
        "until_s": grant.until_s + offset_s,
        "settling": grant.settling,
        **fingerprint_columns(grant.fingerprint),
    }


def grant_of(row: tuple[Any, ...], offset_s: float) -> Grant:
    """The grant that stands in GRANT_COLUMNS."""
    job, attempt, request, size_bytes, digest, until_s, settling = row
    return Grant(job, attempt, request, fingerprint_of(size_bytes, digest), until_s - offset_s, settling)


def node_columns(node: Node) -> dict[str, Any]:
    """NODE_COLUMNS of a node."""
    return {
        "name": node.name,
        "key": node.key,
        "address": node.address,
        "capacity": pack(node.capacity),
        "labels": json.dumps(sorted(node.labels)),
        "drained": node.drained,
        "incarnation": node.incarnation,
        "accept_lower": node.accept_lower,
    }


def node_of(row: tuple[Any, ...]) -> Node:
    """The node that stands in NODE_COLUMNS."""
    name, key, address, capacity, labels, drained, incarnation, accept_lower = row
    return Node(
        name=name,
        key=key,
        address=address,
        capacity=_capacity.decode(capacity),
        labels=frozenset(json.loads(labels)),
        drained=bool(drained),
        incarnation=incarnation,
        accept_lower=bool(accept_lower),
    )
