"""What is on the master's disk, kept beside it as the commits go: what memory, and the next start, are held against."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ffrtmp.farm.job import Attempt, Grant, Job
from ffrtmp.farm.node import Node
from ffrtmp_master.rows import Loaded, TurnRows

TABLES = ("jobs", "attempts", "grants", "nodes")


@dataclass
class Mirror:
    """The rows that were on disk after the newest commit."""

    turn: int = 0
    jobs: dict[int, Job] = field(default_factory=dict)
    attempts: dict[tuple[int, int], Attempt] = field(default_factory=dict)
    grants: dict[int, Grant] = field(default_factory=dict)
    nodes: dict[str, Node] = field(default_factory=dict)

    def take(self, turn: TurnRows) -> None:
        """A turn was written."""
        self.turn = turn.turn
        for table, changes in (
            (self.jobs, turn.changes.jobs),
            (self.attempts, turn.changes.attempts),
            (self.grants, turn.changes.grants),
            (self.nodes, turn.changes.nodes),
        ):
            _take(table, changes)

    def reload(self, loaded: Loaded) -> None:
        """A master has read the disk."""
        self.turn = loaded.turn
        self.jobs = {job.number: job for job in loaded.jobs}
        self.attempts = {attempt.id: attempt for attempt in loaded.attempts}
        self.grants = {grant.job: grant for grant in loaded.grants}
        self.nodes = {node.name: node for node in loaded.nodes}

    def begun(self, world: Any) -> None:
        """A master has taken over what it found; waits count anew, which the disk need not know."""
        for name in TABLES:
            rows = getattr(world, name)
            setattr(self, name, {key: rows[key] for key in rows})

    def differs(self, world: Any) -> str:
        """Where the memory of the rules is not as the disk, in a sentence; empty: nowhere."""
        for name in TABLES:
            ours, rows = getattr(world, name), getattr(self, name)
            if len(ours) != len(rows):
                return f"memory and store differ in {name}"
            for key, row in rows.items():
                if ours.get(key) != row:
                    return f"{name} {key} is {ours.get(key)}, on disk {row}"
        return ""


def _take(table: Any, changes: Any) -> None:
    for key, row in changes.items():
        if row is None:
            table.pop(key, None)
        else:
            table[key] = row
