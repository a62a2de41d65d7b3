"""Pause and resume: a user's wish that outlives attempts, nodes and messages."""

from __future__ import annotations

from dataclasses import replace

import pytest
from farm.stage import BROKEN, ROOM, WRONG, Stage, terms

from ffrtmp.farm import effects as fx
from ffrtmp.farm import events as ev
from ffrtmp.farm.job import OnDisconnect, Queue, State, Want


def test_a_running_job_is_paused_when_its_node_says_that_it_stands_still():
    stage = Stage()
    a = stage.node("a")
    a.obeys = False
    job = stage.submit()
    assert stage.pause(job).status == 202
    assert stage.state(job) is State.RUNNING
    a.obeys = True
    stage.pass_s(2)
    assert stage.state(job) is State.PAUSED
    assert a.local(job).stage == "paused"
    assert stage.pause(job).status == 200
    assert stage.resume(job).status == 202
    assert stage.state(job) is State.RUNNING
    assert a.local(job).stage == "running"
    assert stage.resume(job).status == 409


def test_a_pause_order_is_repeated_until_it_is_followed():
    stage = Stage()
    a = stage.node("a")
    a.obeys = False
    job = stage.submit()
    stage.pause(job)
    stage.pass_s(4)
    assert sum(isinstance(e, fx.SendOrder) and e.want is Want.PAUSE for e in a.heard) >= 4


def test_a_job_that_waits_is_held_before_it_ran():
    stage = Stage()
    job = stage.submit()
    assert stage.pause(job).status == 200
    stage.node("a")
    assert stage.state(job) is State.PAUSED
    assert "paused by a user" in stage.why(job)
    stage.resume(job)
    assert stage.state(job) is State.RUNNING


def test_a_pause_while_the_job_is_handed_out_reaches_it_when_it_runs():
    stage = Stage()
    a = stage.node("a")
    a.accepts = False
    job = stage.submit()
    assert stage.pause(job).status == 202
    a.accept(job)
    assert stage.state(job) is State.PAUSED
    assert a.local(job).stage == "paused"


@pytest.mark.parametrize("how", ["refused", "not taken", "lost"])
def test_a_pause_while_the_job_is_handed_out_holds_it_when_nobody_takes_it(how):
    stage = Stage(accept_timeout_s=5.0)
    a = stage.node("a")
    a.accepts = False
    job = stage.submit()
    stage.pause(job)
    if how == "refused":
        a.refuse(job)
    elif how == "lost":
        a.leave()
    stage.pass_s(20)
    assert stage.state(job) is State.PAUSED
    stage.node("b")
    stage.pass_s(3)
    assert stage.state(job) is State.PAUSED
    a.accepts = True
    stage.resume(job)
    assert stage.state(job) is State.RUNNING


def test_a_pause_that_is_taken_back_before_it_took_hold():
    stage = Stage()
    a = stage.node("a")
    a.obeys = False
    job = stage.submit()
    stage.pause(job)
    assert stage.resume(job).status == 202
    a.obeys = True
    stage.pass_s(3)
    assert stage.path(job) == ["queued", "assigned", "running"]
    assert a.local(job).stage == "running"


def test_a_job_can_be_held_again_while_it_waits_for_room():
    stage = Stage()
    stage.node("a", replace(ROOM, slots=1))
    first, _second = stage.submit(), stage.submit()
    stage.pause(first)
    stage.resume(first)
    assert stage.state(first) is State.RESUMING
    assert "waits for CPU on a" in stage.why(first)
    assert stage.pause(first).status == 202
    assert stage.state(first) is State.PAUSED
    stage.pass_s(3)
    assert stage.state(first) is State.PAUSED


def test_a_release_that_the_node_has_not_followed_yet_can_be_taken_back():
    stage = Stage()
    a = stage.node("a")
    job = stage.submit()
    stage.pause(job)
    a.obeys = False
    stage.resume(job)
    assert stage.state(job) is State.RESUMING
    stage.pause(job)
    a.obeys = True
    stage.pass_s(3)
    assert stage.state(job) is State.PAUSED
    assert a.local(job).stage == "paused"
    stage.resume(job)
    assert stage.state(job) is State.RUNNING


