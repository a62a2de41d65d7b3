"""How work gets to a node: acknowledged, repeated, taken back; never more than the node has (P6)."""

from __future__ import annotations

from dataclasses import replace

import pytest
from farm.invariants import overfull, within_capacity
from farm.stage import BROKEN, GIB, ROOM, Stage, terms

from ffrtmp.farm import effects as fx
from ffrtmp.farm import events as ev
from ffrtmp.farm.job import Phase, State, Want
from ffrtmp.farm.why import why


def assigns(effects: list[fx.Effect]) -> list[tuple[int, int]]:
    return [e.attempt for e in effects if isinstance(e, fx.SendAssign)]


def told(stage: Stage, job: int) -> dict[str, str]:
    """What stands against each node, as `jobs why` says."""
    found = why(stage.world, job)
    assert found is not None
    return found.nodes


def test_an_offer_is_repeated_until_it_is_accepted():
    stage = Stage()
    a = stage.node("a")
    a.accepts = False
    job = stage.submit()
    assert stage.state(job) is State.ASSIGNED
    for _ in range(3):
        stage.now_s += 1.0
        assert assigns(stage.turn()) == [(job, 1)]
    a.accept(job)
    assert stage.state(job) is State.RUNNING
    stage.now_s += 1.0
    assert assigns(stage.turn()) == []


def test_an_offer_that_nobody_takes_burns_its_number_and_the_job_is_placed_elsewhere():
    stage = Stage(accept_timeout_s=5.0)
    a = stage.node("a", replace(ROOM, cpu_milli=8000))
    b = stage.node("b")
    a.accepts = a.obeys = False
    job = stage.submit()
    assert stage.where(job) == "a"
    stage.pass_s(6)
    assert (stage.where(job), stage.attempt(job).number) == ("b", 2)
    first = stage.world.attempts[(job, 1)]
    assert first.want is Want.DISCARD
    # The first node wakes up late: it is told to drop what it took, and that changes nothing.
    assert fx.SendOrder("a", first.uuid, 1, Want.DISCARD) in a.say(a._accepted(first))
    assert stage.attempt(job).number == 2
    a.obeys = True
    stage.pass_s(3)
    assert (job, 1) not in stage.world.attempts and not a.has(job)
    b.verified(job)
    assert stage.state(job) is State.COMPLETED


def test_a_node_that_refuses_for_want_of_room_is_asked_again_only_after_a_while_and_by_itself():
    stage = Stage(hold_s=5.0)
    a = stage.node("a")
    a.accepts = False
    job = stage.submit()
    a.refuse(job)
    assert stage.state(job) is State.QUEUED
    assert told(stage, job)["a"] == "it refused the last job for want of room"
    a.accepts = True
    stage.pass_s(4)
    assert stage.state(job) is State.QUEUED
    stage.pass_s(2)
    assert stage.state(job) is State.RUNNING
    assert stage.attempt(job).number == 2
    assert stage.job(job).failures == 0


def test_a_node_that_refuses_again_and_again_is_left_alone_longer_each_time_until_it_takes_a_job():
    stage = Stage(hold_s=4.9, hold_most_s=30.0)
    a = stage.node("a")
    a.accepts = False
    job = stage.submit()

    def held_s() -> float:
        a.refuse(job)
        asked_s = stage.world.contacts["a"].hold_until_s - stage.now_s
        stage.until(lambda: stage.state(job) is State.ASSIGNED)
        return round(asked_s, 1)

    assert [held_s() for _ in range(5)] == [4.9, 9.8, 19.6, 30.0, 30.0]
    a.accept(job)
    other = stage.submit()
    a.refuse(other)
    assert round(stage.world.contacts["a"].hold_until_s - stage.now_s, 1) == 4.9


def test_a_refusal_with_a_reason_is_a_failed_attempt():
    stage = Stage()
    a = stage.node("a")
    a.accepts = False
    job = stage.submit()
    a.refuse(job, BROKEN)
    assert stage.state(job) is State.RETRYING
    assert stage.job(job).failures == 1


def test_a_heartbeat_that_names_the_attempt_stands_for_an_acceptance_that_was_lost():
    stage = Stage()
    a = stage.node("a")
    a.accepts = False
    job = stage.submit()
    a._accepted(stage.attempt(job))
    a.beat()
    assert stage.state(job) is State.RUNNING


def test_an_attempt_that_asks_for_its_grant_has_been_accepted():
    stage = Stage()
    a = stage.node("a")
    a.accepts = a.publishes = False
    job = stage.submit()
    a._accepted(stage.attempt(job))
    a.request(job)
    assert stage.state(job) is State.RUNNING
    assert stage.grant(job) is not None
    a.up = False
    stage.now_s += 6.0
    stage.turn()
    assert stage.grant(job) is not None, "its number is not burnt while it publishes"


def test_an_attempt_that_a_later_heartbeat_does_not_name_is_gone():
    stage = Stage()
    a = stage.node("a")
    job = stage.submit()
    a.locals.clear()
    a.accepts = False
    a.beat()
    assert stage.state(job) is State.RETRYING
    assert stage.job(job).failures == 1


