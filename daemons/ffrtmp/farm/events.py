"""What can happen to the farm. `Farm.apply(event, now_s)` is the only door.

Events of users carry `request`, the number under which the API waits for an `Answer`. Events of agents carry `node`, which
the shell has found by the connection's key, and `session`. Randomness comes in with the events (`token`s, `jitter`).
"""

from __future__ import annotations

from dataclasses import dataclass

from .job import AttemptId, Failure, Fingerprint, Phase, Priority, Queue, Terms
from .node import Capacity

# ---- users -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class NewJob:
    """One job of a submission. `taken_by`: an open job that has the same output already, as the store says."""

    uuid: str
    terms: Terms
    strict: bool = False
    taken_by: int = 0
    output: str = ""  # ROOT-ID:relative, for jobs of one batch that would collide


@dataclass(frozen=True, slots=True)
class Submit:
    """A batch that is accepted whole or not at all."""

    request: int
    jobs: tuple[NewJob, ...]


@dataclass(frozen=True, slots=True)
class _OfJob:
    """What a user asks of one job."""

    request: int
    job: int


@dataclass(frozen=True, slots=True)
class Cancel(_OfJob):
    """End it, and leave nothing but its log."""


@dataclass(frozen=True, slots=True)
class Stop(_OfJob):
    """The planned end of a live job: its output is finished in order."""


@dataclass(frozen=True, slots=True)
class Pause(_OfJob):
    """Let it stand still, or not start."""


@dataclass(frozen=True, slots=True)
class Resume(_OfJob):
    """Let one that is held go on when there is room."""


@dataclass(frozen=True, slots=True)
class Update(_OfJob):
    """Change queue or priority of a job that waits."""

    queue: Queue | None = None
    priority: Priority | None = None


@dataclass(frozen=True, slots=True)
class SetQueue:
    """Pause or resume a queue: a paused queue starts nothing."""

    request: int
    queue: Queue
    paused: bool


@dataclass(frozen=True, slots=True)
class AddNode:
    """A key is admitted as a node (enrolment). `replace`: the node of that name gets this key."""

    request: int
    name: str
    key: str
    address: str = ""
    replace: bool = False


@dataclass(frozen=True, slots=True)
class Invite:
    """A ticket is to be printed for a node of this name (empty: any), or to replace one."""

    request: int
    name: str = ""
    replace: str = ""


@dataclass(frozen=True, slots=True)
class DrainNode:
    request: int
    node: str
    drained: bool


@dataclass(frozen=True, slots=True)
class AcceptNode:
    """A node whose start counter went back may come in once."""

    request: int
    node: str


@dataclass(frozen=True, slots=True)
class RemoveNode:
    """The node is gone for good: its attempts are given up, its grants settled, its key is not admitted any more."""

    request: int
    node: str
    force: bool = False  # also when it is in contact


@dataclass(frozen=True, slots=True)
class LabelNode:
    request: int
    node: str
    labels: frozenset[str]


# ---- agents ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Report:
    """An attempt as its node tells it.

    `stage`: `starting` (its directory is there, no process yet), `running`, `paused` (it stands still), or `ended` (what
    became of it follows from the outbox). An attempt that a Hello or a heartbeat does not name is not there.
    """

    uuid: str
    job: int
    number: int
    stage: str
    phase: Phase = Phase.ENCODING
    out_time_s: float = 0.0
    request: int = 0


@dataclass(frozen=True, slots=True)
class Hello:
    """A node asks for a session, and says which attempts it has.

    `token` is fresh randomness: the number of the session if one is opened. `fresh_lineage` likewise. `strangers` are the
    UUIDs among the reports that the store has never heard of; the `seen_...` are the highest that the node was told.
    `key` is who said it: the node may have got another key since (empty: nobody asks).
    """

    node: str
    connection: bytes
    token: int
    fresh_lineage: str
    incarnation: int
    boot_id: str
    address: str
    capacity: Capacity
    reports: tuple[Report, ...] = ()
    seen_lineage: str = ""
    seen_turn: int = 0
    seen_job: int = 0
    strangers: frozenset[str] = frozenset()
    key: str = ""


@dataclass(frozen=True, slots=True)
class FromAgent:
    """What a node says in a session; what belongs to no live session is not listened to."""

    node: str
    connection: bytes
    session: int


@dataclass(frozen=True, slots=True)
class OfAttempt(FromAgent):
    """What it says of one attempt."""

    uuid: str
    number: int


