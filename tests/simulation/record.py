"""What was run, kept in a file of lines, so that a long run may take more than one go and more than one commit; and its tally."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path

HERE = Path(__file__).resolve().parents[2]
NO_FAULTS = ("transition ", "event ", "answer", "act ", "asked again", "commit found")
PART_MOST = 200
PART_LEAST = 10


@dataclass
class Part:
    """The outcome of a row of seeds, run by one process."""

    first: int
    count: int
    failed: dict[str, str] = field(default_factory=dict)  # seed -> what went wrong
    events: int = 0
    steps: int = 0
    cpu_s: float = 0.0
    counts: dict[str, int] = field(default_factory=dict)
    commit: str = ""
    date: str = ""
    machine: str = ""

    @property
    def faults(self) -> int:
        """How many faults struck: not what users asked, nor what the farm did."""
        return sum(times for what, times in self.counts.items() if not what.startswith(NO_FAULTS))


def stamped(part: Part) -> Part:
    """The part, with the day and the machine of this process."""
    part.date = datetime.now(UTC).date().isoformat()
    part.machine = f"{_processor()}, Python {platform.python_version()}"
    return part


def _processor() -> str:
    """The model of the CPU, in the system's words."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{os.cpu_count()} cores of {names[0] if names else platform.machine()}"


def commit() -> str:
    """The commit of this checkout, with a plus sign where something in daemons/ or tests/ is changed; empty outside git."""
    try:
        head = _git("rev-parse", "--short=10", "HEAD")
        return head + ("+" if _git("status", "--porcelain", "--", "daemons", "tests") else "")
    except (OSError, subprocess.CalledProcessError):
        return ""


def _git(*arguments: str) -> str:
    command = ["git", "-C", str(HERE), *arguments]
    return subprocess.run(command, capture_output=True, check=True, text=True).stdout.strip()


def read(path: Path) -> list[Part]:
    """What the file tells. A last line that is torn, because the run was killed in it, is none."""
    if not path.exists():
        return []
    found = []
    for line in path.read_text().splitlines():
        try:
            found.append(Part(**json.loads(line)))
        except json.JSONDecodeError:
            continue
    return found


def append(path: Path, part: Part) -> None:
    """Write a part down."""
    torn = path.exists() and not path.read_bytes().endswith(b"\n") and path.stat().st_size > 0
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        file.write(("\n" if torn else "") + json.dumps(asdict(part)) + "\n")


def left(first: int, count: int, known: Iterable[Part], jobs: int) -> Iterator[tuple[int, int]]:
    """Rows of seeds, (first, how many), that no part has, in pieces for so many processes."""
    size = max(PART_LEAST, min(PART_MOST, count // (4 * jobs)))
    start = first
    for part in [*sorted(known, key=lambda each: each.first), Part(first + count, 0)]:
        while start < part.first:
            piece = min(size, part.first - start)
            yield (start, piece)
            start += piece
        start = max(start, part.first + part.count)


def within(parts: Iterable[Part], first: int, count: int) -> list[Part]:
    """Those that lie wholly in a row of seeds; of two that overlap the earlier."""
    found: list[Part] = []
    for part in sorted(parts, key=lambda each: each.first):
        free = not found or part.first >= found[-1].first + found[-1].count
        if free and part.first >= first and part.first + part.count <= first + count:
            found.append(part)
    return found


# ---- the tally ---------------------------------------------------------------------------------------------------

HEAD = "| commit | date | machine | seeds | worlds | events | faults | worlds a minute on a core | findings |"


def tally(parts: Iterable[Part]) -> list[str]:
    """Rows for docs/simulation.md: one for each commit and machine, and the sum."""
    groups: dict[tuple[str, str], list[Part]] = {}
    for part in parts:
        groups.setdefault((part.commit, part.machine), []).append(part)
    rows = [HEAD, "|---" * (HEAD.count("|") - 1) + "|"]
    rows += [_row(f"`{name}`", machine, group) for (name, machine), group in groups.items()]
    everything = [part for group in groups.values() for part in group]
    if len(groups) > 1:
        rows.append(_row("all", "", everything))
    return rows


def _row(name: str, machine: str, parts: list[Part]) -> str:
    dates = sorted({part.date for part in parts})
    worlds, cpu_s = sum(part.count for part in parts), sum(part.cpu_s for part in parts)
    failed = sorted(int(seed) for part in parts for seed in part.failed)
    cells = (
        name,
        " to ".join(dict.fromkeys((dates[0], dates[-1]))),
        machine,
        ", ".join(_ranges(parts)),
        f"{worlds:,}",
        f"{sum(part.events for part in parts):,}",
        f"{sum(part.faults for part in parts):,}",
        f"{60.0 * worlds / cpu_s:.0f}" if cpu_s else "",
        f"{len(failed)}: {', '.join(map(str, failed))}" if failed else "none",
    )
    return "| " + " | ".join(cells) + " |"


def _ranges(parts: list[Part]) -> list[str]:
    """The seeds, rows that touch as one."""
    found: list[tuple[int, int]] = []
    for part in sorted(parts, key=lambda each: each.first):
        if found and found[-1][1] == part.first:
            found[-1] = (found[-1][0], part.first + part.count)
        else:
            found.append((part.first, part.first + part.count))
    return [f"{start}-{end - 1}" for start, end in found]


def summed(parts: Iterable[Part]) -> Counter[str]:
    """How often each thing came to be."""
    total: Counter[str] = Counter()
    for part in parts:
        total.update(part.counts)
    return total
