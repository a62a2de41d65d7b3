"""A node is lost: its attempts are doubted, their jobs go on elsewhere, and what comes back is kept or given up.

Each case ends with one output, one history, and no attempt left over.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
from farm.stage import BROKEN, ROOM, WRONG, Host, Stage, terms

from ffrtmp.farm import effects as fx
from ffrtmp.farm import events as ev
from ffrtmp.farm.job import Phase, Queue, State, Want

LIVE = terms(queue=Queue.LIVE, live=True)


def two(of=None, **rules) -> tuple[Stage, int, Host, Host]:
    """A job on one of two nodes: the stage, the job, its node, the other node."""
    stage = Stage(**rules)
    a = stage.node("a")
    job = stage.submit(of)
    return stage, job, a, stage.node("b")


def moved(of=None, **rules) -> tuple[Stage, int, Host, Host]:
    """The node of a job is lost in mid-run, and its successor runs on the other."""
    stage, job, a, b = two(of, **rules)
    a.progress(job, 10.0)
    stage.lose(a)
    assert stage.where(job) == "b"
    return stage, job, a, b


def ends_once(stage: Stage, job: int, *hosts: Host) -> None:
    """The job is completed, once, and nothing of it is left anywhere."""
    stage.pass_s(3)
    assert stage.state(job) is State.COMPLETED
    assert stage.path(job).count("completed") == 1
    assert not any(host.has(job) for host in hosts)
    assert not len(stage.world.attempts) and not len(stage.world.grants)


def test_p11_the_jobs_of_a_lost_node_run_elsewhere_within_lost_after_and_two_seconds():
    stage, job, a, _b = two()
    a.leave()
    took_s = stage.until(lambda: stage.where(job) == "b" and stage.state(job) is State.RUNNING)
    assert took_s <= stage.rules.lost_after_s + 2.0
    assert stage.world.attempts[(job, 1)].doubted
    assert stage.job(job).lost == (1,)
    assert stage.path(job) == ["queued", "assigned", "running", "queued", "assigned", "running"]


def test_a_node_with_a_live_job_is_lost_sooner():
    stage, job, a, _b = two(LIVE)
    a.leave()
    took_s = stage.until(lambda: stage.where(job) == "b")
    assert stage.rules.lost_after_live_s <= took_s <= stage.rules.lost_after_live_s + 2.0


def test_a_short_silence_changes_nothing():
    stage, job, a, _b = two()
    a.leave()
    stage.pass_s(13)
    a.up = True
    stage.pass_s(30)
    assert stage.path(job) == ["queued", "assigned", "running"]
    assert stage.attempt(job).number == 1


def test_an_attempt_that_comes_back_while_its_successor_waits_is_kept():
    stage = Stage()
    a = stage.node("a")
    job = stage.submit()
    stage.lose(a)
    assert stage.state(job) is State.QUEUED
    a.back()
    assert stage.state(job) is State.RUNNING
    assert (stage.where(job), stage.attempt(job).number) == ("a", 1)
    assert stage.job(job).lost == (), "it was only out of sight"
    a.verified(job)
    ends_once(stage, job, a)


def test_an_attempt_that_comes_back_before_its_successor_was_accepted_is_kept():
    stage, job, a, b = two()
    b.accepts = False
    stage.lose(a)
    assert (stage.where(job), stage.state(job)) == ("b", State.ASSIGNED)
    a.back()
    assert (stage.where(job), stage.state(job)) == ("a", State.RUNNING)
    stage.pass_s(3)
    a.verified(job)
    ends_once(stage, job, a, b)


def test_an_attempt_that_comes_back_ahead_of_its_successor_is_kept():
    stage, job, a, b = moved()
    b.progress(job, 3.0)
    a.local(job).out_time_s = 60.0
    a.back()
    assert (stage.where(job), stage.attempt(job).number) == ("a", 1)
    assert not b.has(job), "the successor was given up"
    a.verified(job)
    ends_once(stage, job, a, b)


def test_an_attempt_that_comes_back_behind_its_successor_is_given_up():
    stage, job, a, b = moved()
    b.progress(job, 30.0)
    a.back()
    assert (stage.where(job), stage.attempt(job).number) == ("b", 2)
    assert not a.has(job)
    b.verified(job)
    ends_once(stage, job, a, b)


def test_of_two_attempts_that_are_level_the_older_is_kept():
    stage, job, a, b = moved()
    b.progress(job, 10.0)
    a.back()
    assert stage.attempt(job).number == 1


def test_an_attempt_that_verifies_is_ahead_of_one_that_encodes():
    stage, job, a, b = moved()
    b.progress(job, 1.0, Phase.VERIFYING)
    a.local(job).out_time_s = 1000.0
    a.back()
    assert stage.attempt(job).number == 2


def test_p2_an_attempt_that_comes_back_while_its_successor_publishes_is_given_up():
    stage, job, a, b = moved()
    b.publishes = False
    b.request(job)
    assert stage.grant(job) is not None
    a.local(job).out_time_s = 1000.0
    a.local(job).phase = Phase.PUBLISHING
    answers = a.back()
    assert (
        fx.Directive(stage.job(job).uuid, 1, "stop")
        in next(e for e in answers if isinstance(e, fx.SendWelcome)).directives
    )
    assert not a.has(job)
    b.publish(job)
    ends_once(stage, job, a, b)


def test_an_attempt_that_comes_back_after_its_job_is_done_is_stopped_and_forgotten():
    stage, job, a, b = moved()
    b.verified(job)
    assert stage.state(job) is State.COMPLETED
    history = list(stage.path(job))
    a.back()
    ends_once(stage, job, a, b)
    assert stage.path(job) == history


def test_p5_an_attempt_that_comes_back_after_a_cancel_ends_it():
    stage, job, a, b = moved()
    answer = stage.cancel(job)
    assert answer.status == 202 and answer.nodes == ("a", "b")
    stage.pass_s(60)
    assert stage.state(job) is State.CANCELING, "a process may be left on the lost node"
    assert not b.has(job)
    uuid = stage.job(job).uuid
    welcome = next(e for e in a.back() if isinstance(e, fx.SendWelcome))
    assert welcome.directives == (fx.Directive(uuid, 1, "stop"),)
    assert stage.state(job) is State.CANCELED
    assert not a.has(job)


def test_an_attempt_that_is_not_there_any_more_when_its_node_is_back_is_forgotten():
    stage, job, a, b = moved()
    a.back(rebooted=True)
    assert (job, 1) not in stage.world.attempts
    assert stage.attempt(job).number == 2
    b.verified(job)
    ends_once(stage, job, a, b)


def test_a_node_that_restarts_in_time_with_nothing_has_lost_its_attempts():
    stage = Stage()
    a = stage.node("a")
    job = stage.submit()
    a.back(rebooted=True)
    stage.pass_s(3)
    assert stage.path(job)[:4] == ["queued", "assigned", "running", "queued"]
    assert stage.attempt(job).number == 2
    assert stage.job(job).failures == 0
    assert stage.job(job).lost == (1,)


def test_p11_an_agent_that_is_restarted_finds_its_jobs_and_none_is_disturbed():
    stage, job, a, _b = two()
    a.say(ev.Goodbye(*a._at()))
    a.leave()
    stage.pass_s(40)
    assert stage.attempt(job).number == 1, "an agent that said goodbye is given longer"
    a.back()
    assert stage.path(job) == ["queued", "assigned", "running"]
    a.verified(job)
    ends_once(stage, job, a)


def test_an_agent_that_said_goodbye_and_stays_away_is_lost_too():
    stage, job, a, _b = two()
    a.say(ev.Goodbye(*a._at()))
    a.leave()
    took_s = stage.until(lambda: stage.where(job) == "b")
    assert stage.rules.away_after_s <= took_s <= stage.rules.away_after_s + 2


def test_nothing_new_goes_to_an_agent_that_is_being_restarted():
    stage = Stage()
    a = stage.node("a")
    a.say(ev.Goodbye(*a._at()))
    a.leave()
    job = stage.submit()
    assert stage.state(job) is State.QUEUED
    a.back()
    assert stage.state(job) is State.RUNNING


def test_one_that_said_goodbye_and_goes_on_talking_takes_work_again():
    stage = Stage()
    a = stage.node("a")
    a.say(ev.Goodbye(*a._at()))
    job = stage.submit()
    a.beat()
    assert stage.state(job) is State.RUNNING


def test_two_attempts_of_one_job_that_come_back_leave_one():
    stage = Stage()
    a, b, c = stage.node("a"), stage.node("b", replace(ROOM, slots=3)), stage.node("c", replace(ROOM, cpu_milli=2000))
    job = stage.submit()
    first = stage.hosts[stage.where(job)]
    stage.lose(first)
    second = stage.hosts[stage.where(job)]
    stage.lose(second)
    assert stage.attempt(job).number == 3
    first.local(job).out_time_s, second.local(job).out_time_s = 5.0, 50.0
    first.back()
    assert stage.attempt(job).number == 1
    second.back()
    assert stage.attempt(job).number == 2, "it is further"
    stage.pass_s(3)
    assert sum(host.has(job) for host in (a, b, c)) == 1
    second.verified(job)
    ends_once(stage, job, a, b, c)


@pytest.mark.parametrize("granted", [False, True])
@pytest.mark.parametrize("said", ["ended", "asks to publish", "published", "not published", "refused"])
def test_p4_what_a_given_up_attempt_says_changes_nothing(said, granted):
    stage, job, a, b = moved()
    b.progress(job, 100.0)
    a.obeys = b.publishes = False
    if granted:
        b.request(job)
    grant = stage.grant(job)
    a.back()
    local = a.local(job)
    rows = len(stage.history.rows)
    event = {
        "ended": ev.Ended(*a._at(), "x", local.uuid, 1, "failed", WRONG),
        "asks to publish": ev.PublishRequest(*a._at(), local.uuid, 1, 5, stage.print_of(local.uuid)),
        "published": ev.Published(*a._at(), "y", local.uuid, 1, 5, stage.print_of(local.uuid)),
        "not published": ev.NotPublished(*a._at(), "z", local.uuid, 1, 5, "late", WRONG),
        "refused": ev.Refused(*a._at(), local.uuid, 1, "no room", WRONG),
    }[said]
    stage.turn(event)
    stage.turn(event)
    assert len(stage.history.rows) == rows
    assert (stage.state(job), stage.attempt(job).number) == (State.RUNNING, 2)
    assert stage.grant(job) == grant


def test_p4_an_order_to_give_up_is_repeated_until_nothing_is_left():
    stage, job, a, b = moved()
    b.progress(job, 100.0)
    a.obeys = False
    a.back()
    a.heard.clear()
    stage.pass_s(5)
    told = [e for e in a.heard if isinstance(e, fx.SendOrder) and e.want is Want.DISCARD]
    assert len(told) >= 4
    a.obeys = True
    stage.pass_s(2)
    assert (job, 1) not in stage.world.attempts


# ---- live --------------------------------------------------------------------------------------------------------


def test_a_live_successor_is_kept_once_it_puts_out():
    stage, job, a, b = moved(LIVE)
    b.progress(job, 0.5)
    a.local(job).out_time_s = 3600.0
    a.back()
    assert stage.attempt(job).number == 2
    assert not a.has(job)


def test_a_live_attempt_that_comes_back_before_its_successor_puts_out_is_kept():
    stage, job, a, b = moved(LIVE)
    b.progress(job, 0.0)
    a.back()
    assert stage.attempt(job).number == 1
    assert not b.has(job)


def test_a_live_job_that_is_being_stopped_is_not_started_again_when_its_node_is_lost():
    stage, job, a, b = two(LIVE)
    a.obeys = False
    stage.stop(job)
    stage.lose(a)
    stage.pass_s(30)
    assert stage.state(job) is State.RUNNING and not b.has(job)
    assert "being stopped" in stage.why(job)
    a.obeys = True
    a.back()
    stage.pass_s(3)
    assert stage.state(job) is State.COMPLETED
    assert not a.has(job)


@pytest.mark.parametrize("how", ["reboot", "remove"])
def test_a_live_job_that_is_being_stopped_is_over_when_its_node_is_gone(how):
    stage, job, a, _b = two(LIVE)
    a.obeys = False
    stage.stop(job)
    stage.lose(a)
    if how == "reboot":
        a.back(rebooted=True)
    else:
        stage.ask(ev.RemoveNode(0, "a"))
    assert stage.state(job) is State.COMPLETED


# ---- P8: poison --------------------------------------------------------------------------------------------------


def test_p8_a_job_that_was_running_on_three_lost_nodes_is_failed_as_poison():
    stage = Stage()
    nodes = [stage.node(name) for name in "abcd"]
    job = stage.submit()
    for lost in range(3):
        host = stage.hosts[stage.where(job)]
        stage.lose(host)
        stage.ask(ev.RemoveNode(0, host.name)) if lost < 2 else None
    assert stage.state(job) is State.RETRYING, "the last one is still doubted"
    assert "unless" in stage.why(job)
    stage.pass_s(stage.rules.doubt_patience_s + 2, 1.0)
    assert stage.state(job) is State.FAILED
    assert not any(host.has(job) and host.up for host in nodes)
    assert "3 nodes" in str([r.failure for r in stage.history.rows if r.job == job and r.failure])


def test_p8_losses_that_come_back_alive_are_no_losses():
    stage = Stage()
    for name in "abcd":
        stage.node(name)
    job = stage.submit()
    lost = []
    for _ in range(3):
        lost.append(stage.hosts[stage.where(job)])
        stage.lose(lost[-1])
    assert stage.state(job) is State.RETRYING
    lost[1].local(job).out_time_s = 50.0
    lost[1].back()
    assert (stage.state(job), stage.attempt(job).number) == (State.RUNNING, 2)
    assert len(stage.job(job).lost) == 2
    lost[1].verified(job)
    assert stage.state(job) is State.COMPLETED


def test_p8_the_verdict_falls_as_soon_as_the_last_doubted_attempt_is_known_to_be_gone():
    stage = Stage()
    for name in "abcd":
        stage.node(name)
    job = stage.submit()
    lost = []
    for _ in range(3):
        lost.append(stage.hosts[stage.where(job)])
        stage.lose(lost[-1])
    for host in lost:
        assert stage.state(job) is State.RETRYING
        host.back(rebooted=True)
    assert stage.state(job) is State.FAILED


def test_no_job_fails_while_an_older_attempt_of_it_is_doubted():
    stage, job, a, b = moved()
    b.fail(job, WRONG)
    assert stage.state(job) is State.RETRYING
    assert stage.job(job).verdict is State.FAILED
    a.back()
    assert stage.state(job) is State.RUNNING
    a.verified(job)
    ends_once(stage, job, a, b)


def test_a_verdict_waits_for_doubted_attempts_only_so_long():
    stage, job, _a, b = moved(doubt_patience_s=60.0)
    b.fail(job, WRONG)
    stage.pass_s(58)
    assert stage.state(job) is State.RETRYING
    stage.pass_s(4)
    assert stage.state(job) is State.FAILED
    assert len(stage.world.attempts) == 1, "the doubted one is stopped when its node is back"


def test_p8_a_last_hope_that_fails_too_is_the_end():
    stage, job, a, b = moved(terms(max_retries=0))
    b.fail(job, BROKEN)
    assert stage.job(job).verdict is State.FAILED
    a.back()
    a.fail(job, BROKEN)
    assert stage.state(job) is State.FAILED
    assert stage.path(job).count("failed") == 1
    assert stage.ended[job].failures == 1


def test_p8_only_nodes_on_which_the_job_was_running_count_as_lost_under_it():
    stage = Stage(accept_timeout_s=60.0)
    for name in "abcd":
        stage.node(name).accepts = False
    job = stage.submit()
    for _ in range(3):
        stage.lose(stage.hosts[stage.where(job)])
    assert stage.state(job) is State.ASSIGNED
    assert stage.job(job).lost == ()


def test_a_failed_attempt_that_comes_back_is_no_rival():
    stage, job, a, b = moved()
    b.progress(job, 0.0)
    a.local(job).stage = "ended"
    a.back()
    assert stage.attempt(job).number == 2


def both_at_work(*, older_s: float, newer_s: float) -> tuple[Stage, int, Host, Host]:
    """A job whose second attempt was doubted too: the first came back and counts, the second is about to come back."""
    stage, job, a, b = moved()
    b.progress(job, newer_s)
    stage.lose(b)
    a.local(job).out_time_s = older_s
    a.back()
    assert (stage.where(job), stage.attempt(job).number) == ("a", 1)
    return stage, job, a, b


def test_the_newer_of_two_attempts_that_are_level_is_given_up_also_when_it_comes_back_last():
    stage, job, a, b = both_at_work(older_s=30.0, newer_s=30.0)
    b.back()
    assert stage.attempt(job).number == 1 and not b.has(job)
    assert a.has(job)


def test_p2_a_newer_attempt_that_comes_back_ahead_leaves_the_grant_where_it_is():
    stage, job, a, b = both_at_work(older_s=30.0, newer_s=20.0)
    a.publishes = False
    a.request(job)
    b.local(job).out_time_s = 1000.0
    b.local(job).phase = Phase.PUBLISHING
    b.back()
    grant = stage.grant(job)
    assert grant is not None and grant.attempt == stage.attempt(job).number == 1
    assert not b.has(job)
    a.publish(job)
    ends_once(stage, job, a, b)


@pytest.mark.parametrize("said", ["published", "not published"])
def test_p4_what_a_newer_given_up_attempt_says_leaves_the_older_one_its_grant(said):
    stage, job, a, b = both_at_work(older_s=30.0, newer_s=20.0)
    a.publishes = b.obeys = False
    a.request(job, 4)
    grant = stage.grant(job)
    b.back()
    local = b.local(job)
    if said == "published":
        stage.turn(ev.Published(*b._at(), "y", local.uuid, 2, 5, stage.print_of(local.uuid)))
    else:
        stage.turn(ev.NotPublished(*b._at(), "y", local.uuid, 2, 5, "late"))
    assert grant is not None and stage.grant(job) == grant
    assert (stage.state(job), stage.attempt(job).number) == (State.RUNNING, 1)


def test_p4_an_attempt_that_publishes_though_its_job_is_being_canceled_completes_nothing():
    stage, job, a, _b = moved()
    a.back()
    a.obeys = False
    stage.cancel(job)
    local = a.local(job)
    stage.turn(a.published_event(local))
    assert stage.state(job) is State.CANCELED


def test_a_hello_that_names_an_attempt_stands_for_an_acceptance_that_was_lost():
    stage = Stage()
    a = stage.node("a")
    a.accepts = False
    job = stage.submit()
    a._accepted(stage.attempt(job))
    stage.turn(ev.Goodbye(*a._at()))
    a.connection, a.incarnation = b"a/2", 2
    stage.turn(a.hello_event())
    assert stage.state(job) is State.RUNNING and stage.attempt(job).number == 1
