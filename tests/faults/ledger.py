"""What a run of the faults has seen, one JSON line a point: it can be gone on with, and the last test reads the edges.

`FAULTS_RESULTS=FILE` keeps the lines, and a run with the same file passes over the points that are done. Without it the
lines are this run's own.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from faults.life import Edge


@dataclass(frozen=True, slots=True)
class Entry:
    """A point or a story: whether all was right, what was hit, how long it took."""

    name: str
    ok: bool
    hit: str = ""
    edges: tuple[Edge, ...] = ()
    seconds: float = 0.0
    error: str = ""


class Ledger:
    """The lines of one run, or of several that go on with each other."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)

    def entries(self) -> list[Entry]:
        """What is written so far."""
        lines = self.path.read_text().splitlines() if self.path.exists() else []
        found = [json.loads(line) for line in lines]
        return [Entry(**{**one, "edges": tuple((b, a) for b, a in one["edges"])}) for one in found]

    def done(self) -> set[str]:
        """The names of what was right."""
        return {entry.name for entry in self.entries() if entry.ok}

    def write(self, entry: Entry) -> None:
        """Add a line, whole also where several processes write."""
        line = json.dumps({name: getattr(entry, name) for name in entry.__slots__}) + "\n"
        descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        try:
            os.write(descriptor, line.encode())
        finally:
            os.close(descriptor)

    def saw(self, name: str, edges: Iterable[Edge]) -> None:
        """A story went well and took these edges."""
        self.write(Entry(name, True, edges=tuple(sorted(edges, key=str))))
