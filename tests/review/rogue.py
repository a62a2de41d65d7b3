"""A node that says what it likes: enrolled as any other, its key admitted, but with no agent behind it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import Any

from daemons import Farm, until
from ffrtmp import wire
from ffrtmp.keys import KeyPair
from ffrtmp_agent.link import Link

ROOT_ID = "22222222-2222-4222-8222-222222222222"
CAPACITY = wire.Capacity(
    cpu_milli=8000,
    memory_bytes=8 << 30,
    slots=8,
    scratch_bytes=1 << 40,
    encoders=("libx264", "libx265"),
    protocols=("file", "http"),
    roots=(wire.RootFact("media", ROOT_ID, "/nowhere"),),
)


class Rogue:
    """One connection; `session` once it was welcomed."""

    def __init__(self, link: Link, name: str) -> None:
        self.link = link
        self.name = name
        self.session = 0
        self.heard: list[Any] = []
        self.beats = 0
        self.runs: tuple[wire.AttemptReport, ...] = ()  # what its heartbeats name, unless told otherwise

    def say(self, message: wire.Message) -> None:
        until("room to send", lambda: self.link.send(message))

    def hello(self, address: str = "127.9.9.9", **fields: Any) -> wire.Hello:
        given = {"capacity": CAPACITY, "facts": wire.Facts(), "incarnation": 1, **fields}
        return wire.Hello(wire.PROTOCOL, "boot", given.pop("incarnation"), address, self.name, **given)

    def come_in(self, **fields: Any) -> wire.Welcome:
        """Say Hello until it is answered; the Welcome."""
        self.say(self.hello(**fields))
        welcome = self.wait_for(wire.Welcome)
        self.session = welcome.session
        return welcome

    def beat(self, *reports: wire.AttemptReport, **fields: Any) -> None:
        self.beats += 1
        self.say(wire.Heartbeat(self.session, self.beats, attempts=reports or self.runs, **fields))

    def take(self) -> wire.Assign:
        """Accept the next job that is handed out, and name it from then on."""
        assign: wire.Assign = self.wait_for(wire.Assign)
        self.runs = (*self.runs, wire.AttemptReport(assign.uuid, assign.job, assign.attempt, "running"))
        self.say(wire.Accepted(self.session, assign.uuid, assign.attempt))
        return assign

    def wait_for(self, kind: type, deadline_s: float = 30.0) -> Any:
        """The next message of this kind; heartbeats go on meanwhile."""
        beat_s = 0.0

        def there() -> Any:
            nonlocal beat_s
            self.heard += self.link.receive()
            if self.session and time.monotonic() > beat_s:
                beat_s = time.monotonic() + 0.2
                self.beat()
            found = next((m for m in self.heard if isinstance(m, kind)), None)
            if found is not None:
                self.heard.remove(found)
            return found

        return until(f"a {kind.__name__}", there, deadline_s)


@contextlib.contextmanager
def rogue(farm: Farm, name: str = "rogue") -> Iterator[Rogue]:
    """Enrol a node of this name and connect to the hub with its key."""
    keys = KeyPair.generate()
    status, answer = farm.api("POST", "/v1/nodes/enroll", {"public_key": keys.public, "name": name})
    assert status == 201, answer
    with Link(answer["hub"], answer["server_key"], keys) as link:
        until("a connection", lambda: link.receive() or link.connection)
        yield Rogue(link, name)