def test_a_pause_that_is_taken_back_before_the_node_stands_still_again_needs_no_room():
    stage = Stage()
    a = stage.node("a")
    job = stage.submit()
    stage.pause(job)
    stage.resume(job)
    a.obeys = False
    stage.pause(job)
    a.local(job).stage = "running"
    assert stage.resume(job).status == 202
    a.obeys = True
    stage.pass_s(3)
    assert stage.state(job) is State.RUNNING
    assert a.local(job).stage == "running"


def test_a_held_job_whose_lost_node_may_be_publishing_is_not_started_elsewhere():
    stage = Stage()
    a = stage.node("a")
    job = stage.submit()
    a.publishes = a.obeys = False
    stage.pause(job)
    a.request(job)
    a.local(job).stage = "paused"
    a.beat()
    assert stage.state(job) is State.PAUSED and stage.grant(job) is not None
    stage.node("b", replace(ROOM, roots=frozenset()))
    stage.lose(a)
    answer = stage.resume(job)
    assert answer.status == 409 and "publishing" in answer.detail
    assert stage.state(job) is State.PAUSED


def test_a_held_job_on_a_lost_node_stays_held_and_goes_on_when_the_node_is_back():
    stage = Stage()
    a = stage.node("a")
    job = stage.submit()
    stage.pause(job)
    stage.node("b")
    stage.lose(a)
    assert stage.state(job) is State.PAUSED
    assert "which is lost" in stage.why(job)
    assert stage.pause(job).status == 200
    a.back()
    assert stage.state(job) is State.PAUSED
    stage.resume(job)
    assert stage.state(job) is State.RUNNING
    assert stage.attempt(job).number == 1


def test_a_held_job_whose_node_came_back_without_it_stays_held():
    stage = Stage()
    a = stage.node("a")
    job = stage.submit()
    stage.pause(job)
    stage.lose(a)
    history = stage.path(job)
    a.back(rebooted=True)
    stage.pass_s(3)
    assert stage.path(job) == history and history[-1] == "paused"
    assert stage.job(job).current == 0
    stage.resume(job)
    assert stage.state(job) is State.RUNNING


def test_a_held_job_whose_node_is_removed_stays_held():
    stage = Stage()
    stage.node("a")
    job = stage.submit()
    stage.pause(job)
    stage.ask(ev.RemoveNode(0, "a", force=True))
    stage.node("b")
    assert stage.state(job) is State.PAUSED


def test_a_held_job_on_a_lost_node_starts_elsewhere_when_it_is_released():
    stage = Stage()
    a = stage.node("a")
    job = stage.submit()
    stage.pause(job)
    b = stage.node("b")
    stage.lose(a)
    assert stage.resume(job).status == 202
    assert (stage.where(job), stage.state(job)) == ("b", State.RUNNING)
    b.progress(job, 5.0)
    a.back()
    assert stage.attempt(job).number == 2 and not a.has(job)


def test_an_attempt_that_stood_still_comes_back_and_goes_on_when_there_is_room():
    stage = Stage()
    a = stage.node("a", replace(ROOM, slots=1))
    job = stage.submit()
    a.progress(job, 50.0)
    stage.pause(job)
    other = stage.submit()
    stage.lose(a)
    stage.resume(job)
    assert stage.state(job) is State.QUEUED
    a.back()
    assert stage.state(job) is State.RESUMING, "the other job has its place"
    assert a.local(job).stage == "paused"
    a.verified(other)
    assert stage.state(job) is State.RUNNING
    assert stage.attempt(job).number == 1


def test_a_held_job_whose_attempt_fails_is_not_tried_again_before_it_is_released():
    stage = Stage()
    a = stage.node("a")
    job = stage.submit()
    stage.pause(job)
    a.fail(job, BROKEN)
    assert stage.state(job) is State.PAUSED
    stage.pass_s(30)
    assert stage.state(job) is State.PAUSED
    stage.resume(job)
    assert stage.state(job) is State.RUNNING
    assert stage.job(job).failures == 1


def test_a_job_held_between_two_tries_waits_its_back_off_out():
    stage = Stage(backoff_first_s=60.0)
    a = stage.node("a")
    job = stage.submit()
    a.fail(job, BROKEN)
    assert stage.pause(job).status == 200
    assert stage.resume(job).status == 202
    assert stage.state(job) is State.RETRYING
    stage.pass_s(58)
    assert stage.state(job) is State.RETRYING
    stage.pass_s(4)
    assert stage.state(job) is State.RUNNING


