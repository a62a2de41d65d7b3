"""Which branches of the rules, the turns, the store's commits and the session were taken in worlds; and which must be."""

from __future__ import annotations

import contextlib
import json
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import coverage

HERE = Path(__file__).resolve().parents[2]
DAEMONS = HERE / "daemons"
COMMITS = {
    "store.py": ("Store.commit", "Store.append_logs"),
    "database.py": (
        "rows",
        "verdict",
        "_identity",
        "Database.transaction",
        "Database.checkpoint",
        "Database._committed",
        "Database._undone",
        "Database._roll_back",
        "Database._look_at_files",
        "Database._save",
        "Database._copy_to_its_place",
    ),
}


@dataclass(frozen=True)
class Area:
    """Some files, or functions of a file (none named: all), of whose lines and branches so many percent must be reached."""

    name: str
    files: tuple[str, ...]
    percent: float
    functions: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


AREAS = (
    Area("the rules", ("ffrtmp/farm/*",), 100.0),  # of 2,000 worlds; the rarest branches are met once in some hundred
    Area("turn.py", ("ffrtmp_master/turn.py",), 90.0),
    Area("cycle.py", ("ffrtmp_master/cycle.py",), 90.0),
    Area("callers.py", ("ffrtmp_master/callers.py",), 90.0),
    Area(
        "the store's commits",
        ("ffrtmp_master/store/store.py", "ffrtmp_master/store/turns.py", "ffrtmp_master/store/database.py"),
        90.0,
        COMMITS,
    ),
    Area("session.py", ("ffrtmp_agent/session.py",), 90.0),
)

# What guards the rules against what the shells never do, by file and function. docs/simulation.md says why it stays.
GUARDS: dict[str, tuple[str, ...]] = {
    "farm.py:Farm._time": ("if job is not None:", "if grant is not None:"),
    "publish.py:_refusal": (
        "if job.current != attempt.number:",
        'return f"attempt {job.current} is the one that counts"',
    ),
    "publish.py:settle_without_holder": ("if attempt is None or not attempt.doubted:", "return"),
    "sessions.py:no_sign": ("if waiting is None:", "return"),
}


@dataclass
class Reached:
    """What of an area was reached, in lines and branches, and where the rest is."""

    area: Area
    there: int = 0
    taken: int = 0
    missing: list[str] = field(default_factory=list)

    @property
    def percent(self) -> float:
        """Of what there is."""
        return 100.0 * self.taken / self.there if self.there else 0.0

    @property
    def enough(self) -> bool:
        """Whether that is what must be reached."""
        return self.percent >= self.area.percent


@dataclass
class Watch:
    """What was seen. `areas` is empty until the end of the watch."""

    areas: list[Reached] = field(default_factory=list)

    @property
    def enough(self) -> bool:
        """Whether all that must be reached was."""
        return all(reached.enough for reached in self.areas)


@contextlib.contextmanager
def watching(*, asked: bool) -> Iterator[Watch]:
    """Watch what is imported and run in this block, where that is asked for, and tell what was not reached."""
    watch = Watch()
    if not asked:
        yield watch
        return
    files = [str(DAEMONS / name) for area in AREAS for name in area.files]
    watched = coverage.Coverage(branch=True, data_file=None, include=files)
    watched.start()
    yield watch
    watched.stop()
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        watched.json_report(outfile=str(report))
        found = json.loads(report.read_text())
    watch.areas = [reached(area, found["files"]) for area in AREAS]
    for each in watch.areas:
        print(f"{each.percent:6.1f} % of {each.area.name}, {each.area.percent:g} % must be")
        for line in each.missing:
            print(f"         never: {line}")


def reached(area: Area, found: Mapping[str, Any]) -> Reached:
    """What of an area a report of coverage.py has."""
    result = Reached(area)
    for name, of_file in sorted(found.items()):
        path = (HERE / name).resolve()
        if not any(path.relative_to(DAEMONS).match(pattern) for pattern in area.files):
            continue
        asked = area.functions.get(path.name)
        parts = [(title, part) for title, part in of_file["functions"].items() if asked is None or title in asked]
        source = path.read_text().splitlines()
        for title, part in parts:
            guards = GUARDS.get(f"{path.name}:{title}", ())
            _add(result, part, path.name, [line.strip() for line in source], guards)
    return result


def _add(result: Reached, part: Mapping[str, Any], name: str, source: list[str], guards: tuple[str, ...]) -> None:
    taken = len(part["executed_lines"]) + len(part["executed_branches"])
    lines = [line for line in part["missing_lines"] if source[line - 1] not in guards]
    branches = [(line, to) for line, to in part["missing_branches"] if source[line - 1] not in guards]
    result.taken += taken
    result.there += taken + len(lines) + len(branches)
    result.missing += [f"{name}:{line}: {source[line - 1]}" for line in lines]
    for line, to in branches:
        if line not in lines:
            result.missing.append(f"{name}:{line} -> {to if to > 0 else 'its end'}: {source[line - 1]}")
