"""Many short jobs of mixed rank on one node with one slot, and the order in which they were started.

The order is read from the history, a row for each start; what it must be is worked out here from the words of the
promise, not by the rules' own code.
"""

from __future__ import annotations

import itertools
import random
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from clips import generated

from daemons import Farm, until

QUEUES = ("live", "default", "batch")
PRIORITIES = ("high", "medium", "low")
SETTLE_S = 0.3  # between the farm's reading of its clock and the time that stands in the history


@dataclass(frozen=True)
class Start:
    """One start of a job: its place in the history, and when, in seconds since the epoch."""

    job: int
    level: int  # queue, then priority: 0 is live and high, 8 is batch and low
    arrived_s: float
    at_s: float


def lay_speck(farm: Farm) -> None:
    """Put a film at media:speck.mkv that is probed in no time."""
    shutil.copyfile(generated(0.2, 16, 16, 10.0, sound=False, name="speck.mkv"), farm.media / "speck.mkv")


def shuffled(count: int, seed: int, queues: Sequence[str] = QUEUES) -> list[dict[str, str]]:
    """`count` short jobs, every rank about as often, in a random order."""
    ranks = list(itertools.islice(itertools.cycle(itertools.product(queues, PRIORITIES)), count))
    random.Random(seed).shuffle(ranks)
    return [{"queue": queue, "priority": priority} for queue, priority in ranks]


def submit(farm: Farm, ranks: Sequence[dict[str, str]], name: str) -> list[int]:
    """Submit a job of each rank as one batch; their numbers."""
    common = {"scenario": "probe", "input": "media:speck.mkv"}
    jobs = [{**common, "output": f"media:{name}/{index}.json", **rank} for index, rank in enumerate(ranks)]
    status, answer = farm.api("POST", "/v1/jobs", {"items": jobs})
    assert status == 201, answer
    return [int(job["job"]) for job in answer["items"]]


def completed(farm: Farm, numbers: Sequence[int], deadline_s: float) -> None:
    """Wait until all have completed; none may end otherwise."""

    def none_open() -> bool:
        return not farm.get("/v1/jobs?state=open&limit=1")["items"]

    until(f"{len(numbers)} jobs to end", none_open, deadline_s)
    done = _pages(farm, "/v1/jobs?state=completed")
    assert {job["job"] for job in done} >= set(numbers)


def starts(farm: Farm, numbers: Sequence[int]) -> list[Start]:
    """When each of these jobs was started, in the order of the history; each exactly once."""
    found = []
    for number in numbers:
        job, rows = farm.job(number), farm.history(number)
        assigned = [row for row in rows if row["after"] == "assigned" and row["before"] == "queued"]
        assert len(assigned) == 1, rows
        level = QUEUES.index(job["queue"]) * 3 + PRIORITIES.index(job["priority"])
        found.append((assigned[0]["seq"], Start(number, level, _at_s(rows[0]), _at_s(assigned[0]))))
    return [start for _seq, start in sorted(found)]


def out_of_rank(found: Sequence[Start], ageing_s: float) -> list[str]:
    """Each start that a job which waited then outranked, by queue, priority, arrival and ageing; as sentences."""
    faults = []
    for place, start in enumerate(found):
        for other in found[place + 1 :]:
            if other.arrived_s <= start.at_s - SETTLE_S and not _may_go_first(start, other, start.at_s, ageing_s):
                faults.append(f"job {start.job} (level {start.level}) went before job {other.job} ({other.level})")
    return faults


def _may_go_first(start: Start, other: Start, at_s: float, ageing_s: float) -> bool:
    """Whether there is a moment close by at which `start` ranks before `other`."""
    moments = [at_s - SETTLE_S + step * 0.01 for step in range(round(SETTLE_S / 0.01) + 5)]
    return any(_rank(start, now_s, ageing_s) < _rank(other, now_s, ageing_s) for now_s in moments)


def _rank(start: Start, now_s: float, ageing_s: float) -> tuple[int, int]:
    """One level up after each interval, never into live (levels 0 to 2)."""
    if start.level < 3 or not ageing_s:
        return start.level, start.job
    return max(3, start.level - int(max(0.0, now_s - start.arrived_s) / ageing_s)), start.job


def _at_s(row: dict[str, Any]) -> float:
    return datetime.fromisoformat(row["at"]).timestamp()


def _pages(farm: Farm, path: str) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = []
    after = ""
    while True:
        page = farm.get(f"{path}&limit=500" + (f"&after={after}" if after else ""))
        items += page["items"]
        after = page.get("next", "")
        if not after:
            return items
