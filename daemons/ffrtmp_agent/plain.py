"""The plain runner: attempts as ordinary processes, where no systemd runs.

An attempt is a session: the guard leads it, the engine has its own group in it. It is found again by its mark, the
variable FFRTMP_ATTEMPT in its environment, which every process of it inherits, and by its session. The guard itself is
known by number, start time and boot, never by the number alone.

The agent is the guards' parent, so it reaps those that end; when the agent dies they fall to init, as they are, and the
next agent adopts them. A guard that is gone while something of its attempt still runs has failed at its work: the rest
is killed, and only then the attempt counts as ended.
"""

from __future__ import annotations

import math
import os
import select
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path

from ffrtmp.errors import FarmError
from ffrtmp.spec import Limits
from ffrtmp_agent import confinement, landlock, processes
from ffrtmp_agent.attempt import AttemptDir
from ffrtmp_agent.jobfile import JobFile
from ffrtmp_agent.processes import Process
from ffrtmp_agent.runner import Observation, Stage

HERE = Path(__file__).parent
KILL_AFTER_S = 3.0
STOP_ROUNDS = 10
UNENFORCED: tuple[str, ...] = (
    "memory (kept for each process, not for the job together)",
    "cpu (whole cores only)",
    "io_weight",
    "tasks",
    "scratch",
)


@dataclass(slots=True)
class _Attempt:
    """An attempt that has, or had, processes. `guard` is None where only leftovers were found."""

    directory: AttemptDir
    mark: str
    guard: Process | None = None
    pidfd: int = -1
    cores: frozenset[int] = field(default_factory=frozenset)
    kill_at_s: float = math.inf
    gone: bool = False  # the guard
    ended: bool = False


class PlainRunner:
    """See `ffrtmp_agent.runner.Runner`."""

    name = "plain"
    unenforced = UNENFORCED

    def __init__(self, *, confine: bool = True, clock: Callable[[], float] = time.monotonic) -> None:
        """`confine` False leaves engines unconfined also where the kernel has Landlock."""
        import_module("ffrtmp_agent.guarding.loop")  # leaves it compiled for the guards, which may not write there
        self._confine = confine and landlock.supported() > 0
        self.confinement = "landlock" if self._confine else "none"
        self._clock = clock
        self._attempts: dict[str, _Attempt] = {}

    # ---- orders ----

    def start(self, attempt: AttemptDir, limits: Limits) -> None:
        """Start the guard. Raises FarmError when the directory is damaged or the process cannot be made."""
        job = attempt.job_file()
        if job is None:
            raise FarmError(f"cannot read {attempt.path}/job.json")
        cores = self._choose_cores(limits.cpu_milli)
        mark = _mark(job)
        try:
            pid = self._spawn(attempt, job, limits, cores)
            pidfd = _held(pid)
        except OSError as error:
            raise FarmError(f"cannot start attempt {attempt.name}: {error.strerror}") from error
        guard = processes.find(pid)  # it is our child and not reaped, so the number is its own
        self._attempts[attempt.name] = _Attempt(attempt, mark, guard, pidfd, cores)

    def adopt(self, attempts: Iterable[AttemptDir]) -> set[str]:
        """Find what runs of these attempts, by mark, and know their guards again."""
        table = processes.everyone()
        by_mark: dict[str, list[Process]] = {}
        for process in table.values():
            if not process.dead and (mark := processes.mark_of(process.pid)):
                by_mark.setdefault(mark, []).append(process)
        found = set()
        for directory in attempts:
            job = directory.job_file()
            mark = _mark(job) if job else ""
            if mark in by_mark:
                self._attempts[directory.name] = _adopted(directory, mark, by_mark[mark])
                found.add(directory.name)
        return found

    def pause(self, name: str) -> None:
        """SIGSTOP: the guard first, so that it starts nothing new, then the rest until all stand."""
        attempt = self._living(name)
        if attempt is None:
            return
        _signal_guard(attempt, signal.SIGSTOP)
        for _ in range(STOP_ROUNDS):
            moving = [one for one in _members(attempt) if not one.stopped]
            if not moving:
                return
            for process in moving:
                _signal(process, signal.SIGSTOP)

    def resume(self, name: str) -> None:
        """SIGCONT: the guard last, so that it finds its engine at work."""
        attempt = self._living(name)
        if attempt is not None:
            self._continue(attempt)

    def stop(self, name: str) -> None:
        """Let the guard end the engine in order. Raises OSError when the note cannot be written."""
        attempt = self._living(name)
        if attempt is not None:
            attempt.directory.write_stop("stop")
            _signal_guard(attempt, signal.SIGTERM)
            self._continue(attempt)

    def discard(self, name: str) -> None:
        """Tell the guard to kill; after three seconds `poll` does it."""
        attempt = self._living(name)
        if attempt is None or attempt.kill_at_s < math.inf:
            return
        attempt.kill_at_s = self._clock() + KILL_AFTER_S
        with suppress(OSError):  # without the note it ends all the same, only less quickly
            attempt.directory.write_stop("discard")
        _signal_guard(attempt, signal.SIGTERM)
        _signal_guard(attempt, signal.SIGCONT)

    # ---- seeing ----

    def poll(self) -> list[Observation]:
        """How all attempts stand; kills what is overdue or left over, and reaps guards."""
        return [Observation(name, self._look(attempt)) for name, attempt in self._attempts.items()]

    def forget(self, name: str) -> None:
        """Tell no more of it."""
        attempt = self._attempts.pop(name, None)
        if attempt is not None and attempt.pidfd >= 0:
            os.close(attempt.pidfd)

    def filenos(self) -> list[int]:
        """One pidfd for each guard that has not been seen to end."""
        return [one.pidfd for one in self._attempts.values() if one.pidfd >= 0 and not one.gone]

    def close(self) -> None:
        """Let go of all, ending nothing."""
        for name in list(self._attempts):
            self.forget(name)

    # ---- how ----

    def _spawn(self, attempt: AttemptDir, job: JobFile, limits: Limits, cores: frozenset[int]) -> int:
        python = [sys.executable, "-I", "-S", "-B"]
        options = []
        if limits.memory_bytes > 0:
            options += ["--memory", str(limits.memory_bytes)]
        if cores:
            options += ["--cpus", ",".join(str(core) for core in sorted(cores))]
        if self._confine:
            options += confinement.options(attempt.path, job)
        command = [*python, str(HERE / "launch.py"), *options, "--", *python, str(HERE / "guard.py"), str(attempt.path)]
        complaints = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW
        return os.posix_spawn(
            command[0],
            command,
            confinement.environment(os.environ, job.paths.staging, _mark(job)),
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
                (os.POSIX_SPAWN_OPEN, 1, "/dev/null", os.O_WRONLY, 0),
                (os.POSIX_SPAWN_OPEN, 2, str(attempt.path / "guard.err"), complaints, 0o660),
            ],
            setsid=True,
            setsigmask=(),
        )

    def _choose_cores(self, cpu_milli: int) -> frozenset[int]:
        """The cores that have the fewest attempts; empty for no limit."""
        allowed = os.sched_getaffinity(0)
        count = math.ceil(cpu_milli / 1000)
        if cpu_milli <= 0 or count >= len(allowed):
            return frozenset()
        used = Counter(core for one in self._attempts.values() if not one.ended for core in one.cores)
        return frozenset(sorted(allowed, key=lambda core: (used[core], core))[:count])

    def _living(self, name: str) -> _Attempt | None:
        attempt = self._attempts.get(name)
        return None if attempt is None or attempt.ended else attempt

    def _continue(self, attempt: _Attempt) -> None:
        guard = attempt.guard.pid if attempt.guard else 0
        for process in _members(attempt):
            if process.pid != guard:
                _signal(process, signal.SIGCONT)
        _signal_guard(attempt, signal.SIGCONT)

    def _look(self, attempt: _Attempt) -> Stage:
        if attempt.ended:
            return "ended"
        gone = attempt.gone = attempt.gone or _guard_gone(attempt)
        if gone or self._clock() >= attempt.kill_at_s:
            left = _members(attempt)
            for process in left:
                _signal(process, signal.SIGKILL)
            attempt.ended = gone and not left
        if attempt.ended:
            return "ended"
        guard = attempt.guard and processes.find(attempt.guard.pid)
        return "paused" if guard and guard.stopped else "running"


