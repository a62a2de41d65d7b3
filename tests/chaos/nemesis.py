"""What goes wrong in a chaos run: one fault after the other, chosen and timed by the seed, each ended before the next.

A fault is a context: entering it breaks something, leaving it makes it whole again. `FAULTS` names them all; a run takes
each of them once, in an order of its seed, before it takes any twice.
"""

from __future__ import annotations

import contextlib
import random
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from http.client import HTTPException
from pathlib import Path

import psutil
from chaos.net import Rules
from chaos.site import AGENTS, CLOCKS, HOSTS, Site

from daemons import Daemon, until

HOUR_S = 3600
HELD_S = (1.5, 3.5)  # a node is lost after 2 s here: most are felt, and some end before they are noticed
RESTS_S = (0.3, 0.8)

Fault = Callable[[Site, random.Random], AbstractContextManager[str]]


def _network(rules: Callable[[Site, random.Random], tuple[str, Rules]]) -> Fault:
    """A fault of the wire."""

    @contextmanager
    def fault(site: Site, chance: random.Random) -> Iterator[str]:
        what, set_to = rules(site, chance)
        site.net.rules(set_to)
        try:
            yield what
        finally:
            site.net.rules({})

    return fault


def _halves(site: Site, chance: random.Random) -> tuple[str, Rules]:
    away = sorted(chance.sample(AGENTS, 2))
    rest = [host for host in HOSTS if host not in away]
    return f"{'+'.join(away)} cut off", site.net.both_ways(away, rest, cut=True)


def _one_way(site: Site, chance: random.Random) -> tuple[str, Rules]:
    host, heard = chance.choice(AGENTS), chance.random() < 0.5
    way = (["m"], [host]) if heard else ([host], ["m"])
    return f"nothing from {way[0][0]} to {way[1][0]}", site.net.one_way(*way, cut=True)


def _everywhere(what: str, **rule: float) -> Fault:
    return _network(lambda site, _chance: (what, site.net.both_ways(HOSTS, HOSTS, **rule)))


def _process(hosts: tuple[str, ...], hit: Callable[[Site, str], AbstractContextManager[None]]) -> Fault:
    """A fault of one program."""

    @contextmanager
    def fault(site: Site, chance: random.Random) -> Iterator[str]:
        host = chance.choice(hosts)
        with hit(site, host):
            yield host

    return fault


@contextmanager
def _down(site: Site, host: str) -> Iterator[None]:
    """A daemon that has ended within this block is started again only when the block ends."""
    site.wanted.discard(host)
    yield
    site.start(host)


@contextmanager
def _killed(site: Site, host: str) -> Iterator[None]:
    with _down(site, host):
        site.daemon(host).kill()
        yield


@contextmanager
def _host_killed(site: Site, host: str) -> Iterator[None]:
    with _down(site, host):
        site.kill_host(host)
        yield


@contextmanager
def _stopped(site: Site, host: str) -> Iterator[None]:
    stopped: Daemon = site.daemon(host)
    stopped.signal(signal.SIGSTOP)
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            stopped.signal(signal.SIGCONT)


@contextmanager
def _engines_stopped(site: Site, host: str) -> Iterator[None]:
    stopped = site.engines(host)
    for process in stopped:
        with contextlib.suppress(psutil.Error):
            process.suspend()
    try:
        yield
    finally:
        for process in stopped:
            with contextlib.suppress(psutil.Error):
                process.resume()


@contextmanager
def _engines_killed(site: Site, host: str) -> Iterator[None]:
    for process in site.engines(host):
        with contextlib.suppress(psutil.Error):
            process.kill()
    yield


@contextmanager
def _unplugged(site: Site, host: str) -> Iterator[None]:
    site.net.link(host, up=False)
    try:
        yield
    finally:
        site.net.link(host, up=True)


@contextmanager
def _clock_stepped(site: Site, chance: random.Random) -> Iterator[str]:
    host, step_s = chance.choice(CLOCKS), chance.choice((-HOUR_S, HOUR_S))
    site.set_clock(host, step_s)
    try:
        yield f"{host} by {step_s / HOUR_S:+g} h"
    finally:
        site.set_clock(host, 0)


@contextmanager
def _full(folder: Path) -> Iterator[None]:
    filler = folder / "filler"
    with filler.open("ab", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))
    try:
        yield
    finally:
        filler.unlink(missing_ok=True)


@contextmanager
def _full_master(site: Site, _chance: random.Random) -> Iterator[str]:
    with _full(site.folder / "master"):
        yield "m"


@contextmanager
def _full_agent(site: Site, chance: random.Random) -> Iterator[str]:
    what, folder = chance.choice((("d's state", site.folder / "agent-d"), ("b's own root", site.own_media("b"))))
    with _full(folder):
        yield what


@contextmanager
def _broken_disk(site: Site, _chance: random.Random) -> Iterator[str]:
    with _down(site, "m"):
        site.break_masters_disk()
        yield "m"
        master = site.daemon("m")
        if master.alive:  # it looks at its disk only when it writes
            master.kill()
        site.mend_masters_disk()


