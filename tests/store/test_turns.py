"""What is committed comes back as it was; what makes no sense is refused whole."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from store.book import OFFSET_S, Book, open_reader, open_store, spec

from ffrtmp.farm.effects import NewLineage, Record
from ffrtmp.farm.job import (
    OPEN,
    TERMINAL,
    Attempt,
    Failure,
    Fingerprint,
    Grant,
    Job,
    OnDisconnect,
    Priority,
    Queue,
    Reason,
    Requirements,
    State,
    Terms,
    Want,
)
from ffrtmp.farm.node import Capacity, Node
from ffrtmp.spec import Fingerprint as WireFingerprint
from ffrtmp.spec import Results
from ffrtmp_master.rows import AttemptResult, AuditRow, IdempotencyRow, NewSpec, TicketRow
from ffrtmp_master.store import RowsRejected

words = st.text(max_size=20)
names = st.text(min_size=1, max_size=20)
sets = st.frozensets(names, max_size=4)
sizes = st.integers(0, 2**53)
# Times that the sum with a wall clock keeps exactly; 0.0 is the farm's word for none.
times = st.integers(-(10**8), 10**8).map(lambda n: n / 8)
requirements = st.builds(Requirements, sizes, sizes, sizes, sets, names, sets, sets, sets)
failures = st.none() | st.builds(Failure, st.sampled_from(Reason), st.booleans(), words, words)
terms = st.builds(
    Terms,
    st.sampled_from(Queue),
    st.sampled_from(Priority),
    requirements,
    st.integers(0, 1000),
    st.sampled_from(OnDisconnect),
    st.booleans(),
)


@st.composite
def jobs(draw: st.DrawFn, number: int) -> Job:
    return Job(
        number=number,
        uuid=f"uuid-{number}",
        terms=draw(terms),
        arrival_s=draw(times),
        state=draw(st.sampled_from(sorted(OPEN))),
        attempt=draw(st.integers(0, 10**6)),
        current=draw(st.integers(0, 10**6)),
        failures=draw(st.integers(0, 1000)),
        lost=tuple(draw(st.lists(st.integers(1, 10**6), max_size=4))),
        due_s=draw(times),
        failure=draw(failures),
        verdict=draw(st.sampled_from([None, State.FAILED, State.TIMED_OUT])),
    )


@st.composite
def attempts(draw: st.DrawFn, job: int, number: int) -> Attempt:
    return Attempt(
        job,
        number,
        draw(names),
        draw(names),
        draw(requirements),
        *(draw(st.booleans()),),
        draw(st.sampled_from(Want)),
        *(draw(st.booleans()) for _ in range(3)),
        draw(times),
        draw(times),
    )


grants = st.builds(
    Grant,
    st.just(0),
    st.integers(1, 100),
    st.integers(1, 100),
    st.none() | st.builds(Fingerprint, sizes, words),
    times,
    words,
)
capacities = st.builds(Capacity, sizes, sizes, sizes, sizes, sets, sets, sets, sets, sets)


def test_p1_records_come_back_exactly_as_they_were(tmp_path: Path):
    with open_store(tmp_path) as store:
        book = Book()

        @settings(max_examples=60)
        @given(st.data())
        def check_one(data: st.DataObject) -> None:
            number = book.submit()
            job = data.draw(jobs(number))
            there = data.draw(attempts(number, data.draw(st.integers(1, 10**6))))
            grant = replace(data.draw(grants), job=number)
            node = Node(
                f"node {number}",
                f"key {number}",
                data.draw(words),
                data.draw(capacities),
                data.draw(sets),
                data.draw(st.booleans()),
                data.draw(st.integers(0, 2**40)),
                data.draw(st.booleans()),
            )
            book.rows.changes.jobs[number] = job
            book.rows.changes.attempts[there.id] = there
            book.rows.changes.grants[number] = grant
            book.rows.changes.nodes[node.name] = node
            book.commit(store)
            loaded = store.load(OFFSET_S)
            assert loaded.jobs[-1] == job
            assert loaded.attempts[-1] == there
            assert loaded.grants[-1] == grant
            assert node in loaded.nodes
            assert loaded.next_job == number + 1
            assert loaded.turn == book.turn

        check_one()


def test_times_follow_the_clock_of_a_new_life(tmp_path: Path):
    book = Book()
    with open_store(tmp_path) as store:
        book.at(5.0).submit()
        book.commit(store)
        before = store.load(OFFSET_S).jobs[0]
        assert before.arrival_s == 5.0
        assert before.due_s == 0.0
    with open_store(tmp_path) as store:
        later = store.load(OFFSET_S + 100.0).jobs[0]
        assert later.arrival_s == -95.0
        assert later.due_s == 0.0, "no time must not become a time"


def test_jobs_that_are_alike_share_their_terms_in_memory(tmp_path: Path):
    with open_store(tmp_path) as store:
        book = Book()
        for _ in range(3):
            book.submit(terms=Terms(requirements=Requirements(encoders=frozenset({"a", "b", "c"}))))
        book.commit(store)
        first, second, third = store.load(OFFSET_S).jobs
        assert first.terms is second.terms is third.terms


def test_every_state_and_word_of_the_rules_fits_the_tables(tmp_path: Path):
    with open_store(tmp_path) as store:
        book = Book()
        for state in State:
            number = book.submit(state=State.REJECTED)
            job = replace(book.jobs[number], state=state, failure=Failure(Reason.TIMEOUT, False))
            book.rows.ended.pop(number)
            book.rows.changes.jobs.pop(number)
            (book.rows.ended if state in TERMINAL else book.rows.changes.jobs)[number] = job
        for queue in Queue:
            for priority in Priority:
                book.submit(terms=Terms(queue, priority))
        for reason in Reason:
            number = book.submit()
            book.rows.changes.jobs[number] = replace(book.jobs[number], failure=Failure(reason, True, "l", "h"))
        book.commit(store)
        for classification in ("production", "test", "benchmark", "debug"):
            book.submit(job_spec=spec(classification=classification))
        for number, how in enumerate(
            ("published", "failed", "stopped", "completed", "node_lost", "absent", "burnt", "refused", "given_up"), 1
        ):
            for want in Want:
                book.rows.changes.attempts[(1, number)] = Attempt(1, number, "u", "n", Requirements(), False, want)
            book.rows.attempt_results[(1, number)] = AttemptResult(how)
        book.commit(store)
        with open_reader(tmp_path) as reader:
            assert {row.state for row in reader.jobs(limit=100).jobs} == set(State)


def test_ten_thousand_jobs_are_submitted_in_one_turn(tmp_path: Path):
    with open_store(tmp_path) as store:
        book = Book()
        for number in range(10_000):
            book.submit(output=f"root:jobs/{number}.mp4")
        book.commit(store)
        with open_reader(tmp_path) as reader:
            assert reader.counts() == {(State.QUEUED, Queue.DEFAULT): 10_000}
        assert len(store.load(OFFSET_S).jobs) == 10_000


def test_a_job_tells_where_and_when_it_ran_and_what_came_out(tmp_path: Path):
    with open_store(tmp_path) as store, open_reader(tmp_path) as reader:
        book = Book()
        number = book.at(10.0).submit(output="root:a.mp4", job_spec=spec(note="for anna", retry_of=7))
        book.commit(store)
        book.at(15.0).run(number, "anna")
        book.commit(store)
        row = reader.job(number)
        assert (row.node, row.submitted_s, row.started_s, row.ended_s) == (
            "anna",
            OFFSET_S + 10,
            OFFSET_S + 15,
            None,
        )
        assert row.queue_s == 5.0
        assert reader.attempts(number)[0].state == "running"
        figures = Results(frames=42, psnr_db=40.5)
        book.at(60.0).end(number, results=figures, fingerprint=WireFingerprint(10, "ab"))
        book.commit(store)
        row = reader.job(row.uuid)
        assert (row.state, row.ended_s, row.results, row.retry_of) == (
            State.COMPLETED,
            OFFSET_S + 60,
            figures,
            7,
        )
        assert row.spec.note == "for anna"
        attempt = reader.attempts(number)[0]
        assert (attempt.state, attempt.how, attempt.started_s, attempt.ended_s, attempt.fingerprint) == (
            "ended",
            "published",
            OFFSET_S + 15,
            OFFSET_S + 60,
            Fingerprint(10, "ab"),
        )
        assert reader.job(number + 1) is None
        assert reader.job(str(number)) is None, "a number as a text is no UUID"
        assert store.load(OFFSET_S).jobs == ()


def test_p2_two_open_jobs_never_name_one_output(tmp_path: Path):
    with open_store(tmp_path) as store, open_reader(tmp_path) as reader:
        book = Book()
        first = book.submit(output="root:out.mp4")
        book.commit(store)
        assert reader.open_outputs(["root:out.mp4", "root:else.mp4"]) == {"root:out.mp4": first}
        wrong = Book(book.turn, book.next_job)
        wrong.submit(output="root:other.mp4")
        wrong.submit(output="root:out.mp4")
        with pytest.raises(RowsRejected):
            wrong.commit(store)
        assert reader.open_outputs(["root:other.mp4"]) == {}, "the turn was refused as a whole"
        # In one turn the first ends and another takes its place.
        book.move(first, State.CANCELED)
        second = book.submit(output="root:out.mp4")
        book.commit(store)
        assert reader.open_outputs(["root:out.mp4"]) == {"root:out.mp4": second}


def _ended_job_moves(book: Book, number: int) -> None:
    book.rows.changes.jobs[number] = replace(book.jobs[number], state=State.RUNNING)


def _gone_without_an_end(book: Book, _number: int) -> None:
    book.rows.changes.jobs[book.open] = None  # type: ignore[attr-defined]


def _unknown_job(book: Book, _number: int) -> None:
    book.rows.changes.jobs[999] = Job(999, "u", Terms(), 0.0, State.QUEUED)


def _spec_without_a_record(book: Book, _number: int) -> None:
    book.rows.specs.append(NewSpec(998, spec()))


def _text_that_is_no_unicode(book: Book, number: int) -> None:
    book.rows.records.append(Record(number, 0, State.CANCELED, State.CANCELED, "note", "\udcff"))


def _number_beyond_64_bits(book: Book, _number: int) -> None:
    book.rows.next_job = 2**70


def _turn_that_was(book: Book, _number: int) -> None:
    book.rows.turn = 1


def _attempt_of_nothing(book: Book, _number: int) -> None:
    book.rows.changes.attempts[(997, 1)] = Attempt(997, 1, "u", "n", Requirements(), False)


@pytest.mark.parametrize(
    "spoil",
    [
        _ended_job_moves,
        _gone_without_an_end,
        _unknown_job,
        _spec_without_a_record,
        _text_that_is_no_unicode,
        _number_beyond_64_bits,
        _turn_that_was,
        _attempt_of_nothing,
    ],
)
def test_p12_a_turn_that_makes_no_sense_is_refused_whole_and_the_store_goes_on(tmp_path: Path, spoil):
    with open_store(tmp_path) as store, open_reader(tmp_path) as reader:
        book = Book()
        ended = book.submit()
        book.open = book.submit()  # type: ignore[attr-defined]
        book.commit(store)
        book.move(ended, State.CANCELED)
        book.commit(store)
        counts, identity = reader.counts(), reader.identity()
        book.rows.audit.append(AuditRow("anna", "spoils"))
        spoil(book, ended)
        with pytest.raises(RowsRejected):
            store.commit(book.rows)
        assert (reader.counts(), reader.identity(), reader.audit()) == (counts, identity, ())
        good = Book(book.turn, book.next_job)
        good.submit()
        good.commit(store)
        assert reader.identity()[1] == book.turn + 1
        assert store.verify_history() == []


def test_what_users_and_operators_did_is_kept(tmp_path: Path):
    with open_store(tmp_path) as store, open_reader(tmp_path) as reader:
        book = Book()
        book.submit()
        book.rows.idempotency.append(IdempotencyRow("uid 0", "key", "digest", b"{}"))
        book.rows.audit.append(AuditRow("uid 0 (root)", "submit", "1", "201"))
        book.rows.tickets.append(TicketRow("pub", 99.0, "anna", "old"))
        book.rows.changes.nodes["anna"] = Node("anna", "KEY")
        book.rows.node_info["anna"] = b"facts"
        book.rows.paused_queues = frozenset({Queue.LIVE, Queue.BATCH})
        book.commit(store)
        assert reader.idempotency("uid 0", "key").answer == b"{}"
        assert reader.idempotency("uid 1", "key") is None
        assert [(row.who, row.target) for row in reader.audit()] == [("uid 0 (root)", "1")]
        assert reader.nodes()["anna"].info == b"facts"
        book.rows.paused_queues = frozenset({Queue.LIVE})
        book.rows.tickets.append(TicketRow("pub", 99.0, "anna", "old", "KEY"))
        book.rows.changes.nodes["anna"] = Node("anna", "KEY", drained=True)
        book.commit(store)
        loaded = store.load(OFFSET_S)
        assert loaded.paused_queues == {Queue.LIVE}
        assert loaded.tickets == (TicketRow("pub", 99.0, "anna", "old", "KEY"),)
        assert reader.nodes()["anna"].info == b"facts", "a new record does not forget the facts"


def test_two_nodes_can_swap_their_keys_in_one_turn(tmp_path: Path):
    with open_store(tmp_path) as store:
        book = Book()
        book.rows.changes.nodes.update(a=Node("a", "1"), b=Node("b", "2"), c=Node("c", "3"))
        book.commit(store)
        book.rows.changes.nodes.update(a=Node("a", "2"), b=Node("b", "1"), c=None, d=Node("d", "3"))
        book.commit(store)
        assert {node.name: node.key for node in store.load(OFFSET_S).nodes} == {"a": "2", "b": "1", "d": "3"}


def test_a_new_lineage_remembers_the_one_it_left(tmp_path: Path):
    with open_store(tmp_path, fresh_lineage="first") as store:
        book = Book()
        book.submit()
        book.commit(store)
        book.rows.lineage = NewLineage("second", "first", 1)
        book.commit(store)
    with open_store(tmp_path, fresh_lineage="not wanted") as store:
        loaded = store.load(OFFSET_S)
        assert (loaded.lineage, loaded.ancestors, loaded.restored) == ("second", {"first": 1}, False)