def test_holding_and_releasing_is_no_way_round_the_strict_lease():
    stage = Stage()
    a = stage.node("a")
    job = stage.submit(terms(on_disconnect=OnDisconnect.STOP))
    b = stage.node("b")
    stage.lose(a)
    stage.pause(job)
    stage.resume(job)
    assert stage.state(job) is State.RETRYING and not b.has(job)
    stage.until(lambda: b.has(job), within_s=20)


def test_a_held_job_under_the_strict_lease_starts_elsewhere_only_after_it():
    stage = Stage()
    a = stage.node("a")
    job = stage.submit(terms(on_disconnect=OnDisconnect.STOP))
    stage.pause(job)
    b = stage.node("b")
    stage.lose(a)
    heard_s = stage.world.contacts["a"].heard_at_s
    stage.resume(job)
    assert stage.state(job) is State.RETRYING
    stage.until(lambda: b.has(job))
    rules = stage.rules
    assert stage.now_s >= heard_s + rules.lost_after_s + rules.lease_stop_s + rules.lease_margin_s


def test_an_output_that_was_ready_before_the_pause_took_hold_completes_the_job():
    stage = Stage()
    a = stage.node("a")
    a.obeys = False
    job = stage.submit()
    stage.pause(job)
    a.verified(job)
    assert stage.state(job) is State.COMPLETED


def test_a_job_on_a_lost_node_that_waits_for_its_verdict_cannot_be_held():
    stage = Stage()
    a = stage.node("a")
    job = stage.submit()
    b = stage.node("b")
    stage.lose(a)
    b.fail(job, WRONG)
    answer = stage.pause(job)
    assert answer.status == 409
    assert stage.resume(job).status == 409


@pytest.mark.parametrize("how", ["fails", "goes down", "is removed", "is lost"])
def test_a_pause_that_has_not_taken_hold_outlives_the_attempt(how):
    stage = Stage(backoff_first_s=5.0)
    a = stage.node("a")
    a.obeys = False
    job = stage.submit()
    stage.node("b")
    assert stage.pause(job).status == 202 and stage.state(job) is State.RUNNING
    if how == "fails":
        a.fail(job)
    elif how == "goes down":
        a.end(job, "node_lost")
    elif how == "is removed":
        stage.ask(ev.RemoveNode(0, "a", force=True))
    else:
        stage.lose(a)
    stage.pass_s(10)
    assert stage.state(job) is State.PAUSED and stage.job(job).current == 0
    stage.resume(job)
    assert stage.attempt(job).number == 2


@pytest.mark.parametrize("lost", [False, True])
@pytest.mark.parametrize("deed", ["pause", "update"])
def test_what_is_asked_of_a_job_that_is_being_canceled_is_refused(deed, lost):
    stage = Stage()
    a = stage.node("a")
    a.obeys = False
    job = stage.submit()
    if lost:
        stage.lose(a)
    stage.cancel(job)
    answer = stage.pause(job) if deed == "pause" else stage.ask(ev.Update(0, job, Queue.BATCH))
    assert answer.status == 409 and "canceling" in answer.detail


def test_a_live_job_that_is_being_stopped_on_a_lost_node_cannot_be_paused():
    stage = Stage()
    a = stage.node("a")
    job = stage.submit(terms(queue=Queue.LIVE, live=True))
    a.obeys = False
    stage.stop(job)
    stage.lose(a)
    answer = stage.pause(job)
    assert answer.status == 409 and answer.nodes == ("a",) and answer.hint == "try again when it is back"


def test_a_held_attempt_that_runs_when_it_comes_back_holds_its_cores():
    stage = Stage()
    a = stage.node("a")
    job = stage.submit()
    stage.pause(job)
    stage.lose(a)
    a.obeys = False
    a.local(job).stage = "running"
    a.back()
    assert stage.state(job) is State.PAUSED and not stage.attempt(job).paused
    a.obeys = True
    stage.pass_s(3)
    assert stage.attempt(job).paused, "it is told to stand still once more"


