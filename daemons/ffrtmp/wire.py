"""The messages between master and agent: msgspec structs in msgpack, one message a ZeroMQ frame.

Identity and order
------------------
A node is the CURVE key of its connection, nothing that a message says. An attempt is (job UUID, attempt number); the
short job number travels for people's sake. Every message after `Hello`/`Welcome` carries the number of the session it
belongs to; both sides drop messages of any other session.

Delivery
--------
ZeroMQ is relied on for nothing. What matters is answered by a message after its commit and repeated until it is:

====================  ==========================================  =================
said                  repeated until                              by
====================  ==========================================  =================
Hello                 Welcome or Sorry                            agent
Assign                Accepted, Refused, or accept_timeout        master
Order                 the reported state agrees (Beat)            master
PublishRequest        Grant or Deny, or the attempt is stopped    agent
Published, ...        Ack of the same `item`                      agent (outbox)
LogChunk              LogAck of the offset                        agent (the file)
Settle                Settled                                     master
====================  ==========================================  =================

Decoding raises `msgspec.ValidationError` or `msgspec.DecodeError` for anything that is not a message; frames above
`MAX_FRAME_BYTES` never get here.
"""

from __future__ import annotations

from typing import Literal, TypeVar

import msgspec
from msgspec import Struct

from ffrtmp.spec import Fingerprint, JobSpec, Progress, Results

T = TypeVar("T")
PROTOCOL = 1
OLDEST_PROTOCOL = 1  # neighbours one version apart work together
MAX_FRAME_BYTES = 1 << 20
LOG_CHUNK_BYTES = 64 << 10

Stage = Literal["starting", "running", "paused", "ended"]
PhaseName = Literal["encoding", "verifying", "publishing"]
How = Literal["failed", "stopped", "completed", "node_lost", "absent"]
Reason = Literal[
    "capability_mismatch",
    "user_error",
    "network_error",
    "input_error",
    "runtime_error",
    "timeout",
    "platform_error",
    "resource_error",
]


class Message(Struct, frozen=True, omit_defaults=True, tag=True):
    """Unknown fields are ignored, so that a neighbour one version ahead is understood."""


class Failure(Message, frozen=True):
    """Why something went wrong: the class, whether another try may help, the telling line, what to do."""

    reason: Reason
    transient: bool
    line: str = ""
    hint: str = ""


class RootFact(Message, frozen=True):
    """A media root that a node announces."""

    name: str
    identity: str  # UUID in ROOT/.ffrtmp/root-id
    path: str
    readable: bool = True
    writable: bool = True
    free_bytes: int = 0


class Capacity(Message, frozen=True):
    """What a node offers to jobs, declared by its owner or measured. The farm never places beyond it (P6)."""

    cpu_milli: int
    memory_bytes: int
    slots: int
    scratch_bytes: int = 0
    encoders: tuple[str, ...] = ()
    engines: tuple[str, ...] = ("ffmpeg",)
    protocols: tuple[str, ...] = ()
    roots: tuple[RootFact, ...] = ()
    labels: tuple[str, ...] = ()
    allow_run: bool = False


class Facts(Message, frozen=True):
    """What a node is, for people to read."""

    hostname: str = ""
    system: str = ""
    kernel: str = ""
    cpu_model: str = ""
    cpu_count: int = 0
    memory_bytes: int = 0
    gpus: tuple[str, ...] = ()
    hardware: str = ""  # laptop desktop server
    ffmpeg: str = ""
    runner: str = ""  # plain systemd
    confinement: str = ""  # landlock none systemd
    unenforced: tuple[str, ...] = ()  # limits that this node cannot enforce
    agent_version: str = ""
    link_speed_mbps: int = 0
    interface: str = ""


class AttemptReport(Message, frozen=True):
    """An attempt that is there, as an agent tells it in Hello and in each Heartbeat."""

    uuid: str
    job: int
    attempt: int
    stage: Stage
    phase: PhaseName = "encoding"
    progress: Progress | None = None
    request: int = 0  # the last publish request made, 0: none
    restarts: int = 0


