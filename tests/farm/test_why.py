"""`jobs why`: a sentence for every state in which a job can be, with what to do."""

from __future__ import annotations

from dataclasses import replace

from farm.stage import BROKEN, ROOM, Stage, terms

from ffrtmp.farm import events as ev
from ffrtmp.farm.job import State
from ffrtmp.farm.placement import could_ever
from ffrtmp.farm.why import why


def test_why_says_what_a_waiting_job_waits_for():
    stage = Stage()
    stage.node("a", replace(ROOM, slots=1))
    stage.submit()
    first, second = stage.submit(), stage.submit(terms(2000))
    assert "it is the next of its kind and waits for room" in stage.why(first)
    assert "behind 1 jobs" in stage.why(second)
    told = why(stage.world, first)
    assert told is not None and told.nodes == {"a": "its only slot is taken"}


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
    assert told.nodes == {"a": "it is lost", "b": "its agent said goodbye 0 s ago and is given 60 s to be back"}
    assert "all of them are lost, away, drained" in told.sentence


def test_why_says_of_a_job_whose_agent_said_goodbye_when_that_was_and_how_long_it_is_waited_for():
    stage = Stage()
    a = stage.node("a")
    runs, paused = stage.submit(), stage.submit()
    stage.pause(paused)
    a.say(ev.Goodbye(*a._at()))
    a.leave()
    stage.pass_s(12)
    farewell = "said goodbye 12 s ago and is given 60 s to be back"
    assert stage.why(runs).startswith(f"attempt 1 is on a, whose agent {farewell}; after that")
    assert stage.why(paused).startswith(f"it is paused by a user on a, whose agent {farewell}")
    refused = stage.ask(ev.RemoveNode(1, "a"))
    assert refused.status == 409 and refused.detail == f"node a may come back: its agent {farewell}"
    assert "a is not in contact" in stage.cancel(runs).hint
    told = why(stage.world, runs)
    assert told is not None and told.nodes == {"a": f"its agent {farewell}"}
    a.back()
    assert stage.state(runs) is State.CANCELED and "goodbye" not in stage.why(paused)


def test_why_names_the_agents_setting_that_keeps_plain_arguments_and_protocols_away():
    stage = Stage()
    stage.node("a")
    told = why(stage.world, stage.submit(terms(features=frozenset({"run"}))))
    assert told is not None and "no agent takes plain arguments: the setting allow_run is off" in told.sentence
    assert "allow_run" in told.hint and "allow_run is off" in told.nodes["a"]
    told = why(stage.world, stage.submit(terms(features=frozenset({"protocol:rtmp"}))))
    assert told is not None and told.nodes == {"a": "its agent's setting protocols has no rtmp"}


def test_why_says_of_a_node_that_it_was_not_heard_yet_and_not_what_it_may_lack():
    stage = Stage()
    stage.node("a", hello=False)
    told = why(stage.world, stage.submit())
    assert told is not None and told.sentence == "it waits because no node that was heard could run it"
    assert told.nodes == {"a": "it was not heard yet since the master started"}
    assert "engine" not in str(told) and could_ever(stage.world, terms().requirements) == f"a: {told.nodes['a']}"


def test_a_reason_that_many_nodes_share_is_told_once():
    stage = Stage()
    for name in "abcdefg":
        stage.node(name)
    reason = could_ever(stage.world, terms(labels=frozenset({"rare"})).requirements)
    assert reason == "a, b, c, d, e and 2 more: it has no label rare"
