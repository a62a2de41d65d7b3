"""`on_disconnect = stop`: an attempt ends with its lease, and its successor starts only after that."""

from __future__ import annotations

import pytest
from farm.stage import Host, Stage, terms

from ffrtmp.farm import events as ev
from ffrtmp.farm.job import OnDisconnect, Queue, State

STRICT = terms(on_disconnect=OnDisconnect.STOP)
STRICT_LIVE = terms(on_disconnect=OnDisconnect.STOP, queue=Queue.LIVE, live=True)


@pytest.mark.parametrize("of", [STRICT, STRICT_LIVE], ids=["file", "live"])
def test_the_successor_starts_only_after_lease_stop_time_and_margin(of):
    stage = Stage()
    a = stage.node("a")
    job = stage.submit(of)
    b = stage.node("b")
    heard_s = stage.world.contacts["a"].heard_at_s
    stage.lose(a)
    assert stage.state(job) is State.RETRYING
    assert "may run for another" in stage.why(job)
    stage.until(lambda: b.has(job))
    rules = stage.rules
    lease_s = rules.lost_after_live_s if of.live else rules.lost_after_s
    over_s = heard_s + lease_s + rules.lease_stop_s + rules.lease_margin_s
    assert over_s <= stage.now_s <= over_s + 2.0


def test_an_attempt_that_comes_back_was_ended_by_its_lease_and_stays_given_up():
    stage = Stage()
    a = stage.node("a")
    job = stage.submit(STRICT)
    stage.lose(a)
    a.back()
    assert not a.has(job)
    stage.until(lambda: stage.state(job) is State.RUNNING)
    assert stage.attempt(job).number == 2


def test_the_lease_is_waited_out_also_when_the_node_is_removed():
    stage = Stage()
    a = stage.node("a")
    job = stage.submit(STRICT)
    b = stage.node("b")
    heard_s = stage.world.contacts["a"].heard_at_s
    stage.lose(a)
    stage.ask(ev.RemoveNode(0, "a"))
    assert stage.state(job) is State.RETRYING
    stage.until(lambda: b.has(job))
    assert stage.now_s >= heard_s + stage.rules.lost_after_s + stage.rules.lease_stop_s + stage.rules.lease_margin_s


def test_the_lease_is_waited_out_over_a_restart_of_the_master():
    stage = Stage()
    a = stage.node("a")
    job = stage.submit(STRICT)
    b = stage.node("b")
    heard_s = stage.world.contacts["a"].heard_at_s
    stage.lose(a)
    stage.restart()
    over_s = stage.now_s + stage.rules.lost_after_s + stage.rules.lease_stop_s + stage.rules.lease_margin_s
    assert stage.job(job).due_s == stage.world.attempts[(job, 1)].fence_s == over_s, "it is counted anew"
    stage.until(lambda: b.has(job), within_s=60)
    assert stage.now_s >= heard_s + stage.rules.lost_after_s + stage.rules.lease_stop_s + stage.rules.lease_margin_s


def test_a_node_that_stays_away_over_a_restart_gets_its_lease_counted_from_the_start():
    stage = Stage()
    a = stage.node("a")
    job = stage.submit(STRICT)
    b = stage.node("b")
    a.leave()
    stage.restart()
    started_s = stage.now_s
    stage.until(lambda: b.has(job), within_s=60)
    assert stage.now_s >= started_s + stage.rules.reconnect_grace_s


def test_a_cancel_is_over_when_the_fenced_node_is_removed():
    stage = Stage()
    a = stage.node("a")
    job = stage.submit(STRICT)
    stage.lose(a)
    assert stage.cancel(job).status == 202
    stage.ask(ev.RemoveNode(0, "a"))
    assert stage.state(job) is State.CANCELED


def test_p8_losses_under_the_strict_lease_are_poison_at_once():
    stage = Stage()
    for name in "abcd":
        stage.node(name)
    job = stage.submit(STRICT)
    for _ in range(2):
        stage.lose(stage.hosts[stage.where(job)])
        stage.until(lambda: stage.state(job) is State.RUNNING)
    stage.lose(stage.hosts[stage.where(job)])
    assert stage.state(job) is State.FAILED, "none of the three can come back"


def test_the_successor_of_one_that_was_not_taken_in_time_waits_as_well_for_it_may_be_starting():
    stage = Stage()
    a = stage.node("a")
    a.accepts = False
    job = stage.submit(STRICT)
    offered_s = stage.now_s
    b = stage.node("b")
    stage.until(lambda: stage.state(job) is not State.ASSIGNED)
    assert stage.state(job) is State.RETRYING
    stage.until(lambda: b.has(job))
    rules = stage.rules
    waits_s = rules.accept_timeout_s + rules.lost_after_s + rules.lease_stop_s + rules.lease_margin_s
    assert stage.now_s >= offered_s + waits_s


def frozen(stage: Stage) -> tuple[Host, int]:
    """A host that stood still with a strict job until long after the lease, and is back with its engine still there."""
    a = stage.node("a")
    job = stage.submit(STRICT)
    stage.lose(a)
    stage.until(lambda: stage.state(job) is State.QUEUED)
    a.obeys = False
    a.back()
    assert stage.state(job) is State.ASSIGNED
    return a, job


def test_a_former_engine_that_comes_back_is_ended_before_its_successor_is_offered():
    stage = Stage()
    a, job = frozen(stage)
    assert "its engine on a" in stage.why(job)
    stage.pass_s(2 * stage.rules.accept_timeout_s)
    assert stage.state(job) is State.ASSIGNED, "the time in which it has to be taken has not begun"
    assert [local.number for local in a.locals.values()] == [1]
    a.obeys = True
    stage.until(lambda: stage.state(job) is State.RUNNING, within_s=3.0)
    assert [local.number for local in a.locals.values()] == [2]


def test_a_former_engine_whose_node_is_lost_again_has_ended_by_its_lease():
    stage = Stage()
    a, job = frozen(stage)
    b = stage.node("b")
    a.leave()
    stage.until(lambda: b.has(job))


@pytest.mark.parametrize("taken", [True, False], ids=["runs", "is being made"])
def test_an_attempt_that_a_late_hello_does_not_name_may_be_there_all_the_same(taken):
    stage = Stage()
    a = stage.node("a")
    late = a.hello_event(connection=b"late", incarnation=2)
    a.accepts = taken
    job = stage.submit(STRICT)
    a.say(ev.Goodbye(*a._at()))
    a.leave()
    said_s = stage.now_s
    stage.turn(late)
    assert stage.state(job) is State.RETRYING
    b = stage.node("b")
    stage.until(lambda: b.has(job))
    assert stage.now_s >= said_s + stage.rules.lost_after_s + stage.rules.lease_stop_s + stage.rules.lease_margin_s


def test_the_lease_is_waited_out_also_when_a_node_in_contact_is_removed():
    stage = Stage()
    stage.node("a")
    job = stage.submit(STRICT)
    b = stage.node("b")
    removed_s = stage.now_s
    stage.ask(ev.RemoveNode(0, "a", force=True))
    assert stage.state(job) is State.RETRYING
    stage.until(lambda: b.has(job))
    assert stage.now_s >= removed_s + stage.rules.lost_after_s + stage.rules.lease_stop_s + stage.rules.lease_margin_s
