"""What the store answers: rows as plain records. Times are seconds since the epoch; None is "not yet" or "not known"."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from ffrtmp.farm.job import Failure, Fingerprint, Priority, Queue, Requirements, State, Terms
from ffrtmp.farm.node import Node
from ffrtmp.spec import JobSpec, Results

from . import codec

JOB_ROW_COLUMNS = (
    f"{codec.JOB_COLUMNS}, node, scenario, classification, submitted_s, started_s, ended_s, output_key, submitted_by,"
    " idempotency, retry_of, results, spec"
)
ATTEMPT_ROW_COLUMNS = (
    "job, number, uuid, node, there, want, live, accepted, doubted, paused, offered_s, fence_s, started_s, ended_s,"
    f" how, {codec.FAILURE_COLUMNS}, size_bytes, digest, results"
)
EVENT_ROW_COLUMNS = f"seq, job, attempt, at_s, turn, before, after, kind, text, node, {codec.FAILURE_COLUMNS}"
AttemptState = Literal["offered", "running", "paused", "doubted", "given_up", "ended"]


@dataclass(frozen=True, slots=True)
class JobRow:
    """A job, open or ended, with everything that was kept of it. The specification is decoded when it is asked for."""

    number: int
    uuid: str
    state: State
    queue: Queue
    priority: Priority
    arrival_s: float
    due_s: float | None
    attempt: int
    current: int
    failures: int
    lost: tuple[int, ...]
    max_retries: int
    on_disconnect: str
    live: bool
    verdict: State | None
    failure: Failure | None
    node: str  # of the current attempt, or the last that it had
    scenario: str
    classification: str
    submitted_s: float
    started_s: float | None  # when it first ran
    ended_s: float | None
    output_key: str
    submitted_by: str
    idempotency: str
    retry_of: int
    requirements_blob: bytes
    results_blob: bytes | None
    spec_blob: bytes

    @property
    def terminal(self) -> bool:
        """Whether it has ended."""
        return self.ended_s is not None

    @property
    def spec(self) -> JobSpec:
        """What was asked for."""
        return codec.spec_of(self.spec_blob)

    @property
    def results(self) -> Results | None:
        """What the attempt that succeeded has measured."""
        return codec.results_of(self.results_blob)

    @property
    def requirements(self) -> Requirements:
        """What a node must have for it."""
        return codec.requirements_of(self.requirements_blob)

    @property
    def terms(self) -> Terms:
        """What the farm orders and places it by."""
        return codec.TermsPool().terms(
            self.queue.label,
            self.priority.label,
            self.requirements_blob,
            self.max_retries,
            self.on_disconnect,
            self.live,
        )

    @property
    def queue_s(self) -> float | None:
        """Seconds from submission to the first start."""
        return None if self.started_s is None else max(0.0, self.started_s - self.submitted_s)


@dataclass(frozen=True, slots=True)
class AttemptRow:
    """An attempt, also one that is over. `there`: it may still be alive, the farm counts with it."""

    job: int
    number: int
    uuid: str
    node: str
    there: bool
    want: str
    live: bool
    accepted: bool
    doubted: bool
    paused: bool
    offered_s: float | None
    fence_s: float | None
    started_s: float | None  # when its acceptance was committed
    ended_s: float | None
    how: str
    failure: Failure | None
    fingerprint: Fingerprint | None
    results: Results | None
    log_bytes: int

    @property
    def state(self) -> AttemptState:
        """In a word for people."""
        if not self.there:
            return "ended"
        if self.want == "discard":
            return "given_up"
        if self.doubted:
            return "doubted"
        if self.paused:
            return "paused"
        return "running" if self.accepted else "offered"


@dataclass(frozen=True, slots=True)
class EventRow:
    """A row of history."""

    seq: int
    job: int
    attempt: int
    at_s: float
    turn: int
    before: State | None
    after: State
    kind: str
    text: str
    node: str
    failure: Failure | None


@dataclass(frozen=True, slots=True)
class NodeRow:
    """A node's record, and what its agent last told of it: msgpack of (Facts, wire.Capacity), None before the first."""

    node: Node
    info: bytes | None
    info_at_s: float | None


@dataclass(frozen=True, slots=True)
class AuditRecord:
    """Who did what, when."""

    id: int
    at_s: float
    turn: int
    who: str
    action: str
    target: str
    outcome: str


@dataclass(frozen=True, slots=True)
class JobPage:
    """A page of a list. `next` is the key of the following page, None at the end.

    A page may hold fewer rows than asked for and still have a `next`: a question looks at a bounded number of rows.
    """

    jobs: tuple[JobRow, ...]
    next: int | None


@dataclass(frozen=True, slots=True)
class SlaCounts:
    """Production jobs that ended, users' faults left out; one job may have missed both times."""

    jobs: int
    met: int
    queue_missed: int
    processing_missed: int
    platform_failed: int


def job_row(row: tuple[Any, ...]) -> JobRow:
    """The record of JOB_ROW_COLUMNS."""
    (number, uuid, state, queue, priority, arrival_s, due_s, attempt, current, failures, lost, *rest) = row
    max_retries, on_disconnect, live, verdict, reason, transient, line, hint, requirements, node, scenario, *rest = rest
    classification, submitted_s, started_s, ended_s, output_key, submitted_by, idempotency, retry_of, *blobs = rest
    return JobRow(
        number=number,
        uuid=uuid,
        state=State(state),
        queue=codec.QUEUES[queue],
        priority=codec.PRIORITIES[priority],
        arrival_s=arrival_s,
        due_s=due_s,
        attempt=attempt,
        current=current,
        failures=failures,
        lost=codec.numbers(lost),
        max_retries=max_retries,
        on_disconnect=on_disconnect,
        live=bool(live),
        verdict=None if verdict is None else State(verdict),
        failure=codec.failure_of(reason, transient, line, hint),
        node=node,
        scenario=scenario,
        classification=classification,
        submitted_s=submitted_s,
        started_s=started_s,
        ended_s=ended_s,
        output_key=output_key,
        submitted_by=submitted_by,
        idempotency=idempotency,
        retry_of=retry_of,
        requirements_blob=requirements,
        results_blob=blobs[0],
        spec_blob=blobs[1],
    )


def attempt_row(row: tuple[Any, ...], log_bytes: int) -> AttemptRow:
    """The record of ATTEMPT_ROW_COLUMNS."""
    job, number, uuid, node, there, want, live, accepted, doubted, paused, offered_s, fence_s, *rest = row
    started_s, ended_s, how, reason, transient, line, hint, size_bytes, digest, results = rest
    return AttemptRow(
        job=job,
        number=number,
        uuid=uuid,
        node=node,
        there=bool(there),
        want=want,
        live=bool(live),
        accepted=bool(accepted),
        doubted=bool(doubted),
        paused=bool(paused),
        offered_s=offered_s,
        fence_s=fence_s,
        started_s=started_s,
        ended_s=ended_s,
        how=how or "",
        failure=codec.failure_of(reason, transient, line, hint),
        fingerprint=codec.fingerprint_of(size_bytes, digest),
        results=codec.results_of(results),
        log_bytes=log_bytes,
    )


def event_row(row: tuple[Any, ...]) -> EventRow:
    """The record of EVENT_ROW_COLUMNS."""
    seq, job, attempt, at_s, turn, before, after, kind, text, node, *failure = row
    return EventRow(
        seq=seq,
        job=job,
        attempt=attempt,
        at_s=at_s,
        turn=turn,
        before=None if before is None else State(before),
        after=State(after),
        kind=kind,
        text=text,
        node=node,
        failure=codec.failure_of(*failure),
    )
