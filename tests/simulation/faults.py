"""Faults of our own that a world plants, and hands that reach into the store: none of them may cost more than what it strikes.

A rule that raises, and rows that make no sense, are faults in `ffrtmp/farm` that nobody has found yet: the event alone is
undone, its caller is told, and the master goes on. A database that is removed under a master ends it, and nothing is lost.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from simulation import strays
from simulation.disk import Disk

from ffrtmp.farm import endings
from ffrtmp.farm import events as ev
from ffrtmp.farm import world as farm_world
from ffrtmp.farm.job import Attempt, Job, Requirements, State, Terms, check
from ffrtmp.spec import JobSpec, Recipe, Source
from ffrtmp_agent import session
from ffrtmp_master import callers, cycle, switchboard, turn
from ffrtmp_master.rows import NewSpec, TurnRows
from ffrtmp_master.store import database

NOBODYS = 10**9  # the number of a job that there is not

# Bounds that a world of a minute does not come near to are as small in it as it is.
SMALL: tuple[tuple[Any, str, int], ...] = (
    (farm_world, "TERMS_KEPT", 20),
    (endings, "_DUE_AT_ONCE", 2),
    (session, "TOMBSTONES", 8),
    (session, "REQUESTS_KEPT", 3),
    (turn, "SAID_MOST", 2),
    (callers, "AUDITS_MOST", 5),
    (cycle, "INBOX_MOST", 2000),
    (switchboard, "OWNERS_KEPT", 10),
    (switchboard, "ASKING_KEPT", 3),
    (database, "CHECKPOINT_PAGES", 60),
    (strays, "FLOOD_REPORTS", 700),
)


@contextlib.contextmanager
def small_bounds() -> Iterator[None]:
    """In this block bounds are those of a small world."""
    before = [(module, name, getattr(module, name)) for module, name, _value in SMALL]
    for module, name, value in SMALL:
        setattr(module, name, value)
    try:
        yield
    finally:
        for module, name, value in before:
            setattr(module, name, value)


@dataclass
class Faults:
    """What is about to go wrong."""

    rules: int = 0  # so many events whose rule raises when it has done its work
    of: type | Any = ev.Event  # only events of these types
    rows: list[str] = field(default_factory=list)  # what is wrong with the next turns that are stored
    removed: str = ""  # the file that is removed before the next commit

    def plant(self, chance: random.Random) -> None:
        """A fault in the rules."""
        self.rules = chance.choice((1, 1, 3))
        self.of = chance.choice((ev.Event, ev.UserEvent, ev.AgentEvent, ev.Hello, ev.TimeEvent))

    def spoil(self, chance: random.Random) -> None:
        """Rows that make no sense, in some turns."""
        self.rows = chance.sample(("specification", "job", "end", "attempt"), chance.choice((1, 2, 4)))

    def remove(self, chance: random.Random) -> None:
        """A file of the store goes, just before the next commit."""
        self.removed = chance.choice(("farm.db", "farm.db-wal"))

    def over(self) -> None:
        """Peace."""
        self.rules, self.rows, self.removed = 0, [], ""

    def ruled(self, event: ev.Event) -> None:
        """A rule has done its work; it may be a rule with a fault."""
        if self.rules and isinstance(event, self.of):
            self.rules -= 1
            check(State.COMPLETED, State.QUEUED)

    def stored(self, rows: TurnRows, disk: Disk, open_jobs: list[int]) -> str:
        """A turn is about to be stored: spoil it, if that is to be; what was done.

        A file is removed where all else is in order: nobody saves one on a disk that fails at the same moment.
        """
        if self.removed and not disk.full and not disk.fail_sync and disk.dies_after < 0:
            path, self.removed = Path(disk.folder) / self.removed, ""
            path.unlink(missing_ok=True)
            disk.files.pop(str(path), None)
            return "database removed"
        if not self.rows:
            return ""
        what = self.rows.pop()
        _spoil(rows, what, [number for number in open_jobs if number not in rows.changes.jobs])
        return f"rows spoiled: {what}"


def _spoil(rows: TurnRows, what: str, untouched: list[int]) -> None:
    job = Job(NOBODYS, "nobody's", Terms(), 0.0, State.QUEUED)
    if what == "specification":
        rows.specs.append(NewSpec(NOBODYS, JobSpec(Recipe("x"), Source())))
    elif what == "end" and untouched:
        rows.changes.jobs[untouched[0]] = None
    elif what == "attempt":
        rows.changes.attempts[(NOBODYS, 1)] = Attempt(NOBODYS, 1, "nobody's", "1", Requirements(), False)
    else:
        rows.changes.jobs[NOBODYS] = job
