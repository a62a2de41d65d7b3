"""What a job and an attempt are, and every way a job's state may change.

Theory of operation
-------------------
A *job* is what somebody asked for; an *attempt* is one try at it on one node. A job is in exactly one `State`. Every
change of state is an edge of `TRANSITIONS`; `check` refuses all others, so that a rule that is wrong fails loudly in
its own event, which is undone, and never writes an illegal history.

An attempt has no states of its own. It is *there* (in `World.attempts`) from the moment its number is handed out until
its node says that nothing of it is left, or the node is removed. While it is there it holds capacity on its node.
What the farm wants of it is its `want`; what it does is what the node last said. Orders are repeated until the two agree.

Numbers fence: a job's attempts are numbered 1, 2, 3 ...; a number is never used twice. `Job.current` is the attempt that
the farm counts on (0: none); any other attempt that is there is either *doubted* (its node is lost) or *given up*
(`want` is DISCARD), and one that was given up changes nothing any more (P4).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, StrEnum


class State(StrEnum):
    """Where a job is in its life."""

    QUEUED = "queued"
    ASSIGNED = "assigned"
    RUNNING = "running"
    PAUSED = "paused"
    RESUMING = "resuming"
    RETRYING = "retrying"
    CANCELING = "canceling"
    COMPLETED = "completed"
    FAILED = "failed"
    TIMED_OUT = "timed_out"
    CANCELED = "canceled"
    REJECTED = "rejected"


TERMINAL = frozenset({State.COMPLETED, State.FAILED, State.TIMED_OUT, State.CANCELED, State.REJECTED})
OPEN = frozenset(State) - TERMINAL


class Phase(StrEnum):
    """What a running job is doing."""

    ENCODING = "encoding"
    VERIFYING = "verifying"
    PUBLISHING = "publishing"


class Queue(IntEnum):
    """Three tiers; a smaller number goes first."""

    LIVE = 0
    DEFAULT = 1
    BATCH = 2

    @property
    def label(self) -> str:
        """The name that people use."""
        return self.name.lower()


class Priority(IntEnum):
    """The order within a queue; a smaller number goes first."""

    HIGH = 0
    MEDIUM = 1
    LOW = 2

    @property
    def label(self) -> str:
        """The name that people use."""
        return self.name.lower()


_S = State
# from -> to -> when. None is "not yet there": the birth of a job.
TRANSITIONS: dict[State | None, dict[State, str]] = {
    None: {
        _S.QUEUED: "accepted",
        _S.REJECTED: "strict, and no known node could ever run it",
        _S.RUNNING: "adopted: a restored master met a running attempt of a job it did not know",
    },
    _S.QUEUED: {
        _S.ASSIGNED: "handed out to a node",
        _S.RUNNING: "an attempt that was doubted came back",
        _S.PAUSED: "paused by a user before it started",
        _S.CANCELING: "canceled while an attempt of it may still be alive on a lost node",
        _S.CANCELED: "canceled before anything ran",
        _S.RESUMING: "an attempt that was doubted came back, standing still; it waits for room",
    },
    _S.ASSIGNED: {
        _S.RUNNING: "accepted by the node, or an older attempt came back",
        _S.QUEUED: "refused for want of room, not accepted in time, or the node was lost",
        _S.RETRYING: "refused, and another try may help; or its node was lost, and its lease has to run out",
        _S.RESUMING: "an older attempt came back, standing still; it waits for room",
        _S.CANCELING: "canceled while it was being handed out",
        _S.COMPLETED: "it ended well before its acceptance was heard, or its planned end was asked for before it began",
        _S.FAILED: "refused for good",
        _S.TIMED_OUT: "it ended before its acceptance was heard",
    },
    _S.RUNNING: {
        _S.PAUSED: "the node says that it stands still",
        _S.QUEUED: "the node was lost",
        _S.RESUMING: "an older attempt came back ahead of it, or it was adopted, standing still; it waits for room",
        _S.RETRYING: "failed, and another try may help; or its node was lost, and its lease has to run out",
        _S.CANCELING: "canceled",
        _S.COMPLETED: "its output is at its place",
        _S.FAILED: "failed for good",
        _S.TIMED_OUT: "used up its time",
    },
    _S.PAUSED: {
        _S.QUEUED: "resumed by a user, and no attempt of it is in reach",
        _S.RESUMING: "resumed by a user; waits for room on its node",
        _S.RETRYING: "its attempt failed while it stood still, or it was resumed before its wait was over",
        _S.CANCELING: "canceled",
        _S.CANCELED: "canceled while it was paused without an attempt",
        _S.COMPLETED: "its output was published before the pause took hold",
        _S.FAILED: "its attempt ended for good",
        _S.TIMED_OUT: "its attempt ended timed out",
    },
    _S.RESUMING: {
        _S.RUNNING: "the node says that it runs",
        _S.PAUSED: "paused again",
        _S.QUEUED: "the node was lost",
        _S.RETRYING: "failed, and another try may help; or its node was lost, and its lease has to run out",
        _S.CANCELING: "canceled",
        _S.COMPLETED: "its output is at its place",
        _S.FAILED: "failed for good",
        _S.TIMED_OUT: "used up its time",
    },
    _S.RETRYING: {
        _S.QUEUED: "the back-off is over",
        _S.RUNNING: "an attempt that was doubted came back",
        _S.RESUMING: "an attempt that was doubted came back, standing still; it waits for room",
        _S.PAUSED: "paused by a user",
        _S.CANCELING: "canceled while an attempt of it may still be alive on a lost node",
        _S.CANCELED: "canceled between two attempts",
        _S.FAILED: "no attempt is left to hope for",
        _S.TIMED_OUT: "no attempt is left to hope for, and the last one timed out",
    },
    _S.CANCELING: {
        _S.CANCELED: "no process of it is left",
        _S.COMPLETED: "a restored master heard that its output had been published",
    },
    _S.COMPLETED: {},
    _S.FAILED: {},
    _S.TIMED_OUT: {},
    _S.CANCELED: {},
    _S.REJECTED: {},
}


class IllegalTransition(Exception):
    """A rule tried an edge that is not in the table: a fault of ours, never of a user."""


def check(old: State | None, new: State) -> str:
    """When the edge old -> new is taken, in words; raises IllegalTransition where there is none."""
    try:
        return TRANSITIONS[old][new]
    except KeyError:
        raise IllegalTransition(f"{old and old.value} -> {new.value}") from None


class Reason(StrEnum):
    """Classes of failure. Which of them may be tried again is said with each failure, by the agent's table."""

    CAPABILITY_MISMATCH = "capability_mismatch"
    USER_ERROR = "user_error"
    NETWORK_ERROR = "network_error"
    INPUT_ERROR = "input_error"
    RUNTIME_ERROR = "runtime_error"
    TIMEOUT = "timeout"
    PLATFORM_ERROR = "platform_error"
    RESOURCE_ERROR = "resource_error"


