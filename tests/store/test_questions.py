"""Lists, filters, counts and the service level; and that every question is served by an index."""

from __future__ import annotations

import itertools
import random
from dataclasses import replace
from pathlib import Path

import apsw
import pytest
from store.book import OFFSET_S, Book, open_reader, open_store, spec

from ffrtmp.farm.job import Failure, Priority, Queue, Reason, State, Terms
from ffrtmp.farm.node import Node
from ffrtmp_master.rows import JobFilter
from ffrtmp_master.store import Reader, SlaCounts
from ffrtmp_master.store.listing import Span, page

SCENARIOS = ("720p-h264", "1080p-h265")


@pytest.fixture(scope="module")
def farm(tmp_path_factory):
    """A store with 400 jobs of all kinds, a reader, and what is in it."""
    folder = tmp_path_factory.mktemp("farm")
    chance = random.Random(7)
    with open_store(folder) as store, open_reader(folder) as reader:
        book = Book()
        kinds = {}
        for _ in range(400):
            terms = Terms(chance.choice(list(Queue)), chance.choice(list(Priority)))
            job_spec = spec(chance.choice(SCENARIOS), classification=chance.choice(["production", "test"]))
            number = book.submit(terms=terms, job_spec=job_spec, output=f"root:{book.next_job}")
            state = chance.choice(["queued", "running", "completed", "failed", "canceled"])
            if state in {"running", "completed", "failed"}:
                book.run(number, chance.choice(["anna", "bert"]))
            if state in {"completed", "failed"}:
                book.end(number, State(state))
            if state == "canceled":
                book.move(number, State.CANCELED)
            kinds[number] = (state, terms, job_spec)
        book.commit(store)
        yield folder, store, reader, kinds


def _all(reader: Reader, wanted: JobFilter, span: Span) -> list[int]:
    found: list[int] = []
    while True:
        part = page(reader._store, wanted, span)
        assert len(part.jobs) <= span.limit
        found += [row.number for row in part.jobs]
        if part.next is None:
            return found
        span = replace(span, after=part.next)


def test_every_filter_and_page_gives_each_job_once_and_in_order(farm):
    _, _, reader, _ = farm
    everything = [row for row in _rows(reader)]
    for states, queue, priority, node, scenario, classification in itertools.product(
        [(), ("queued",), ("running", "completed", "canceled")],
        ["", "live"],
        ["", "high"],
        ["", "anna", "nobody"],
        ["", SCENARIOS[0]],
        ["", "test"],
    ):
        wanted = JobFilter(states, queue, priority, node, scenario, classification)
        expected = [
            row.number
            for row in everything
            if (not states or row.state.value in states)
            and queue in {"", row.queue.label}
            and priority in {"", row.priority.label}
            and node in {"", row.node}
            and scenario in {"", row.scenario}
            and classification in {"", row.classification}
        ]
        assert _all(reader, wanted, Span(None, 7, True, scan_rows=20)) == expected[::-1]
        assert _all(reader, wanted, Span(None, 50, False)) == expected


def _rows(reader: Reader):
    return sorted(reader.jobs(limit=1000).jobs, key=lambda row: row.number)


def test_a_rare_job_is_found_in_short_pages_and_not_by_a_long_wait(farm):
    _, _, reader, kinds = farm
    rare = JobFilter(priority="high", queue="live", classification="test")
    first = page(reader._store, rare, Span(None, 50, True, scan_rows=10))
    assert len(first.jobs) < 10
    assert first.next == len(kinds) - 9


def test_counts_by_state_and_queue_are_those_of_the_jobs(farm):
    _, _, reader, kinds = farm
    counts = reader.counts()
    assert sum(counts.values()) == len(kinds)
    for (state, queue), number in counts.items():
        assert number == sum(1 for s, terms, _ in kinds.values() if s == state.value and terms.queue is queue)


def test_specifications_of_many_jobs_come_at_once(farm):
    _, _, reader, kinds = farm
    found = reader.specs([1, 2, 3, 10**6])
    assert found == {number: kinds[number][2] for number in (1, 2, 3)}
    assert reader.spec(10**6) is None


