"""What a node is to the farm: a record that is kept, and a contact that is not."""

from __future__ import annotations

from dataclasses import dataclass, field

from .job import AttemptId, Phase


@dataclass(frozen=True, slots=True)
class Capacity:
    """What a node offers to jobs. Never placed beyond (P6).

    `roots` are "IDENTITY:r" and "IDENTITY:w"; `features` further words (`run`, `protocol:rtmp`).
    """

    cpu_milli: int = 0
    memory_bytes: int = 0
    scratch_bytes: int = 0
    slots: int = 0
    encoders: frozenset[str] = frozenset()
    engines: frozenset[str] = frozenset()
    roots: frozenset[str] = frozenset()
    labels: frozenset[str] = frozenset()
    features: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Node:
    """What is kept of a node, whether it is in contact or not."""

    name: str
    key: str  # its CURVE public key, Z85: its identity
    address: str = ""
    capacity: Capacity = Capacity()
    labels: frozenset[str] = frozenset()  # given by the operator, beside those that the node announces
    drained: bool = False
    incarnation: int = 0  # the highest start counter met
    accept_lower: bool = False  # `nodes accept`: a lower counter is all right once


@dataclass(frozen=True, slots=True)
class Beat:
    """What a node last said of one attempt."""

    stage: str  # starting running paused ended
    phase: Phase
    out_time_s: float
    number: int  # of the heartbeat


@dataclass(frozen=True, slots=True)
class Contact:
    """A live session with a node, or what is left of it. Not stored: after a start of the master all is unheard."""

    session: int
    connection: bytes
    incarnation: int
    boot_id: str
    heard_s: float  # on the listening clock, see World.listening
    heard_at_s: float  # on the farm's clock
    away: bool = False  # it said goodbye: it will be back, and is given longer
    lost: bool = False  # silent for too long; its attempts are doubted; the session is void
    suspected_s: float = 0.0  # on the listening clock: when it was first too silent, while the master doubts itself
    hold_until_s: float = 0.0  # it refused for want of room: no work before
    refusals: int = 0  # in a row
    beats: dict[AttemptId, Beat] = field(default_factory=dict)  # replaced as a whole, never changed
    offered: frozenset[tuple[str, int]] = frozenset()  # attempts (UUID, number) that it was asked to offer for adoption
