"""The files through which the guard and the agent talk, from the guard's side. All names are relative: the guard's
working folder is the attempt directory.

==============  ==========  =======================================================================================
`guard.pid`     guard       "PID START-TICKS BOOT-ID": by all three together the agent knows the guard again
`state`         guard       JSON: phase, restarts, and what the verification needs to know of the encode
`outcome`       guard       JSON: how it ended; written once, last of all, whole or not at all
`stop`          agent       "stop" or "discard": why the guard gets SIGTERM
`lease`         agent       seconds of CLOCK_BOOTTIME until when the engine may run (on_disconnect = stop)
==============  ==========  =======================================================================================
"""

from __future__ import annotations

import os

PID, STATE, OUTCOME, STOP, LEASE, JOB = "guard.pid", "state", "outcome", "stop", "lease", "job.json"
SMALL = 4096


def boot_id() -> str:
    """The identity of this boot of the host."""
    return (read("/proc/sys/kernel/random/boot_id", SMALL) or b"").decode().strip()


def start_ticks() -> int:
    """When this process started, in clock ticks since boot (field 22 of its stat)."""
    stat = read("/proc/self/stat", SMALL) or b""
    return int(stat[stat.rindex(b")") + 2 :].split()[19])


def write_pid() -> None:
    """Say who guards this attempt."""
    _write(PID, f"{os.getpid()} {start_ticks()} {boot_id()}\n".encode(), durable=False)


def read(name: str, limit: int) -> bytes | None:
    """The first `limit` bytes of a file, or None."""
    try:
        descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        return os.read(descriptor, limit)
    except OSError:
        return None
    finally:
        os.close(descriptor)


def stop_note() -> str:
    """What the agent wants by SIGTERM: "stop", "discard", or "" when it was not the agent that sent it."""
    note = (read(STOP, SMALL) or b"").strip()
    return note.decode() if note in (b"stop", b"discard") else ""


def lease_until_s() -> float:
    """The end of the lease on CLOCK_BOOTTIME. A lease that cannot be read has ended."""
    try:
        return float((read(LEASE, SMALL) or b"").strip())
    except ValueError:
        return 0.0


def write_state(text: str) -> None:
    """Tell the agent how it stands; nothing depends on it, so a full disk is no reason to stop."""
    try:
        _write(STATE, text.encode(), durable=False)
    except OSError:
        return


def write_outcome(text: str) -> None:
    """Record the end, durably; raises OSError."""
    _write(OUTCOME, text.encode(), durable=True)


def _write(name: str, content: bytes, *, durable: bool) -> None:
    beside = "." + name
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(beside, flags, 0o660)
    try:
        os.write(descriptor, content)
        if durable:
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
    os.rename(beside, name)  # noqa: PTH104
    if durable:
        folder = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
