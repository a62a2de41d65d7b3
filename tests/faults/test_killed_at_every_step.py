"""kill -9 of master, agent and guard just before the n-th fsync, rename, send, exec, commit and removal of a job's life.

FAULTS=full takes every n; otherwise a sample of each kind, spread evenly, chosen by a seed that is printed. docs/faults.md
tells how a point is counted and which moments the points are.
"""

from __future__ import annotations

import random
import traceback
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from faults.ledger import Entry, Ledger
from faults.life import live
from faults.warden import Point

STEPS = [
    *(("master", kind) for kind in ("commit", "fsync", "rename", "send", "remove")),
    *(("agent", kind) for kind in ("fsync", "rename", "send", "exec", "remove")),
    *(("guard", kind) for kind in ("fsync", "rename", "exec")),
]
SAMPLE = 2  # of each

Counts = Counter[tuple[str, str]]


@pytest.fixture(scope="session")
def counts(tmp_path_factory: pytest.TempPathFactory) -> Counts:
    """How many calls of each kind a life has in which nobody is killed."""
    return live(tmp_path_factory.mktemp("unhurt") / "life", None).counts


def test_a_life_in_which_nobody_is_killed_makes_calls_of_every_kind(counts: Counts):
    assert [step for step in STEPS if not counts[step]] == []


@pytest.mark.timeout(7200)
@pytest.mark.parametrize(("program", "kind"), STEPS, ids=[" ".join(step) for step in STEPS])
def test_p1_a_job_completes_once_whatever_is_killed_before_its_next(
    program: str,
    kind: str,
    counts: Counts,
    full: bool,
    seed: int,
    ledger: Ledger,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
):
    numbers = _chosen(counts[program, kind], full, seed)
    done = ledger.done()
    wrong = []
    for number in numbers:
        point = Point(program, kind, number)
        if str(point) in done:
            continue
        entry = _try(point, tmp_path / str(number))
        ledger.write(entry)
        wrong += [] if entry.ok else [f"{point} (before {entry.hit or 'nothing'}):\n{entry.error}"]
        with _aloud(capsys):
            print(f"\n{point}/{counts[program, kind]}, seed {seed}: {_told(entry)}", end="", flush=True)
    assert not wrong, "\n\n".join(wrong)


def _chosen(count: int, full: bool, seed: int) -> list[int]:
    """1..count, or a few of them with equal gaps."""
    if full or count <= SAMPLE:
        return list(range(1, count + 1))
    first = random.Random(seed).random()
    return sorted({1 + int((first + at) * count / SAMPLE) for at in range(SAMPLE)})


def _try(point: Point, folder: Path) -> Entry:
    try:
        life = live(folder, point)
    except Exception:
        return Entry(str(point), False, error=traceback.format_exc())
    return Entry(str(point), True, life.hit, tuple(sorted(life.edges, key=str)), round(life.seconds, 2))


def _told(entry: Entry) -> str:
    if not entry.ok:
        return "WRONG"
    return f"killed before {entry.hit}, {entry.seconds:.1f} s" if entry.hit else "not reached"


@contextmanager
def _aloud(capsys: pytest.CaptureFixture[str]) -> Iterator[None]:
    with capsys.disabled():
        yield
