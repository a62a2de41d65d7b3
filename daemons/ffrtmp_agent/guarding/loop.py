"""What the guard does from the start of the engine to the outcome.

Why time is counted in steps
----------------------------
A pause is SIGSTOP (or the freezer) for everything of the attempt, the guard included, so nothing tells the guard that
it stood still: it only finds that the clock has jumped. Its own time therefore advances by what passed since the last
look, but never by more than `STEP_MAX_S`. A pause of an hour counts as one step. What is lost where a busy host lets
the guard wait goes to the job's favour. The time limit, the stall and the back-off are all counted on this clock; the
lease is not: it is a right that ends on the host's own clock (CLOCK_BOOTTIME, which also runs while the host sleeps).

The order of the end
--------------------
Engine, then verification, then the log's last bytes, then every process that is left, then the outcome. A reader who
sees an outcome may rely on all that comes before it. If the guard is killed there is no outcome, and the agent treats
the attempt as broken by the platform, not by the job.
"""

from __future__ import annotations

import json
import os
import resource
import select
import signal
import time

from ffrtmp_agent.guarding import child as children
from ffrtmp_agent.guarding import files, orders, watch
from ffrtmp_agent.guarding.child import SIGINT, SIGKILL, SIGTERM, Child, Streams
from ffrtmp_agent.guarding.tee import Log

LOOK_S = 0.5  # how often progress, lease and limits are looked at
STEP_MAX_S = 2 * LOOK_S
BACK_OFF_S = (0.0, 1.0, 2.0, 4.0, 8.0, 10.0)
DRAIN_BYTES = 64 << 10
DRAIN_ROUNDS = 16
HOST_STOP_WAIT_S = 2.0  # below systemd's TimeoutStopSec=3
SETTLE_S = 0.5  # an engine that was told to end may end before the guard hears that it was told too

EXITED, STALLED, TIMED_OUT, LEASE_LOST, TOLD = "exited", "stalled", "timed_out", "lease_lost", "told"