class Seen(Message, frozen=True):
    """The newest state of a master that an agent has heard of."""

    lineage: str = ""
    turn: int = 0
    job: int = 0  # the highest job number heard


# ---- agent to master --------------------------------------------------------------------------------------------


class Enroll(Message, frozen=True):
    """Over a ticket's one-time key only: admit this public key (Z85) as a node."""

    public_key: str
    name: str
    address: str = ""
    replace: str = ""


class Hello(Message, frozen=True):
    protocol: int
    boot_id: str
    incarnation: int
    address: str
    name: str
    facts: Facts
    capacity: Capacity
    attempts: tuple[AttemptReport, ...] = ()
    seen: Seen = Seen()


class Heartbeat(Message, frozen=True):
    session: int
    number: int
    load: tuple[float, float, float] = (0.0, 0.0, 0.0)
    free_memory_bytes: int = 0
    attempts: tuple[AttemptReport, ...] = ()
    capacity: Capacity | None = None  # when it changed
    facts: Facts | None = None
    rx_bytes: int = 0
    tx_bytes: int = 0


class Accepted(Message, frozen=True):
    session: int
    uuid: str
    attempt: int
    number: int = 0  # the newest heartbeat number sent before this; only later ones can miss the attempt


class Refused(Message, frozen=True):
    """No attempt was made. Without `failure`: no room just now, place it elsewhere."""

    session: int
    uuid: str
    attempt: int
    detail: str
    failure: Failure | None = None


class PublishRequest(Message, frozen=True):
    session: int
    uuid: str
    attempt: int
    request: int
    fingerprint: Fingerprint | None  # None: a live attempt asks before its engine starts
    results: Results | None = None


class Published(Message, frozen=True):
    """Outbox. The output is at its place."""

    session: int
    item: str
    uuid: str
    attempt: int
    request: int
    fingerprint: Fingerprint
    results: Results


class NotPublished(Message, frozen=True):
    """Outbox. The grant was not used and will not be: `expired`, or the target could not be made."""

    session: int
    item: str
    uuid: str
    attempt: int
    request: int
    detail: str
    failure: Failure | None = None  # None: only the grant is void, a new request follows


class Ended(Message, frozen=True):
    """Outbox. The attempt has no process any more and its staging folder is gone; nothing was published."""

    session: int
    item: str
    uuid: str
    attempt: int
    how: How
    failure: Failure | None = None
    results: Results | None = None


class LogChunk(Message, frozen=True):
    session: int
    uuid: str
    attempt: int
    offset: int  # bytes since the attempt's start
    data: bytes
    last: bool = False
    after: int = 0  # where the chunk before it ended; what lies between that and `offset` was cut


class Settled(Message, frozen=True):
    """Answer to Settle: the old staging folder was renamed away, then the target was looked at."""

    session: int
    uuid: str
    attempt: int
    fingerprint: Fingerprint | None  # of what stands at the target, None: nothing there, or something foreign


class AdoptionOffer(Message, frozen=True):
    """A restored master does not know this job: here is all that was asked."""

    session: int
    uuid: str
    job: int
    attempt: int
    spec: JobSpec
    queue: str
    priority: str
    paused: bool = False


class Goodbye(Message, frozen=True):
    """The agent stops in an orderly way; its jobs go on, and it will be back."""

    session: int


# ---- master to agent --------------------------------------------------------------------------------------------


class Enrolled(Message, frozen=True):
    name: str


class Timing(Message, frozen=True):
    """The master's times, in seconds, so that both ends count the same."""

    heartbeat_s: float = 2.0
    heartbeat_live_s: float = 1.0
    lost_after_s: float = 15.0
    grant_ttl_s: float = 10.0
    log_max_bytes: int = 16 << 20
    stall_after_s: float = 15.0
    stall_after_file_s: float = 1800.0
    stable_after_s: float = 60.0
    lost_after_live_s: float = 5.0


