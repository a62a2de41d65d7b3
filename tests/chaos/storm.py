"""One chaos run: start the farm, let users and nemesis at it, wait for peace, look at everything."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import psutil
from chaos import checker
from chaos.nemesis import Nemesis
from chaos.observer import Observer
from chaos.site import Site

from daemons import until

PATIENCE = {"poison_losses": "100", "backoff": "0.5s", "backoff_max": "3s", "doubt_patience": "5s"}
PAUSE_S = 1.2  # between two submissions
PEACE_S = 240.0  # within so long after the last fault everything has ended


class Storm:
    """Every fault once, and then more until `length_s` is over; `only` are the names of those to take."""

    def __init__(self, folder: Path, seed: int, length_s: float, only: tuple[str, ...]) -> None:
        self.site = Site(folder, seed, **PATIENCE)
        self.observer = Observer(self.site, seed, PAUSE_S)
        self.nemesis = Nemesis(self.site, seed, only)
        self._length_s = length_s
        self._began_s = time.monotonic()
        self._settled_s = 0.0
        self._states: Counter[str] = Counter()
        self._wire: dict[str, int] = {}

    def run(self) -> list[str]:
        """Do it; what was wrong, in words."""
        try:
            with self.site:
                self.site.up()
                with self.observer:
                    self.nemesis.rage(time.monotonic() + self._length_s, self._say)
                    self._settle()
                return self._judged()
        except AssertionError as error:
            return [*self.observer.notes.wrong, str(error)]

    def _settle(self) -> None:
        """Wait until all that was begun has ended."""
        self._say("peace")
        self._wire = self.site.net.rules({})
        peace_s = time.monotonic()
        self.observer.no_more()
        until("all agents to be back", self._all_back)
        checker.at_rest(self.site, PEACE_S)
        self._settled_s = time.monotonic() - peace_s

    def _judged(self) -> list[str]:
        self.observer.look()
        self._states = checker.ends(self.site)
        return checker.wrongs(self.site, self.observer.notes)

    def _all_back(self) -> bool:
        self.site.tend()
        return self.site.all_ready()

    def _say(self, what: str) -> None:
        print(f"  {time.monotonic() - self._began_s:6.1f} s  {what}", flush=True)

    def told(self) -> Iterator[str]:
        """The record of the run."""
        notes = self.observer.notes
        yield f"machine: {_machine()}"
        yield f"faults: {self.nemesis.struck.total()} of {len(self.nemesis.struck)} kinds: {_listed(self.nemesis.struck)}"
        yield f"frames: {_listed(self._wire)}"
        yield f"started again after they had ended by themselves: {_listed(self.site.restarts)}"
        yield f"submissions: {len(notes.asks)}, calls: {_listed(notes.counts)}"
        yield f"slowest answer: {notes.longest_answer_s:.1f} s; all ended {self._settled_s:.1f} s after the last fault"
        yield f"jobs: {_listed(self._states)}"


def _listed(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in sorted(counts.items())) or "none"


def _machine() -> str:
    words = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.partition(":")[2].strip() for line in words if line.startswith("model name")), "unknown CPU")
    memory_gib = psutil.virtual_memory().total / 2**30
    return f"{psutil.cpu_count()} x {model}, {memory_gib:.0f} GiB, Linux {os.uname().release}"