def test_p12_every_question_is_served_by_an_index(farm):
    """SQLite's planner is asked about each statement that a reader runs: none may walk through a table that grows."""
    _, store, reader, _ = farm
    statements: dict[str, str] = {}

    def seen(cursor: apsw.Cursor, sql: str, bindings) -> bool:
        plan = cursor.connection.execute("EXPLAIN QUERY PLAN " + sql, bindings if bindings is not None else ())
        statements[sql] = " | ".join(str(row[3]) for row in plan)
        return True

    for connection in (reader._store, reader._logs):
        connection.exec_trace = lambda cursor, sql, bindings: (
            True if sql.startswith("EXPLAIN") else seen(cursor, sql, bindings)
        )
    store.append_log(1, 1, 0, b"one\n")
    store.append_log(1, 1, 9, b"two\n")
    reader.job(1)
    reader.job("uuid")
    for wanted in (
        JobFilter(),
        JobFilter(states=("queued", "failed")),
        JobFilter(states=("queued",), queue="live", node="anna"),
        JobFilter(node="anna"),
        JobFilter(scenario=SCENARIOS[0], priority="high"),
        JobFilter(queue="live", priority="high", classification="test"),
    ):
        for after, newest in itertools.product((None, 200), (True, False)):
            reader.jobs(wanted, after=after, newest_first=newest, limit=10)
    reader.history(1)
    reader.attempts(1)
    reader.specs([1, 2])
    reader.open_outputs(["root:1"])
    reader.counts()
    reader.nodes()
    reader.sla(0.0)
    reader.idempotency("a", "b")
    reader.audit()
    reader.identity()
    list(reader.job_log(1))
    reader.tail(1, 1, 5)
    reader.read_log(1, 1, 5)
    for connection in (reader._store, reader._logs):
        connection.exec_trace = None
    assert len(statements) > 25
    small = ("SCAN counters", "SCAN nodes", "SCAN meta", "SCAN json_each", "SCAN (")
    for sql, plan in statements.items():
        for step in plan.split(" | "):
            bounded = "ORDER BY number" in sql and step.startswith("SCAN jobs")  # by its key, up to a LIMIT
            assert not step.startswith("SCAN") or step.startswith(small) or bounded, (sql, plan)
            assert "AUTOMATIC" not in step, (sql, plan)
            in_order = bounded_by_limit(sql) and step.startswith(("SEARCH jobs", "SEARCH audit"))
            assert "(rowid>?)" not in step or in_order, (sql, plan)  # a search that may walk far


def bounded_by_limit(sql: str) -> bool:
    return "ORDER BY" in sql and "LIMIT" in sql


def test_sla_counts_platform_faults_and_not_those_of_users_and_of_the_way_to_a_source(tmp_path: Path):
    with open_store(tmp_path) as store, open_reader(tmp_path) as reader:
        book = Book()

        def job(queue_s: float, processing_s: float, state=State.COMPLETED, reason=None, queue=Queue.DEFAULT, **more):
            book.at(100.0)
            number = book.submit(terms=Terms(queue), job_spec=spec(**more))
            book.commit(store)
            book.at(100.0 + queue_s).run(number)
            book.commit(store)
            failure = None if reason is None else Failure(reason, False)
            book.at(100.0 + queue_s + processing_s).end(number, state, failure=failure)
            book.commit(store)

        job(1.0, 10.0)
        job(30.0, 600.0)  # the bounds themselves are met
        job(31.0, 10.0)
        job(1.0, 601.0)
        job(31.0, 601.0)
        job(1.0, 10_000.0, queue=Queue.LIVE)
        job(1.0, 10.0, State.FAILED, Reason.PLATFORM_ERROR)
        job(1.0, 10.0, State.TIMED_OUT, Reason.TIMEOUT)
        job(1.0, 10.0, State.FAILED, Reason.USER_ERROR)
        job(1.0, 10.0, State.FAILED, Reason.INPUT_ERROR)
        job(1.0, 10.0, State.FAILED, Reason.NETWORK_ERROR)
        job(99.0, 9999.0, classification="test")
        canceled = book.submit()
        book.move(canceled, State.CANCELED)
        book.commit(store)
        assert reader.sla(0.0) == SlaCounts(jobs=8, met=3, queue_missed=2, processing_missed=2, platform_failed=2)
        assert reader.sla(OFFSET_S + 9000.0).jobs == 1


def test_a_node_stays_with_the_job_that_ran_there(tmp_path: Path):
    with open_store(tmp_path) as store, open_reader(tmp_path) as reader:
        book = Book()
        number = book.submit()
        book.rows.changes.nodes["anna"] = Node("anna", "KEY")
        book.run(number, "anna")
        book.commit(store)
        book.rows.changes.attempts[(number, 1)] = None
        book.rows.changes.nodes["anna"] = None
        book.move(number, State.QUEUED, current=0)
        book.commit(store)
        assert reader.nodes() == {}
        assert [row.number for row in reader.jobs(JobFilter(node="anna")).jobs] == [number]
        book.run(number, "bert", 2)
        book.commit(store)
        assert reader.job(number).node == "bert"
