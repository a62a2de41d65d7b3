"""What the agent's heart (session.py) asks of its shell (agent.py): plain data, carried out in order."""

from __future__ import annotations

from dataclasses import dataclass

from ffrtmp import wire

AttemptKey = tuple[str, int]  # (job UUID, attempt number)
Item = wire.Published | wire.NotPublished | wire.Ended  # what the outbox keeps


@dataclass(frozen=True, slots=True)
class Send:
    """Put a message on the link."""

    message: wire.Message


@dataclass(frozen=True, slots=True)
class Create:
    """Make the attempt's directory and start it, or say why not (`created`, `not_created`)."""

    assign: wire.Assign


@dataclass(frozen=True, slots=True)
class Control:
    """Have the runner do something: pause, resume, stop (planned)."""

    key: AttemptKey
    what: str


@dataclass(frozen=True, slots=True)
class Clean:
    """End all processes of the attempt, remove its staging folder (`cleaned`)."""

    key: AttemptKey


@dataclass(frozen=True, slots=True)
class Publish:
    """Put the output at its place, beginning the rename before `until_s` on the agent's clock (`publish_done`)."""

    key: AttemptKey
    request: int
    until_s: float


@dataclass(frozen=True, slots=True)
class PutItem:
    """Keep an outbox item on disk; only then send it (`item_kept`)."""

    item: str
    message: Item


@dataclass(frozen=True, slots=True)
class Remove:
    """All of this attempt is settled: take its directory and its outbox item away."""

    key: AttemptKey
    item: str


@dataclass(frozen=True, slots=True)
class Lease:
    """Write the attempt's lease: its engine may run until `until_s` on the agent's clock."""

    key: AttemptKey
    until_s: float


@dataclass(frozen=True, slots=True)
class Look:
    """Settle another node's grant: move its staging folder away, then look at the target (`looked`)."""

    settle: wire.Settle


@dataclass(frozen=True, slots=True)
class SaveSeen:
    """Remember the newest state of a master that was heard of."""

    seen: wire.Seen


@dataclass(frozen=True, slots=True)
class Offer:
    """Tell a restored master, which asked for it, all that was asked of this attempt."""

    key: AttemptKey


@dataclass(frozen=True, slots=True)
class Reconnect:
    """The connection is of no use: make a new one."""


@dataclass(frozen=True, slots=True)
class GiveUp:
    """The master refuses this agent for good: say so and exit."""

    status: int
    detail: str
    hint: str


Action = (
    Send | Create | Control | Clean | Publish | PutItem | Remove | Lease | Look | SaveSeen | Offer | Reconnect | GiveUp
)