def _held(pid: int) -> int:
    """A descriptor of our own child; where there is none left to have, the child is ended. Raises OSError."""
    try:
        return os.pidfd_open(pid)
    except OSError:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        raise


def _mark(job: JobFile) -> str:
    return f"{job.uuid}.{job.attempt}"


def _adopted(directory: AttemptDir, mark: str, members: list[Process]) -> _Attempt:
    """The attempt with its guard, if that is alive: the leader of its session, and the one that says it is."""
    attempt = _Attempt(directory, mark)
    claim = directory.guard_pid()
    for process in members:
        known = claim is None or (claim.boot_id, claim.pid, claim.start_ticks) == (
            processes.boot_id(),
            process.pid,
            process.start_ticks,
        )
        if process.pid == process.session and known:
            _hold(attempt, process)
    return attempt


def _hold(attempt: _Attempt, guard: Process) -> None:
    """Take a descriptor of the guard, and only then make sure that it is still the one that was found."""
    try:
        pidfd = os.pidfd_open(guard.pid)
    except ProcessLookupError:
        return
    now = processes.find(guard.pid)
    if now is None or now.start_ticks != guard.start_ticks:
        os.close(pidfd)
        return
    attempt.guard, attempt.pidfd = guard, pidfd
    with suppress(ProcessLookupError):
        attempt.cores = frozenset(os.sched_getaffinity(guard.pid))


def _guard_gone(attempt: _Attempt) -> bool:
    if attempt.pidfd < 0 or attempt.guard is None:
        return True
    poll = select.poll()
    poll.register(attempt.pidfd, select.POLLIN)
    if not poll.poll(0):
        return False
    with suppress(ChildProcessError):  # an adopted one is not ours to reap
        os.waitpid(attempt.guard.pid, os.WNOHANG)
    return True


def _members(attempt: _Attempt) -> list[Process]:
    """Every living process of an attempt, the guard included."""
    table = processes.everyone()
    guard = attempt.guard
    leader = table.get(guard.pid) if guard else None
    # The number of a session stays taken while it has members, so either its leader is ours, or nobody has it.
    ours = guard is not None and (leader is None or leader.start_ticks == guard.start_ticks)
    return [
        one
        for one in table.values()
        if not one.dead
        and ((ours and guard and one.session == guard.pid) or processes.mark_of(one.pid) == attempt.mark)
    ]


def _signal(process: Process, number: signal.Signals) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.kill(process.pid, number)


def _signal_guard(attempt: _Attempt, number: signal.Signals) -> None:
    if attempt.pidfd >= 0:
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(attempt.pidfd, number)
