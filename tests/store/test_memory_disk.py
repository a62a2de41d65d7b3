"""The disk of the crash tests does what a disk does: it would prove nothing else."""

from __future__ import annotations

import os
import random
from pathlib import Path

import apsw
import pytest
from store.memory_disk import CUTS, Disk, lay_out

CHANCE = random.Random(1)


def _open(folder: Path) -> apsw.Connection:
    connection = apsw.Connection(str(folder / "a.db"))
    connection.execute(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; CREATE TABLE IF NOT EXISTS t (x)"
    ).fetchall()
    return connection


def _rows(folder: Path) -> list[int]:
    connection = apsw.Connection(str(folder / "a.db"))
    try:
        return [row[0] for row in connection.execute("SELECT x FROM t")]
    finally:
        connection.close()


@pytest.mark.parametrize("how", CUTS)
def test_what_was_synced_is_there_after_a_power_cut_and_what_was_not_need_not_be(tmp_path: Path, how):
    (tmp_path / "one").mkdir()
    with Disk(tmp_path / "one") as disk:
        connection = _open(tmp_path / "one")
        connection.execute("INSERT INTO t VALUES (1)")
        connection.execute("PRAGMA synchronous = OFF; INSERT INTO t VALUES (2)").fetchall()
        lay_out(disk.image(how, CHANCE), tmp_path / "two")
        connection.close()
    assert _rows(tmp_path / "two") in {"killed": [[1, 2]], "mixed": [[1], [1, 2]]}.get(how, [[1]])


@pytest.mark.parametrize(("fault", "error"), [("io", apsw.IOError), ("quota", apsw.IOError), ("full", apsw.FullError)])
def test_a_step_fails_as_it_was_asked_to_and_the_next_one_does_not(tmp_path: Path, fault, error):
    with Disk(tmp_path) as disk:
        connection = _open(tmp_path)
        disk.fail_at(disk.steps + 1, fault)
        with pytest.raises(error) as failed:
            connection.execute("INSERT INTO t VALUES (1)")
        if fault != "full":
            assert failed.value.extendedresult == apsw.SQLITE_IOERR_WRITE
            assert connection.system_errno == disk.last_errno
        connection.execute("INSERT INTO t VALUES (2)")
        assert [(step.what, step.name, kind) for step, kind in disk.struck] == [("write", "a.db-wal", fault)]
        connection.close()
    assert _rows(tmp_path) == [2]


def test_what_a_failed_sync_was_to_keep_is_gone_for_good(tmp_path: Path):
    (tmp_path / "one").mkdir()
    path = tmp_path / "one" / "a.db"
    with Disk(tmp_path / "one") as disk:
        connection = _open(tmp_path / "one")
        steps = []
        disk.watch = steps.append
        connection.execute("INSERT INTO t VALUES (1)")
        assert steps[-1].what == "sync"
        disk.fail_at(disk.steps + len(steps), "io")
        with pytest.raises(apsw.IOError):
            connection.execute("INSERT INTO t VALUES (2)")
        assert disk.struck
        assert len(disk.image("lost", CHANCE)[path.name + "-wal"]) < len(
            disk.image("killed", CHANCE)[path.name + "-wal"]
        )
        connection.close()


@pytest.mark.parametrize("synced", [False, True])
def test_a_name_is_kept_when_its_folder_was_synced(tmp_path: Path, synced: bool):
    (tmp_path / "old").write_text("old")
    with Disk(tmp_path) as disk:
        with (tmp_path / "new").open("w") as file:
            file.write("new")
            file.flush()
            os.fsync(file.fileno())
        (tmp_path / "new").replace(tmp_path / "old")
        if synced:
            folder = os.open(tmp_path, os.O_RDONLY)
            os.fsync(folder)
            os.close(folder)
        assert disk.image("lost", CHANCE) == {"old": b"new" if synced else b"old"}
        assert disk.image("killed", CHANCE) == {"old": b"new"}
