"""What stands in the files of an attempt directory. All but `Intent` and `StopNote` are claims of the job's user."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from ffrtmp.spec import Fingerprint, Results
from ffrtmp.wire import Failure

StopNote = Literal["stop", "discard"]
How = Literal["verified", "failed", "stopped", "completed", "terminated"]


class Outcome(Struct, frozen=True):
    """How an attempt ended, as its guard claims it.

    verified: the engine succeeded and the verification judged, see `verified`; failed: the engine or the verification
    ended otherwise; stopped: given up on the agent's word; completed: a planned end, or a success that is not verified;
    terminated: by neither of these, so the host went down or the lease ended, and the *node* was lost.
    """

    boot_id: str
    how: How
    exit_status: int | None = None
    signal: int | None = None
    phase: Literal["encoding", "verifying"] = "encoding"
    restarts: int = 0
    unpaused_s: float = 0.0
    encode_s: float = 0.0
    timed_out: bool = False
    stalled: bool = False
    lease_lost: bool = False
    cpu_s: float = 0.0
    peak_memory_bytes: int = 0
    log_bytes: int = 0


class State(Struct, frozen=True):
    """How an attempt that still runs stands, as its guard claims it; written when it changes."""

    phase: Literal["encoding", "verifying"] = "encoding"
    restarts: int = 0
    encode_s: float = 0.0
    cpu_s: float = 0.0
    peak_memory_bytes: int = 0


class Verdict(Struct, frozen=True):
    """What the verification claims."""

    ok: bool
    fingerprint: Fingerprint | None = None
    results: Results | None = None
    failure: Failure | None = None


class GuardPid(Struct, frozen=True):
    """Who guards an attempt. A number alone says nothing: it may belong to another process by now."""

    pid: int
    start_ticks: int
    boot_id: str


class Intent(Struct, frozen=True):
    """The agent is about to rename: written and durable before it does, so that a successor knows what to look for."""

    request: int
    fingerprint: Fingerprint
    overwrite: bool = False
