"""Whatever nodes are called, and whoever comes first in the alphabet: a node speaks for itself and for nobody else."""

from __future__ import annotations

from dataclasses import replace

import pytest
from farm.stage import BROKEN, ROOM, Host, Stage, terms

from ffrtmp.farm import effects as fx
from ffrtmp.farm import events as ev
from ffrtmp.farm.job import Phase, Queue, State, Want

LIVE = terms(queue=Queue.LIVE, live=True)
both_ways = pytest.mark.parametrize(("one", "other"), [("a", "b"), ("b", "a"), ("node-1", "node-2")])


def sorry(effects: list[fx.Effect]) -> fx.SendSorry:
    return next(e for e in effects if isinstance(e, fx.SendSorry))


# ---- who is let in -----------------------------------------------------------------------------------------------


@both_ways
def test_p9_an_address_is_free_after_the_silence_that_makes_a_node_lost_and_no_sooner(one, other):
    stage = Stage(lost_after_s=15.0, sign_s=2.0)
    holder = stage.node(one, address="10.1.1.1")
    holder.leave()
    newcomer = stage.node(other, address="10.1.1.1")
    stage.pass_s(10.0)
    assert stage.world.in_contact(one) is not None and stage.world.in_contact(other) is None
    stage.pass_s(10.0)
    assert stage.world.in_contact(other) is not None and newcomer.session
    assert "has not been heard" not in str(stage.history.rows)


@both_ways
def test_a_node_is_lost_at_its_time_whoever_waits_for_its_address(one, other):
    stage = Stage(lost_after_s=15.0)
    holder, newcomer = stage.node(one, address="10.1.1.1"), stage.node(other, hello=False, address="10.1.1.1")
    newcomer.up = False
    holder.leave()
    stage.pass_s(10.0)
    stage.turn(newcomer.hello_event())
    stage.pass_s(6.5)
    assert stage.world.in_contact(one) is None


@both_ways
def test_p9_who_waits_for_an_address_is_let_in_when_its_node_gives_no_sign(one, other):
    stage = Stage()
    holder, newcomer = stage.node(one, address="10.1.1.1"), stage.node(other, hello=False, address="10.1.1.1")
    holder.leave()
    stage.turn(newcomer.hello_event())
    effects = stage.turn(ev.NewcomerDue(one))
    assert [e.node for e in effects if isinstance(e, fx.SendWelcome)] == [other]
    assert stage.world.in_contact(one) is None


@both_ways
def test_p9_who_wants_an_address_that_is_taken_is_told_whose_it_is(one, other):
    stage = Stage()
    holder, newcomer = stage.node(one, address="10.1.1.1"), stage.node(other, hello=False, address="10.1.1.1")
    stage.turn(newcomer.hello_event())
    stage.now_s += 1.0
    refusal = sorry(stage.turn(holder.beat_event()))
    assert refusal.detail == f"address 10.1.1.1 belongs to node {one}, which is in contact"
    stage.turn(holder.hello_event(connection=b"copy"))
    stage.now_s += 1.0
    assert sorry(stage.turn(holder.beat_event())).detail.endswith("this is a copy of it")


@both_ways
def test_p9_who_waited_for_an_address_and_has_another_waits_no_more_and_another_still_does(one, other):
    stage = Stage()
    holders = [stage.node(name, address=address) for name, address in (("x", "10.1.1.1"), ("y", "10.1.1.2"))]
    waits, moves = stage.node(one, hello=False), stage.node(other, hello=False)
    stage.turn(waits.hello_event(address="10.1.1.1"), moves.hello_event(address="10.1.1.2"))
    assert set(stage.world.newcomers) == {"x", "y"} and all(host.up for host in holders)
    stage.mail.clear()
    stage.turn(moves.hello_event(address="10.1.1.9"))
    assert set(stage.world.newcomers) == {"x"} and stage.world.nodes[other].address == "10.1.1.9"
    assert stage.world.newcomers["x"].hello.node == one


@pytest.mark.parametrize("addresses", [("10.1.1.1", "10.1.1.2"), ("10.1.1.2", "10.1.1.1")])
def test_p9_a_node_that_tells_another_address_in_its_session_is_known_by_it(addresses):
    stage = Stage()
    a = stage.node("a", address=addresses[0])
    a.address = addresses[1]
    a.hello()
    assert stage.world.nodes["a"].address == addresses[1]


