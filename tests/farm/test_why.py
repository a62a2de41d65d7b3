"""`jobs why`: a sentence for every state in which a job can be, with what to do."""

from __future__ import annotations

from dataclasses import replace

import pytest
from farm.stage import BROKEN, GIB, ROOM, Host, Stage, terms

from ffrtmp.farm import events as ev
from ffrtmp.farm.job import OnDisconnect, Priority, Queue, Requirements, State
from ffrtmp.farm.node import Capacity
from ffrtmp.farm.placement import could_ever, never
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
    told = why(stage.world, stage.submit(terms(features=frozenset({"".join(["r", "un"])}))))
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
    rare = terms(labels=frozenset({"rare"})).requirements
    assert could_ever(stage.world, rare) == "a, b, c, d, e and 2 more: it has no label rare"
    for name in "fg":
        stage.ask(ev.RemoveNode(0, name, force=True))
    assert could_ever(stage.world, rare) == "a, b, c, d, e: it has no label rare"


def test_why_says_how_many_jobs_go_first_and_counts_only_those():
    stage = Stage()
    stage.node("a", replace(ROOM, slots=1))
    stage.submit()
    high = [stage.submit(terms(priority=Priority.HIGH)) for _ in range(2)]
    first, second, _third = (stage.submit() for _ in range(3))
    low = stage.submit(terms(priority=Priority.LOW))
    wide = stage.submit(terms(2000, priority=Priority.LOW))
    assert "it is the next of its kind and waits for room" in stage.why(high[0])
    assert "behind 2 jobs of higher rank or earlier arrival" in stage.why(first)
    assert "behind 5 jobs" in stage.why(second), "the rest of its lane too, for nobody looks behind a head"
    assert "behind 5 jobs" in stage.why(low)
    assert "behind 6 jobs" in stage.why(wide)


def test_why_names_the_only_node_that_could_run_a_job_and_says_what_keeps_it():
    stage = Stage()
    a, b = stage.node("a", replace(ROOM, labels=frozenset({"rare"}))), stage.node("b")
    stage.ask(ev.DrainNode(0, "a", True))
    rare, wide = stage.submit(terms(labels=frozenset({"rare"}))), stage.submit(terms(3000))
    told = why(stage.world, rare)
    assert told is not None and told.hint == "ffrtmpctl nodes list"
    assert told.sentence == "it waits for a, the only node that could run it: it is drained"
    assert told.nodes == {"a": "it is drained", "b": "it has no label rare"}
    stage.lose(a, b)
    assert stage.why(rare).startswith("it waits for a, the only node that could run it: it is lost")
    assert stage.why(wide).startswith("it waits for one of the 2 nodes that could run it: all of them are lost")
    b.back()
    assert stage.where(wide) == "b"


def test_why_says_that_a_node_in_contact_has_no_room_and_not_that_others_are_gone():
    stage = Stage()
    a = stage.node("a")
    stage.node("b", replace(ROOM, slots=1))
    stage.lose(a)
    stage.submit()
    job = stage.submit()
    told = why(stage.world, job)
    assert (
        told is not None and told.sentence == "it is the next of its kind and waits for room on a node that can run it"
    )
    assert told.nodes == {"a": "it is lost", "b": "its only slot is taken"}


def test_why_tells_of_fifty_nodes_and_no_more():
    stage = Stage()
    for number in range(51):
        stage.ask(ev.AddNode(0, f"n{number:02}", f"key-{number}"))
    job = stage.submit()
    told = why(stage.world, job)
    assert told is not None and sorted(told.nodes) == [f"n{number:02}" for number in range(50)]
    stage.lose(stage.node("z"))
    told = why(stage.world, stage.submit())
    assert told is not None and sorted(told.nodes) == [f"n{number:02}" for number in range(50)]


