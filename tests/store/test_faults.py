"""Disks that are full, files that are damaged or taken away, processes that are killed."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

import apsw
import pytest
from store import disks
from store.book import OFFSET_S, Book, open_reader, open_store

from ffrtmp.errors import FarmError
from ffrtmp_master.rows import StoreBroken, StoreRefused
from ffrtmp_master.store import LogAppend, RowsRejected, Store, examine, schema


@pytest.mark.parametrize("kind", disks.FULL)
def test_p1_a_full_disk_refuses_turns_loses_nothing_and_is_over_when_there_is_room(tmp_path: Path, kind: str):
    with disks.FULL[kind](tmp_path) as (folder, fill, make_room):
        with open_store(folder) as store, open_reader(folder) as reader:
            book = Book()
            book.submit()
            book.commit(store)
            store.append_log(1, 1, 0, b"kept\n")
            fill()
            try:
                for _ in range(700):
                    book.submit()
                for _ in range(3):
                    with pytest.raises(StoreRefused) as refused:
                        book.commit(store)
                    assert not isinstance(refused.value, RowsRejected)
                    with pytest.raises(StoreRefused):
                        store.append_logs([LogAppend(1, 1, 5 + 60_000 * n, bytes(60_000)) for n in range(20)])
                    assert reader.identity()[1] == 1
                    assert reader.job(1) is not None
                    assert reader.log_size(1, 1) == 5
            finally:
                make_room()
            assert book.commit(store) == 2
            store.append_log(1, 1, 5, b"and more\n")
            assert store.verify_history() == []
        with open_store(folder) as store, open_reader(folder) as reader:
            assert len(store.load(0.0).jobs) == 701
            assert b"".join(reader.job_log(1)) == b"kept\nand more\n"
        assert examine(folder / "farm.db") == []


def test_p1_a_disk_without_room_for_a_new_block_of_numbers_refuses_the_turn(tmp_path: Path):
    with disks.bounded_files(tmp_path) as (folder, _fill, make_room), open_store(folder) as store:
        book = Book()
        book.submit()
        book.commit(store)
        book.rows.next_job = book.next_job = 5000
        disks.resource.setrlimit(disks.resource.RLIMIT_FSIZE, (100, disks.resource.RLIM_INFINITY))
        try:
            with pytest.raises(StoreRefused):
                book.commit(store)
        finally:
            make_room()
        book.commit(store)


def test_p1_every_turn_that_was_told_is_there_after_kill_9_in_mid_commit(tmp_path: Path):
    child = Path(__file__).with_name("killed_child.py")
    told = 0
    for _ in range(4):
        with subprocess.Popen(
            [sys.executable, str(child), str(tmp_path)], stdout=subprocess.PIPE, text=True
        ) as process:
            try:
                assert process.stdout is not None
                assert process.stdout.readline() == "open\n"
                for _ in range(random.randint(5, 60)):
                    told, job = map(int, process.stdout.readline().split())
            finally:
                process.kill()
                rest = process.stdout.read().splitlines() if process.stdout else []
            whole = [line for line in rest if len(line.split()) == 2]
            if len(whole) > 1:
                told, job = map(int, whole[-2].split())
        with open_store(tmp_path) as store, open_reader(tmp_path) as reader:
            loaded = store.load(0.0)
            assert loaded.turn >= told
            assert not loaded.restored
            assert loaded.next_job in {job + 1, job + 2, job + 3}
            known = {row.number for row in _all_jobs(reader)}
            assert known == set(range(1, loaded.next_job))
            assert reader.log_size(job, 1) == 1000
            assert store.verify_history() == []


def _all_jobs(reader):
    page = reader.jobs(limit=1000)
    yield from page.jobs
    while page.next is not None:
        page = reader.jobs(after=page.next, limit=1000)
        yield from page.jobs


def test_p1_two_masters_never_open_one_database(tmp_path: Path):
    with open_store(tmp_path):
        with pytest.raises(FarmError, match="in use by another process"):
            open_store(tmp_path)
        with pytest.raises(FarmError, match="in use by another process"):
            examine(tmp_path / "farm.db")
    open_store(tmp_path).close()


@pytest.mark.parametrize("name", ["farm.db", "farm.db-wal", "logs.db", "logs.db-wal"])
def test_p1_a_file_that_was_taken_away_is_noticed_before_anything_is_answered(tmp_path: Path, name: str):
    with open_store(tmp_path) as store:
        book = Book()
        book.submit()
        book.commit(store)
        store.append_log(1, 1, 0, b"x")
        (tmp_path / name).rename(tmp_path / "taken")
        book.submit()
        with pytest.raises(StoreBroken, match="removed or replaced"):
            if name.startswith("farm"):
                book.commit(store)
            else:
                store.append_log(1, 1, 1, b"y")
        with pytest.raises(StoreBroken, match="failed before"):
            if name.startswith("farm"):
                book.commit(store)
            else:
                store.append_log(1, 1, 1, b"y")


@pytest.mark.parametrize(
    "names", [("farm.db",), ("farm.db-wal",), ("farm.db", "farm.db-wal", "logs.db", "logs.db-wal")]
)
def test_p1_a_database_that_was_removed_under_the_master_is_put_back_with_all_that_was_answered(
    tmp_path: Path, names: tuple[str, ...]
):
    book = Book()
    with open_store(tmp_path) as store:
        answered = [book.submit() for _ in range(3)]
        book.commit(store)
        store.append_log(1, 1, 0, b"said\n")
        for name in names:
            (tmp_path / name).unlink()
        book.submit()
        with pytest.raises(StoreBroken, match=r"removed or replaced while it was open; .* in the database|put back"):
            book.commit(store)
    assert (tmp_path / "farm.db").stat().st_mode & 0o777 == 0o600
    with open_store(tmp_path) as store:
        assert set(answered) <= {job.number for job in store.load(OFFSET_S).jobs}
        with open_reader(tmp_path) as reader:
            assert reader.log_size(1, 1) == 5
    assert not (tmp_path / "farm.db.saved").exists()


def test_p1_a_database_that_was_replaced_is_noticed(tmp_path: Path):
    with open_store(tmp_path) as store:
        book = Book()
        book.submit()
        book.commit(store)
        (tmp_path / "other").write_bytes((tmp_path / "farm.db").read_bytes())
        (tmp_path / "other").replace(tmp_path / "farm.db")
        with pytest.raises(StoreBroken):
            book.commit(store)


def test_a_locked_database_refuses_and_goes_on(tmp_path: Path):
    with open_store(tmp_path) as store:
        book = Book()
        book.submit()
        stranger = apsw.Connection(str(tmp_path / "farm.db"))
        try:
            stranger.execute("BEGIN IMMEDIATE")
            with pytest.raises(StoreRefused):
                book.commit(store)
            stranger.execute("ROLLBACK")
        finally:
            stranger.close()
        assert book.commit(store) == 1


def _fill_store(folder: Path) -> None:
    with open_store(folder) as store:
        book = Book()
        for _ in range(300):
            book.submit()
        book.commit(store)


def _unclean(folder: Path) -> None:
    connection = apsw.Connection(str(folder / "farm.db"))
    connection.execute("UPDATE meta SET clean = 0")
    connection.close()


def _damage(path: Path) -> None:
    """Spoil every page but the first three, as a dying disk does."""
    with path.open("r+b") as file:
        for offset in range(3 * 4096, path.stat().st_size, 4096):
            file.seek(offset)
            file.write(os.urandom(64))


@pytest.mark.parametrize("name", ["farm.db", "logs.db"])
def test_p1_damage_is_found_after_an_unclean_stop_and_said_with_a_way_out(tmp_path: Path, name: str):
    _fill_store(tmp_path)
    with open_store(tmp_path) as store:
        store.append_logs([LogAppend(1, n, 0, os.urandom(5000)) for n in range(1, 40)])
    _unclean(tmp_path)
    _damage(tmp_path / name)
    with pytest.raises(FarmError, match="is damaged") as error:
        open_store(tmp_path)
    assert "db restore" in error.value.hint


def test_a_clean_stop_is_known_from_an_unclean_one(tmp_path: Path):
    _fill_store(tmp_path)

    def clean() -> int:
        connection = apsw.Connection(str(tmp_path / "farm.db"))
        try:
            return connection.execute("SELECT clean FROM meta").fetchall()[0][0]
        finally:
            connection.close()

    assert clean() == 1
    with open_store(tmp_path):
        assert clean() == 0
    assert clean() == 1


def test_what_is_no_database_of_ffrtmp_is_left_alone(tmp_path: Path):
    (tmp_path / "farm.db").write_text("these are my notes, not yours\n" * 100)
    with pytest.raises(FarmError, match="is damaged"):
        open_store(tmp_path)
    assert (tmp_path / "farm.db").read_text().startswith("these are my notes")
    (tmp_path / "farm.db").unlink()
    other = apsw.Connection(str(tmp_path / "farm.db"))
    other.execute("CREATE TABLE mine (x)")
    other.close()
    with pytest.raises(FarmError, match="not a database of ffrtmp"):
        open_store(tmp_path)
    with pytest.raises(FarmError, match="cannot open"):
        Store.open(tmp_path / "no" / "farm.db", tmp_path / "logs.db")


def test_a_newer_schema_is_refused_with_a_hint(tmp_path: Path):
    _fill_store(tmp_path)
    connection = apsw.Connection(str(tmp_path / "farm.db"))
    connection.execute(f"PRAGMA user_version = {len(schema.MIGRATIONS) + 1}")
    connection.close()
    with pytest.raises(FarmError, match="newer ffrtmp") as error:
        open_store(tmp_path)
    assert error.value.hint


def test_nobody_else_may_read_the_store(tmp_path: Path):
    with open_store(tmp_path) as store:
        book = Book()
        book.submit()
        book.commit(store)
        store.append_log(1, 1, 0, b"x")
        store.backup(tmp_path / "backup")
        assert {
            file.name: file.stat().st_mode & 0o077 for file in tmp_path.iterdir() if file.stat().st_mode & 0o077
        } == {}
