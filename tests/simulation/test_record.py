"""A long run of worlds may be broken off and taken up again, also at another commit, and its record tells what it came to."""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from simulation import many, record
from simulation.record import Part

STRUCK = {"frame lost": 2, "act submit": 9, "transition none -> queued": 5}


def test_worlds_that_a_record_has_are_not_run_again(tmp_path: Path) -> None:
    path = tmp_path / "worlds.jsonl"
    record.append(path, Part(1, 1, events=1_000_000, commit="before"))
    found = list(many.many(0, 3, 1, path))
    assert sorted((part.first, part.count) for part in found) == [(0, 1), (1, 1), (2, 1)]
    assert sum(part.events for part in found) > 1_000_000
    assert [(part.first, part.count) for part in record.read(path)] == [(1, 1), (0, 1), (2, 1)]


def test_a_line_that_was_torn_when_the_run_was_killed_is_run_again(tmp_path: Path) -> None:
    path = tmp_path / "worlds.jsonl"
    record.append(path, Part(0, 10))
    path.write_text(path.read_text() + '{"first": 10, "cou')
    assert [part.first for part in record.read(path)] == [0]
    record.append(path, Part(10, 10))
    assert [part.first for part in record.read(path)] == [0, 10]
    assert list(record.left(0, 25, record.read(path), 1)) == [(20, 5)]


def test_a_tally_has_a_row_for_each_commit_and_names_what_was_found() -> None:
    parts = [
        Part(0, 50, {}, 25_000, 9, 3.0, STRUCK, "aaa", "2026-01-01", "one core"),
        Part(50, 50, {"77": "P1: lost"}, 25_000, 9, 3.0, STRUCK, "aaa", "2026-01-03", "one core"),
        Part(200, 50, {}, 25_000, 9, 3.0, STRUCK, "bbb", "2026-01-04", "one core"),
    ]
    rows = record.tally(parts)[2:]
    assert rows[0] == "| `aaa` | 2026-01-01 to 2026-01-03 | one core | 0-99 | 100 | 50,000 | 4 | 1000 | 1: 77 |"
    assert "| `bbb` | 2026-01-04 | one core | 200-249 | 50 |" in rows[1]
    assert "| 0-99, 200-249 | 150 | 75,000 | 6 |" in rows[2]


def _until(what: Callable[[], bool]) -> None:
    end_s = time.monotonic() + 30.0
    while not what():
        assert time.monotonic() < end_s
        time.sleep(0.02)


def _folders(pids: list[str]) -> list[Path]:
    places = {Path("/dev/shm"), Path(tempfile.gettempdir())}
    return [path for pid in pids for place in places for path in place.glob(f"ffrtmp-simulation-{pid}-*")]


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_long_run_that_is_ended_leaves_neither_folders_nor_processes(jobs: int) -> None:
    command = [sys.executable, "-m", "tests.simulation", "--seeds", "100000", "--first", "0", "--jobs", str(jobs)]
    run = subprocess.Popen(command, cwd=record.HERE, stdout=subprocess.DEVNULL)
    pids = [str(run.pid)]

    def under_way() -> bool:
        children = Path(f"/proc/{run.pid}/task/{run.pid}/children").read_text().split()
        pids[1:] = children
        return len(_folders(pids)) == jobs

    try:
        _until(under_way)
        run.send_signal(signal.SIGTERM)
        assert run.wait(30.0) == 128 + signal.SIGTERM
    finally:
        run.kill()
        run.wait()
    _until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids))
    assert _folders(pids) == []