def test_why_says_of_a_strict_job_how_long_the_engine_on_a_lost_node_may_run():
    stage = Stage(lost_after_s=15.0, lease_stop_s=5.0, lease_margin_s=5.0)
    a, b = stage.node("a"), stage.node("b")
    job = stage.submit(terms(on_disconnect=OnDisconnect.STOP))
    b.leave()
    stage.lose(a)
    left = stage.job(job).due_s - stage.now_s
    told = stage.why(job)
    assert told == f"its engine on a, which was lost, may run for another {left:.0f} s; it starts anew after that"
    stage.pass_s(40.0)
    assert stage.state(job) is State.QUEUED and "its engine" not in stage.why(job)


def test_why_says_what_a_job_hopes_for_whose_tries_are_spent_while_a_node_is_lost():
    stage = Stage(doubt_patience_s=600.0)
    a = stage.node("a")
    job = stage.submit(terms(max_retries=0))
    stage.node("b")
    stage.lose(a)
    assert stage.where(job) == "b"
    stage.hosts["b"].fail(job, BROKEN)
    told = why(stage.world, job)
    assert told is not None
    assert told.sentence == (
        "it is failed in 600 s unless a comes back with an attempt that lives (runtime_error: Conversion failed!)"
    )
    assert told.hint == "ffrtmpctl nodes remove a, if that node is gone for good"


def test_why_says_what_becomes_of_a_job_that_its_node_took_along():
    stage = Stage()
    a = stage.node("a")
    runs, held, stops = stage.submit(), stage.submit(), stage.submit(terms(queue=Queue.LIVE, live=True))
    a.obeys = False
    stage.stop(stops)
    assert stage.why(stops) == "it is being stopped on a"
    a.obeys = True
    stage.pause(held)
    a.publishes = False
    a.request(runs)
    a.say(ev.Goodbye(*a._at()))
    a.leave()
    assert "; after that the node counts as lost, and its grant is settled (start the agent of a again" in stage.why(
        runs
    )
    assert stage.why(held).endswith("(ffrtmpctl jobs resume 2)") and "whose agent said goodbye 0 s ago" in stage.why(
        held
    )
    stage.pass_s(70)
    assert stage.why(runs).startswith("a was lost while it published; that must be settled before anything else runs")
    assert stage.why(held) == "it is paused by a user on a, which is lost (ffrtmpctl jobs resume 2)"
    assert stage.why(stops) == (
        "it is being stopped on a, which is lost (ffrtmpctl nodes remove a, if that node is gone for good)"
    )


def test_why_says_that_a_live_job_is_done_anew_when_its_agent_stays_away():
    stage = Stage()
    a = stage.node("a")
    job = stage.submit(terms(queue=Queue.LIVE, live=True))
    a.publishes = False
    a.request(job)
    assert stage.grant(job) is not None
    a.say(ev.Goodbye(*a._at()))
    a.leave()
    assert "; after that the node counts as lost, and the job is done anew (start" in stage.why(job)


def test_why_says_where_each_attempt_of_a_job_that_is_being_canceled_is():
    stage = Stage()
    a = stage.node("a")
    job = stage.submit()
    b = stage.node("b")
    stage.lose(a)
    b.obeys = False
    stage.cancel(job)
    told = why(stage.world, job)
    assert told is not None and told.sentence == "it is being canceled; a, b has not said yet that nothing is left"
    assert told.nodes == {"a": "not in contact", "b": "in contact"}
    b.say(ev.Goodbye(*b._at()))
    told = why(stage.world, job)
    assert told is not None and told.nodes["b"] == "its agent said goodbye 0 s ago and is given 60 s to be back"


def test_why_says_that_a_held_job_has_no_attempt_or_waits_for_its_cores():
    stage = Stage()
    a = stage.node("a", replace(ROOM, slots=1))
    job = stage.submit()
    stage.pause(job)
    other = stage.submit()
    stage.resume(job)
    assert stage.why(job) == "it was resumed and waits for CPU on a, where its memory is"
    later = stage.submit()
    stage.pause(later)
    assert stage.why(later) == f"it is paused by a user, and no attempt of it is there (ffrtmpctl jobs resume {later})"
    a.verified(other)
    assert stage.state(job) is State.RUNNING


