"""The bodies of the HTTP API under /v1, as the server takes and gives them and as ffrtmpctl reads them.

Times are ISO 8601 in UTC with milliseconds, lengths in seconds, sizes in bytes. Errors are `Problem` (RFC 9457,
application/problem+json). Every list is an object with `items`; in a `Page`, `next` is the key to pass as `?after=` for
the following page, absent at the end. A path is shown as `ROOT:relative`, and as `ROOT@NODE:relative` where nodes use
the name for different storages; both forms are taken.

Routes
------
POST   /v1/jobs                     Submission | {"items": [Submission, ...]} -> 201 Submitted (header Idempotency-Key)
GET    /v1/jobs                     ?state= &queue= &priority= &node= &scenario= &classification= &after= &limit=
                                    &order=newest|oldest (by number; newest first unless told)
GET    /v1/jobs/{job}               JobView; {job} is a number or a UUID, both exact
GET    /v1/jobs/{job}/history       Page[HistoryRow]
GET    /v1/jobs/{job}/why           Why
GET    /v1/jobs/{job}/logs          text/plain, one attempt's log: ?attempt= (the newest unless told) &tail=LINES
                                    &offset=BYTES &follow=1 (a chunked stream, ends once the job has ended or goes on
                                    in another attempt). Headers: Log-Attempt, and Log-Offset of the first byte, which
                                    counts from the attempt's start; what was cut out counts too, see `log_cut`
GET    /v1/jobs/{job}/events        application/x-ndjson; JobView at each change until the job ends (status --follow)
POST   /v1/jobs/{job}/cancel|stop|pause|resume    -> 202 Done
POST   /v1/jobs/{job}/retry         -> 201 Submitted
PATCH  /v1/jobs/{job}               JobUpdate -> 200 Done
POST   /v1/jobs/cancel|retry        Selection -> 202 Many
GET    /v1/queues                   Page[QueueView]
POST   /v1/queues/{queue}/pause|resume            -> 200 Done
GET    /v1/nodes, /v1/nodes/{node}  Page[NodeView], NodeView
POST   /v1/nodes/invite             InviteRequest -> 201 Invitation
POST   /v1/nodes/enroll             EnrollRequest -> 201 Enrollment
POST   /v1/nodes/{node}/accept|drain|resume       -> 200 Done
PUT    /v1/nodes/{node}/labels      Labels -> 200 Done
DELETE /v1/nodes/{node}             ?force=1 -> 200 Done
GET    /v1/scenarios, /v1/scenarios/{name}        Page[Recipe], Recipe
GET    /v1/sla                      ?since=TIME -> Sla
POST   /v1/db/backup                BackupRequest -> 201 Backup
GET    /v1/version, /v1/ready, /v1/live
"""

from __future__ import annotations

from typing import Any, Generic, Literal, TypeVar

from msgspec import Struct, field

from ffrtmp.spec import Classification, EngineName, JobSpec, Pattern, Progress, Results

QueueName = Literal["live", "default", "batch"]
PriorityName = Literal["high", "medium", "low"]
StateName = Literal[
    "queued",
    "assigned",
    "running",
    "paused",
    "resuming",
    "retrying",
    "canceling",
    "completed",
    "failed",
    "timed_out",
    "canceled",
    "rejected",
]
TERMINAL_STATES = ("completed", "failed", "timed_out", "canceled", "rejected")
LOG_CUT = "\n[ffrtmp: %d bytes of this log were cut here]\n"
# Filter words of the original system, beside the states themselves.
STATE_ALIASES: dict[str, tuple[str, ...]] = {
    "pending": ("queued", "retrying"),
    "processing": ("assigned", "running"),
    "waiting": ("queued", "retrying", "resuming"),
    "open": ("queued", "assigned", "running", "paused", "resuming", "retrying", "canceling"),
    "ended": TERMINAL_STATES,
}


def log_cut(count_bytes: int) -> bytes:
    """What stands in the text of a log where `count_bytes` of it are gone.

    A reader that counts offsets takes the mark for the bytes that it stands for.
    """
    return (LOG_CUT % count_bytes).encode()


class Body(Struct, frozen=True, omit_defaults=True):
    """What the server sends: unset fields do not travel."""


