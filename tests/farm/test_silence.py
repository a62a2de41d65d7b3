"""The master doubts itself first: silence counts only while it was listening, and a restart loses nobody."""

from __future__ import annotations

import pytest
from farm.stage import Stage

from ffrtmp.farm import events as ev
from ffrtmp.farm.job import State


def contact(stage: Stage) -> set[str]:
    return {name for name in stage.hosts if stage.world.in_contact(name) is not None}


def test_a_master_that_was_stopped_for_an_hour_calls_nobody_lost():
    stage = Stage()
    for name in "ab":
        stage.node(name)
    job = stage.submit()
    stage.now_s += 3600.0
    stage.turn()
    assert contact(stage) == {"a", "b"}
    stage.pass_s(10)
    assert stage.path(job) == ["queued", "assigned", "running"]


def test_a_node_that_died_while_the_master_was_deaf_is_lost_once_it_listens_again():
    stage = Stage()
    a = stage.node("a")
    a.leave()
    stage.now_s += 3600.0
    stage.turn()
    assert contact(stage) == {"a"}
    took_s = stage.until(lambda: not contact(stage))
    assert took_s <= stage.rules.lost_after_s + 2


def test_a_node_that_dies_right_after_the_master_was_deaf_is_lost_as_soon_as_ever():
    stage = Stage()
    a = stage.node("a")
    stage.now_s += 3600.0
    stage.turn(a.beat_event())  # it waited for the master to listen
    a.leave()
    took_s = stage.until(lambda: not contact(stage))
    assert took_s <= stage.rules.lost_after_s + 2


def test_silence_is_not_forgiven_because_of_a_short_gap():
    stage = Stage()
    a = stage.node("a")
    a.leave()
    stage.pass_s(20, 1.5)
    assert not contact(stage)


def test_when_most_nodes_fall_silent_together_the_master_waits_before_it_calls_them_lost():
    stage = Stage(lost_after_s=15.0, self_doubt_s=10.0)
    hosts = [stage.node(name) for name in "abc"]
    stage.pass_s(2)
    for host in hosts[:2]:
        host.leave()
    stage.pass_s(20)
    assert contact(stage) == {"a", "b", "c"}
    took_s = 20 + stage.until(lambda: contact(stage) == {"c"})
    assert 25.0 <= took_s <= 28.0


def test_nodes_that_fall_silent_together_need_not_have_been_heard_at_the_same_moment():
    stage = Stage(lost_after_s=15.0, self_doubt_s=10.0)
    hosts = [stage.node(name) for name in "abcd"]
    stage.pass_s(2)
    for host in hosts[:3]:
        host.leave()
        stage.pass_s(0.5)  # what took the three away took them between two heartbeats of each
    stage.pass_s(18)
    assert contact(stage) == {"a", "b", "c", "d"}
    took_s = 19.5 + stage.until(lambda: contact(stage) == {"d"})
    assert 25.0 <= took_s <= 29.0


def test_nodes_that_said_goodbye_give_the_master_no_doubt_about_another():
    stage = Stage(lost_after_s=15.0, self_doubt_s=10.0, away_after_s=60.0)
    hosts = [stage.node(name) for name in "abc"]
    for host in hosts[:2]:
        host.say(ev.Goodbye(host.name, host.connection, host.session))
        host.leave()
    hosts[2].leave()
    assert stage.until(lambda: "c" not in contact(stage)) <= 17
    assert contact(stage) == {"a", "b"}


def test_a_node_that_speaks_again_while_the_master_doubts_itself_is_not_lost():
    stage = Stage(lost_after_s=15.0, self_doubt_s=10.0)
    hosts = [stage.node(name) for name in "abc"]
    for host in hosts:
        host.leave()
    stage.pass_s(20)
    for host in hosts:
        host.up = True
    stage.pass_s(30)
    assert contact(stage) == {"a", "b", "c"}


def test_a_node_that_is_back_over_another_connection_is_not_lost_while_the_old_one_is_asked_for_a_sign():
    stage = Stage(lost_after_s=15.0, sign_s=2.0)
    a = stage.node("a")
    job = stage.submit()
    a.leave()
    stage.pass_s(14.5)
    a.back()
    stage.pass_s(5)
    assert a.session, "nobody gave a sign on the old connection"
    assert stage.path(job) == ["queued", "assigned", "running"]


def test_a_node_is_lost_also_while_another_one_waits_for_its_address():
    stage = Stage(lost_after_s=15.0)
    a = stage.node("a")
    a.leave()
    stage.pass_s(14.5)
    stage.node("b", address=a.address)
    stage.pass_s(1)
    assert "a" not in contact(stage)


def test_the_time_of_doubt_does_not_run_while_the_master_is_deaf():
    stage = Stage(lost_after_s=15.0, self_doubt_s=10.0)
    hosts = [stage.node(name) for name in "abc"]
    for host in hosts:
        host.leave()
    stage.pass_s(16)
    stage.now_s += 300.0
    stage.turn()
    assert contact(stage) == {"a", "b", "c"}


def test_one_silent_node_of_three_and_both_of_two_are_lost_without_further_doubt():
    stage = Stage(lost_after_s=15.0)
    a, _b, _c = (stage.node(name) for name in "abc")
    a.leave()
    assert stage.until(lambda: "a" not in contact(stage)) <= 17

    stage = Stage(lost_after_s=15.0)
    for host in [stage.node(name) for name in "ab"]:
        host.leave()
    assert stage.until(lambda: not contact(stage)) <= 17


# ---- a restart of the master -------------------------------------------------------------------------------------


