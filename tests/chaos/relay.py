"""The wire between the hosts of a chaos run: a switch of our own between TAP devices, which spoils what it is told to.

    python relay.py SEED CONTROL NAME=DESCRIPTOR ...

Each descriptor is a TAP device of one host; CONTROL is a stream socket. A line of JSON that comes through it replaces all
rules, {"m>a": {"loss": 0.3, ...}, ...} by direction, and is answered with a line of counters. The program ends when that
socket is closed. It is a process of its own so that a busy test does not slow the wire down.

Why not netem: many kernels are built without it, and its chance comes from no seed.
"""

from __future__ import annotations

import heapq
import json
import os
import random
import select
import signal
import socket
import sys
import time
from collections import Counter
from dataclasses import dataclass

FRAME_BYTES = 2048
QUEUE_S = 3.0  # what would wait longer for a slow wire is dropped, as the queue of a router does
TAKEN_AT_ONCE = 64


@dataclass(frozen=True, slots=True)
class Rule:
    """What happens to frames of one direction: shares of 1, seconds, bits a second (0: no bound)."""

    cut: bool = False
    loss: float = 0.0
    delay_s: float = 0.0
    jitter_s: float = 0.0
    twice: float = 0.0
    late: float = 0.0
    late_s: float = 0.05
    rate_bps: float = 0.0


CLEAN = Rule()


class Relay:
    """A learning switch over `ports` (name to descriptor)."""

    def __init__(self, ports: dict[str, int], seed: int) -> None:
        self._ports = ports
        self._chance = random.Random(seed)
        self._rules: dict[str, Rule] = {}
        self._at: dict[bytes, str] = {}
        self._free_s: dict[str, float] = {}
        self._waiting: list[tuple[float, int, str, bytes]] = []
        self._count = 0
        self.counts: Counter[str] = Counter()

    def rule(self, rules: dict[str, Rule]) -> None:
        """Go by these from now on; what is on its way stays on its way."""
        self._rules = rules
        self._free_s.clear()

    def take(self, source: str, frame: bytes, now_s: float) -> None:
        """A frame has come from a host."""
        self._at[frame[6:12]] = source
        known = self._at.get(frame[:6])
        for target in [known] if known else [name for name in self._ports if name != source]:
            if target != source:
                self._pass(source, target, frame, now_s)

    def _pass(self, source: str, target: str, frame: bytes, now_s: float) -> None:
        way = f"{source}>{target}"
        rule = self._rules.get(way, CLEAN)
        self.counts["frames"] += 1
        if rule.cut or self._chance.random() < rule.loss:
            self.counts["cut" if rule.cut else "lost"] += 1
            return
        at_s = now_s + max(0.0, rule.delay_s + self._chance.uniform(-rule.jitter_s, rule.jitter_s))
        if rule.rate_bps:
            begins_s = max(now_s, self._free_s.get(way, 0.0))
            if begins_s - now_s > QUEUE_S:
                self.counts["no room"] += 1
                return
            self._free_s[way] = begins_s + len(frame) * 8 / rule.rate_bps
            at_s += self._free_s[way] - now_s
        if self._chance.random() < rule.late:
            self.counts["late"] += 1
            at_s += rule.late_s
        self._later(at_s, target, frame)
        if self._chance.random() < rule.twice:
            self.counts["doubled"] += 1
            self._later(at_s + self._chance.uniform(0.0, 0.02), target, frame)

    def _later(self, at_s: float, target: str, frame: bytes) -> None:
        self._count += 1
        heapq.heappush(self._waiting, (at_s, self._count, target, frame))

    def send(self, now_s: float) -> float | None:
        """Hand over what is due; seconds until the next is, None where nothing waits."""
        while self._waiting and self._waiting[0][0] <= now_s:
            _at_s, _count, target, frame = heapq.heappop(self._waiting)
            try:
                os.write(self._ports[target], frame)
            except OSError:  # its link is down, or its queue is full
                self.counts["not taken"] += 1
        return max(0.0, self._waiting[0][0] - now_s) if self._waiting else None


def main(seed: int, control: socket.socket, ports: dict[str, int]) -> None:
    """Relay until the control socket is closed."""
    relay = Relay(ports, seed)
    names = {descriptor: name for name, descriptor in ports.items()}
    waits = select.poll()
    for descriptor in (*names, control.fileno()):
        waits.register(descriptor, select.POLLIN)
    for descriptor in names:
        os.set_blocking(descriptor, False)
    lines = control.makefile("rw", encoding="ascii")
    while True:
        next_s = relay.send(time.monotonic())
        for descriptor, _events in waits.poll(None if next_s is None else next_s * 1000 + 0.2):
            if descriptor == control.fileno():
                line = lines.readline()
                if not line:
                    return
                relay.rule({way: Rule(**rule) for way, rule in json.loads(line).items()})
                lines.write(json.dumps(relay.counts) + "\n")
                lines.flush()
            else:
                _read(relay, names[descriptor], descriptor)


def _read(relay: Relay, name: str, descriptor: int) -> None:
    for _ in range(TAKEN_AT_ONCE):
        try:
            frame = os.read(descriptor, FRAME_BYTES)
        except OSError:  # no more for now, or the link is down
            return
        relay.take(name, frame, time.monotonic())


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # it ends when its control socket does
    given = dict(word.split("=", 1) for word in sys.argv[3:])
    main(
        int(sys.argv[1]),
        socket.socket(fileno=int(sys.argv[2])),
        {name: int(descriptor) for name, descriptor in given.items()},
    )
