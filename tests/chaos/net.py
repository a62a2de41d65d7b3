"""Hosts on a network: a network namespace and a TAP device each, with the relay (`relay.py`) in the middle."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from pyroute2 import NetNS, netns

TUNSETIFF = 0x400454CA
IFF_TAP, IFF_NO_PI = 0x0002, 0x1000
DEVICE = "farm0"
Rules = dict[str, dict[str, Any]]


def address(index: int) -> str:
    """The address of a host by its place in the list."""
    return f"10.77.0.{index + 1}"


class Net:
    """A network of named hosts, which lasts as long as the block."""

    def __init__(self, hosts: Iterable[str], seed: int) -> None:
        self.hosts = tuple(hosts)
        self.addresses = {name: address(index) for index, name in enumerate(self.hosts)}
        self._seed = seed
        self._open = ExitStack()
        self._spaces: dict[str, NetNS] = {}

    def __enter__(self) -> Self:
        with ExitStack() as undo:
            taps = {name: self._host(name, undo) for name in self.hosts}
            self._start_relay(taps, undo)
            self._open = undo.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._open.close()

    def _host(self, name: str, undo: ExitStack) -> int:
        """Make a host; the descriptor of its TAP device."""
        space = _space(name)
        netns.create(space)
        undo.callback(netns.remove, space)
        tap = _tap_inside(space)
        undo.callback(os.close, tap)
        links = self._spaces[name] = NetNS(space)
        undo.callback(links.close)
        links.link("set", index=links.link_lookup(ifname="lo")[0], state="up")
        index = links.link_lookup(ifname=DEVICE)[0]
        links.addr("add", index=index, address=self.addresses[name], prefixlen=24)
        links.link("set", index=index, state="up")
        return tap

    def _start_relay(self, taps: dict[str, int], undo: ExitStack) -> None:
        ours, its = socket.socketpair()
        undo.callback(ours.close)
        words = [f"{name}={descriptor}" for name, descriptor in taps.items()]
        relay = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("relay.py")), str(self._seed), str(its.fileno()), *words],
            pass_fds=[its.fileno(), *taps.values()],
            stdin=subprocess.DEVNULL,
        )
        its.close()
        undo.callback(relay.wait)
        undo.callback(relay.kill)
        self._lines = ours.makefile("rw", encoding="ascii")
        undo.callback(self._lines.close)
        self.rules({})

    def rules(self, rules: Rules) -> dict[str, int]:
        """Set what the relay does, by direction ("m>a"); gives what it has counted so far."""
        self._lines.write(json.dumps(rules) + "\n")
        self._lines.flush()
        return dict(json.loads(self._lines.readline()))

    def link(self, host: str, *, up: bool) -> None:
        """Pull a host's cable, or put it in again."""
        links = self._spaces[host]
        links.link("set", index=links.link_lookup(ifname=DEVICE)[0], state="up" if up else "down")

    def inside(self, host: str) -> list[str]:
        """What a program is started by, to be on this host; the process keeps its number."""
        return ["nsenter", f"--net=/run/netns/{_space(host)}"]

    def both_ways(self, these: Iterable[str], those: Iterable[str], **rule: Any) -> Rules:
        """One rule for all that goes between two groups of hosts."""
        there = self.one_way(these, those, **rule)
        return there | self.one_way(those, these, **rule)

    def one_way(self, these: Iterable[str], those: Iterable[str], **rule: Any) -> Rules:
        """One rule for all that goes from one group of hosts to the other."""
        others = list(those)
        return {f"{one}>{other}": rule for one in these for other in others if one != other}


def _space(host: str) -> str:
    return f"ffrtmp-{host}"


def _tap_inside(space: str) -> int:
    """Make the device in the namespace, by a thread that moves there and ends: no other thread is moved."""
    made: list[int] = []

    def make() -> None:
        netns.setns(space)
        tap = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC)
        fcntl.ioctl(tap, TUNSETIFF, struct.pack("16sH22x", DEVICE.encode(), IFF_TAP | IFF_NO_PI))
        made.append(tap)

    thread = threading.Thread(target=make)
    thread.start()
    thread.join()
    if not made:
        raise OSError(f"no TAP device can be made in the namespace {space}")
    return made[0]