class Guard:
    """Guards one attempt: owns its engine until the outcome is written."""

    def __init__(self, engine: Child, streams: Streams) -> None:
        """`engine` has just been started and writes into `streams`."""
        self._engine = engine
        self._streams = streams
        self._wake = _wake_on_signals()
        found = orders.read()
        self._orders = found or orders.Orders({})
        self._damaged = found is None
        self._log = Log(self._orders.log_max_bytes, echo=2 if self._orders.tee else -1)
        self._poll = select.poll()
        self._poll.register(self._wake, select.POLLIN)
        self._poll.register(streams.log_out, select.POLLIN)
        self._looked_s = time.monotonic()
        self._unpaused_s = 0.0
        self._encode_s = 0.0
        self._told = False
        self._phase = "encoding"
        self._restarts = 0
        self._cpu_s = 0.0
        self._peak_memory_bytes = 0

    def run(self) -> int:
        """Guard until the end and record it. Returns the exit code."""
        try:
            how, why, last = ("failed", EXITED, self._engine) if self._damaged else self._encode()
        finally:
            self._engine.kill(SIGKILL)
            children.clear()
        return self._record(how, why, last)

    # ---- the engine ----

    def _encode(self) -> tuple[str, str, Child]:
        """Run the engine to its end, and the verification: (how, why, the child that tells)."""
        delays = 0
        while True:
            self._confine(self._engine)
            why, progress_s = self._follow(self._engine, self._streams.progress)
            self._account(self._engine)
            if self._told:
                why = TOLD
            if why not in (EXITED, STALLED) or not self._orders.live:
                break
            delays = 0 if progress_s >= self._orders.stable_after_s else delays
            why = self._rest(BACK_OFF_S[min(delays, len(BACK_OFF_S) - 1)])
            if why:
                break
            delays, self._restarts = delays + 1, self._restarts + 1
            self._tell_state()
            self._engine = children.start(children.ENGINE, self._streams)
        if why != EXITED or not self._engine.succeeded:
            return self._name_end(why), why, self._engine
        return self._verify() if self._orders.verify else ("completed", why, self._engine)

    def _verify(self) -> tuple[str, str, Child]:
        """Judge the output, in the same place and under the same confinement as the engine."""
        self._phase = "verifying"
        self._tell_state()
        verifier = children.start(self._orders.verify, self._streams, to_progress=False)
        self._confine(verifier)
        why, _ = self._follow(verifier, -1)
        if self._told:
            why = TOLD
        if why == EXITED and verifier.succeeded:
            return "verified", why, self._engine
        return self._name_end(why), why, verifier

    def _name_end(self, why: str) -> str:
        """The outcome's `how` for an end that is no success."""
        if why == LEASE_LOST:
            return "terminated"
        if why != TOLD:
            return "failed"
        note = files.stop_note()
        if note == "stop" and self._orders.live:
            return "completed"
        return "stopped" if note else "terminated"

    def _confine(self, child: Child) -> None:
        """The limits that neither runner can set from outside. A child that has just ended needs none."""
        try:
            if self._orders.file_bytes > 0:
                hard = resource.prlimit(child.pid, resource.RLIMIT_FSIZE)[1]
                resource.prlimit(child.pid, resource.RLIMIT_FSIZE, (self._orders.file_bytes, hard))
            if self._orders.nice > 0:
                os.setpriority(os.PRIO_PGRP, child.pid, self._orders.nice)
        except (OSError, ValueError):
            return

    def _account(self, child: Child) -> None:
        self._cpu_s += child.cpu_s
        self._peak_memory_bytes = max(self._peak_memory_bytes, child.peak_memory_bytes)

    # ---- waiting ----

    def _follow(self, child: Child, progress: int) -> tuple[str, float]:
        """Watch a child until it has ended or must end; it is reaped on return.

        Returns why, and for how long it had got on, in seconds.
        """
        watched = watch.Watch(child.pid, progress, self._orders.grow)
        began_s = moved_s = self._unpaused_s
        look_s = 0.0
        why = ""
        while not why:
            if child.ended():
                why = EXITED
            elif self._unpaused_s >= look_s:
                look_s = self._unpaused_s + LOOK_S / 2  # a flood of log lines wakes the guard far more often
                moved_s = self._unpaused_s if watched.moved() else moved_s
                stalled = 0 < self._orders.stall_after_s <= self._unpaused_s - moved_s
                why = self._must_end(encoding=progress >= 0) or (STALLED if stalled else "")
            if not why:
                self._wait(LOOK_S)
                why = TOLD if self._told else ""
        if why == EXITED:
            child.reap()
            if not child.succeeded and not self._orders.live:
                self._rest(SETTLE_S)
        else:
            self._end(child, why)
        self._drain()
        if progress >= 0:
            self._encode_s += self._unpaused_s - began_s
        return why, moved_s - began_s

    def _must_end(self, *, encoding: bool) -> str:
        """Why the child must end now, "" when it need not. The verification has no time limit, only the stall."""
        if self._told:
            return TOLD
        if self._orders.lease and time.clock_gettime(time.CLOCK_BOOTTIME) > files.lease_until_s():
            return LEASE_LOST
        if encoding and 0 < self._orders.time_limit_s <= self._unpaused_s:
            return TIMED_OUT
        return ""

    def _rest(self, delay_s: float) -> str:
        """Let time pass between two engines: "" when it has passed, else why the attempt must end."""
        until_s = self._unpaused_s + delay_s
        while not (why := self._must_end(encoding=True)) and self._unpaused_s < until_s:
            self._wait(min(LOOK_S, until_s - self._unpaused_s))
        return why

    def _end(self, child: Child, why: str) -> None:
        """End a child: in order where that serves, by force in the end. "discard" is by force at once."""
        if why == TOLD and files.stop_note() == "stop":
            steps = [(SIGINT, self._orders.stop_wait_s), (SIGTERM, 1.0)]
        else:
            steps = [(SIGTERM, HOST_STOP_WAIT_S)]
        for number, wait_s in steps:
            until_s = self._unpaused_s + wait_s
            if files.stop_note() != "discard":
                child.kill(number)
            while not child.ended() and self._unpaused_s < until_s and files.stop_note() != "discard":
                self._wait(min(LOOK_S, until_s - self._unpaused_s))
        child.kill(SIGKILL)
        child.reap()

    def _wait(self, limit_s: float) -> None:
        """Wait for a signal, for log output, or for `limit_s`, and let the guard's own time advance."""
        for descriptor, _ in self._poll.poll(max(1, int(limit_s * 1000))):
            if descriptor == self._wake:
                self._told = self._told or bool({SIGTERM, SIGINT} & set(os.read(self._wake, 1024)))
            else:
                self._drain()
        now_s = time.monotonic()
        self._unpaused_s += min(now_s - self._looked_s, STEP_MAX_S)
        self._looked_s = now_s

    def _drain(self) -> None:
        """Move what children said to the log; bounded, so that a flood does not keep the guard from its duties."""
        for _ in range(DRAIN_ROUNDS):
            try:
                data = os.read(self._streams.log_out, DRAIN_BYTES)
            except BlockingIOError:
                return
            self._log.write(data)

    # ---- telling ----

    def _tell_state(self) -> None:
        files.write_state(
            json.dumps(
                {
                    "phase": self._phase,
                    "restarts": self._restarts,
                    "encode_s": round(self._encode_s, 3),
                    "cpu_s": round(self._cpu_s, 3),
                    "peak_memory_bytes": self._peak_memory_bytes,
                }
            )
        )

    def _record(self, how: str, why: str, last: Child) -> int:
        """Write the outcome. A full disk gives up the log's tail for it."""
        self._drain()
        self._log.sync()
        text = json.dumps(
            {
                "boot_id": files.boot_id(),
                "how": how,
                "exit_status": last.exit_status,
                "signal": last.signal,
                "phase": self._phase,
                "restarts": self._restarts,
                "unpaused_s": round(self._unpaused_s, 3),
                "encode_s": round(self._encode_s, 3),
                "timed_out": why == TIMED_OUT,
                "stalled": why == STALLED,
                "lease_lost": why == LEASE_LOST,
                "cpu_s": round(self._cpu_s, 3),
                "peak_memory_bytes": self._peak_memory_bytes,
                "log_bytes": self._log.offset,
            }
        )
        try:
            files.write_outcome(text)
        except OSError:
            self._log.drop_tail()
            files.write_outcome(text)
        return 0


def _wake_on_signals() -> int:
    """A descriptor that tells the numbers of the signals that came: TERM and INT end the attempt, CHLD only wakes."""
    heard, told = os.pipe()
    os.set_blocking(heard, False)
    os.set_blocking(told, False)
    signal.set_wakeup_fd(told, warn_on_full_buffer=False)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD):
        signal.signal(number, _nothing)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    return heard


def _nothing(number: int, frame: object) -> None:
    """The number is in the pipe."""
