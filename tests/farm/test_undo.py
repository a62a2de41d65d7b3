"""Every event can be undone alone and every turn as a whole; the history is the state (P10); nothing grows for ever (P12)."""

from __future__ import annotations

from dataclasses import replace

import pytest
from farm.stage import BROKEN, Stage, terms

from ffrtmp.farm import events as ev
from ffrtmp.farm.job import IllegalTransition, Priority, State, check


def tables(stage: Stage) -> list[dict]:
    world = stage.world
    all_of_them = (world.jobs, world.ended, world.attempts, world.grants, world.nodes, world.contacts, world._values)
    return [{key: table[key] for key in table} for table in all_of_them]


def test_a_turn_whose_commit_failed_has_not_happened():
    stage = Stage()
    a = stage.node("a")
    running, waiting = stage.submit(), stage.submit(terms(9000))
    before = tables(stage)
    for event in (
        ev.Submit(1, (stage.new(), stage.new())),
        ev.Cancel(2, waiting),
        ev.Pause(3, running),
        a.ended_event(a.local(running), "failed", BROKEN),
        ev.RemoveNode(4, "a", force=True),
        *stage.farm.due(stage.now_s + 60),
    ):
        stage.farm.apply(event, stage.now_s)
    changes, ended = stage.farm.changes()
    assert changes.jobs and changes.attempts and changes.nodes and ended
    stage.farm.undo_turn()
    assert tables(stage) == before
    changes, ended = stage.farm.changes()
    assert not (changes.jobs or changes.attempts or changes.grants or changes.nodes or ended)
    stage.look()
    stage.turn()
    assert stage.state(running) is State.RUNNING


def test_what_was_undone_is_handed_out_again_under_the_same_number():
    stage = Stage()
    stage.node("a").accepts = False
    stage.farm.apply(ev.Submit(1, (stage.new(),)), stage.now_s)
    stage.farm.apply(ev.Place(), stage.now_s)
    assert len(stage.world.attempts) == 1
    stage.farm.undo_turn()
    assert not len(stage.world.attempts) and not stage.world.sent_s
    job = stage.submit()
    assert (job, stage.attempt(job).number) == (1, 1)


def test_an_event_whose_rule_raises_is_undone_alone():
    stage = Stage()
    a = stage.node("a")
    job = stage.submit()
    a.accepts = False
    second = stage.submit()
    attempt = stage.attempt(second)
    reports = (ev.Report(attempt.uuid, second, 1, "running"), None)
    stage.farm.apply(ev.Cancel(5, job), stage.now_s)
    before = tables(stage)
    with pytest.raises(AttributeError):
        stage.farm.apply(replace(a.beat_event(), reports=reports), stage.now_s)
    assert tables(stage) == before
    assert stage.world.jobs[second].state is State.ASSIGNED
    assert stage.world.jobs[job].state is State.CANCELING, "what came before it stands"


def test_p10_an_edge_that_is_not_in_the_table_is_refused_and_undone():
    stage = Stage()
    stage.node("a")
    job = stage.submit()
    before = tables(stage)
    with pytest.raises(IllegalTransition):
        stage.world.move(stage.job(job), State.ASSIGNED, "wrong", "cannot be")
    stage.farm.undo_turn()
    assert tables(stage) == before


def test_what_is_no_event_is_refused():
    stage = Stage()
    with pytest.raises(TypeError):
        stage.farm.apply(object(), stage.now_s)  # type: ignore[arg-type]


def test_a_turn_writes_what_it_changed_and_names_the_jobs_that_ended():
    stage = Stage()
    a = stage.node("a")
    job = stage.submit()
    stage.farm.apply(a.request_event(a.local(job)), stage.now_s)
    stage.farm.apply(a.published_event(a.local(job)), stage.now_s)
    changes, ended = stage.farm.changes()
    assert changes.jobs == {job: None} and changes.attempts == {(job, 1): None} and changes.grants == {job: None}
    assert {number: row.state for number, row in ended.items()} == {job: State.COMPLETED}
    stage.farm.keep_turn(99)
    assert stage.farm.changes()[1] == {} and not len(stage.world.ended)


def test_p12_asking_for_the_same_again_and_again_leaves_nothing_behind():
    stage = Stage()
    for _ in range(3):
        stage.submit(terms(labels=frozenset({"nobody has it"})))
    lane = next(iter(stage.world.lanes))
    for _ in range(500):
        stage.pause(3)
        stage.resume(3)
        stage.ask(ev.Update(0, 2, priority=Priority.HIGH))
        stage.ask(ev.Update(0, 2, priority=Priority.MEDIUM))
        stage.cancel(stage.submit(terms(labels=frozenset({"nobody has it"}))))
    assert len(stage.world.lanes._heaps[lane]) < 100
    assert len(stage.world.backoff) == 0
    assert set(stage.world.jobs) == {1, 2, 3}


def test_p12_ever_new_kinds_of_jobs_and_nodes_are_not_remembered():
    stage = Stage()
    for n in range(200):
        stage.cancel(stage.submit(terms(labels=frozenset({f"label-{n}"}))))
        stage.node(f"n{n}")
        job = stage.submit()
        stage.hosts[f"n{n}"].verified(job)
        stage.ask(ev.RemoveNode(0, f"n{n}", force=True))
        del stage.hosts[f"n{n}"]
    world = stage.world
    for kept in (world.usage, world.on_node, world.of_job, world.by_uuid, world.by_identity, world.sent_s):
        assert not kept
    assert not len(world.contacts) and not len(world.lanes) and not world.undo


def test_p12_jobs_with_the_same_terms_share_them_in_memory():
    stage = Stage()
    first, second = stage.submit(terms(1000)), stage.submit(terms(1000))
    other = stage.submit(terms(2000))
    assert stage.job(first).terms is stage.job(second).terms is not stage.job(other).terms
    stage.restart()
    assert stage.job(first).terms is stage.job(second).terms


def test_an_event_that_raises_is_undone_alone_also_after_very_many_writes_of_its_turn():
    stage = Stage()
    a = stage.node("a")
    job = stage.submit()
    stage.farm.apply(ev.Submit(1, tuple(stage.new() for _ in range(300))), stage.now_s)
    broken = replace(a.beat_event(), reports=(a.local(job).report(), None))
    with pytest.raises(AttributeError):
        stage.farm.apply(broken, stage.now_s)
    assert len(stage.world.jobs) == 301
    stage.farm.undo_turn()
    assert set(stage.world.jobs) == {job}


def test_p12_terms_that_are_shared_are_forgotten_when_they_are_very_many():
    stage = Stage()
    for number in range(10_001):
        stage.world.interned(terms(max_retries=number))
    assert len(stage.world.terms) < 10_000


def test_p10_an_edge_that_is_refused_is_told_in_words():
    for before, after, said in (
        (None, State.FAILED, "None -> failed"),
        (State.COMPLETED, State.QUEUED, "completed -> queued"),
    ):
        with pytest.raises(IllegalTransition) as caught:
            check(before, after)
        assert str(caught.value) == said
