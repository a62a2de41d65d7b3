"""P10: the history is the state."""

from __future__ import annotations

from pathlib import Path

import apsw
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from store.book import Book, open_reader, open_store

from ffrtmp.farm.effects import Record
from ffrtmp.farm.job import TRANSITIONS, Failure, Reason, State
from ffrtmp_master.store import BrokenHistory, examine, replay


def test_p10_replaying_the_history_gives_the_state_of_every_job(tmp_path: Path):
    with open_store(tmp_path) as store, open_reader(tmp_path) as reader:
        book = Book()

        @settings(max_examples=60)
        @given(st.data())
        def walk(data: st.DataObject) -> None:
            number = book.submit(state=data.draw(st.sampled_from(sorted(TRANSITIONS[None]))))
            while following := sorted(TRANSITIONS[book.jobs[number].state]):
                state = data.draw(st.sampled_from(["here", "commit", *following]))
                if state == "here":
                    break
                if state == "commit":
                    book.commit(store)
                else:
                    book.move(number, State(state))
            book.commit(store)
            row = reader.job(number)
            assert row.state is book.jobs[number].state
            assert replay(reader.history(number)) == {number: row.state}

        walk()
        assert store.verify_history() == []
    assert examine(tmp_path / "farm.db") == []


@pytest.mark.parametrize(
    ("sql", "complaint"),
    [
        ("DELETE FROM events WHERE after = 'assigned'", "a row from"),
        ("DELETE FROM events WHERE after = 'running'", "is running, its history says assigned"),
        ("UPDATE jobs SET state = 'paused'", "is paused, its history says running"),
        ("UPDATE counters SET jobs = jobs + 1", "the counters say"),
        ("UPDATE events SET after = 'rejected' WHERE after = 'running'", "assigned -> rejected"),
        ("DELETE FROM events", "history says nothing"),
    ],
)
def test_p10_a_history_that_does_not_fit_is_found_offline(tmp_path: Path, sql: str, complaint: str):
    with open_store(tmp_path) as store:
        book = Book()
        book.run(book.submit())
        book.commit(store)
    connection = apsw.Connection(str(tmp_path / "farm.db"))
    connection.execute(sql)
    connection.close()
    assert complaint in " ".join(examine(tmp_path / "farm.db"))


def test_p10_rows_that_do_not_follow_from_one_another_are_refused():
    born = Record(1, 0, None, State.QUEUED, "submitted", "")
    with pytest.raises(BrokenHistory):
        replay([born, born])
    with pytest.raises(BrokenHistory):
        replay([Record(1, 0, State.QUEUED, State.ASSIGNED, "moved", "")])
    with pytest.raises(BrokenHistory):
        replay([Record(1, 0, None, State.COMPLETED, "moved", "")])
    assert replay([born, Record(1, 0, State.QUEUED, State.QUEUED, "note", "")]) == {1: State.QUEUED}


def test_the_history_is_read_in_pages_and_says_what_happened(tmp_path: Path):
    with open_store(tmp_path) as store, open_reader(tmp_path) as reader:
        book = Book()
        other, number = book.submit(), book.submit()
        book.run(other)
        book.run(number)
        book.commit(store)
        failure = Failure(Reason.INPUT_ERROR, False, "moov atom not found", "is it a video?")
        book.end(number, State.FAILED, "failed", failure=failure)
        book.commit(store)
        first = reader.history(number, limit=2)
        rest = reader.history(number, after=first[-1].seq)
        assert [row.after for row in (*first, *rest)] == [State.QUEUED, State.ASSIGNED, State.RUNNING, State.FAILED]
        assert rest[-1].failure == failure
        assert reader.job(number).failure == failure
        assert reader.attempts(number)[0].failure == failure


def test_a_note_about_a_job_that_is_gone_is_no_reason_to_refuse_a_turn(tmp_path: Path):
    with open_store(tmp_path) as store, open_reader(tmp_path) as reader:
        book = Book()
        book.rows.records.append(Record(77, 1, State.CANCELED, State.CANCELED, "note", "came back late"))
        book.commit(store)
        assert reader.history(77) == ()
