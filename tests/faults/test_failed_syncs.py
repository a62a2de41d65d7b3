"""A disk that fails while the store syncs: strace makes the n-th fsync fail, for every n of a store's life."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from store.book import open_reader, open_store

TURNS = 4
SYNCS = 40  # more than such a life has
STEP = 1 if os.environ.get("FAULTS") == "full" else 4
CHILD = Path(__file__).with_name("syncing_child.py")


def _live(folder: Path, failing: int) -> list[list[str]]:
    inject = f"inject=fsync,fdatasync:error=EIO:when={failing}"
    strace = ["strace", "-f", "-qq", "-o", folder / "trace", "-e", "trace=fsync,fdatasync", "-e", inject]
    traced = subprocess.run(
        [*strace, sys.executable, CHILD, folder / "state", str(TURNS)],
        env={**os.environ, "PYTHONPATH": str(CHILD.parent.parent)},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return [line.split() for line in traced.stdout.splitlines()]


@pytest.mark.parametrize("failing", range(1, SYNCS + 1, STEP))
def test_p1_after_a_failed_sync_the_store_ends_and_what_was_told_is_there(tmp_path: Path, failing: int):
    (tmp_path / "state").mkdir()
    said = _live(tmp_path, failing)
    # A failed sync is never "try again": the kernel reports it once and forgets what it could not write.
    assert said[-1][0] in {"done", "broken", "unusable"}
    if "INJECTED" not in (tmp_path / "trace").read_text():
        assert said[-1] == ["done"]
    told = [int(words[1]) for words in said if words[0] == "told"]
    logged = [int(words[1]) for words in said if words[0] == "logged"]
    with open_store(tmp_path / "state") as store, open_reader(tmp_path / "state") as reader:
        assert store.load(0.0).turn >= max(told, default=0)
        assert all(reader.job(turn) is not None for turn in told)
        assert all(reader.log_size(job, 1) == 5 for job in logged)
        assert store.verify_history() == []


def test_p1_every_turn_waits_for_the_disk(tmp_path: Path):
    """Every commit syncs once at least: with none failing there are more syncs than turns."""
    (tmp_path / "state").mkdir()
    said = _live(tmp_path, 10_000)
    assert said[-1] == ["done"]
    assert (tmp_path / "trace").read_text().count("sync(") >= 2 * TURNS
