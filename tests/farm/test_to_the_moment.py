"""Times are met to the moment: what is to be after so many seconds is not there a moment before, and is at that instant.

The clock stands where a test puts it; the times here are sums of quarters, which floating numbers hold exactly.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from farm.stage import BROKEN, ROOM, WRONG, Host, Stage, terms

from ffrtmp.farm import effects as fx
from ffrtmp.farm import events as ev
from ffrtmp.farm.farm import Farm
from ffrtmp.farm.job import Job, OnDisconnect, Priority, Queue, State
from ffrtmp.farm.queue import rank
from ffrtmp.farm.rules import Rules
from ffrtmp.farm.why import why

MOMENT_S = 0.25
LIVE = terms(queue=Queue.LIVE, live=True)


def at(stage: Stage, now_s: float, *said: ev.Event) -> list[fx.Effect]:
    """One turn at this very time; hosts say nothing of themselves."""
    stage.now_s = now_s
    return stage.turn(*said)


def comes_at(stage: Stage, when_s: float, so: Callable[[], bool]) -> None:
    """It is so at that time, and was not a moment before."""
    at(stage, when_s - MOMENT_S)
    assert not so(), "too early"
    at(stage, when_s)
    assert so(), "too late"


def walk(stage: Stage, to_s: float, *beating: Host) -> None:
    """Go on by a second at a time, so that the master always listens."""
    while stage.now_s < to_s:
        at(stage, min(to_s, stage.now_s + 1.0), *(host.beat_event() for host in beating))


def on_the_second(stage: Stage) -> Stage:
    """The clock at a whole second, so that all sums of times are exact."""
    at(stage, float(int(stage.now_s) + 1))
    return stage


def offered(**rules) -> tuple[Stage, int, Host]:
    """A job that was offered on the second to a node, which says nothing to it."""
    stage = Stage(**rules)
    a = stage.node("a")
    a.accepts = False
    on_the_second(stage)
    return stage, stage.submit(), a


def refused(**rules) -> tuple[Stage, int, float]:
    """A job whose first try was refused with a reason, and the time."""
    stage, job, a = offered(**rules)
    at(stage, stage.now_s, ev.Refused(*a._at(), stage.job(job).uuid, 1, "no", BROKEN))
    return stage, job, stage.now_s


def due(stage: Stage, now_s: float, *kinds: type) -> list[ev.TimeEvent]:
    return [event for event in stage.farm.due(now_s) if isinstance(event, kinds)]


# ---- jobs that wait ----------------------------------------------------------------------------------------------


def test_a_job_is_tried_again_as_soon_as_its_back_off_is_over():
    stage, job, now_s = refused(backoff_first_s=5.0)
    assert stage.job(job).due_s == now_s + 5.0
    comes_at(stage, now_s + 5.0, lambda: stage.state(job) is State.ASSIGNED)


def test_a_job_that_is_released_when_its_back_off_is_over_waits_no_more():
    stage, job, now_s = refused(backoff_first_s=5.0)
    stage.pause(job)
    at(stage, now_s + 5.0, ev.Resume(9, job))
    assert stage.path(job)[-3:] == ["paused", "queued", "assigned"]


def test_a_job_that_is_released_after_a_restart_waits_its_back_off_out_and_no_longer():
    stage, job, now_s = refused(backoff_first_s=60.0)
    stage.pause(job)
    stage.restart(1.0)
    stage.resume(job)
    assert stage.state(job) is State.RETRYING
    comes_at(stage, now_s + 60.0, lambda: stage.state(job) is State.QUEUED)


def test_a_wait_is_not_cut_short_by_a_master_that_looks_too_early():
    stage, job, now_s = refused(backoff_first_s=5.0)
    at(stage, now_s + 1.0, ev.JobDue(job))
    assert stage.state(job) is State.RETRYING
    at(stage, now_s + 5.0)
    assert stage.state(job) is State.ASSIGNED
    stage.hosts["a"].accept(job)
    at(stage, stage.now_s, ev.JobDue(job))
    assert stage.state(job) is State.RUNNING


def test_a_wait_that_is_over_is_named_until_it_has_been_acted_upon_and_then_no_more():
    stage, job, now_s = refused(backoff_first_s=5.0)
    for _ in range(2):
        assert due(stage, now_s + 5.0, ev.JobDue) == [ev.JobDue(job)], "a turn whose commit failed asks again"
    stage.ask(ev.DrainNode(0, "a", True))
    at(stage, now_s + 5.0)
    assert stage.state(job) is State.QUEUED
    assert due(stage, now_s + 6.0, ev.JobDue) == []
    stage.ask(ev.DrainNode(0, "a", False))
    stage.hosts["a"].accept(job)
    assert stage.state(job) is State.RUNNING
    assert due(stage, now_s + 6.0, ev.JobDue) == []


def test_a_wait_that_was_left_for_another_is_not_named_at_its_old_end():
    stage = Stage(backoff_first_s=5.0, lost_after_s=3.0)
    a = stage.node("a")
    job = stage.submit()
    b = stage.node("b")
    stage.lose(a)
    b.fail(job)
    first_s = stage.job(job).due_s
    a.back()
    assert stage.state(job) is State.RUNNING
    a.fail(job)
    assert stage.job(job).due_s > first_s + 1.0
    assert due(stage, first_s + 0.5, ev.JobDue) == []


def test_of_very_many_jobs_whose_wait_is_over_a_turn_takes_a_thousand():
    farm = Farm(Rules(), lineage="L", now_s=100.0)
    jobs = [Job(n, f"u{n}", terms(), 1.0, State.RETRYING, attempt=1, due_s=50.0) for n in range(1, 1002)]
    farm.restore(
        turn=1,
        next_job=1002,
        ancestors={},
        paused_queues=frozenset(),
        jobs=jobs,
        attempts=(),
        grants=(),
        nodes=(),
    )
    for many in (1000, 1):
        events = [event for event in farm.due(100.0) if isinstance(event, ev.JobDue)]
        assert len(events) == many
        for event in events:
            farm.apply(event, 100.0)
    assert {job.state for job in farm.world.jobs.rows()} == {State.QUEUED}


def test_why_says_of_a_wait_that_is_nearly_over_or_over_that_it_is_nought_seconds():
    stage, job, now_s = refused(backoff_first_s=5.0)
    for over_s in (4.75, 7.0):
        stage.farm.apply(ev.DrainNode(1, "a", True), now_s + over_s)
        assert stage.why(job).startswith("it is tried again in 0 s")


@pytest.mark.parametrize(
    ("now_s", "interval_s", "steps"),
    [
        (10.0, 1.0, 0),
        (10.75, 1.0, 0),
        (11.0, 1.0, 1),
        (12.75, 1.0, 2),
        (10.25, 0.5, 0),
        (10.5, 0.5, 1),
        (99.0, 0.0, 0),
    ],
)
def test_ageing_goes_by_whole_intervals_since_the_arrival(now_s, interval_s, steps):
    job = Job(7, "u", terms(queue=Queue.BATCH, priority=Priority.LOW), 10.0, State.QUEUED)
    assert rank(job, now_s, Rules(ageing_interval_s=interval_s)) == (8 - steps, 7)


def test_a_job_that_starves_is_helped_at_the_next_look_and_looks_are_no_more_often_than_the_rule_says():
    stage = Stage(reserve_after_s=40.0, starved_every_s=50.0)
    a = stage.node("a")
    stage.submit()
    on_the_second(stage)
    while stage.world.starved_s < stage.now_s:
        walk(stage, stage.now_s + 1.0, a)
    looked_s = stage.now_s
    for arrives_s, waits_s in ((2.0, 48.0), (10.0, 40.0)):
        walk(stage, looked_s + arrives_s, a)
        wide = stage.submit(terms(4000))
        walk(stage, looked_s + 50.0 - MOMENT_S, a)
        assert stage.world.reservation is None, "too early"
        at(stage, looked_s + arrives_s + waits_s, a.beat_event())
        assert stage.world.reservation is not None and stage.world.reservation.job == wide, "too late"
        stage.cancel(wide)
        looked_s = stage.world.starved_s
        assert looked_s == stage.now_s


# ---- nodes -------------------------------------------------------------------------------------------------------


def test_a_node_that_refused_takes_work_again_as_soon_as_it_may():
    stage, job, a = offered(hold_s=5.0)
    now_s = stage.now_s
    at(stage, now_s, ev.Refused(*a._at(), stage.job(job).uuid, 1, "no room"))
    comes_at(stage, now_s + 5.0, lambda: stage.state(job) is State.ASSIGNED)


def test_a_farm_in_which_nothing_happens_writes_nothing_while_it_looks_for_work():
    stage, job, a = offered(hold_s=5.0)
    now_s = stage.now_s
    assert stage.farm.apply(ev.Place(), now_s) == [] and not stage.world.undo
    at(stage, now_s, ev.Refused(*a._at(), stage.job(job).uuid, 1, "no room"))
    at(stage, now_s + 5.0)
    a.accept(job)
    assert stage.farm.apply(ev.Place(), stage.now_s) == [] and not stage.world.undo


@pytest.mark.parametrize("start_s", [0.25, 7.0])
@pytest.mark.parametrize("looks_s", [(4.0, 5.0), (4.5, 5.5)])
def test_an_offer_is_taken_back_as_soon_as_it_was_not_accepted_in_time(start_s, looks_s):
    stage, job, _a = offered(now_s=start_s, accept_timeout_s=5.0)
    early_s, late_s = (stage.now_s + seconds for seconds in looks_s)
    at(stage, early_s)
    assert stage.state(job) is State.ASSIGNED
    at(stage, late_s)
    assert stage.world.attempts[(job, 1)].given_up


def test_an_offer_is_repeated_every_second_and_not_more_often():
    stage, _job, _a = offered()
    begun_s = stage.now_s
    sent = {
        late_s: any(isinstance(e, fx.SendAssign) for e in at(stage, begun_s + late_s))
        for late_s in (0.25, 0.75, 1.0, 1.75, 2.0, 2.25, 3.5, 4.25, 4.5)
    }
    assert [late_s for late_s in sent if sent[late_s]] == [1.0, 2.0, 3.5, 4.5]


def test_a_node_is_lost_once_it_was_silent_for_longer_than_it_may():
    stage = on_the_second(Stage(lost_after_s=15.0))
    a = stage.node("a")
    at(stage, stage.now_s + 1.0, a.beat_event())
    heard_s = stage.now_s
    walk(stage, heard_s + 15.0)
    assert stage.world.in_contact("a") is not None
    at(stage, heard_s + 15.0 + MOMENT_S)
    assert stage.world.in_contact("a") is None


@pytest.mark.parametrize("start_s", [0.25, 7.0])
@pytest.mark.parametrize("over_s", [10.0, 10.5])
def test_the_master_doubts_itself_for_as_long_as_the_rule_says_and_no_longer(start_s, over_s):
    stage = Stage(now_s=start_s, lost_after_s=3.0, self_doubt_s=10.0)
    hosts = [stage.node(name) for name in "abc"]
    on_the_second(stage)
    at(stage, stage.now_s, *(host.beat_event() for host in hosts))
    walk(stage, stage.now_s + 4.0)
    doubts_s = stage.now_s
    assert all(contact.suspected_s == doubts_s for contact in stage.world.contacts.rows())
    walk(stage, doubts_s + 9.0)
    at(stage, doubts_s + over_s - 0.75)
    assert all(stage.world.in_contact(name) is not None for name in "abc")
    at(stage, doubts_s + over_s)
    assert all(stage.world.in_contact(name) is None for name in "abc")


@pytest.mark.parametrize(("other_s", "doubts"), [(2.0, True), (11.75, True), (12.0, False)])
def test_a_node_is_quiet_once_it_was_silent_for_longer_than_two_heartbeats(other_s, doubts):
    stage = Stage(now_s=0.25, lost_after_s=15.0, heartbeat_s=2.0)
    a, b, c = (stage.node(name) for name in "abc")
    on_the_second(stage)
    at(stage, stage.now_s, a.beat_event())
    heard_s = stage.now_s
    walk(stage, heard_s + other_s - 1.0, c)
    at(stage, heard_s + other_s, b.beat_event(), c.beat_event())
    walk(stage, heard_s + 15.0, c)
    at(stage, heard_s + 16.0)
    assert (stage.world.in_contact("a") is not None) is doubts


def test_a_master_with_very_frequent_heartbeats_is_deaf_only_after_a_whole_second():
    for gap_s, deaf in ((1.0, False), (1.25, True)):
        stage = on_the_second(Stage(heartbeat_s=0.5))
        begun_s = stage.world.listening_s
        at(stage, stage.now_s + gap_s)
        assert (stage.world.listening_s == begun_s) is deaf


def test_a_master_that_has_run_for_long_notices_that_it_was_deaf():
    stage = on_the_second(Stage(now_s=100_000.0))
    stage.node("a").leave()
    begun_s = stage.now_s
    for number in range(1, 20):
        at(stage, begun_s + 30.0 * number)
    assert stage.world.in_contact("a") is not None


def test_nodes_have_their_time_to_come_back_to_a_master_that_started():
    stage = on_the_second(Stage(reconnect_grace_s=20.0))
    stage.node("a").leave()
    on_the_second(stage)
    stage.restart(1.0)
    started_s = stage.now_s
    walk(stage, started_s + 19.0)
    comes_at(stage, started_s + 20.0, lambda: bool(due(stage, stage.now_s, ev.GraceOver)))


# ---- grants ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("start_s", [0.25, 7.0])
def test_p2_a_lost_nodes_grant_is_settled_once_it_and_its_margin_are_over_and_asked_for_every_second(start_s):
    stage = Stage(now_s=start_s, lost_after_s=3.0, grant_ttl_s=10.0, grant_margin_s=5.0)
    a = stage.node("a")
    job = stage.submit()
    b = stage.node("b")
    a.publishes = b.obeys = False
    on_the_second(stage)
    at(stage, stage.now_s, a.request_event(a.local(job)))
    granted_s = stage.now_s
    grant = stage.grant(job)
    assert grant is not None and grant.until_s == granted_s + 10.0
    walk(stage, granted_s + 14.0, b)
    asked = [
        late_s
        for late_s in (14.75, 15.0, 15.75, 16.0, 17.5, 18.25, 18.5)
        if any(isinstance(e, fx.SendSettle) for e in at(stage, granted_s + late_s, b.beat_event()))
    ]
    assert asked == [15.0, 16.0, 17.5, 18.5]


def test_p2_a_lost_live_attempts_lease_on_its_target_ends_with_the_lease_of_its_node():
    stage = Stage(lost_after_live_s=6.0, lease_margin_s=3.0)
    a = stage.node("a")
    job = stage.submit(LIVE)
    a.publishes = False
    a.request(job)
    on_the_second(stage)
    at(stage, stage.now_s, a.beat_event())
    heard_s = stage.now_s
    walk(stage, heard_s + 8.0)
    assert stage.world.in_contact("a") is None
    comes_at(stage, heard_s + 9.0, lambda: stage.grant(job) is None)


def test_a_grant_whose_holder_is_there_is_settled_by_nobody_else():
    for of in (terms(), LIVE):
        stage = Stage()
        a = stage.node("a")
        job = stage.submit(of)
        stage.node("b")
        a.publishes = False
        a.request(job)
        grant = stage.grant(job)
        at(stage, stage.now_s, ev.GrantDue(job))
        assert stage.grant(job) == grant and grant is not None and not grant.settling


# ---- a clock near nought -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["removed", "down", "not taken"])
def test_a_job_that_loses_its_node_is_queued_at_once_also_on_a_host_that_has_just_been_started(how):
    stage = Stage(now_s=0.0, accept_timeout_s=0.25, resend_s=0.125, hold_s=60.0)
    a = stage.node("a")
    a.accepts = how != "not taken"
    job = stage.submit()
    if how == "removed":
        stage.ask(ev.RemoveNode(0, "a", force=True))
    elif how == "down":
        stage.ask(ev.DrainNode(0, "a", True))
        a.end(job, "node_lost")
    else:
        at(stage, stage.now_s + 0.25)
    assert stage.now_s < 1.0 and stage.state(job) is State.QUEUED


# ---- a start of the master ---------------------------------------------------------------------------------------


def test_patience_with_a_lost_attempt_is_counted_anew_when_the_master_starts():
    stage = Stage(doubt_patience_s=60.0, lost_after_s=3.0)
    a = stage.node("a")
    job = stage.submit()
    b = stage.node("b")
    stage.lose(a)
    b.fail(job, WRONG)
    assert stage.job(job).verdict is State.FAILED
    stage.restart(30.0)
    assert stage.job(job).due_s == stage.now_s + 60.0
    told = why(stage.world, job)
    assert told is not None and told.sentence.startswith("it is failed in 60 s unless a comes back")


def test_a_back_off_that_a_clock_set_back_would_prolong_is_bounded_when_the_master_starts():
    stage, job, _now_s = refused(backoff_max_s=300.0)
    stored = stage.stored()
    jobs = [replace(each, due_s=1e6) for each in stored.fields["jobs"]]
    stage.restart(backup=replace(stored, fields={**stored.fields, "jobs": jobs}))
    assert stage.job(job).due_s == stage.now_s + 300.0


def test_a_strict_lease_that_ends_with_the_patience_for_its_agent_keeps_its_job_waiting_no_longer():
    stage = Stage(away_after_s=20.0, lost_after_s=15.0, lease_stop_s=3.0, lease_margin_s=2.0)
    a = stage.node("a", replace(ROOM, slots=1))
    job = stage.submit(terms(on_disconnect=OnDisconnect.STOP))
    on_the_second(stage)
    at(stage, stage.now_s, ev.Goodbye(*a._at()))
    heard_s = stage.now_s
    walk(stage, heard_s + 20.0)
    assert stage.state(job) is State.RUNNING
    at(stage, heard_s + 20.0 + MOMENT_S)
    assert stage.state(job) is State.QUEUED
