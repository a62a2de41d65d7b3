"""Counts the calls of a program and kills it just before its n-th of a kind.

A call is announced before it is made. The thread that makes it stands still until it is answered; when its process is
killed instead, the call is never made. So "killed at n" is the state between whatever came before the n-th call and the
call itself, over all threads of the program: nothing that a kill could fall between is left out but calls that change
nothing durable and say nothing to anybody.

Calls are told apart by who makes them: the program itself, or the guard of an attempt below it. An engine is left alone.
A child that has been made and has not yet become another program counts as its parent's "exec". SQLite writes a
transaction page by page: the first of a row of such writes counts as "commit", the others do not.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import select
import signal
import struct
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from faults.calls import KIND_OF, NAMES

_PIDFD_GETFD = 438
_RECEIVE, _SEND = 0xC0502100, 0xC0182101  # SECCOMP_IOCTL_NOTIF_RECV, _SEND
_NOTICE_BYTES = 80
_GO_ON = 1  # SECCOMP_USER_NOTIF_FLAG_CONTINUE
_CLONE_THREAD = 0x10000
_LOOK_MS = 100
_DEADLINE_S = 60.0


@dataclass(frozen=True, slots=True)
class Point:
    """Where to kill: just before the `number`-th call of a kind that `program` (master, agent, guard) makes."""

    program: str
    kind: str
    number: int

    def __str__(self) -> str:
        return f"{self.program} {self.kind} {self.number}"


@dataclass(frozen=True, slots=True)
class _Call:
    ticket: int
    thread: int
    name: str
    first: int  # its first argument


class Warden:
    """Watches the program that has just been started as `process`, with `watched.py FILE` before its name."""

    def __init__(self, program: str, process: int, file: Path, point: Point | None) -> None:
        self.program = program
        self.process = process
        self.point = point
        self.counts: Counter[tuple[str, str]] = Counter()
        self.hit = ""  # what was about to be done where it was killed
        self._began = False
        self._last: dict[int, str] = {}  # what each thread called last
        self._holding = ""
        self._held: list[_Call] = []
        self._over = threading.Event()
        self._listener = _take_listener(process, file)
        self._thread = threading.Thread(target=self._serve, name=f"warden of {program}", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop watching. What still runs of the program is to be ended first: its calls fail from now on."""
        self._over.set()
        self._thread.join()
        os.close(self._listener)

    def hold(self, what: str) -> None:
        """From now on let the program's own calls of this kind, or this name, stand still, as a disk that hangs does."""
        self._holding = what

    def release(self) -> None:
        """Let them be made."""
        self._holding, held, self._held = "", self._held, []
        for call in held:
            self._answer(call)

    @property
    def holds(self) -> bool:
        """Whether a call stands still."""
        return bool(self._held)

    def _serve(self) -> None:
        poll = select.poll()
        poll.register(self._listener, select.POLLIN)
        while not self._over.is_set():
            for _, event in poll.poll(_LOOK_MS):
                if event & select.POLLHUP:
                    return  # nobody is left who could call
                call = self._receive()
                if call is not None and self._goes_on(call):
                    self._answer(call)

    def _receive(self) -> _Call | None:
        notice = bytearray(_NOTICE_BYTES)
        try:
            fcntl.ioctl(self._listener, _RECEIVE, notice, True)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.EINTR):
                return None  # the caller has been killed meanwhile
            raise
        ticket, thread, _flags, number = struct.unpack_from("=QIIi", notice)
        (first,) = struct.unpack_from("=Q", notice, 32)
        return _Call(ticket, thread, NAMES[number], first)

    def _answer(self, call: _Call) -> None:
        with contextlib.suppress(FileNotFoundError):  # the caller is gone
            fcntl.ioctl(self._listener, _SEND, struct.pack("=QqiI", call.ticket, 0, 0, _GO_ON))

    def _goes_on(self, call: _Call) -> bool:
        """Count a call; whether it is to be made."""
        try:
            caller = _process_of(call.thread)
        except OSError:
            return True
        if not self._began:
            self._began = call.name == "execve"  # from here on it is the program
            return True
        if call.name in ("clone", "clone3") and _makes_thread(call):
            return True
        before, self._last[call.thread] = self._last.get(call.thread), call.name
        kind = KIND_OF[call.name]
        if kind == "commit" and before == call.name:
            return True
        if caller == self.process and self._holding in (kind, call.name):
            self._held.append(call)
            return False
        for program, victim in self._whose(caller, kind):
            self.counts[program, kind] += 1
            if self.point == Point(program, kind, self.counts[program, kind]) and not self.hit:
                self.hit = f"{call.name} by {program}"
                with contextlib.suppress(ProcessLookupError):
                    os.kill(victim, signal.SIGKILL)
                return victim != caller
        return True

    def _whose(self, caller: int, kind: str) -> Iterator[tuple[str, int]]:
        """Which programs the call belongs to, each with the process to be killed for it."""
        if caller == self.process:
            yield self.program, caller
            return
        parent, words, above = _parent(caller), _words(caller), _words(_parent(caller))
        unborn = kind == "exec" and words == above
        if unborn and parent == self.process:
            yield self.program, parent
            yield "guard", caller  # it is on its way to be one
        elif unborn and _is_guard(above):
            yield "guard", parent
        elif _is_guard(words):
            yield "guard", caller


def _is_guard(words: list[str]) -> bool:
    return any(word.endswith(("/ffrtmp_agent/guard.py", "/ffrtmp_agent/launch.py")) for word in words)


def _take_listener(process: int, file: Path) -> int:
    """The listener's descriptor, out of the process that installed the filter."""
    ends = time.monotonic() + _DEADLINE_S
    while not (file.exists() and file.read_text().endswith("\n")):
        gone = _state(process) == "Z"
        assert not gone, (
            "this kernel, or what contains these tests, has no seccomp notifications: see the program's log"
        )
        assert time.monotonic() < ends, "the program did not install its filter"
        time.sleep(0.005)
    libc = ctypes.CDLL(None, use_errno=True)
    handle = os.pidfd_open(process)
    try:
        listener = int(libc.syscall(_PIDFD_GETFD, handle, int(file.read_text()), 0))
    finally:
        os.close(handle)
    if listener < 0:
        raise OSError(ctypes.get_errno(), "pidfd_getfd: " + os.strerror(ctypes.get_errno()))
    return listener


def _process_of(thread: int) -> int:
    for line in Path(f"/proc/{thread}/status").read_text().splitlines():
        if line.startswith("Tgid:"):
            return int(line.split()[1])
    raise ProcessLookupError(thread)


def _parent(process: int) -> int:
    fields = _fields(process)
    return int(fields[1]) if fields else 0


def _state(process: int) -> str:
    """The letter that ps shows; Z too for one that is gone."""
    fields = _fields(process)
    return fields[0] if fields else "Z"


def _fields(process: int) -> list[str]:
    try:
        text = Path(f"/proc/{process}/stat").read_text()
    except OSError:
        return []
    return text[text.rindex(")") + 2 :].split()


def _words(process: int) -> list[str]:
    try:
        return Path(f"/proc/{process}/cmdline").read_text().split("\0")
    except OSError:
        return []


def _makes_thread(call: _Call) -> bool:
    """Whether a clone makes a thread and no process. clone3 has its flags in the caller's memory."""
    flags = call.first
    if call.name == "clone3":
        try:
            with Path(f"/proc/{call.thread}/mem").open("rb", buffering=0) as memory:
                memory.seek(call.first)
                (flags,) = struct.unpack("=Q", memory.read(8))
        except OSError:
            return True
    return bool(flags & _CLONE_THREAD)