def test_p11_a_restart_of_the_master_disturbs_no_running_job():
    stage = Stage()
    a = stage.node("a")
    job = stage.submit()
    a.progress(job, 10.0)
    stage.restart(5.0)
    assert stage.state(job) is State.RUNNING
    stage.pass_s(30)
    assert stage.path(job) == ["queued", "assigned", "running"]
    a.verified(job)
    assert stage.state(job) is State.COMPLETED


def test_p11_a_result_that_was_ready_while_the_master_was_away_arrives_when_it_is_back():
    stage = Stage()
    a = stage.node("a")
    stage.node("b")
    job = stage.submit()
    host = stage.hosts[stage.where(job)]
    host.publishes = False
    host.request(job)
    local = host.local(job)
    host.published_event(local)
    local.stage = "ended"
    host.locals[(local.uuid, 1)] = local
    stage.restart(60.0)
    stage.pass_s(5)
    assert stage.state(job) is State.COMPLETED
    assert sum(r.kind == "assigned" for r in stage.history.rows) == 1
    assert a.up


def test_after_a_restart_nodes_have_their_time_to_come_back():
    stage = Stage(reconnect_grace_s=20.0)
    a, b = stage.node("a"), stage.node("b")
    first, second = stage.submit(), stage.submit()
    assert (stage.where(first), stage.where(second)) == ("a", "b")
    b.leave()
    stage.restart()
    stage.pass_s(18)
    assert stage.state(second) is State.RUNNING and stage.where(second) == "b"
    stage.pass_s(4)
    assert stage.where(second) == "a", "b has had its time"
    assert not any(isinstance(event, ev.GraceOver) for event in stage.farm.due(stage.now_s)), "which is over once"
    assert stage.attempt(first).number == 1
    assert a.has(second)


def test_p11_a_master_that_stands_still_after_its_start_takes_nobody_the_time_to_come_back():
    stage = Stage(reconnect_grace_s=20.0)
    stage.node("a")
    b = stage.node("b")
    stage.submit()
    job = stage.submit()
    b.leave()
    stage.restart()
    stage.pass_s(2)
    stage.now_s += 30.0  # SIGSTOP
    stage.turn()
    assert stage.where(job) == "b", "b may have said Hello by now, and is heard in a moment"
    stage.pass_s(16)
    assert stage.where(job) == "b"
    stage.pass_s(4)
    assert stage.where(job) == "a", "b has had its time"


def test_a_node_that_comes_back_after_its_grace_keeps_what_is_ahead():
    stage = Stage(reconnect_grace_s=20.0)
    a = stage.node("a")
    job = stage.submit()
    a.leave()
    stage.restart()
    stage.pass_s(25)
    assert stage.state(job) is State.QUEUED
    a.back()
    assert stage.state(job) is State.RUNNING
    assert stage.attempt(job).number == 1


def test_a_grant_runs_anew_from_a_restart():
    stage = Stage(grant_ttl_s=10.0)
    a = stage.node("a")
    job = stage.submit()
    a.publishes = False
    a.request(job)
    stage.restart(100.0)
    grant = stage.grant(job)
    assert grant is not None and grant.until_s == stage.now_s + 10.0


def test_waiting_jobs_back_offs_holds_and_queues_are_as_they_were_after_a_restart():
    stage = Stage(backoff_first_s=60.0)
    a = stage.node("a")
    waits = stage.submit()
    a.fail(waits)
    held = stage.submit()
    stage.pause(held)
    running = stage.submit()
    a.leave()
    stage.restart(1.0)
    assert [stage.state(j) for j in (waits, held, running)] == [State.RETRYING, State.PAUSED, State.RUNNING]
    a.up = True
    stage.pass_s(70)
    assert stage.state(waits) is State.RUNNING
    stage.resume(held)
    assert stage.state(held) is State.RUNNING
    assert stage.attempt(held).number == 1


def test_a_failed_job_is_tried_again_as_soon_as_without_the_restart():
    stage = Stage(backoff_first_s=5.0, lost_after_s=15.0)
    a = stage.node("a")
    job = stage.submit()
    a.fail(job)
    due_s = stage.job(job).due_s
    stage.restart(1.0)
    assert stage.job(job).due_s == due_s, "no lease is waited for where none was asked for"


@pytest.mark.parametrize(
    ("nodes", "silent", "doubts"),
    [(5, 3, True), (5, 2, False), (4, 2, False), (4, 3, True), (2, 2, False), (7, 3, False)],
)
def test_the_master_doubts_itself_where_more_than_half_of_three_or_more_nodes_are_silent(nodes, silent, doubts):
    stage = Stage(lost_after_s=15.0, self_doubt_s=10.0)
    hosts = [stage.node("abcdefg"[number]) for number in range(nodes)]
    stage.pass_s(2)
    for host in hosts[:silent]:
        host.leave()
    stage.pass_s(18)
    assert len(contact(stage)) == (nodes if doubts else nodes - silent)
    stage.pass_s(10)
    assert len(contact(stage)) == nodes - silent


@pytest.mark.parametrize(("later_s", "doubts"), [(8.0, True), (10.5, False)])
def test_a_node_is_quiet_when_it_has_missed_two_heartbeats(later_s, doubts):
    stage = Stage(lost_after_s=15.0, self_doubt_s=10.0, heartbeat_s=3.0)
    hosts = [stage.node(name) for name in "abc"]
    stage.pass_s(2)
    hosts[0].leave()
    stage.pass_s(later_s)
    hosts[1].leave()
    stage.pass_s(16.0 - later_s)
    assert ("a" in contact(stage)) is doubts
