"""A node that is no ffrtmp-agent but speaks its protocol, and whose every first word of an attempt gets lost.

An agent says `Accepted` and at once sends a heartbeat that names the attempt. Messages may be lost all the same: a full
queue drops them, and nothing relies on ZeroMQ for delivery. On one host nothing is ever lost, so here somebody leaves
them out. The master, the wire and its keys are the real ones.
"""

from __future__ import annotations

import select
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

from ffrtmp import wire
from ffrtmp.spec import Fingerprint, Results
from ffrtmp_agent.enrol import enrol_beside
from ffrtmp_agent.link import Link
from ffrtmp_agent.state import StateFolder

T = TypeVar("T", bound=wire.Message)
DEADLINE_S = 30.0
BEAT_S = 0.2


class Neighbour:
    """One node, in contact as long as its methods are called."""

    def __init__(self, folder: Path, socket: Path, root: wire.RootFact) -> None:
        self._state = StateFolder(folder)
        identity = enrol_beside(socket, self._state, "neighbour", "127.0.0.9")
        self._link = Link(identity.hub, identity.server_key, self._state.keys())
        self._heard: list[wire.FromMaster] = []
        self._beats = 0
        self._beat_s = 0.0
        self.session = 0
        capacity = wire.Capacity(4000, 8 << 30, 4, 8 << 30, ("libx264", "aac"), roots=(root,))
        hello = wire.Hello(wire.PROTOCOL, "a boot", 1, "127.0.0.9", "neighbour", wire.Facts(), capacity)
        self.session = self._said(wire.Welcome, lambda: hello).session

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._link.close()
        self._state.close()

    def takes(self) -> wire.Assign:
        """Wait for an assignment, and say nothing to it."""
        return self._said(wire.Assign)

    def published(self, assign: wire.Assign) -> None:
        """Say that the output is at its place; that a grant was asked for, and given, nobody remembers."""
        item = f"{assign.uuid}.{assign.attempt}.published"
        print_of = Fingerprint(1, "0" * 64)
        done = wire.Published(self.session, item, assign.uuid, assign.attempt, 1, print_of, Results())
        self._said(wire.Ack, lambda: done)

    def timed_out(self, assign: wire.Assign) -> None:
        """Say that the attempt used up its time."""
        item = f"{assign.uuid}.{assign.attempt}.ended"
        failure = wire.Failure("timeout", False, "used up its time")
        ended = wire.Ended(self.session, item, assign.uuid, assign.attempt, "failed", failure)
        self._said(wire.Ack, lambda: ended)

    def _said(self, kind: type[T], say: Callable[[], wire.Message] | None = None) -> T:
        """Wait until the master says something of this kind, repeating `say` meanwhile."""
        ends, again_s = time.monotonic() + DEADLINE_S, 0.0
        while time.monotonic() < ends:
            if say is not None and time.monotonic() >= again_s:
                self._link.send(say())
                again_s = time.monotonic() + 1.0
            if self.session and time.monotonic() >= self._beat_s:
                self._beats += 1
                self._beat_s = time.monotonic() + BEAT_S
                self._link.send(wire.Heartbeat(self.session, self._beats))
            select.select([self._link], [], [], 0.05)
            self._heard += self._link.receive()
            for at, message in enumerate(self._heard):
                if isinstance(message, kind):
                    del self._heard[at]
                    return message
        raise AssertionError(f"the master said no {kind.__name__}: {self._heard}")
