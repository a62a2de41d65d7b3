"""`jobs why`: a sentence for every state in which a job can be, with what to do."""

from __future__ import annotations

from dataclasses import replace

from farm.stage import BROKEN, ROOM, Stage, terms

from ffrtmp.farm import events as ev
from ffrtmp.farm.job import State
from ffrtmp.farm.why import why


def test_why_says_what_a_waiting_job_waits_for():
    stage = Stage()
    stage.node("a", replace(ROOM, slots=1))
    stage.submit()
    first, second = stage.submit(), stage.submit(terms(2000))
    assert "it is the next of its kind and waits for room" in stage.why(first)
    assert "behind 1 jobs" in stage.why(second)
    told = why(stage.world, first)
    assert told is not None and told.nodes == {"a": "all of its 1 slots are taken"}


def test_why_says_where_a_job_runs_and_why_there():
    stage = Stage()
    a = stage.node("a")
    a.accepts = False
    job = stage.submit()
    assert "handed out to a, which has not said yet" in stage.why(job)
    a.accept(job)
    assert "runs on a, the fitting node with the most room" in stage.why(job)


def test_why_says_that_a_job_is_reserved_for():
    stage = Stage(reserve_after_s=60.0)
    stage.node("a")
    small = [stage.submit() for _ in range(4)]
    wide = stage.submit(terms(4000))
    stage.pass_s(66, 6.0)
    blocked = stage.submit()
    stage.hosts["a"].verified(small[0])
    told = why(stage.world, blocked)
    assert told is not None and f"reserved for job {wide}" in told.nodes["a"]


def test_why_says_what_a_job_between_two_tries_ended_with():
    stage = Stage()
    a = stage.node("a")
    job = stage.submit()
    a.fail(job, BROKEN)
    assert "1 of 4 tries failed" in stage.why(job)
    assert "runtime_error: Conversion failed!" in stage.why(job)


def test_why_knows_every_state_a_job_can_be_in():
    stage = Stage()
    a = stage.node("a", replace(ROOM, slots=1))
    a.obeys = False
    job = stage.submit()
    stage.pause(job)
    stage.cancel(job)
    assert "it is being canceled; a has not said yet" in stage.why(job)
    assert why(stage.world, 999) is None


def test_why_names_the_nodes_that_take_nothing():
    stage = Stage()
    a, b = stage.node("a"), stage.node("b")
    stage.lose(a)
    b.say(ev.Goodbye(*b._at()))
    b.leave()
    job = stage.submit()
    told = why(stage.world, job)
    assert told is not None and stage.state(job) is State.QUEUED
    assert told.nodes == {"a": "it is lost", "b": "its agent is being restarted"}