def test_a_heartbeat_older_than_the_acceptance_misses_nothing():
    stage = Stage()
    a = stage.node("a")
    a.accepts = False
    early = a.beat_event()
    job = stage.submit()
    stage.turn(a._accepted(stage.attempt(job)), early)
    assert stage.state(job) is State.RUNNING
    assert stage.attempt(job).number == 1


def test_a_repeated_hello_does_not_take_back_what_is_on_its_way_to_the_node():
    stage = Stage()
    job = stage.submit()
    a = stage.node("a", hello=False)
    hello = a.hello_event()
    a.accepts = False
    stage.turn(hello)
    assert stage.state(job) is State.ASSIGNED
    stage.turn(hello)
    assert (stage.state(job), stage.attempt(job).number) == (State.ASSIGNED, 1)
    a.accept(job)
    assert stage.state(job) is State.RUNNING


def test_an_attempt_that_the_farm_does_not_know_is_told_to_stop():
    stage = Stage()
    a = stage.node("a")
    stranger = ev.Report("nobody", 99, 1, "running", Phase.ENCODING)
    stage.mail.clear()
    beat = replace(a.beat_event(), reports=(stranger,))
    assert fx.SendOrder("a", "nobody", 1, Want.DISCARD) in a.say(beat)
    answers = a.say(replace(a.hello_event(), reports=(stranger,)))
    welcome = next(e for e in answers if isinstance(e, fx.SendWelcome))
    assert welcome.directives == (fx.Directive("nobody", 1, "stop"),)


def test_a_node_speaks_for_nobody_elses_attempts():
    stage = Stage()
    stage.node("a")
    job = stage.submit()
    b = stage.node("b")
    attempt = stage.attempt(job)
    assert attempt.node == "a"
    b.say(ev.Ended(*b._at(), "x", attempt.uuid, 1, "failed", BROKEN))
    b.say(ev.Refused(*b._at(), attempt.uuid, 1, "mine"))
    b.say(ev.Published(*b._at(), "y", attempt.uuid, 1, 1, stage.print_of(attempt.uuid)))
    assert stage.state(job) is State.RUNNING
    answers = b.say(ev.PublishRequest(*b._at(), attempt.uuid, 1, 1, None))
    assert [type(e) for e in answers] == [fx.SendDeny]


# ---- P6 ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("capacity", "of", "fit"),
    [
        (replace(ROOM, slots=3), terms(100), 3),
        (replace(ROOM, cpu_milli=2500), terms(1000), 2),
        (replace(ROOM, memory_bytes=4 * GIB), terms(100, memory_bytes=2 * GIB), 2),
        (replace(ROOM, scratch_bytes=10 * GIB), terms(100, scratch_bytes=10 * GIB), 1),
    ],
    ids=["slots", "cores", "memory", "scratch"],
)
def test_p6_a_node_never_holds_more_than_it_has(capacity, of, fit):
    stage = Stage()
    a = stage.node("a", capacity)
    for _ in range(6):
        stage.submit(of)
    assert len(a.locals) == fit
    assert within_capacity(stage.world, "a")
    a.fail(next(iter(a.locals.values())).job)
    assert len(a.locals) == fit


def test_p6_a_given_up_attempt_holds_its_room_until_it_is_gone():
    stage = Stage()
    a = stage.node("a", replace(ROOM, slots=1))
    first, second = stage.submit(), stage.submit()
    a.obeys = False
    stage.cancel(first)
    stage.pass_s(3)
    assert stage.state(second) is State.QUEUED
    a.obeys = True
    stage.pass_s(2)
    assert stage.state(second) is State.RUNNING


def test_p6_a_lost_nodes_attempts_hold_their_room_when_it_is_back():
    stage = Stage()
    a = stage.node("a", replace(ROOM, slots=1))
    job = stage.submit()
    stage.lose(a)
    other = stage.submit()
    a.back()
    assert stage.state(job) is State.RUNNING
    assert stage.state(other) is State.QUEUED


def test_p6_a_paused_job_gives_back_its_cores_and_gets_them_back_only_when_they_are_free():
    stage = Stage()
    a = stage.node("a", replace(ROOM, cpu_milli=2000))
    first, second = stage.submit(terms(2000)), stage.submit(terms(2000))
    stage.pause(first)
    assert (stage.state(first), stage.state(second)) == (State.PAUSED, State.RUNNING)
    stage.resume(first)
    assert stage.state(first) is State.RESUMING
    stage.pass_s(10)
    assert stage.state(first) is State.RESUMING, "heartbeats that say `paused` do not take the release back"
    assert within_capacity(stage.world, "a")
    a.verified(second)
    assert stage.state(first) is State.RUNNING


def test_p6_a_paused_job_keeps_its_memory():
    stage = Stage()
    stage.node("a", replace(ROOM, memory_bytes=4 * GIB))
    first = stage.submit(terms(memory_bytes=3 * GIB))
    second = stage.submit(terms(memory_bytes=3 * GIB))
    stage.pause(first)
    assert stage.state(second) is State.QUEUED
    assert told(stage, second)["a"] == "1.0 GiB of memory are free, 3.0 are needed"