def test_an_attempt_that_waited_for_room_and_runs_when_it_comes_back_goes_on():
    stage = Stage()
    a = stage.node("a", replace(ROOM, slots=1))
    job, _other = stage.submit(), stage.submit()
    a.publishes = a.obeys = False
    stage.pause(job)
    a.request(job)
    a.local(job).stage = "paused"
    stage.pass_s(2)
    stage.resume(job)
    assert stage.state(job) is State.RESUMING
    stage.lose(a)
    a.local(job).stage = "running"
    a.back()
    assert not stage.attempt(job).paused and stage.attempt(job).want is Want.RUN
    stage.pass_s(3)
    assert stage.state(job) is State.RUNNING


def test_only_a_job_that_is_held_or_about_to_be_can_be_released():
    stage = Stage()
    queued = stage.submit(terms(labels=frozenset({"nobody has it"})))
    a = stage.node("a")
    a.accepts = False
    assigned = stage.submit()
    for job, state in ((queued, "queued"), (assigned, "assigned")):
        answer = stage.resume(job)
        assert (answer.status, answer.detail) == (409, f"job {job} is {state}, not paused")
        assert stage.state(job).value == state


@pytest.mark.parametrize("lost", [False, True])
def test_a_job_that_is_being_canceled_cannot_be_released(lost):
    stage = Stage()
    a = stage.node("a")
    a.obeys = False
    job = stage.submit()
    stage.cancel(job)
    if lost:
        stage.lose(a)
    assert stage.resume(job).status == 409
    assert stage.state(job) is State.CANCELING and all(each.given_up for each in stage.world.attempts_of(job))


def test_a_live_job_that_is_being_stopped_on_a_lost_node_cannot_be_released():
    stage = Stage()
    a = stage.node("a")
    job = stage.submit(terms(queue=Queue.LIVE, live=True))
    a.obeys = False
    stage.stop(job)
    stage.lose(a)
    assert stage.resume(job).status == 409 and stage.attempt(job).want is Want.STOP


def test_a_live_job_that_is_held_is_not_stopped_but_canceled():
    stage = Stage()
    stage.node("a")
    job = stage.submit(terms(queue=Queue.LIVE, live=True))
    stage.pause(job)
    answer = stage.stop(job)
    assert (answer.status, answer.detail) == (409, f"job {job} is paused, not running")


def test_to_release_a_job_again_that_waits_for_room_changes_nothing():
    stage = Stage()
    stage.node("a", replace(ROOM, slots=1))
    job, _other = stage.submit(), stage.submit()
    stage.pause(job)
    for _ in range(2):
        answer = stage.resume(job)
        assert answer.status == 202 and answer.states == (State.RESUMING,)


def test_the_answer_to_a_release_says_where_the_job_stands_now():
    stage = Stage()
    a = stage.node("a")
    job = stage.submit()
    stage.pause(job)
    stage.lose(a)
    answer = stage.resume(job)
    assert (answer.status, answer.jobs, answer.states) == (202, (job,), (State.QUEUED,))


def test_a_job_that_is_held_may_change_its_queue_before_it_ran_and_not_after():
    stage = Stage()
    job = stage.submit()
    stage.pause(job)
    assert stage.ask(ev.Update(0, job, Queue.BATCH)).status == 200 and stage.job(job).terms.queue is Queue.BATCH
    stage.node("a")
    stage.resume(job)
    stage.pause(job)
    assert stage.state(job) is State.PAUSED and stage.job(job).current
    assert stage.ask(ev.Update(0, job, Queue.LIVE)).status == 409


def test_a_release_that_is_on_its_way_is_not_sent_again_in_each_turn():
    stage = Stage()
    a = stage.node("a")
    job = stage.submit()
    stage.pause(job)
    a.obeys = False
    stage.resume(job)
    assert stage.state(job) is State.RESUMING
    assert not any(isinstance(effect, fx.SendOrder) for effect in stage.turn())


def test_a_job_is_released_as_soon_as_there_is_one_slot_for_it():
    stage = Stage()
    a = stage.node("a", replace(ROOM, slots=3))
    held, *others = [stage.submit() for _ in range(3)]
    stage.pause(held)
    others.append(stage.submit())
    stage.resume(held)
    assert stage.state(held) is State.RESUMING
    a.verified(others[0])
    assert stage.state(held) is State.RUNNING
