"""What the rules ask the shell to do, once the turn is committed.

`Answer` closes a request of the API. The `Send...` effects go to an agent's connection; the shell turns them into
messages (adding what only the store knows, as the specification). `Record` is a row of history. What changed in the
tables is not listed among the effects: the turn takes it from `Farm.changes`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from .job import AttemptId, Failure, State, Want


@dataclass(frozen=True, slots=True)
class Record:
    """One row of history (P10). Where `before` and `after` differ it is a change of state; else a note.

    `kind` is a word that programs may rely on; `text` a sentence for people.
    """

    job: int
    attempt: int
    before: State | None
    after: State
    kind: str
    text: str
    node: str = ""
    failure: Failure | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """The outcome of a request. `status` is an HTTP status; 2xx are consents."""

    request: int
    status: int
    detail: str = ""
    hint: str = ""
    jobs: tuple[int, ...] = ()  # numbers made or touched
    states: tuple[State, ...] = ()  # their states, in the same order
    nodes: tuple[str, ...] = ()  # nodes that are concerned (e.g. still hold it)
    warnings: tuple[str, ...] = ()  # of a submission: for each job why no known node could run it, or ""


@dataclass(frozen=True, slots=True)
class AttemptOver:
    """Nothing of this attempt is left on its node (or the node was removed).

    `how`: as `events.Ended` has it, or published, refused (it never began), given_up (its node was removed).
    """

    attempt: AttemptId
    how: str
    failure: Failure | None = None


@dataclass(frozen=True, slots=True)
class SendAssign:
    """Hand an attempt out (repeated until it is accepted or refused)."""

    node: str
    attempt: AttemptId


@dataclass(frozen=True, slots=True)
class SendOrder:
    """Say what an attempt is to be. `uuid` because the farm may not know the job (any more)."""

    node: str
    uuid: str
    number: int
    want: Want


@dataclass(frozen=True, slots=True)
class SendGrant:
    """The grant for a publish request."""

    node: str
    uuid: str
    number: int
    request: int


@dataclass(frozen=True, slots=True)
class SendDeny:
    """No grant for a publish request."""

    node: str
    uuid: str
    number: int
    request: int
    detail: str


@dataclass(frozen=True, slots=True)
class SendSettle:
    """Ask a node that shares the storage to settle a lost node's grant."""

    node: str
    attempt: AttemptId


@dataclass(frozen=True, slots=True)
class SendAck:
    """An outbox item of a node is committed."""

    node: str
    item: str


@dataclass(frozen=True, slots=True)
class Directive:
    """What is to become of an attempt that Hello named: keep, stop, or offer (a restored master asks)."""

    uuid: str
    number: int
    action: Literal["keep", "stop", "offer"]


@dataclass(frozen=True, slots=True)
class SendWelcome:
    """A session is open."""

    connection: bytes
    node: str
    session: int
    directives: tuple[Directive, ...] = ()


@dataclass(frozen=True, slots=True)
class SendSorry:
    """A Hello is refused. `retry`: it may be said again later without anybody's doing."""

    connection: bytes
    status: int
    detail: str
    hint: str
    retry: bool = False


@dataclass(frozen=True, slots=True)
class SendNoSession:
    """A message of no live session: say Hello."""

    connection: bytes
    session: int


@dataclass(frozen=True, slots=True)
class SendSign:
    """Ask the old connection of a node whether it lives."""

    connection: bytes
    session: int


@dataclass(frozen=True, slots=True)
class NewLineage:
    """The master was restored from a backup and goes on as another history."""

    lineage: str
    parent: str
    branch_turn: int


Effect = (
    Record
    | Answer
    | AttemptOver
    | SendAssign
    | SendOrder
    | SendGrant
    | SendDeny
    | SendSettle
    | SendAck
    | SendWelcome
    | SendSorry
    | SendNoSession
    | SendSign
    | NewLineage
)


@dataclass(slots=True)
class Changes:
    """The rows that a turn writes: the new value, or None for a row that is gone."""

    jobs: dict[int, object] = field(default_factory=dict)
    attempts: dict[AttemptId, object] = field(default_factory=dict)
    grants: dict[int, object] = field(default_factory=dict)
    nodes: dict[str, object] = field(default_factory=dict)