def test_a_node_that_comes_back_is_told_at_once_what_is_wanted_of_its_attempts():
    stage = Stage()
    a = stage.node("a")
    held, stopped = stage.submit(), stage.submit(LIVE)
    a.obeys = False
    stage.pause(held)
    stage.stop(stopped)
    stage.turn(ev.Goodbye(*a._at()))
    effects = stage.turn(a.hello_event(connection=b"a/2", incarnation=2))
    assert {e.want for e in effects if isinstance(e, fx.SendOrder)} == {Want.PAUSE, Want.STOP}


@pytest.mark.parametrize("connection", [b"a/0", b"a/2"])
def test_p9_a_message_of_a_session_counts_only_over_its_own_connection(connection):
    stage = Stage()
    a = stage.node("a")
    effects = stage.turn(replace(a.beat_event(), connection=connection))
    assert effects == [fx.SendNoSession(connection, a.session)]


def test_an_attempt_that_is_given_up_when_it_comes_back_is_told_so_in_the_welcome():
    stage = Stage()
    a = stage.node("a")
    job = stage.submit()
    b = stage.node("b")
    stage.lose(a)
    b.progress(job, 50.0)
    a.session = 0
    (welcome,) = [e for e in stage.turn(a.hello_event()) if isinstance(e, fx.SendWelcome)]
    assert [directive.action for directive in welcome.directives] == ["stop"]


def test_an_attempt_that_ended_while_it_published_is_ahead_of_a_successor_that_encodes():
    stage = Stage()
    a = stage.node("a")
    job = stage.submit()
    b = stage.node("b")
    stage.lose(a)
    b.progress(job, 50.0)
    local = a.local(job)
    local.stage, local.phase = "ended", Phase.PUBLISHING
    a.back()
    assert stage.attempt(job).number == 1 and not b.has(job)


def test_p6_a_held_attempt_that_has_ended_when_it_comes_back_is_not_taken_to_stand_still():
    stage = Stage()
    a = stage.node("a")
    job = stage.submit()
    stage.pause(job)
    stage.lose(a)
    a.local(job).stage = "ended"
    a.session = 0
    stage.turn(a.hello_event())
    assert not stage.attempt(job).paused


# ---- work as soon as a node is there -----------------------------------------------------------------------------


def waiting(stage: Stage) -> int:
    job = stage.submit()
    assert stage.state(job) is State.QUEUED
    stage.turn()
    return job


def test_a_node_that_says_hello_to_a_restarted_master_gets_work_in_that_turn():
    stage = Stage()
    a = stage.node("a")
    stage.restart()
    job = waiting(stage)
    stage.turn(a.hello_event())
    assert stage.state(job) is State.ASSIGNED


def test_a_node_that_speaks_after_its_goodbye_gets_work_in_that_turn():
    stage = Stage()
    a = stage.node("a")
    stage.turn(ev.Goodbye(*a._at()))
    job = waiting(stage)
    stage.turn(a.beat_event())
    assert stage.state(job) is State.ASSIGNED


# ---- who speaks for whom -----------------------------------------------------------------------------------------


@both_ways
def test_p4_a_node_that_names_the_attempt_of_another_is_told_to_stop_it_and_nothing_else_changes(one, other):
    stage = Stage()
    stage.node(one)
    job = stage.submit()
    b = stage.node(other)
    report = ev.Report(stage.job(job).uuid, job, 1, "running")
    b.connection += b"x"
    stage.turn(ev.Goodbye(other, b.connection[:-1], b.session))
    (welcome,) = [e for e in stage.turn(b.hello_event(reports=(report,))) if isinstance(e, fx.SendWelcome)]
    assert [directive.action for directive in welcome.directives] == ["stop"]
    assert stage.where(job) == one and stage.state(job) is State.RUNNING


def late_hello(stage: Stage) -> tuple[int, Host, Host]:
    """A job whose attempt on a lost node was forgotten, for a late Hello did not name it; it runs on another now."""
    a = stage.node("a")
    late = a.hello_event(connection=b"an older one", token=999)
    job = stage.submit()
    a.obeys = False
    stage.lose(a)
    b = stage.node("b")
    b.obeys = False
    stage.turn(late)
    assert not stage.world.attempts_on("a") and stage.where(job) == "b"
    return job, a, b


