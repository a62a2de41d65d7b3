"""What the agent wrote for the guard: the section "guard" of job.json, read with a default for whatever is missing."""

from __future__ import annotations

import json
from typing import Any

from ffrtmp_agent.guarding import files

JOB_MAX_BYTES = 4 << 20


class Orders:
    """The guard's parameters, for one attempt. Times in seconds; 0 means never.

    live            restart the engine inside the attempt, for any exit and for a stall
    time_limit_s    of unpaused time, for all engines of the attempt together
    stall_after_s   without progress: a live engine is restarted, a file job ends
    stable_after_s  of progress, after which earlier restarts are forgotten
    stop_wait_s     how long an engine may take to end in order
    log_max_bytes   bound of the log
    file_bytes      bound of each file that the engine writes (RLIMIT_FSIZE)
    nice            0..19, of the engine and the verification
    verify          the command line of the verification; empty for none
    grow            files or folders whose growth is progress where the engine reports none
    lease           watch the lease file
    tee             copy the log to the guard's own standard error
    """

    def __init__(self, section: dict[str, Any]) -> None:
        self.live = bool(section.get("live", False))
        self.time_limit_s = float(section.get("time_limit_s", 0.0))
        self.stall_after_s = float(section.get("stall_after_s", 0.0))
        self.stable_after_s = float(section.get("stable_after_s", 60.0))
        self.stop_wait_s = float(section.get("stop_wait_s", 10.0))
        self.log_max_bytes = int(section.get("log_max_bytes", 16 << 20))
        self.file_bytes = int(section.get("file_bytes", 0))
        self.nice = int(section.get("nice", 0))
        self.verify = [str(word) for word in section.get("verify", [])]
        self.grow = [str(path) for path in section.get("grow", [])]
        self.lease = bool(section.get("lease", False))
        self.tee = bool(section.get("tee", False))


def read() -> Orders | None:
    """The orders of this attempt, or None when job.json is not there or is damaged."""
    try:
        return Orders(json.loads(files.read(files.JOB, JOB_MAX_BYTES) or b"")["guard"])
    except (ValueError, TypeError, KeyError, AttributeError):
        return None
