"""The line between agents and master in a simulated world: it loses, doubles and delays what it carries, as told.

Messages of one connection and direction keep their order, as TCP's do; everything passes the real encoding. A connection
that was closed carries nothing more.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable
from dataclasses import dataclass, field

from ffrtmp import wire
from ffrtmp_master.hub import SendResult


@dataclass
class Weather:
    """How bad the line is: chances of 0 to 1, and seconds."""

    lost: float = 0.0
    doubled: float = 0.0
    delay_s: float = 0.01


@dataclass
class Line:
    """Carries frames; `now_s` is the world's clock."""

    chance: random.Random
    weather: Weather
    now_s: float = 0.0
    to_master: Callable[[bytes, wire.FromAgent], None] = lambda _connection, _message: None
    _under_way: list[tuple[float, int, bytes, bool, bytes]] = field(default_factory=list)
    _last_s: dict[tuple[bytes, bool], float] = field(default_factory=dict)
    _agents: dict[bytes, Callable[[wire.FromMaster], None]] = field(default_factory=dict)
    _count: itertools.count[int] = field(default_factory=itertools.count)

    def connect(self, hear: Callable[[wire.FromMaster], None]) -> bytes:
        """A new connection of an agent."""
        connection = b"c%d" % next(self._count)
        self._agents[connection] = hear
        return connection

    def close(self, connection: bytes) -> None:
        """An agent's end of a connection is gone."""
        self._agents.pop(connection, None)

    def say(self, connection: bytes, message: wire.Message) -> None:
        """Agent to master."""
        self._put(connection, True, wire.encode(message))

    def send(self, connection: bytes, message: wire.Message) -> SendResult:
        """Master to agent, as the hub's."""
        if connection not in self._agents:
            return SendResult.UNREACHABLE
        self._put(connection, False, wire.encode(message))
        return SendResult.SENT

    def hold(self, held: bool) -> None:
        """The hub's brake; nothing here is fast enough to need it."""

    def _put(self, connection: bytes, up: bool, frame: bytes) -> None:
        if self.chance.random() < self.weather.lost:
            return
        for _ in range(2 if self.chance.random() < self.weather.doubled else 1):
            due_s = self.now_s + self.chance.uniform(0, self.weather.delay_s)
            due_s = max(due_s, self._last_s.get((connection, up), 0.0))
            self._last_s[(connection, up)] = due_s
            heapq.heappush(self._under_way, (due_s, next(self._count), connection, up, frame))

    def next_s(self) -> float:
        """When the next frame arrives."""
        return self._under_way[0][0] if self._under_way else float("inf")

    def deliver(self) -> None:
        """Hand over what is due."""
        while self._under_way and self._under_way[0][0] <= self.now_s:
            _due_s, _number, connection, up, frame = heapq.heappop(self._under_way)
            if connection not in self._agents:
                continue
            if up:
                self.to_master(connection, wire.decode_from_agent(frame))
            else:
                self._agents[connection](wire.decode_from_master(frame))