def test_p6_a_node_that_shrinks_gets_nothing_until_it_fits_again():
    stage = Stage()
    a = stage.node("a")
    jobs = [stage.submit(terms(2000)) for _ in range(3)]
    a.say(replace(a.beat_event(), capacity=replace(ROOM, cpu_milli=3000)))
    a.verified(jobs[0])
    assert stage.state(jobs[2]) is State.QUEUED
    a.verified(jobs[1])
    assert stage.state(jobs[2]) is State.RUNNING


def test_p6_a_node_whose_scratch_space_is_more_than_taken_still_gets_jobs_that_need_none():
    stage = Stage()
    a = stage.node("a", replace(ROOM, scratch_bytes=2 * GIB))
    stage.submit(terms(100, scratch_bytes=2 * GIB))
    a.say(replace(a.beat_event(), capacity=replace(ROOM, scratch_bytes=GIB)))
    job, other = stage.submit(terms(100)), stage.submit(terms(100, scratch_bytes=GIB))
    assert (stage.state(job), stage.state(other)) == (State.RUNNING, State.QUEUED)
    assert not within_capacity(stage.world, "a"), "it holds what it was given when it had more"
    assert overfull(stage.world, [(job, "a")]) is None
    assert overfull(stage.world, [(job, "a"), (other, "a")]) == "a"


def test_work_goes_to_the_fitting_node_with_the_most_room():
    stage = Stage()
    stage.node("a")
    stage.node("b", replace(ROOM, cpu_milli=8000, slots=8))
    assert [stage.where(stage.submit()) for _ in range(8)] == ["b", "b", "b", "b", "a", "b", "a", "b"]


def test_at_most_so_many_are_handed_out_a_turn_and_the_rest_in_the_next():
    stage = Stage(handouts_per_turn=2)
    for _ in range(5):
        stage.submit(terms(100))
    a = stage.node("a", replace(ROOM, slots=9), hello=False)
    handed = len(assigns(stage.turn(a.hello_event())))
    assert handed == 2
    assert len(assigns(stage.turn())) == 2
    assert len(assigns(stage.turn())) == 1


def test_no_more_are_handed_out_a_turn_also_where_a_reservation_ends_in_it():
    stage = Stage(handouts_per_turn=2, reserve_after_s=60.0)
    a = stage.node("a", replace(ROOM, slots=8))
    small = [stage.submit() for _ in range(4)]
    wide = stage.submit(terms(4000))
    stage.pass_s(66, 6.0)
    for job in small[:3]:
        a.verified(job)
    stage.node("b", replace(ROOM, cpu_milli=3000, slots=8), hello=False)
    rest = [stage.submit(terms(250)) for _ in range(8)]
    assert stage.world.reservation is not None and {stage.state(job) for job in rest} == {State.QUEUED}
    effects = stage.turn(a.published_event(a.local(small[3])), stage.hosts["b"].hello_event())
    assert len(assigns(effects)) == 2
    assert stage.state(wide) is not State.QUEUED


def test_of_nodes_with_equal_cores_the_one_with_more_memory_is_taken_and_then_the_first_by_name():
    stage = Stage()
    for name, memory_bytes in (("c", 8 * GIB), ("b", 8 * GIB), ("d", 9 * GIB)):
        stage.node(name, replace(ROOM, memory_bytes=memory_bytes))
    assert [stage.where(stage.submit(terms(memory_bytes=GIB))) for _ in range(3)] == ["d", "b", "c"]


def test_an_offer_waits_for_an_agent_that_is_being_restarted():
    stage = Stage(accept_timeout_s=5.0)
    a = stage.node("a")
    a.accepts = False
    job = stage.submit()
    a.say(ev.Goodbye(*a._at()))
    a.leave()
    stage.pass_s(20)
    assert (stage.state(job), stage.attempt(job).number) == (State.ASSIGNED, 1)


def test_an_order_to_go_on_is_repeated_until_it_is_followed():
    stage = Stage()
    a = stage.node("a")
    job = stage.submit()
    stage.pause(job)
    a.obeys = False
    stage.resume(job)
    assert stage.state(job) is State.RESUMING
    a.obeys = True
    stage.pass_s(2)
    assert stage.state(job) is State.RUNNING


def test_what_vanishes_from_its_node_is_tried_again_after_the_first_wait_and_no_sooner():
    stage = Stage(backoff_first_s=5.0)
    a = stage.node("a")
    refused, vanished = stage.submit(), stage.submit()
    a.refuse(refused)
    told_s = stage.now_s
    a.locals.clear()
    a.beat_number += 1
    stage.turn(a.beat_event())
    assert stage.state(vanished) is State.RETRYING
    assert stage.job(vanished).due_s == stage.now_s + 5.0
    assert told_s - 0.1 <= stage.job(refused).due_s - 5.0 <= told_s
