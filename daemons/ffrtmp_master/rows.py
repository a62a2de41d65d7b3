"""What passes between the master's turn and its store: the rows of one turn, and the answers to questions.

Inside the farm times are seconds on a monotonic clock; on disk they are seconds since the epoch. `TurnRows.offset_s` is
(wall - farm) at the moment of the turn, so that wall = farm + offset; `Store.load` takes the offset of the new life and
turns them back.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from ffrtmp.farm.effects import Changes, NewLineage, Record
from ffrtmp.farm.farm import Farm
from ffrtmp.farm.job import Attempt, AttemptId, Grant, Job, Queue
from ffrtmp.farm.job import Failure as FarmFailure
from ffrtmp.farm.node import Node
from ffrtmp.spec import Fingerprint, JobSpec, Results


@dataclass(frozen=True, slots=True)
class NewSpec:
    """What the store keeps of a new job beside the farm's own record."""

    number: int
    spec: JobSpec
    submitted_by: str = ""  # "uid 1000 (anna)"
    output_key: str = ""  # ROOT-ID:relative, unique among open jobs; empty: no file output
    idempotency: str = ""  # key of the request that made it, with `scope` (who), see IdempotencyRow


@dataclass(frozen=True, slots=True)
class IdempotencyRow:
    """A submission that may be repeated: same key and same body give the same answer, another body a 422."""

    scope: str
    key: str
    body_digest: str
    answer: bytes  # the body of the 201 that was given


@dataclass(frozen=True, slots=True)
class AuditRow:
    """Who did what."""

    who: str
    action: str
    target: str = ""
    outcome: str = ""


@dataclass(frozen=True, slots=True)
class AttemptResult:
    """What became known of an attempt at its end."""

    how: str  # published failed stopped completed node_lost absent burnt refused given_up
    failure: FarmFailure | None = None
    results: Results | None = None
    fingerprint: Fingerprint | None = None


@dataclass(frozen=True, slots=True)
class TicketRow:
    """An invitation: its one-time public key, until when, for whom, and which key used it."""

    public_key: str
    expires_s: float
    name: str = ""
    replace: str = ""
    used_for: str = ""


@dataclass(slots=True)
class TurnRows:
    """Everything that one turn writes, in one transaction."""

    turn: int
    at_s: float  # wall clock
    offset_s: float
    changes: Changes  # jobs: Job | None (gone: it is terminal now and its final state is in `ended`), ...
    records: list[Record] = field(default_factory=list)
    ended: dict[int, Job] = field(default_factory=dict)  # jobs that became terminal in this turn
    specs: list[NewSpec] = field(default_factory=list)
    attempt_results: dict[AttemptId, AttemptResult] = field(default_factory=dict)
    idempotency: list[IdempotencyRow] = field(default_factory=list)
    audit: list[AuditRow] = field(default_factory=list)
    tickets: list[TicketRow] = field(default_factory=list)  # new or changed
    node_info: dict[str, bytes] = field(default_factory=dict)  # node -> msgpack of a Told
    next_job: int = 1
    paused_queues: frozenset[Queue] = frozenset()
    queues_changed: bool = False
    lineage: NewLineage | None = None

    @property
    def empty(self) -> bool:
        """Whether there is nothing to write (then nothing is committed)."""
        c = self.changes
        return not (
            c.jobs
            or c.attempts
            or c.grants
            or c.nodes
            or self.records
            or self.specs
            or self.attempt_results
            or self.idempotency
            or self.audit
            or self.tickets
            or self.node_info
            or self.queues_changed
            or self.lineage
        )


@dataclass(frozen=True, slots=True)
class Loaded:
    """What a starting master reads: all that is open, on the new life's clock."""

    turn: int
    lineage: str
    ancestors: dict[str, int]  # lineage -> the turn at which it was left
    next_job: int
    paused_queues: frozenset[Queue]
    jobs: tuple[Job, ...]
    attempts: tuple[Attempt, ...]
    grants: tuple[Grant, ...]
    nodes: tuple[Node, ...]
    tickets: tuple[TicketRow, ...]
    restored: bool = False  # an older database was put back: `lineage` is new, numbers of jobs and attempts were raised
    restores: int = 0  # how often that has happened

    def put_into(self, farm: Farm) -> None:
        """Have rules that were just made take over all of it."""
        farm.restore(
            turn=self.turn,
            next_job=self.next_job,
            ancestors=self.ancestors,
            restores=self.restores,
            paused_queues=self.paused_queues,
            jobs=self.jobs,
            attempts=self.attempts,
            grants=self.grants,
            nodes=self.nodes,
        )


@dataclass(frozen=True, slots=True)
class JobFilter:
    """All given ones together. `states` are State values."""

    states: tuple[str, ...] = ()
    queue: str = ""
    priority: str = ""
    node: str = ""
    scenario: str = ""
    classification: str = ""


class StoreRefused(Exception):
    """The turn was not written and nothing is broken (disk full, busy): undo it, say 503, try again later."""


class StoreBroken(Exception):
    """After an I/O error at a commit nothing can be promised: the process must end and start from what is on disk."""
