"""Runs small programs, a few at a time, each bounded in time and output, without a thread and without blocking.

What is asked of ffmpeg here (its lists, a trial encode) may hang in a driver, print without end, or leave a child
behind that holds the pipe. None of that may stop the agent's loop, which has jobs to watch. So the programs run as a
`Batch` that the caller steps: `fileno` is readable when a step is worth while, `step` does what can be done at once.

A program is a session of its own, and the whole of it is killed at its time limit and whenever its first process ends.
Should we ourselves be killed, timeout(1) around it ends it: it signals its whole process group, which is the session's.
"""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Literal, Self

MAX_OUTPUT_BYTES = 1 << 20
_NICENESS = 10
_CHUNK_BYTES = 64 << 10
_AFTER_LIMIT_S = 2.0  # timeout(1) strikes only when we did not


@dataclass(frozen=True, slots=True)
class Ran:
    """How a program ended. `output` and `errors` are cut at MAX_OUTPUT_BYTES, where the program is stopped."""

    how: Literal["exited", "timed_out", "flooded", "not_started", "not_reached"]
    status: int = 0  # exit status, or minus the signal
    output: str = ""
    errors: str = ""
    took_s: float = 0.0

    @property
    def ok(self) -> bool:
        """Whether it ended by itself and said that all was well."""
        return self.how == "exited" and self.status == 0


@dataclass(slots=True)
class _Child:
    name: str
    process: subprocess.Popen[bytes]
    pidfd: int
    started_s: float
    ends_s: float
    streams: dict[int, bytearray] = field(default_factory=dict)
    how: Literal["exited", "timed_out", "flooded"] = "exited"


class Batch:
    """Runs each named command once; `results` fills up until `done`.

    `limit_s` bounds one command, `total_s` the batch; commands that are not begun by then are `not_reached`.
    """

    def __init__(
        self, commands: Mapping[str, Iterable[str]], *, limit_s: float, total_s: float, at_once: int = 2
    ) -> None:
        self.results: dict[str, Ran] = {}
        self._waiting = [(name, tuple(command)) for name, command in commands.items()]
        self._limit_s, self._at_once = limit_s, at_once
        self._ends_s = time.monotonic() + total_s
        self._running: list[_Child] = []
        self._selector = selectors.EpollSelector()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def done(self) -> bool:
        """Whether every command has its result."""
        return not self._waiting and not self._running

    def fileno(self) -> int:
        """Readable when a program printed or ended. Time limits pass unseen: step twice a second besides."""
        return self._selector.fileno()

    def step(self, wait_s: float = 0.0) -> bool:
        """Do what can be done; wait at most `wait_s` for something to happen. Returns `done`."""
        self._begin()
        if self._running:
            until_s = min(child.ends_s for child in self._running)
            ready = self._selector.select(max(0.0, min(wait_s, until_s - time.monotonic())))
            ended = {key.data.name for key, _ in ready if key.fd == key.data.pidfd}
            for key, _ in ready:
                if key.fd != key.data.pidfd:
                    self._read(key.data, key.fd)
            for child in tuple(self._running):
                self._judge(child, child.name in ended)
            self._begin()
        return self.done

    def run(self) -> dict[str, Ran]:
        """Step until done; the results in the order of the commands' ends."""
        with self:
            while not self.step(1.0):
                pass
            return self.results

    def close(self) -> None:
        """Kill what runs; always to be called at the end."""
        self._waiting.clear()
        for child in tuple(self._running):
            self._end(child)
        self._selector.close()

    def _begin(self) -> None:
        while self._waiting and len(self._running) < self._at_once:
            name, command = self._waiting.pop(0)
            left_s = self._ends_s - time.monotonic()
            if left_s <= 0:
                self.results[name] = Ran("not_reached")
                continue
            try:
                self._start(name, command, min(self._limit_s, left_s))
            except OSError as error:
                self.results[name] = Ran("not_started", errors=f"{command[0]}: {error.strerror}")

    def _start(self, name: str, command: tuple[str, ...], limit_s: float) -> None:
        patience = f"{limit_s + _AFTER_LIMIT_S:.3f}"
        process = subprocess.Popen(
            ("nice", "-n", str(_NICENESS), "timeout", "-s", "KILL", patience, *command),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            env={**os.environ, "LC_ALL": "C", "AV_LOG_FORCE_NOCOLOR": "1"},
        )
        now_s = time.monotonic()
        child = _Child(name, process, os.pidfd_open(process.pid), now_s, now_s + limit_s)
        self._running.append(child)
        self._selector.register(child.pidfd, selectors.EVENT_READ, child)
        for pipe in (process.stdout, process.stderr):
            assert pipe is not None
            os.set_blocking(pipe.fileno(), False)
            child.streams[pipe.fileno()] = bytearray()
            self._selector.register(pipe.fileno(), selectors.EVENT_READ, child)

    def _read(self, child: _Child, stream: int) -> None:
        """Take what is there, at most the rest of the bound."""
        kept = child.streams[stream]
        while True:
            try:
                data = os.read(stream, _CHUNK_BYTES)
            except BlockingIOError:
                return
            if not data:
                self._forget(stream)
                return
            kept += data
            if len(kept) > MAX_OUTPUT_BYTES:
                child.how = "flooded"
                return

    def _judge(self, child: _Child, ended: bool) -> None:
        if child.how == "exited" and not ended and time.monotonic() >= child.ends_s:
            child.how = "timed_out"
        if ended or child.how != "exited":
            self._end(child)

    def _end(self, child: _Child) -> None:
        """Kill what is left of the program's session, read the last of its output, note the result."""
        # The leader is not reaped yet, so its number cannot have become somebody else's.
        os.killpg(child.process.pid, signal.SIGKILL)
        status = child.process.wait()
        for stream in child.streams:
            if child.how == "exited":
                self._read(child, stream)
            self._forget(stream)
        self._forget(child.pidfd)
        os.close(child.pidfd)
        for pipe in (child.process.stdout, child.process.stderr):
            if pipe is not None:
                pipe.close()
        output, errors = (bytes(kept[:MAX_OUTPUT_BYTES]).decode(errors="replace") for kept in child.streams.values())
        took_s = time.monotonic() - child.started_s
        self._running.remove(child)
        self.results[child.name] = Ran(child.how, status, output, errors, took_s)

    def _forget(self, descriptor: int) -> None:
        if descriptor in self._selector.get_map():
            self._selector.unregister(descriptor)
