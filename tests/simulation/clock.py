"""Time in a simulated world: a heap of what happens next. Nothing waits, and whatever is drawn is drawn from the seed."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable

Deed = Callable[[], None]
A_MOMENT_S = 1e-6


class Time:
    """The world's clock, in seconds since it began. Two things of one moment happen in the order in which they were asked for."""

    def __init__(self, seed: str) -> None:
        self.seed = seed
        self.now_s = 0.0
        self.steps = 0
        self.events = 0
        self._next: list[tuple[float, int, Deed]] = []
        self._number = 0

    def chance(self, name: str) -> random.Random:
        """A stream of randomness of its own: what one part of the world draws changes nothing for the others."""
        return random.Random(f"{self.seed}/{name}")

    def after(self, seconds: float, deed: Deed) -> None:
        """Do this in so many seconds."""
        self._number += 1
        heapq.heappush(self._next, (self.now_s + max(0.0, seconds), self._number, deed))

    def event(self) -> None:
        """Something was done to the world, or somebody handled a message: what the size of a world is told in."""
        self.events += 1

    def run(self, until_s: float, after_each: Deed) -> None:
        """Let happen what is due until then."""
        heap = self._next
        while heap and heap[0][0] <= until_s:
            self.now_s, _number, deed = heapq.heappop(heap)
            self.steps += 1
            deed()
            after_each()
        self.now_s = until_s