@pytest.mark.parametrize(("said", "paused"), [("running", False), ("paused", True), ("starting", False)])
def test_p6_an_attempt_that_was_forgotten_and_is_named_again_has_its_room_until_it_has_ended(said, paused):
    stage = Stage()
    job, a, _b = late_hello(stage)
    a.local(job).stage = said
    stage.turn(ev.Goodbye("a", b"an older one", 999))
    stage.turn(a.hello_event(connection=b"a/9", incarnation=2))
    found = stage.world.attempts[(job, 1)]
    assert found.given_up and found.accepted and found.paused is paused
    a.connection, a.session, a.incarnation = b"a/9", stage.world.contacts["a"].session, 2
    a.locals.clear()
    stage.turn(a.beat_event())
    assert (job, 1) not in stage.world.attempts, "its heartbeat does not name it any more"


@pytest.mark.parametrize(
    ("number", "stage_told", "there"),
    [
        (1, "running", True),
        (1, "ended", False),
        (2, "running", True),
        (3, "running", False),
        (0, "running", False),
        (-1, "running", False),
    ],
)
def test_only_a_number_that_was_handed_out_and_may_still_be_at_work_is_found_again(number, stage_told, there):
    stage = Stage()
    job, _a, b = late_hello(stage)
    uuid = stage.job(job).uuid
    if number == 2:
        for name in "ab":
            stage.ask(ev.DrainNode(0, name, True))
        b.end(job, "node_lost")
        assert not stage.world.attempts_of(job) and stage.job(job).attempt == 2
    stage.turn(ev.Goodbye("a", b"an older one", 999))
    effects = stage.turn(
        stage.hosts["a"].hello_event(
            connection=b"a/9", incarnation=2, reports=(ev.Report(uuid, job, number, stage_told),)
        )
    )
    (welcome,) = [e for e in effects if isinstance(e, fx.SendWelcome)]
    assert [directive.action for directive in welcome.directives] == ["stop"]
    assert ((job, number) in stage.world.attempts) is there


def test_what_a_node_says_of_an_attempt_that_has_ended_needs_no_further_order():
    stage = Stage()
    a = stage.node("a")
    job = stage.submit()
    a.local(job).stage = "ended"
    stage.turn(a.beat_event())
    stage.now_s += 5.0
    assert not any(isinstance(event, ev.AttemptDue) for event in stage.farm.due(stage.now_s))


# ---- heartbeats --------------------------------------------------------------------------------------------------


def test_of_several_attempts_on_a_node_each_that_vanishes_is_noticed():
    stage = Stage()
    a = stage.node("a")
    stays, goes = stage.submit(), stage.submit()
    a.locals.pop((stage.job(goes).uuid, 1))
    a.beat()
    assert (stage.state(stays), stage.state(goes)) == (State.RUNNING, State.RETRYING)

    stage = Stage()
    a = stage.node("a")
    waits = stage.submit(terms(labels=frozenset({"later"})))
    goes = stage.submit()
    a.accepts = False
    stage.ask(ev.LabelNode(0, "a", frozenset({"later"})))
    assert stage.state(waits) is State.ASSIGNED
    a.locals.clear()
    stage.turn(a.beat_event())
    assert (stage.state(waits), stage.state(goes)) == (State.ASSIGNED, State.RETRYING)


def test_a_heartbeat_that_was_overtaken_by_two_others_misses_nothing():
    stage = Stage()
    a = stage.node("a")
    late = a.beat_event()
    job = stage.submit()
    a.beat()
    stage.turn(late)
    assert stage.state(job) is State.RUNNING


@pytest.mark.parametrize("said", ["running", "ended", "starting"])
def test_a_job_is_paused_when_its_attempt_stands_still_and_not_before(said):
    stage = Stage()
    a = stage.node("a")
    a.obeys = False
    job = stage.submit()
    stage.pause(job)
    a.local(job).stage = said
    stage.pass_s(3)
    assert stage.state(job) is State.RUNNING


@pytest.mark.parametrize("said", ["paused", "ended", "starting"])
def test_a_job_goes_on_when_its_attempt_runs_and_not_before(said):
    stage = Stage()
    a = stage.node("a")
    job = stage.submit()
    stage.pause(job)
    a.obeys = False
    stage.resume(job)
    a.local(job).stage = said
    stage.pass_s(3)
    assert stage.state(job) is State.RESUMING