@dataclass(frozen=True, slots=True)
class Failure:
    """Why an attempt or a job failed: the class, whether another try may help, the telling line, what to do."""

    reason: Reason
    transient: bool
    line: str = ""
    hint: str = ""


@dataclass(frozen=True, slots=True)
class Requirements:
    """What a node must have for a job, rounded up to classes (queue.round_up), so that equals are one object's worth.

    `roots` are "IDENTITY:r" and "IDENTITY:w"; `encoders`, `engine` and `labels` are names that the node must announce;
    `features` are further words (`run`, `protocol:rtmp`).
    """

    cpu_milli: int = 1000
    memory_bytes: int = 0
    scratch_bytes: int = 0
    encoders: frozenset[str] = frozenset()
    engine: str = "ffmpeg"
    roots: frozenset[str] = frozenset()
    labels: frozenset[str] = frozenset()
    features: frozenset[str] = frozenset()


class OnDisconnect(StrEnum):
    """What becomes of an attempt whose node does not hear the master."""

    KEEP = "keep"
    STOP = "stop"


@dataclass(frozen=True, slots=True)
class Terms:
    """What the farm must know of a job to order it, place it and try it again. Jobs that are alike share one object."""

    queue: Queue = Queue.DEFAULT
    priority: Priority = Priority.MEDIUM
    requirements: Requirements = Requirements()
    max_retries: int = 3
    on_disconnect: OnDisconnect = OnDisconnect.KEEP
    live: bool = False


@dataclass(frozen=True, slots=True)
class Job:
    """One open job. A job that has ended is not in memory; the store has it."""

    number: int
    uuid: str
    terms: Terms
    arrival_s: float  # on the farm's clock; a retried attempt keeps it
    state: State
    attempt: int = 0  # the highest attempt number used
    current: int = 0  # the attempt that the farm counts on, 0: none
    failures: int = 0  # attempts that failed (P8)
    lost: tuple[int, ...] = ()  # attempts that were running on a node that was lost and did not come back alive (P8)
    due_s: float = 0.0  # RETRYING: when its wait is over; PAUSED without an attempt: it is not queued before
    failure: Failure | None = None  # of the last failed attempt
    verdict: State | None = None  # RETRYING: the end that waits for doubted attempts, FAILED or TIMED_OUT

    @property
    def terminal(self) -> bool:
        """Whether it has ended."""
        return self.state in TERMINAL


class Want(StrEnum):
    """What the farm wants of an attempt; orders carry it."""

    RUN = "run"
    PAUSE = "pause"
    STOP = "stop"  # the planned end of a live job: its output is finished in order
    DISCARD = "discard"  # given up (P4): no process, no staging folder


AttemptId = tuple[int, int]  # (job number, attempt number)


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt that may still be alive somewhere."""

    job: int
    number: int
    uuid: str
    node: str
    requirements: Requirements
    live: bool
    want: Want = Want.RUN
    accepted: bool = False  # its directory is on the node's disk
    doubted: bool = False  # its node is lost
    paused: bool = False  # it stands still and has given back its CPU, until `placement.wake` has room for it again
    offered_s: float = 0.0  # when its number was handed out
    fence_s: float = 0.0  # on_disconnect=stop and lost: until when its engine may still run

    @property
    def id(self) -> AttemptId:
        """(job, number)."""
        return (self.job, self.number)

    @property
    def given_up(self) -> bool:
        """Whether it changes nothing any more."""
        return self.want is Want.DISCARD


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """What makes an output recognisable."""

    size_bytes: int
    digest: str


@dataclass(frozen=True, slots=True)
class Grant:
    """An attempt's right to publish, until it is settled. At most one a job (P2)."""

    job: int
    attempt: int
    request: int
    fingerprint: Fingerprint | None  # None: a live attempt's lease on its target
    until_s: float  # on the farm's clock: no rename begins after it
    settling: str = ""  # the node that was asked to settle it
