"""A hub in a process of its own: answers heartbeats, enrols by ticket, does not read for as many seconds as the session of a
Goodbye says, and can be killed, stopped and measured.

Reads its order as one line of JSON, prints its endpoint, and goes on until it is killed or its standard input ends.
"""

from __future__ import annotations

import asyncio
import json
import resource
import sys
import time

from ffrtmp import wire
from ffrtmp.keys import KeyPair
from ffrtmp_master import hub as hub_module
from ffrtmp_master.hub import Hub, Received
from ffrtmp_master.rows import TicketRow
from ffrtmp_master.tickets import Tickets


class Child:
    def __init__(self, order: dict) -> None:
        self.nodes = set(order["admits"])
        self.tickets = Tickets(TicketRow(key, time.time() + 60) for key in order["invited"])
        self.hub = Hub(
            order["endpoint"],
            KeyPair.of_secret(order["server"]),
            self.nodes.__contains__,
            self.hear,
            invited=lambda key: self.tickets.admits(key, time.time()),
        )

    def hear(self, received: Received) -> None:
        if isinstance(received.message, wire.Enroll):
            self.hub.send(received.connection, self.enrol(received.key, received.message))
        elif isinstance(received.message, wire.Heartbeat):
            number = received.message.number
            self.hub.send(received.connection, wire.HeartbeatAck(received.message.session, number, "", 0))
        elif isinstance(received.message, wire.Goodbye):  # so many seconds of other things to do
            self.hub.hold(True)
            asyncio.get_running_loop().call_later(received.message.session, self.hub.hold, False)

    def enrol(self, key: str, enroll: wire.Enroll) -> wire.Message:
        verdict = self.tickets.judge(key, enroll, time.time())
        if isinstance(verdict, wire.Sorry):
            return verdict
        self.tickets.use(key, enroll.public_key)
        self.nodes.add(enroll.public_key)
        return wire.Enrolled(verdict.name)


async def main() -> None:
    order = json.loads(sys.stdin.readline())
    if order["files_most"]:
        resource.setrlimit(resource.RLIMIT_NOFILE, (order["files_most"], order["files_most"]))
    if not order["seeded"]:
        hub_module._seed_rand = lambda: None
    child = Child(order)
    print(child.hub.endpoint, flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    child.hub.close()


if __name__ == "__main__":
    asyncio.run(main())