class Directive(Message, frozen=True):
    """What is to become of an attempt that Hello named."""

    uuid: str
    attempt: int
    action: Literal["keep", "stop", "offer"]
    log_offset: int = 0


class Welcome(Message, frozen=True):
    session: int
    lineage: str
    turn: int
    name: str
    timing: Timing
    directives: tuple[Directive, ...] = ()
    address: str = ""  # as the master has it from the Hello that this answers


class Sorry(Message, frozen=True):
    """Hello or Enroll is refused."""

    status: int
    detail: str
    hint: str = ""
    retry: bool = False


class NoSession(Message, frozen=True):
    """There is no such session (any more): say Hello again."""

    session: int


class HeartbeatAck(Message, frozen=True):
    session: int
    number: int
    lineage: str
    turn: int


class GiveSign(Message, frozen=True):
    """Another connection claims to be you: answer with a Heartbeat if you live."""

    session: int


class Assign(Message, frozen=True):
    session: int
    lineage: str
    turn: int
    uuid: str
    job: int
    attempt: int
    queue: str
    priority: str
    spec: JobSpec
    granted: tuple[Fingerprint, ...] = ()  # of earlier attempts: a target that equals one *is* the output


class Order(Message, frozen=True):
    """What an attempt is to be: `stop` ends a live job in the planned way, `discard` ends and clears it."""

    session: int
    uuid: str
    attempt: int
    want: Literal["run", "pause", "stop", "discard"]


class Grant(Message, frozen=True):
    session: int
    uuid: str
    attempt: int
    request: int
    ttl_s: float


class Deny(Message, frozen=True):
    session: int
    uuid: str
    attempt: int
    request: int
    detail: str


class Ack(Message, frozen=True):
    """An outbox item is committed. `log_offset`: how far the attempt's log has been stored."""

    session: int
    item: str
    lineage: str
    turn: int


class LogAck(Message, frozen=True):
    session: int
    uuid: str
    attempt: int
    offset: int


class Settle(Message, frozen=True):
    """A grant of a lost node, on storage that this node shares: move the old staging away, then look."""

    session: int
    uuid: str
    job: int
    attempt: int
    spec: JobSpec


FromAgent = (
    Enroll
    | Hello
    | Heartbeat
    | Accepted
    | Refused
    | PublishRequest
    | Published
    | NotPublished
    | Ended
    | LogChunk
    | Settled
    | AdoptionOffer
    | Goodbye
)
FromMaster = (
    Enrolled
    | Welcome
    | Sorry
    | NoSession
    | HeartbeatAck
    | GiveSign
    | Assign
    | Order
    | Grant
    | Deny
    | Ack
    | LogAck
    | Settle
)

_encoder = msgspec.msgpack.Encoder()
_from_agent: msgspec.msgpack.Decoder[FromAgent] = msgspec.msgpack.Decoder(FromAgent)
_from_master: msgspec.msgpack.Decoder[FromMaster] = msgspec.msgpack.Decoder(FromMaster)


def encode(message: Message) -> bytes:
    """The frame of a message."""
    return _encoder.encode(message)


def decode_from_agent(frame: bytes) -> FromAgent:
    """A message of an agent; raises msgspec.DecodeError (ValidationError is one) for anything else."""
    return _decoded(_from_agent, frame)


def decode_from_master(frame: bytes) -> FromMaster:
    """A message of the master; raises msgspec.DecodeError for anything else."""
    return _decoded(_from_master, frame)


def _decoded(decoder: msgspec.msgpack.Decoder[T], frame: bytes) -> T:
    """msgspec lets two more kinds of errors out: for text that is no UTF-8, and for a frame that is nested too deeply."""
    try:
        return decoder.decode(frame)
    except (UnicodeDecodeError, RecursionError) as error:
        raise msgspec.DecodeError(str(error)) from None
