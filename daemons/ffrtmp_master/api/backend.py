"""What the API needs of the master: the interface that the turn loop fulfils.

Writes go through `submit` and `request`, which answer when the turn that carried them is committed. Reads go to the store's
`Reader` (what is on disk) and to `Live` (what only memory has). Any of them may raise `Refusal`: 503 with the reason where
the store refuses a turn.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

from ffrtmp import api, wire
from ffrtmp.farm.effects import Answer
from ffrtmp.farm.events import UserEvent
from ffrtmp.farm.job import Queue
from ffrtmp.farm.node import Node
from ffrtmp.farm.why import Why
from ffrtmp.spec import Progress, Recipe

from ..paths import Roots
from ..root_names import RootNames
from ..rows import AuditRow
from ..store.reader import Reader
from ..submit import PreparedJob
from .access import Caller
from .watch import Watchers


@dataclass(frozen=True, slots=True)
class Idempotency:
    """Under which key a submission's answer is kept."""

    scope: str
    key: str
    body_digest: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a submission: the farm's answer and, where it consents, the body of the 201, encoded."""

    answer: Answer
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class LiveNode:
    """A node as memory has it: the record, the contact, what is used of it, and what it last said."""

    node: Node
    state: Literal["ready", "drained", "away", "lost", "unheard"]
    jobs: tuple[str, ...] = ()  # "42.1"
    cpu_used_milli: int = 0
    memory_used_bytes: int = 0
    slots_used: int = 0
    heard_s: float | None = None  # seconds since it was heard, None: not since the master's start
    load: tuple[float, ...] = ()
    free_memory_bytes: int = 0
    facts: wire.Facts = field(default_factory=wire.Facts)
    capacity: wire.Capacity | None = None  # as announced, kept over a restart; None: never heard of


@dataclass(frozen=True, slots=True)
class LiveQueue:
    """A queue now. `oldest_s`: how long its first waiting job has waited."""

    queue: Queue
    paused: bool
    waiting: int
    running: int
    oldest_s: float = 0.0


class Live(Protocol):
    """What only memory knows. All of it answers at once."""

    def progress(self, job: int) -> Progress | None:
        """The last progress heard of a job's current attempt."""
        ...

    def phase(self, job: int) -> str:
        """What a running job is doing, as its node last said: encoding, verifying, publishing; empty where unknown."""
        ...

    def nodes(self, after: str, limit: int) -> Sequence[LiveNode]:
        """At most `limit` nodes, in contact or not, by name: those whose names come after `after`."""
        ...

    def node(self, name: str) -> LiveNode | None:
        """One node, in contact or not; None where there is none of that name."""
        ...

    def roots(self) -> Roots:
        """The media roots that each node announced, whether it is in contact or not."""
        ...

    def names(self) -> RootNames:
        """What the names of these roots mean now."""
        ...

    def queues(self) -> Sequence[LiveQueue]:
        """All three queues, in their order."""
        ...

    def why(self, job: int) -> Why | None:
        """Why an open job is where it is; None where the farm does not know the job (it has ended)."""
        ...

    def log_complete(self, job: int, attempt: int) -> bool:
        """Whether the agent has said that this log has ended; False also where that is not remembered."""
        ...


class Backend(Protocol):
    """The master, as the API sees it."""

    @property
    def reader(self) -> Reader:
        """The store's answers; used on the event loop's thread only."""
        ...

    @property
    def live(self) -> Live:
        """What only memory knows."""
        ...

    @property
    def watchers(self) -> Watchers:
        """The followers: the turn loop calls `watchers.wake(job)` when a job, its progress or its log changed."""
        ...

    @property
    def recipes(self) -> Mapping[str, Recipe]:
        """The scenarios by name, as they are now (a reload changes them)."""
        ...

    @property
    def max_retries(self) -> int:
        """For jobs that do not say it themselves."""
        ...

    @property
    def backup_folders(self) -> Sequence[Path]:
        """Where backups may be written, the daemon's own folder first."""
        ...

    async def submit(self, jobs: Sequence[PreparedJob], caller: Caller, idempotency: Idempotency | None) -> Outcome:
        """Put a Submit into the next turn and wait until that turn is committed.

        The turn fills `NewJob.taken_by` (it alone sees what was accepted a moment ago), applies the Submit, makes the
        outcome of the effects by `replies.outcome`, stores `submit.complete(spec, number)` with `submit.output_key` of
        it, and, with `idempotency`, `replies.idempotency_row` of a consent: all in one transaction.
        """
        ...

    async def request(self, make: Callable[[int], UserEvent], caller: Caller) -> Answer:
        """Put the event that `make(request number)` returns into the next turn; the answer comes after its commit."""
        ...

    async def invite(self, request: api.InviteRequest, caller: Caller) -> api.Invitation:
        """A ticket; opens the hub to the network when it is the first."""
        ...

    async def enroll(self, request: api.EnrollRequest, caller: Caller) -> api.Enrollment:
        """Admit a key as a node, beside the master."""
        ...

    async def backup(self, path: Path) -> int:
        """Write a backup to `path`, which does not exist yet; its size in bytes."""
        ...

    def audit(self, row: AuditRow) -> None:
        """Keep who did what, in the next turn. The API calls it for every call that may change something."""
        ...

    def version(self) -> api.Version:
        """Version, lineage and turn."""
        ...

    def not_ready(self) -> str:
        """Why the master does not serve yet, or any more (a store that refuses); empty when it serves."""
        ...