@dataclass(frozen=True, slots=True)
class FromOutbox(FromAgent):
    """What it says of one attempt, on disk there until it is acknowledged (`SendAck`): `item` is its name."""

    item: str
    uuid: str
    number: int


@dataclass(frozen=True, slots=True)
class Heartbeat(FromAgent):
    """All attempts that are there. `number` counts up in a session; `capacity` is given where it changed."""

    number: int
    reports: tuple[Report, ...] = ()
    capacity: Capacity | None = None


@dataclass(frozen=True, slots=True)
class Accepted(OfAttempt):
    """The node took it: its directory is on disk, and named from the heartbeat of that number on."""

    heartbeat: int = 0


@dataclass(frozen=True, slots=True)
class Refused(OfAttempt):
    """The node made no attempt. With a failure it never will; without one it has no room just now."""

    detail: str
    failure: Failure | None = None


@dataclass(frozen=True, slots=True)
class PublishRequest(OfAttempt):
    """The output is verified; may it be published? Without a fingerprint: a live attempt asks before its engine starts."""

    request: int
    fingerprint: Fingerprint | None


@dataclass(frozen=True, slots=True)
class Published(FromOutbox):
    """The output is at its place."""

    request: int
    fingerprint: Fingerprint


@dataclass(frozen=True, slots=True)
class NotPublished(FromOutbox):
    """The grant of this request was not used, and will not be. With a failure the attempt is over."""

    request: int
    detail: str
    failure: Failure | None = None
    jitter: float = 0.0


@dataclass(frozen=True, slots=True)
class Ended(FromOutbox):
    """Nothing of the attempt is left there, and it published nothing. `jitter` is 0..1 of fresh randomness for the back-off.

    `how`: `failed`; `stopped` (it was told to); `completed` (a live job's planned end); `node_lost` (its host went down
    under it); `absent` (nothing of it is there, and nobody knows why).
    """

    how: str
    failure: Failure | None = None
    jitter: float = 0.0


@dataclass(frozen=True, slots=True)
class Settled(OfAttempt):
    """Of another node's attempt: its staging folder is out of the way, and this is what stands at its target, if anything."""

    fingerprint: Fingerprint | None


@dataclass(frozen=True, slots=True)
class Adopt(FromAgent):
    """What a restored master did not know: an attempt and the job it belongs to, as its node keeps them.

    `job` is the number it had, or 0 where the store has given that number to another job. `paused`: its processes stand still.
    """

    uuid: str
    job: int
    number: int
    terms: Terms
    paused: bool = False


@dataclass(frozen=True, slots=True)
class Goodbye(FromAgent):
    """The agent is being restarted, and will be back; its jobs run on."""


@dataclass(frozen=True, slots=True)
class Unreachable:
    """A send found that this connection is closed: whoever was asked for a sign there will give none."""

    connection: bytes


# ---- time --------------------------------------------------------------------------------------------------------
#
# `Farm.due(now_s)` says which of these are to be applied now; each is undone alone if it fails.


@dataclass(frozen=True, slots=True)
class GraceOver:
    """The agents have had their time to come back after a start of the master."""


@dataclass(frozen=True, slots=True)
class LookAtNodes:
    """Who has been silent for too long? Also how the farm notices that it was not listening itself."""


@dataclass(frozen=True, slots=True)
class NewcomerDue:
    """The old session of this node gave no sign in time: the newcomer takes over."""

    node: str


@dataclass(frozen=True, slots=True)
class AttemptDue:
    """An order of this attempt is to be repeated, or its offer is stale."""

    attempt: AttemptId


@dataclass(frozen=True, slots=True)
class JobDue:
    """The back-off of this job, or its patience with doubted attempts, is over."""

    job: int


@dataclass(frozen=True, slots=True)
class GrantDue:
    """The grant of this job may be settled without its holder."""

    job: int


@dataclass(frozen=True, slots=True)
class Place:
    """Hand out what waits and fits; the last event of every turn."""


UserEvent = (
    Submit
    | Cancel
    | Stop
    | Pause
    | Resume
    | Update
    | SetQueue
    | AddNode
    | Invite
    | DrainNode
    | AcceptNode
    | RemoveNode
    | LabelNode
)
AgentEvent = (
    Heartbeat | Accepted | Refused | PublishRequest | Published | NotPublished | Ended | Settled | Adopt | Goodbye
)
TimeEvent = GraceOver | LookAtNodes | NewcomerDue | AttemptDue | JobDue | GrantDue | Place
Event = UserEvent | Hello | AgentEvent | Unreachable | TimeEvent
