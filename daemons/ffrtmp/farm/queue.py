"""Lanes and order: who goes first.

Jobs that are alike to the scheduler (queue, priority, requirements) wait in one lane, first come first served. So the best
job of a lane is its head, and choosing work looks at heads only: its cost does not grow with the backlog, and a job
that needs what no node has blocks nobody in another lane.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator
from dataclasses import replace

from .job import Job, Priority, Queue, Requirements, Terms
from .rules import Rules

LaneKey = tuple[Queue, Priority, Requirements]
Rank = tuple[int, int]  # (level after ageing, job number): the smaller goes first

_STALE_KEPT = 64
_STEPS = len(Priority)
_MIB = 1 << 20
_GIB = 1 << 30


class Lanes:
    """The waiting jobs' numbers, a heap for each lane.

    A job that leaves from the middle of a lane stays in its heap until it comes to the head, or until such
    entries are more than those that wait: then the heap is made anew, so that no toggling can make it grow.
    """

    def __init__(self, lane_now: Callable[[int], LaneKey | None]) -> None:
        """`lane_now(number)` is where a job waits at present."""
        self._lane_now = lane_now
        self._heaps: dict[LaneKey, list[int]] = {}
        self._waiting: dict[LaneKey, int] = {}

    def entered(self, lane: LaneKey, number: int) -> None:
        """A job waits here from now on."""
        heapq.heappush(self._heaps.setdefault(lane, []), number)
        self._waiting[lane] = self._waiting.get(lane, 0) + 1
        self._compact(lane)

    def left(self, lane: LaneKey) -> None:
        """A job does not wait here any more."""
        count = self._waiting[lane] - 1
        if count:
            self._waiting[lane] = count
            self._compact(lane)
        else:
            del self._waiting[lane]
            del self._heaps[lane]

    def _compact(self, lane: LaneKey) -> None:
        heap = self._heaps[lane]
        if len(heap) > 2 * self._waiting[lane] + _STALE_KEPT:
            # A sorted list is a heap.
            self._heaps[lane] = sorted(number for number in set(heap) if self._lane_now(number) == lane)

    def head(self, lane: LaneKey) -> int | None:
        """The first job of a lane."""
        heap = self._heaps.get(lane)
        while heap:
            if self._lane_now(heap[0]) == lane:
                return heap[0]
            heapq.heappop(heap)
        return None

    def first(self, lane: LaneKey) -> int | None:
        """The lane's first entry as it stands, without a look at whether it is still true: for showing only."""
        heap = self._heaps.get(lane)
        return heap[0] if heap else None

    def __iter__(self) -> Iterator[LaneKey]:
        """The lanes in which somebody waits."""
        return iter(list(self._waiting))

    def waiting(self, lane: LaneKey) -> int:
        """How many wait in a lane."""
        return self._waiting.get(lane, 0)

    def __contains__(self, lane: LaneKey) -> bool:
        return lane in self._waiting

    def __len__(self) -> int:
        return len(self._waiting)


def rank(job: Job, now_s: float, rules: Rules) -> Rank:
    """Queue, then priority, then arrival. Ageing lifts a job one step an interval, never into `live`."""
    terms = job.terms
    level = terms.queue * _STEPS + terms.priority
    if rules.ageing_interval_s > 0 and terms.queue is not Queue.LIVE:
        steps = int(max(0.0, now_s - job.arrival_s) / rules.ageing_interval_s)
        level = max(int(Queue.DEFAULT) * _STEPS, level - steps)
    return (level, job.number)


def round_up(terms: Terms) -> Terms:
    """The terms with their requirements rounded up to classes, so that there are few lanes.

    Cores to quarters (above four: whole ones), memory to 64 MiB (above 1 GiB: 256 MiB, above 8 GiB: 1 GiB), scratch to GiB.
    """
    need = terms.requirements
    memory_step = 64 * _MIB if need.memory_bytes <= _GIB else 256 * _MIB if need.memory_bytes <= 8 * _GIB else _GIB
    rounded = replace(
        need,
        cpu_milli=_up(need.cpu_milli, 250 if need.cpu_milli <= 4000 else 1000),
        memory_bytes=_up(need.memory_bytes, memory_step),
        scratch_bytes=_up(need.scratch_bytes, _GIB),
    )
    return replace(terms, requirements=rounded)


def _up(value: int, step: int) -> int:
    return -(-value // step) * step