class Request(Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """What the server takes: an unknown field is an error, not a wish that is passed over."""


class Problem(Body, frozen=True):
    title: str
    status: int
    detail: str = ""
    hint: str = ""
    type: str = "about:blank"
    choices: tuple[str, ...] = ()  # where several meanings are possible


class Submission(Request, frozen=True):
    """One job. All but `scenario` has a default; what is left out the answer tells."""

    scenario: str = ""  # empty only with `arguments` (jobs run)
    input: str = ""  # ROOT:relative, ROOT@NODE:relative, an absolute path, or a URL; empty: the scenario's pattern
    generate: Pattern | None = None  # one of both is needed with `overwrite`
    output: str = ""  # as `input`, but no URL; empty: ROOT/jobs/NUMBER.EXT
    output_urls: tuple[str, ...] = ()
    arguments: tuple[str, ...] = ()
    queue: QueueName | None = None  # by default what the scenario is for: live kinds "live", else "default"
    priority: PriorityName = "medium"
    engine: EngineName | None = None
    overwrite: bool = False
    strict: bool = False
    max_retries: int | None = None
    classification: Classification = "production"
    on_disconnect: Literal["keep", "stop"] = "keep"
    quality: tuple[Literal["psnr", "ssim", "vmaf"], ...] | None = None
    cpu_milli: int | None = None  # need and limit
    memory_bytes: int | None = None  # need and limit
    scratch_bytes: int | None = None
    file_bytes: int | None = None
    time_s: float | None = None
    nice: int | None = None
    io_weight: int | None = None
    labels: tuple[str, ...] = ()
    traceparent: str = ""
    note: str = ""


class SubmittedJob(Body, frozen=True):
    job: int
    uuid: str
    state: StateName
    input: str = ""  # as it was understood
    output: str = ""
    reason: str = ""  # of a rejection
    warning: str = ""  # it waits, and no known node could run it: why


class Submitted(Body, frozen=True):
    items: tuple[SubmittedJob, ...]


class FailureView(Body, frozen=True):
    reason: str
    line: str = ""
    hint: str = ""


class AttemptView(Body, frozen=True):
    attempt: int
    node: str
    state: str  # offered running paused doubted given_up ended
    started: str = ""
    ended: str = ""
    how: str = ""
    failure: FailureView | None = None
    log_bytes: int = 0


class JobView(Body, frozen=True):
    job: int
    uuid: str
    state: StateName
    queue: QueueName
    priority: PriorityName
    scenario: str
    classification: Classification
    input: str
    output: str
    submitted: str
    phase: str = ""
    node: str = ""
    attempt: int = 0
    failures: int = 0
    max_retries: int = 0
    submitted_by: str = ""
    started: str = ""
    ended: str = ""
    queue_s: float | None = None
    percent: float | None = None
    eta_s: float | None = None
    progress: Progress | None = None
    failure: FailureView | None = None
    results: Results | None = None
    attempts: tuple[AttemptView, ...] = ()
    retry_of: int = 0
    traceparent: str = ""
    note: str = ""
    spec: JobSpec | None = None  # only in the view of a single job


class HistoryRow(Body, frozen=True):
    seq: int
    at: str
    job: int
    attempt: int
    after: StateName
    kind: str
    text: str
    before: StateName | None = None
    node: str = ""
    failure: FailureView | None = None


class Why(Body, frozen=True):
    job: int
    state: StateName
    sentence: str
    hint: str = ""
    ended: str = ""  # when it ended, of a job that has
    nodes: dict[str, str] = field(default_factory=dict)  # node -> why not there


class JobUpdate(Request, frozen=True):
    queue: QueueName | None = None
    priority: PriorityName | None = None


class Selection(Request, frozen=True):
    """Which jobs: all filters together; at least one is needed."""

    state: str = ""
    queue: QueueName | None = None
    priority: PriorityName | None = None
    node: str = ""
    scenario: str = ""
    classification: Classification | None = None
    limit: int = 1000


class Done(Body, frozen=True):
    """A request was taken. 202: the effect follows, `state` is the one now."""

    detail: str = ""
    hint: str = ""
    job: int = 0
    state: StateName | None = None
    nodes: tuple[str, ...] = ()


class Many(Body, frozen=True):
    done: tuple[int, ...]
    refused: dict[str, str] = field(default_factory=dict)  # job -> why


class QueueView(Body, frozen=True):
    queue: QueueName
    paused: bool
    waiting: int
    running: int
    oldest_s: float = 0.0


class RootView(Body, frozen=True):
    name: str
    identity: str
    path: str
    readable: bool
    writable: bool
    free_bytes: int


class NodeView(Body, frozen=True):
    node: str
    state: Literal["ready", "drained", "away", "lost", "unheard"]
    address: str
    key: str
    labels: tuple[str, ...]
    jobs: tuple[str, ...]  # "42.1"
    cpu_milli: int | None = None  # None, as with memory and slots: the node was never heard
    cpu_used_milli: int = 0
    memory_bytes: int | None = None
    memory_used_bytes: int = 0
    slots: int | None = None
    slots_used: int = 0
    load: tuple[float, ...] = ()
    free_memory_bytes: int = 0
    heard_s: float | None = None
    incarnation: int = 0
    encoders: tuple[str, ...] = ()
    engines: tuple[str, ...] = ()
    protocols: tuple[str, ...] = ()
    roots: tuple[RootView, ...] = ()
    facts: dict[str, Any] = field(default_factory=dict)


class InviteRequest(Request, frozen=True):
    name: str = ""
    expires_s: float = 3600.0
    address: str = ""  # of the master, as the other host will reach it
    replace: str = ""


class Invitation(Body, frozen=True):
    ticket: str
    expires: str
    hub: str
    opened: bool = False  # the hub was opened to the network by this


class EnrollRequest(Request, frozen=True):
    public_key: str
    name: str
    address: str = ""
    replace: str = ""


class Enrollment(Body, frozen=True):
    name: str
    hub: str  # tcp://host:port
    server_key: str


class Labels(Request, frozen=True):
    labels: tuple[str, ...]


class Sla(Body, frozen=True):
    """Queue time within 30 s and processing within 600 s, of production jobs; users' faults do not count."""

    jobs: int
    met: int
    queue_missed: int
    processing_missed: int
    platform_failed: int
    percent: float | None = None


class BackupRequest(Request, frozen=True):
    path: str


class Backup(Body, frozen=True):
    """A backup is two files, which belong together."""

    path: str  # the database
    logs_path: str  # the jobs' logs, beside it
    size_bytes: int  # of both
    turn: int


class Version(Body, frozen=True):
    version: str
    protocol: int
    lineage: str = ""
    turn: int = 0


class Ready(Body, frozen=True):
    ready: bool
    detail: str = ""


T = TypeVar("T")


class Page(Struct, Generic[T], frozen=True, omit_defaults=True):
    items: tuple[T, ...]
    next: str = ""