def test_why_says_how_much_is_free_and_how_much_is_needed():
    stage = Stage()
    stage.node("a", replace(ROOM, cpu_milli=4500, memory_bytes=8 * GIB, scratch_bytes=100 * GIB))
    stage.submit(terms(1500, memory_bytes=2 * GIB, scratch_bytes=30 * GIB))
    for asked, said in (
        ({"cpu": 3250}, "3 of 4.5 cores are free, 3.25 are needed"),
        ({"memory_bytes": 7 * GIB}, "6.0 GiB of memory are free, 7.0 are needed"),
        ({"scratch_bytes": 80 * GIB}, "70.0 GiB of scratch space are free, 80.0 are needed"),
    ):
        told = why(stage.world, stage.submit(terms(**asked)))
        assert told is not None and told.nodes == {"a": said}


@pytest.mark.parametrize(
    ("slots", "said"),
    [
        (0, "it has no slot"),
        (1, "its only slot is taken"),
        (2, "all of its 2 slots are taken"),
        (3, "all of its 3 slots are taken"),
    ],
)
def test_why_says_how_many_slots_are_taken(slots, said):
    stage = Stage()
    stage.node("a", replace(ROOM, slots=slots))
    jobs = [stage.submit() for _ in range(slots + 1)]
    told = why(stage.world, jobs[-1])
    assert told is not None and told.nodes == {"a": said}


def test_a_node_that_says_nothing_of_itself_offers_nothing():
    need = Requirements(cpu_milli=0, memory_bytes=0, scratch_bytes=0)
    bare = Capacity(engines=frozenset({"ffmpeg"}))
    assert never(bare, frozenset(), need) == "it has no slot"
    one = replace(bare, slots=1)
    assert never(one, frozenset(), need) is None
    for lack in ("cpu_milli", "memory_bytes", "scratch_bytes"):
        assert never(one, frozenset(), replace(need, **{lack: 1})), lack


def test_why_says_of_what_is_free_also_the_fraction():
    stage = Stage()
    stage.node("a", replace(ROOM, cpu_milli=4500, memory_bytes=8 * GIB, scratch_bytes=100 * GIB))
    stage.submit(terms(1000, memory_bytes=int(2.5 * GIB)))
    for asked, said in (
        ({"cpu": 3750}, "3.5 of 4.5 cores are free, 3.75 are needed"),
        ({"memory_bytes": int(6.5 * GIB)}, "5.5 GiB of memory are free, 6.5 are needed"),
    ):
        told = why(stage.world, stage.submit(terms(**asked)))
        assert told is not None and told.nodes == {"a": said}
    need = replace(terms().requirements, cpu_milli=0, memory_bytes=3 * GIB // 2, scratch_bytes=0)
    bare = replace(ROOM, memory_bytes=GIB // 2, scratch_bytes=GIB // 2)
    assert never(bare, frozenset(), need) == "0.5 GiB of memory are free, 1.5 are needed"
    need = replace(need, memory_bytes=0, scratch_bytes=3 * GIB // 2)
    assert never(bare, frozenset(), need) == "0.5 GiB of scratch space are free, 1.5 are needed"


def test_a_reason_that_six_nodes_share_names_five_and_says_that_there_is_one_more():
    stage = Stage()
    for name in "abcdef":
        stage.node(name)
    rare = terms(labels=frozenset({"rare"})).requirements
    assert could_ever(stage.world, rare) == "a, b, c, d, e and 1 more: it has no label rare"


def test_why_says_of_very_many_nodes_that_were_all_heard_that_none_could_run_a_job():
    stage = Stage()
    stage.look = lambda: None  # it takes long with so many, and others look
    names = [f"n{number}" for number in range(257)]
    stage.turn(*(ev.AddNode(number, name, f"key-{name}") for number, name in enumerate(names, 1)))
    hosts = [Host(stage, name, ROOM, f"10.1.0.{number}") for number, name in enumerate(names)]
    stage.turn(*(host.hello_event() for host in hosts))
    job = stage.submit(terms(labels=frozenset({"rare"})))
    assert stage.why(job).startswith("it waits because no known node could run it")
