"""Old jobs go in slices, with all that belongs to them; what may still matter stays."""

from __future__ import annotations

from pathlib import Path

from store.book import OFFSET_S, Book, open_reader, open_store

from ffrtmp.farm.job import State
from ffrtmp_master.rows import AuditRow, IdempotencyRow, TicketRow
from ffrtmp_master.store import LogAppend, retention


def _rows_of(reader) -> dict[str, int]:
    return {
        table: reader._store.execute(f"SELECT count(*) FROM {table}").fetchall()[0][0]
        for table in ("jobs", "events", "attempts", "idempotency", "tickets")
    } | {"chunks": reader._logs.execute("SELECT count(*) FROM chunks").fetchall()[0][0]}


def test_old_jobs_go_in_slices_with_all_that_belongs_to_them(tmp_path: Path):
    with open_store(tmp_path) as store, open_reader(tmp_path) as reader:
        book = Book()
        for _ in range(100):
            book.run(book.at(10.0).submit())
        book.commit(store)
        for number in range(1, 101):
            book.end(number)
        book.rows.idempotency.append(IdempotencyRow("a", "old", "", b""))
        book.rows.tickets.append(TicketRow("old", OFFSET_S + 11.0))
        book.commit(store)
        store.append_logs([LogAppend(n, 1, k * 10, b"line\n") for n in range(1, 101) for k in range(3)])
        young = book.at(100.0).submit()
        book.run(young)
        book.commit(store)
        book.end(young)
        waiting = book.submit()
        book.rows.idempotency.append(IdempotencyRow("a", "young", "", b""))
        book.commit(store)
        store.append_log(young, 1, 0, b"line\n")
        slices = []
        while gone := store.retire(OFFSET_S + 50.0, limit=100):
            slices.append(gone)
            assert store.verify_history() == []
        assert max(slices) <= 100
        assert sum(slices) == 100 * (1 + 4 + 1 + 3 + 1) + 2
        assert _rows_of(reader) == {
            "jobs": 2,
            "events": 5,
            "attempts": 1,
            "idempotency": 1,
            "tickets": 0,
            "chunks": 1,
        }
        assert {row.number for row in reader.jobs().jobs} == {young, waiting}
        assert reader.idempotency("a", "young") is not None


def test_a_long_log_goes_in_slices_too_and_the_job_after_it(tmp_path: Path):
    with open_store(tmp_path) as store, open_reader(tmp_path) as reader:
        book = Book()
        number = book.submit()
        book.run(number)
        book.commit(store)
        book.end(number)
        book.commit(store)
        store.append_logs([LogAppend(number, 1, n * 10, b"x\n") for n in range(250)])
        assert store.retire(OFFSET_S + 1e6, limit=100) == 100
        assert reader.job(number) is not None
        assert store.retire(OFFSET_S + 1e6, limit=100) == 100
        assert store.retire(OFFSET_S + 1e6, limit=100) > 0
        assert reader.job(number) is None
        assert store.retire(OFFSET_S + 1e6, limit=100) == 0


def test_p4_a_job_stays_while_an_attempt_of_it_may_still_be_alive(tmp_path: Path):
    with open_store(tmp_path) as store, open_reader(tmp_path) as reader:
        book = Book()
        gone, number = book.submit(), book.submit()
        book.move(gone, State.CANCELED)
        book.run(number)
        book.move(number, State.CANCELING, State.CANCELED)
        book.commit(store)
        while store.retire(OFFSET_S + 1e6):
            pass
        assert reader.job(gone) is None
        assert store.load(OFFSET_S).attempts[0].job == number
        book.rows.changes.attempts[(number, 1)] = None
        book.commit(store)
        assert store.retire(OFFSET_S + 1e6) > 0
        assert reader.job(number) is None


def test_numbers_of_history_are_not_used_again_when_the_newest_rows_are_gone(tmp_path: Path):
    with open_store(tmp_path) as store, open_reader(tmp_path) as reader:
        book = Book()
        first = book.submit()
        book.move(first, State.CANCELED)
        book.commit(store)
        newest = reader.history(first)[-1].seq
        while store.retire(OFFSET_S + 1e6):
            pass
        second = book.submit()
        book.commit(store)
        assert reader.history(second)[0].seq > newest


def test_the_audit_keeps_the_newest_rows(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(retention, "AUDIT_ROWS_MAX", 10)
    with open_store(tmp_path) as store, open_reader(tmp_path) as reader:
        book = Book()
        book.rows.audit += [AuditRow("anna", "did", str(n)) for n in range(25)]
        book.commit(store)
        assert store.retire(0.0) == 15
        assert [row.target for row in reader.audit()] == [str(n) for n in range(15, 25)]


def test_the_room_of_what_is_gone_is_given_back(tmp_path: Path):
    with open_store(tmp_path) as store:
        book = Book()
        for _ in range(1000):
            book.move(book.submit(), State.CANCELED)
        book.commit(store)
        store.append_logs([LogAppend(n, 1, 0, bytes(2000)) for n in range(1, 1001)])
        while store.retire(OFFSET_S + 1e6):
            pass
        for _ in range(20):
            store.retire(OFFSET_S + 1e6)
    for name in ("farm.db", "logs.db"):
        assert (tmp_path / name).stat().st_size < 600_000, name
