"""What the agent wrote for the guard: the section "guard" of job.json, read with a default for whatever is missing."""

from __future__ import annotations

import json

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

    def __init__(self, section: dict[str, object]) -> None:
        self.live = section.get("live") is True
        self.time_limit_s = _number(section, "time_limit_s", 0.0)
        self.stall_after_s = _number(section, "stall_after_s", 0.0)
        self.stable_after_s = _number(section, "stable_after_s", 60.0)
        self.stop_wait_s = _number(section, "stop_wait_s", 10.0)
        self.log_max_bytes = int(_number(section, "log_max_bytes", 16 << 20))
        self.file_bytes = int(_number(section, "file_bytes", 0))
        self.nice = int(_number(section, "nice", 0))
        self.verify = _words(section, "verify")
        self.grow = _words(section, "grow")
        self.lease = section.get("lease") is True
        self.tee = section.get("tee") is True


def read() -> Orders | None:
    """The orders of this attempt, or None when job.json is not there or is damaged."""
    try:
        section = json.loads(files.read(files.JOB, JOB_MAX_BYTES) or b"")["guard"]
    except (ValueError, TypeError, KeyError):
        return None
    return Orders(section) if isinstance(section, dict) else None


def _number(section: dict[str, object], name: str, default: float) -> float:
    value = section.get(name)
    return value if isinstance(value, int | float) else default


def _words(section: dict[str, object], name: str) -> list[str]:
    value = section.get(name)
    return [str(word) for word in value] if isinstance(value, list) else []