def _serves(site: Site) -> bool:
    site.tend()
    with contextlib.suppress(OSError, HTTPException):
        return site.api("GET", "/v1/ready")[0] == 200
    return False


@contextmanager
def _database_removed(site: Site, _chance: random.Random) -> Iterator[str]:
    until("the master to serve", lambda: _serves(site))  # what is removed with no master on it is gone for good
    before = site.daemon("m")
    for path in (site.folder / "master").glob("farm.db*"):
        if not path.name.endswith(".json"):
            path.unlink()
    yield "farm.db, the logs, and their WALs"
    # Until it is noticed, by the next write. Removed twice, or killed before that, what was answered is gone for good.
    until("the master to notice that it is gone", lambda: not before.alive)
    site.tend()


@contextmanager
def _slow_disk(site: Site, _chance: random.Random) -> Iterator[str]:
    with slow_syncs(site.daemon("m").process.pid, 1.0, site.folder / "strace"):
        yield "m, 1 s a sync"


@contextmanager
def slow_syncs(pid: int, delay_s: float, log: Path) -> Iterator[None]:
    """Let each sync of a running program take so long."""
    calls = "fsync,fdatasync"
    words = ["strace", "-f", "-qq", "-o", str(log), "-p", str(pid), "-e", f"trace={calls}"]
    tracer = subprocess.Popen([*words, "-e", f"inject={calls}:delay_enter={delay_s * 1e6:.0f}"])
    try:
        until("strace to hold it", lambda: _traced(pid))
        yield
    finally:
        tracer.send_signal(signal.SIGINT)
        try:
            tracer.wait(10.0 + delay_s)
        except subprocess.TimeoutExpired:
            tracer.kill()
            tracer.wait()


def _traced(pid: int) -> bool:
    status = Path(f"/proc/{pid}/status").read_text()
    return "TracerPid:\t0\n" not in status


ON_EXT4 = "I/O errors at the master"
FAULTS: dict[str, Fault] = {
    "partition in halves": _network(_halves),
    "one-way partition": _network(_one_way),
    "loss of 30 %": _everywhere("all", loss=0.3),
    "delay of 500 ms +- 400 ms": _everywhere("all", delay_s=0.5, jitter_s=0.4),
    "duplication": _everywhere("all", twice=0.5),
    "reordering": _everywhere("all", late=0.4, late_s=0.1),
    "64 kbit/s": _everywhere("all", rate_bps=64_000.0),
    "link down": _process(HOSTS, _unplugged),
    "agent killed": _process(AGENTS, _killed),
    "host killed": _process(AGENTS, _host_killed),
    "master killed": _process(("m",), _killed),
    "agent stopped": _process(AGENTS, _stopped),
    "master stopped": _process(("m",), _stopped),
    "engines stopped": _process(AGENTS, _engines_stopped),
    "engines killed": _process(AGENTS, _engines_killed),
    "clock stepped": _clock_stepped,
    "disk full at the master": _full_master,
    "disk full at an agent": _full_agent,
    ON_EXT4: _broken_disk,
    "slow disk at the master": _slow_disk,
    "database removed": _database_removed,
}


class Nemesis:
    """Goes through the faults, and again until its time is over."""

    def __init__(self, site: Site, seed: int, only: tuple[str, ...] = ()) -> None:
        self.site = site
        self._chance = random.Random(f"nemesis {seed}")
        self._names = only or tuple(FAULTS)
        self.struck: Counter[str] = Counter()

    def rage(self, ends_s: float, say: Callable[[str], None]) -> None:
        """One fault after the other, each once, and then more until `ends_s` of the monotonic clock."""
        names = self._possible(say)
        coming: list[str] = []
        while names and (len(self.struck) < len(names) or time.monotonic() < ends_s):
            coming = coming or self._chance.sample(names, len(names))
            self._strike(coming.pop(), say)

    def _possible(self, say: Callable[[str], None]) -> list[str]:
        """What can be done on this machine; says what cannot."""
        if not self.site.no_ext4:
            return list(self._names)
        say(f"NOT DONE HERE: {ON_EXT4}, for want of a loop device: {self.site.no_ext4}")
        return [name for name in self._names if name != ON_EXT4]

    def _strike(self, name: str, say: Callable[[str], None]) -> None:
        held_s, rest_s = self._chance.uniform(*HELD_S), self._chance.uniform(*RESTS_S)
        with FAULTS[name](self.site, self._chance) as what:
            say(f"{name}: {what}, for {held_s:.1f} s")
            self._pass(held_s)
        self.struck[name] += 1
        self._pass(rest_s)

    def _pass(self, time_s: float) -> None:
        """Let time pass, and start again what ended by itself."""
        ends_s = time.monotonic() + time_s
        while time.monotonic() < ends_s:
            self.site.tend()
            time.sleep(0.1)