def test_p6_a_job_that_waits_for_room_goes_on_only_when_it_is_told_to_whatever_its_node_says():
    stage = Stage()
    a = stage.node("a", replace(ROOM, slots=1))
    job, _other = stage.submit(), stage.submit()
    stage.pause(job)
    stage.resume(job)
    a.obeys = False
    a.local(job).stage = "running"
    stage.pass_s(3)
    assert stage.state(job) is State.RESUMING


def test_an_offer_that_is_accepted_is_followed_by_an_order_only_where_something_else_is_wanted():
    stage = Stage()
    a = stage.node("a")
    a.accepts = False
    goes, held, stopped = stage.submit(), stage.submit(), stage.submit(LIVE)
    stage.ask(ev.Pause(0, held))
    stage.ask(ev.Stop(0, stopped))
    wants = {}
    for job in (goes, held, stopped):
        effects = stage.turn(a._accepted(stage.attempt(job)))
        wants[job] = [e.want for e in effects if isinstance(e, fx.SendOrder) and e.uuid == stage.job(job).uuid]
    assert wants == {goes: [], held: [Want.PAUSE], stopped: [Want.STOP]}


def test_an_older_attempt_whose_acceptance_was_lost_takes_the_job_back_and_that_is_told_once():
    stage = Stage(accept_timeout_s=60.0)
    a = stage.node("a")
    a.accepts = False
    job = stage.submit()
    b = stage.node("b")
    b.accepts = False
    attempt = stage.attempt(job)
    stage.lose(a)
    assert (stage.where(job), stage.state(job)) == ("b", State.ASSIGNED)
    a._accepted(attempt)
    a.back()
    assert (stage.where(job), stage.state(job)) == ("a", State.RUNNING)
    assert [row.kind for row in stage.history.rows if row.after is State.RUNNING and row.job == job] == ["returned"]


def test_a_live_successor_that_was_only_just_accepted_does_not_put_out_yet():
    stage = Stage()
    a = stage.node("a")
    job = stage.submit(LIVE)
    b = stage.node("b")
    b.accepts = False
    stage.lose(a)
    assert stage.where(job) == "b"
    stage.turn(b._accepted(stage.attempt(job)))
    assert stage.state(job) is State.RUNNING
    a.back()
    assert stage.where(job) == "a"


@pytest.mark.parametrize("how", ["absent", "completed"])
def test_a_live_attempt_that_vanishes_is_done_again_and_only_one_that_ended_as_planned_completes_its_job(how):
    stage = Stage()
    a = stage.node("a")
    job = stage.submit(LIVE)
    a.end(job, how)
    assert stage.state(job) is (State.COMPLETED if how == "completed" else State.RETRYING)


def test_a_live_job_whose_planned_end_was_asked_for_is_completed_also_where_its_attempt_was_just_ended():
    stage = Stage()
    a = stage.node("a")
    job = stage.submit(LIVE)
    a.obeys = False
    stage.stop(job)
    a.end(job, "stopped")
    assert stage.state(job) is State.COMPLETED
    assert "attempt 1 ended; its planned end had been asked for" in stage.said(job)


def test_the_history_says_of_an_offer_that_was_dropped_that_it_never_started():
    stage = Stage()
    a = stage.node("a")
    a.accepts = False
    job = stage.submit()
    stage.turn(ev.Ended(*a._at(), "x", stage.job(job).uuid, 1, "absent"))
    assert "a never started it" in stage.said(job)


@pytest.mark.parametrize("accepts", [True, False])
def test_the_history_tells_that_a_node_was_removed_and_its_job_goes_elsewhere(accepts):
    stage = Stage()
    a = stage.node("a")
    a.accepts = accepts
    job = stage.submit()
    b = stage.node("b")
    stage.ask(ev.RemoveNode(0, "a", force=True))
    assert "a was removed" in stage.said(job)
    assert stage.where(job) == "b" and b.has(job)


def test_a_failure_says_whether_another_try_may_help_and_what_it_was():
    stage = Stage()
    a = stage.node("a")
    job = stage.submit(terms(max_retries=0))
    a.fail(job, BROKEN)
    assert stage.ended[job].failure == BROKEN
