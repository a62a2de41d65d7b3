"""A child of the guard: the engine, or the verification after it.

Every child leads a process group of its own inside the guard's session. So the guard can signal all of an engine
without signalling itself, and whoever looks from outside finds all of an attempt by its session.

Imported before the engine starts, so it imports `os` alone; the signal numbers below are the same on all machines
that Debian builds for except MIPS, and `signal` would cost 3 ms.
"""

from __future__ import annotations

import os

ENGINE = ["/bin/sh", "command"]
PROGRESS = "progress"
SIGINT, SIGKILL, SIGTERM = 2, 9, 15
DEFAULTED = (1, SIGINT, 13, SIGTERM, 25)  # HUP INT PIPE TERM XFSZ: Python ignores PIPE and XFSZ, an engine must not


class Streams:
    """Where children write: `progress` gets the engine's standard output, `log_in` everybody's standard error.

    The guard keeps the pipe's writing end for the next child, so it never sees an end of file; it reads until the pipe
    is empty.
    """

    __slots__ = ("log_in", "log_out", "progress")

    def __init__(self) -> None:
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
        self.progress = os.open(PROGRESS, flags, 0o660)
        self.log_out, self.log_in = os.pipe()
        os.set_blocking(self.log_out, False)


class Child:
    """A started child. `exit_status` or `signal` is set once it is reaped."""

    __slots__ = ("cpu_s", "exit_status", "peak_memory_bytes", "pid", "reaped", "signal")

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.reaped = False
        self.exit_status: int | None = None
        self.signal: int | None = None
        self.cpu_s = 0.0
        self.peak_memory_bytes = 0

    @property
    def succeeded(self) -> bool:
        """Whether it ended by itself with 0."""
        return self.exit_status == 0

    def ended(self) -> bool:
        """Whether it has ended; it is not reaped by asking."""
        return self.reaped or os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None

    def kill(self, number: int) -> None:
        """Send a signal to its whole group."""
        if not self.reaped:
            try:
                os.killpg(self.pid, number)
            except ProcessLookupError:
                return

    def reap(self) -> None:
        """Wait for it and take what it used. What it left behind in its group is killed first, while the number of the
        group cannot yet belong to anybody else."""
        if self.reaped:
            return
        os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)
        self.kill(SIGKILL)
        _, status, usage = os.wait4(self.pid, 0)
        self.reaped = True
        self.cpu_s = usage.ru_utime + usage.ru_stime
        self.peak_memory_bytes = usage.ru_maxrss << 10
        if os.WIFSIGNALED(status):
            self.signal = os.WTERMSIG(status)
        else:
            self.exit_status = os.WEXITSTATUS(status)


def start(argv: list[str], streams: Streams, *, to_progress: bool = True) -> Child:
    """Start a child; `to_progress` gives it the progress file as standard output, else it shares the log."""
    out = streams.progress if to_progress else streams.log_in
    pid = os.posix_spawn(
        argv[0],
        argv,
        os.environ,
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
            (os.POSIX_SPAWN_DUP2, out, 1),
            (os.POSIX_SPAWN_DUP2, streams.log_in, 2),
        ],
        setpgroup=0,
        setsigmask=(),
        setsigdef=DEFAULTED,
    )
    return Child(pid)


def clear() -> None:
    """Kill and reap every child that is left, also those that left their group: the launcher made the guard the one
    that orphans fall to. Gives up after some rounds, which only a fork bomb can outlast."""
    listing = f"/proc/self/task/{os.getpid()}/children"
    for _ in range(200):
        try:
            with open(listing) as file:  # noqa: PTH123 (pathlib is not imported here)
                pids = [int(word) for word in file.read().split()]
        except OSError:
            return
        if not pids:
            return
        for pid in pids:
            _kill_and_reap(pid)


def _kill_and_reap(pid: int) -> None:
    try:
        os.kill(pid, SIGKILL)
        os.waitpid(pid, 0)
    except (ProcessLookupError, ChildProcessError):
        pass
