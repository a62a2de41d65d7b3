"""The network: TCP connections that break, wires that lose, double, delay and part, and real frames on them.

What is sent over one connection in one direction arrives in order. Frames of a connection that broke may still arrive, late,
and so may their doubles. A link that is parted carries nothing; what was on its way waits until it is whole again, or is lost
with its connection.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from dataclasses import dataclass, field

from simulation.clock import Time

from ffrtmp import wire
from ffrtmp_master.hub import SendResult

RECONNECT_S = 0.3
HOLDS_S = 8.0  # a part of this length breaks the connection


@dataclass
class Weather:
    """How bad the wires are: chances of 0 to 1, and seconds."""

    lost: float = 0.0
    doubled: float = 0.0
    delay_s: float = 0.01
    breaks: float = 0.0


@dataclass(eq=False)
class Link:
    """An agent's socket, which connects by itself. `up` to the master, `down` from it: until when that way is parted."""

    hear: Callable[[wire.FromMaster], None]
    key: str
    connection: bytes = b""
    closed: bool = False
    up_s: float = 0.0
    down_s: float = 0.0
    last_s: dict[bool, float] = field(default_factory=dict)


@dataclass
class Network:
    """All wires to one master. `to_master` takes what arrives; `listening` says whether somebody does."""

    time: Time
    chance: random.Random
    weather: Weather
    count: Callable[[str], None]
    to_master: Callable[[bytes, str, wire.FromAgent], None] = lambda _connection, _key, _message: None
    listening: bool = False
    before_send: Callable[[wire.Message], None] = lambda _message: None
    parted: dict[str, tuple[float, float]] = field(default_factory=dict)  # key -> until when up and down are parted
    _links: dict[bytes, Link] = field(default_factory=dict)
    _known: set[bytes] = field(default_factory=set)  # connections that the hub has, dead ones too until it notices
    _count: itertools.count[int] = field(default_factory=itertools.count)

    # ---- agents --------------------------------------------------------------------------------------------------

    def link(self, key: str, hear: Callable[[wire.FromMaster], None]) -> Link:
        """A new socket of an agent."""
        link = Link(hear, key)
        self._connect(link)
        return link

    def close(self, link: Link) -> None:
        """The agent's end is gone."""
        link.closed = True
        self._drop(link)

    def break_all(self, key: str = "") -> None:
        """Connections break (of one key, or all); sockets make new ones."""
        for link in [each for each in self._links.values() if not key or each.key == key]:
            self._drop(link)
            self._again(link)

    def say(self, link: Link, message: wire.Message) -> None:
        """Agent to master; without a connection nothing is sent."""
        if link.connection:
            self._put(link, True, wire.encode(message))

    def _again(self, link: Link) -> None:
        self.time.after(self.chance.uniform(0.01, RECONNECT_S), lambda: self._connect(link))

    def _connect(self, link: Link) -> None:
        if link.closed or link.connection:
            return
        if not self.listening or max(self._parted(link)) > self.time.now_s:
            self._again(link)
            return
        link.connection = b"c%d" % next(self._count)
        link.last_s.clear()
        self._links[link.connection] = link
        self._known.add(link.connection)

    def _drop(self, link: Link) -> None:
        """The connection breaks; the hub notices a little later."""
        connection, link.connection = link.connection, b""
        if connection:
            self._links.pop(connection, None)
            self.time.after(self.chance.uniform(0.0, 3.0), lambda: self._known.discard(connection))

    def _parted(self, link: Link) -> tuple[float, float]:
        return self.parted.get(link.key, (0.0, 0.0))

    def part(self, key: str, up_s: float, down_s: float) -> None:
        """The ways of a host are parted for so many seconds from now."""
        now_s = self.time.now_s
        self.parted[key] = (now_s + up_s, now_s + down_s)
        if max(up_s, down_s) > HOLDS_S:
            self.time.after(HOLDS_S, lambda: self.break_all(key))

    # ---- the master's hub ----------------------------------------------------------------------------------------

    def listen(self, to_master: Callable[[bytes, str, wire.FromAgent], None]) -> None:
        """A master is there."""
        self.to_master, self.listening = to_master, True

    def deaf(self) -> None:
        """The master is gone, and all connections with it."""
        self.listening = False
        for link in list(self._links.values()):
            self._drop(link)
            self._again(link)
        self._known.clear()

    def send(self, connection: bytes, message: wire.Message) -> SendResult:
        """Master to agent, as the hub's."""
        self.before_send(message)
        link = self._links.get(connection)
        if link is None:
            return SendResult.SENT if connection in self._known else SendResult.UNREACHABLE
        self._put(link, False, wire.encode(message))
        return SendResult.SENT

    def hold(self, held: bool) -> None:
        """The hub's brake."""
        if held:
            self.count("held")

    # ---- on the way ----------------------------------------------------------------------------------------------

    def _put(self, link: Link, up: bool, frame: bytes) -> None:
        weather, chance, now_s = self.weather, self.chance, self.time.now_s
        if weather.breaks and chance.random() < weather.breaks:
            self.count("connection broke")
            self._drop(link)
            self._again(link)
            return
        if weather.lost and chance.random() < weather.lost:
            self.count("frame lost")
            return
        parted_s = self._parted(link)[0 if up else 1]
        due_s = max(now_s + chance.uniform(0, weather.delay_s), link.last_s.get(up, 0.0))
        if parted_s > due_s:
            self.count("frame held by a part")
            due_s = parted_s + chance.uniform(0, 0.2)
        link.last_s[up] = due_s
        connection = link.connection
        self.time.after(due_s - now_s, lambda: self._arrive(link, connection, up, frame))
        if weather.doubled and chance.random() < weather.doubled:
            self.count("frame doubled")
            self.time.after(due_s - now_s, lambda: self._arrive(link, connection, up, frame))
            late_s = due_s - now_s + chance.uniform(0, 4 * weather.delay_s)
            self.time.after(late_s, lambda: self._arrive(link, connection, up, frame, late=True))

    def _arrive(self, link: Link, connection: bytes, up: bool, frame: bytes, late: bool = False) -> None:
        whole = link.connection == connection
        if late and whole:
            return  # TCP has order: only of a connection that broke something may come after what was sent later
        if up:
            if self.listening and connection in self._known and (whole or late or self.chance.random() < 0.5):
                if not whole:
                    self.count("frame of an old connection")
                self.time.event()
                self.to_master(connection, link.key, wire.decode_from_agent(frame))
            return
        if whole and not link.closed:
            self.time.event()
            link.hear(wire.decode_from_master(frame))
