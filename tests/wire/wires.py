"""What the tests of the wire share: waiting with a deadline, plain ZeroMQ clients, and a hub in a process of its own."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import zmq

from ffrtmp import wire
from ffrtmp.keys import KeyPair
from ffrtmp_agent.link import Link

DEADLINE_S = 10.0
CHILD = Path(__file__).with_name("hub_child.py")


def until(happens: Callable[[], Any], within_s: float = DEADLINE_S) -> Any:
    """The first true value of `happens`, asked again and again; fails when there is none in time."""
    deadline = time.monotonic() + within_s
    while not (value := happens()):
        assert time.monotonic() < deadline, f"this did not happen in {within_s} s"
        time.sleep(0.005)
    return value


async def comes_true(happens: Callable[[], Any], within_s: float = DEADLINE_S) -> Any:
    """The same on a running loop."""
    deadline = time.monotonic() + within_s
    while not (value := happens()):
        assert time.monotonic() < deadline, f"this did not happen in {within_s} s"
        await asyncio.sleep(0.005)
    return value


@contextlib.contextmanager
def a_context() -> Iterator[zmq.Context]:
    context = zmq.Context()
    try:
        yield context
    finally:
        context.destroy(linger=0)


def a_dealer(context: zmq.Context, endpoint: str, keys: KeyPair, server_key: str, **options: Any) -> zmq.Socket:
    """A client that is not ours, as anybody could write it, with whatever options it likes."""
    dealer = context.socket(zmq.DEALER)
    dealer.linger = 0
    dealer.curve_serverkey = server_key.encode()
    dealer.curve_publickey = keys.public.encode()
    dealer.curve_secretkey = keys.secret.encode()
    for name, value in options.items():
        setattr(dealer, name, value)
    dealer.connect(endpoint)
    return dealer


@contextlib.contextmanager
def a_link(endpoint: str, server_key: str, keys: KeyPair) -> Iterator[Link]:
    with Link(endpoint, server_key, keys) as link:
        yield link


def connected(link: Link) -> None:
    """Wait until the link stands."""
    until(lambda: link.receive() or link.connection)


def answer(link: Link, message: wire.Message | None = None) -> Any:
    """The next message from the master, after `message` was sent."""
    if message is not None:
        assert link.send(message)
    return until(link.receive)[0]


@dataclass
class HubProcess:
    """A hub in a child process; `said` reads the lines in which it tells what it hears."""

    process: subprocess.Popen[str]
    endpoint: str

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    @property
    def resident_bytes(self) -> int:
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    def answers(self, link: Link, number: int) -> bool:
        """Whether a heartbeat over this link is answered."""
        connected(link)
        return answer(link, wire.Heartbeat(1, number)).number == number


@contextlib.contextmanager
def a_hub_process(
    server: KeyPair,
    *,
    admits: tuple[str, ...] = (),
    invited: tuple[str, ...] = (),
    endpoint: str = "tcp://127.0.0.1:0",
    files_most: int = 0,
    seeded: bool = True,
) -> Iterator[HubProcess]:
    """Run a hub that answers heartbeats and enrolments; `files_most` bounds its open files."""
    order = {
        "server": server.secret,
        "admits": admits,
        "invited": invited,
        "endpoint": endpoint,
        "files_most": files_most,
        "seeded": seeded,
    }
    process = subprocess.Popen(
        [sys.executable, str(CHILD)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        process.stdin.write(json.dumps(order) + "\n")
        process.stdin.flush()
        yield HubProcess(process, process.stdout.readline().strip())
    finally:
        process.kill()
        process.communicate()
