"""Backups of a store at work, and going back to one."""

from __future__ import annotations

import random
import threading
from pathlib import Path

import apsw
import pytest
from store.book import Book, open_reader, open_store
from store.memory_disk import CUTS, Disk, PowerCut, Step, lay_out

from ffrtmp.errors import FarmError
from ffrtmp.farm.job import State
from ffrtmp_master.rows import StoreRefused
from ffrtmp_master.store import LogAppend, backup, examine, restore, schema


def _restore(folder: Path, fresh: str = "second"):
    return restore(folder / "backup", folder / "farm.db", folder / "logs.db", fresh)


def test_a_backup_is_whole_while_turns_are_committed_all_the_time(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(backup, "STEP_PAGES", 8)  # so many steps that turns are committed between them
    with open_store(tmp_path) as store:
        book = Book()
        for _ in range(3000):
            book.submit()
        book.commit(store)
        store.append_logs([LogAppend(n, 1, 0, b"line\n" * 500) for n in range(1, 500)])
        stop, failures = threading.Event(), []

        def commit() -> None:
            try:
                while not stop.is_set():
                    book.submit()
                    book.commit(store)
            except StoreRefused as error:
                failures.append(error)

        writer = threading.Thread(target=commit)
        writer.start()
        try:
            began = book.turn
            made = store.backup(tmp_path / "backup")
            went_on = book.turn - began
        finally:
            stop.set()
            writer.join()
        assert failures == []
        assert went_on > 0, "turns were committed meanwhile"
        size = sum((tmp_path / name).stat().st_size for name in ("backup", "backup.logs"))
        assert made.size_bytes == size
    assert examine(tmp_path / "backup") == []
    assert not list(tmp_path.glob(".*"))
    _restore(tmp_path)
    with open_store(tmp_path) as store, open_reader(tmp_path) as reader:
        assert reader.identity()[1] == made.turn
        assert len(store.load(0.0).jobs) == made.turn + 2999
        assert reader.log_size(499, 1) == 2500
        assert store.verify_history() == []


def test_a_backup_tells_of_one_moment_whatever_is_committed_while_it_is_copied(tmp_path: Path, monkeypatch):
    copy = backup._copy
    with open_store(tmp_path) as store:
        book = Book()
        book.submit()
        book.commit(store)

        def copy_late(source, file):
            book.submit()
            book.commit(store)
            store.append_log(1, 1, 0, b"later\n")
            copy(source, file)

        monkeypatch.setattr(backup, "_copy", copy_late)
        made = store.backup(tmp_path / "backup")
        assert (made.turn, book.turn) == (1, 3)
    _restore(tmp_path)
    with open_store(tmp_path) as store, open_reader(tmp_path) as reader:
        assert reader.identity()[1] == 1
        assert [job.number for job in store.load(0.0).jobs] == [1]
        assert reader.log_size(1, 1) == 0


def test_no_number_is_used_twice_after_a_backup_was_put_back(tmp_path: Path):
    with open_store(tmp_path, fresh_lineage="first") as store:
        book = Book()
        early = book.submit()
        book.run(early)
        book.commit(store)
        store.append_log(early, 1, 0, b"before\n")
        store.backup(tmp_path / "backup")
        for _ in range(1500):
            book.submit()
        last = book.next_job - 1
        book.commit(store)
        store.append_log(last, 1, 0, b"of a job that the backup does not know\n")
    back = _restore(tmp_path)
    assert back.turn == 1
    assert sorted(path.name for path in back.kept) == ["farm.db.before-restore-1", "logs.db.before-restore-1"]
    with open_store(tmp_path, fresh_lineage="not wanted") as store, open_reader(tmp_path) as reader:
        loaded = store.load(0.0)
        assert loaded.restored
        assert (loaded.lineage, loaded.ancestors) == ("second", {"first": 1})
        assert loaded.next_job > last
        assert [(job.number, job.attempt, job.current) for job in loaded.jobs] == [(early, 101, 1)]
        assert reader.log_size(last, 1) == 0
        assert b"".join(reader.job_log(early)) == b"before\n"
        raised = loaded.next_job
    with open_store(tmp_path) as store:
        loaded = store.load(0.0)
        assert (loaded.restored, loaded.next_job, loaded.jobs[0].attempt) == (False, raised, 101), "raised only once"
    _restore(tmp_path, "third")
    assert (tmp_path / "farm.db.before-restore-2").exists()
    assert len(examine(tmp_path / "farm.db.before-restore-1")) == 0
    with open_store(tmp_path) as store:
        (job,) = store.load(0.0).jobs
        assert job.attempt == 201, "what was handed out after the first time does not come again after the second"


def test_a_database_that_was_copied_back_by_hand_is_noticed(tmp_path: Path):
    with open_store(tmp_path, fresh_lineage="first") as store:
        book = Book()
        book.submit()
        book.commit(store)
        store.backup(tmp_path / "backup")
        for _ in range(20):
            book.submit()
            book.commit(store)
    (tmp_path / "backup").rename(tmp_path / "farm.db")
    with open_store(tmp_path, fresh_lineage="second") as store:
        loaded = store.load(0.0)
        assert (loaded.restored, loaded.lineage) == (True, "second")
        assert loaded.next_job > 21
        assert loaded.jobs[0].attempt == 100


@pytest.mark.parametrize("lost", ["farm.db", "farm.db.numbers.json", "spoilt numbers"])
def test_numbers_go_up_also_where_the_database_or_the_side_file_was_lost(tmp_path: Path, lost: str):
    with open_store(tmp_path) as store:
        book = Book()
        for _ in range(20):
            book.submit()
        book.commit(store)
    if lost == "spoilt numbers":
        (tmp_path / "farm.db.numbers.json").write_text("no numbers")
    else:
        (tmp_path / lost).unlink()
    with open_store(tmp_path) as store:
        loaded = store.load(0.0)
        assert loaded.next_job >= 21
        assert loaded.restored == (lost != "farm.db.numbers.json")


def test_an_ordinary_restart_burns_no_numbers(tmp_path: Path):
    book = Book()
    for expected in (1, 2, 3):
        with open_store(tmp_path) as store:
            assert store.load(0.0).next_job == expected
            assert not store.load(0.0).restored
            book.submit()
            book.commit(store)


def test_a_restore_keeps_out_of_the_way_of_a_running_master(tmp_path: Path):
    with open_store(tmp_path) as store:
        store.backup(tmp_path / "backup")
        with pytest.raises(FarmError, match="in use"):
            _restore(tmp_path)
        with pytest.raises(FarmError, match="the store itself"):
            store.backup(tmp_path / "farm.db")


def _cut(folder: Path) -> None:
    data = (folder / "backup").read_bytes()
    (folder / "backup").write_bytes(data[: len(data) // 2])


def _no_logs(folder: Path) -> None:
    (folder / "backup.logs").unlink()


def _newer(folder: Path) -> None:
    connection = apsw.Connection(str(folder / "backup"))
    connection.execute(f"PRAGMA user_version = {len(schema.MIGRATIONS) + 1}")
    connection.close()


def _notes(folder: Path) -> None:
    (folder / "backup").write_text("my notes")


@pytest.mark.parametrize("spoil", [_cut, _no_logs, _newer, _notes])
def test_a_backup_that_is_no_good_changes_nothing(tmp_path: Path, spoil):
    with open_store(tmp_path) as store:
        book = Book()
        for _ in range(50):
            book.submit()
        book.commit(store)
        store.backup(tmp_path / "backup")
    before = (tmp_path / "farm.db").read_bytes()
    spoil(tmp_path)
    with pytest.raises(FarmError) as error:
        _restore(tmp_path)
    assert error.value.hint
    assert (tmp_path / "farm.db").read_bytes() == before
    assert not list(tmp_path.glob("*before-restore*"))
    assert not list(tmp_path.glob(".*"))


def test_the_wal_of_a_killed_master_does_not_spoil_the_restored_database(tmp_path: Path):
    with open_store(tmp_path) as store:
        book = Book()
        book.submit()
        book.commit(store)
        store.backup(tmp_path / "backup")
        for _ in range(50):
            book.submit()
            book.commit(store)
        for name in ("farm.db", "farm.db-wal", "logs.db"):
            (tmp_path / f"{name}.left").write_bytes((tmp_path / name).read_bytes())
    for name in ("farm.db", "farm.db-wal", "logs.db"):
        (tmp_path / f"{name}.left").rename(tmp_path / name)
    _restore(tmp_path)
    with open_store(tmp_path) as store:
        assert [job.number for job in store.load(0.0).jobs] == [1]
    assert len(examine(tmp_path / "farm.db.before-restore-1")) == 0
    connection = apsw.Connection(str(tmp_path / "farm.db.before-restore-1"))
    assert connection.execute("SELECT count(*) FROM jobs").fetchall() == [(51,)]
    connection.close()


def test_a_backup_to_where_nothing_can_be_written_says_so_and_leaves_nothing(tmp_path: Path):
    with open_store(tmp_path) as store:
        with pytest.raises(FarmError, match="cannot write the backup"):
            store.backup(tmp_path / "no" / "backup")
        book = Book()
        book.submit(state=State.QUEUED)
        book.commit(store)


def _with_a_backup(folder: Path) -> dict[str, bytes]:
    """A killed master's folder, with three jobs and a log, and a backup from before the third and the log."""
    folder.mkdir()
    with Disk(folder) as disk, open_store(folder) as store:
        book = Book()
        for _ in range(2):
            book.submit()
        book.commit(store)
        store.backup(folder / "backup")
        book.submit()
        book.commit(store)
        store.append_log(1, 1, 0, b"said since\n")
        return disk.image("killed", random.Random(1))


@pytest.mark.parametrize("fault", ["io", "killed", "lost"])
def test_a_backup_that_is_put_back_half_way_leaves_the_newest_or_the_backup_and_no_log_without_its_job(
    tmp_path: Path, fault
):
    began = _with_a_backup(tmp_path / "began")
    steps, outcomes = 0, set()
    while True:
        steps += 1
        folder = tmp_path / str(steps)
        lay_out(began, folder)
        outcome, found = _put_back_with(fault, steps, folder)
        if outcome == "whole":
            break
        there = tmp_path / f"{steps}-found"
        lay_out(found, there)
        with Disk(there), open_store(there) as store, open_reader(there) as reader:
            jobs = len(store.load(0.0).jobs)
            assert jobs == {"nothing": 3, "database": 2}.get(outcome, jobs), outcome
            assert jobs in (2, 3)
            assert jobs == 2 or reader.log_size(1, 1) == 11, "the log is of an older store than the database"
            outcomes.add(jobs)
    assert outcomes == {2, 3}
    assert steps > 40


def _put_back_with(fault, step: int, folder: Path) -> tuple[str, dict[str, bytes]]:
    """Put it back on a disk whose n-th step fails, or is the last; what was said, and what the next start finds."""
    chance, found = random.Random(step), {}

    def cut(at: Step) -> None:
        if at.number == step:
            found.update(disk.image(fault, chance))
            disk.off = True

    with Disk(folder) as disk:
        if fault in CUTS:
            disk.watch = cut
        else:
            disk.fail_at(step, fault)
        try:
            _restore(folder)
            outcome = "whole" if disk.steps < step else "done"
        except FarmError as error:
            outcome = "database" if "its logs may not be" in error.what else "nothing"
        except (apsw.Error, PowerCut):
            assert disk.off
            outcome = ""
        return outcome if not disk.off else "cut", found or disk.image("killed", chance)
