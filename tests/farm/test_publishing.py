"""Grants: one a job at a time, and settled in one way only (P2, P3)."""

from __future__ import annotations

from dataclasses import replace

import pytest
from farm.stage import BROKEN, ROOM, WRONG, Host, Stage, terms

from ffrtmp.farm import effects as fx
from ffrtmp.farm import events as ev
from ffrtmp.farm.job import Fingerprint, OnDisconnect, Queue, State

ALONE = replace(ROOM, roots=frozenset({"r2:r", "r2:w"}))


def granted(of=None, *, others: int = 1, **rules) -> tuple[Stage, int, Host]:
    """A job whose attempt holds a grant that it does not use yet: the stage, the job, its node."""
    stage = Stage(**rules)
    a = stage.node("a")
    job = stage.submit(of)
    for n in range(others):
        stage.node("bcd"[n])
    a.publishes = False
    assert kinds(a.request(job)) == ["SendGrant"]
    return stage, job, a


def kinds(effects: list[fx.Effect]) -> list[str]:
    return [type(e).__name__ for e in effects]


def test_p2_a_verified_attempt_asks_gets_its_grant_and_publishes():
    stage, job, a = granted()
    grant = stage.grant(job)
    assert grant is not None and grant.attempt == 1
    a.publish(job)
    assert stage.state(job) is State.COMPLETED
    assert stage.grant(job) is None


def test_a_published_that_is_said_twice_is_acknowledged_twice_and_counted_once():
    stage, job, a = granted()
    event = a.published_event(a.local(job))
    assert kinds(a.say(event)) == ["SendAck"]
    assert kinds(a.say(event)) == ["SendAck"]
    assert stage.path(job).count("completed") == 1


def test_p2_a_grant_that_ran_out_is_renewed_under_a_new_request_number():
    stage, job, a = granted(grant_ttl_s=10.0)
    first = stage.grant(job)
    assert sum(row.kind == "granted" for row in stage.history.rows) == 1
    stage.pass_s(12)
    answers = a.request(job)
    second = stage.grant(job)
    assert first and second and second.request != first.request
    assert second.until_s > first.until_s + 10.0
    assert sum(row.kind == "granted" for row in stage.history.rows) == 1, "it is told once"
    assert [e.request for e in answers if isinstance(e, fx.SendGrant)] == [second.request]
    # The same request again (its answer was lost) makes nothing new.
    a.request(job, second.request)
    assert stage.grant(job) == second


def test_p2_nobody_else_gets_a_grant_while_one_is_unsettled():
    stage, job, a = granted()
    uuid = stage.job(job).uuid
    b = stage.hosts["b"]
    b.obeys = False
    stage.lose(a)
    stage.pass_s(30)
    assert stage.state(job) is State.RUNNING and not b.has(job), "nobody encodes what may be published at this moment"
    assert kinds(b.say(ev.PublishRequest(*b._at(), uuid, 2, 7, stage.print_of(uuid)))) == ["SendDeny"]
    held = stage.grant(job)
    assert held is not None and held.attempt == 1


def test_a_rename_that_was_not_made_gives_the_grant_back():
    stage, job, a = granted()
    local = a.local(job)
    a.say(ev.NotPublished(*a._at(), "x", local.uuid, 1, local.request, "too late", None))
    assert stage.grant(job) is None
    assert stage.state(job) is State.RUNNING
    a.publishes = True
    a.request(job)
    assert stage.state(job) is State.COMPLETED


def test_an_output_that_cannot_be_put_there_fails_the_attempt():
    stage, job, a = granted()
    local = a.local(job)
    del a.locals[(local.uuid, 1)]
    a.say(ev.NotPublished(*a._at(), "x", local.uuid, 1, local.request, "no room", BROKEN))
    assert stage.grant(job) is None
    assert stage.state(job) is State.RETRYING


def test_a_late_word_about_an_older_request_does_not_settle_a_newer_grant():
    stage, job, a = granted()
    local = a.local(job)
    old = local.request
    a.request(job)
    a.say(ev.NotPublished(*a._at(), "x", local.uuid, 1, old, "too late", None))
    assert stage.grant(job) is not None


@pytest.mark.parametrize("how", ["failed", "stopped", "absent"])
def test_an_attempt_that_ended_holds_no_grant(how):
    stage, job, a = granted()
    a.end(job, how)
    assert stage.grant(job) is None
    assert stage.state(job) is State.RETRYING


def test_a_reboot_in_mid_publish_settles_the_grant():
    stage, job, a = granted()
    stage.lose(a)
    a.back(rebooted=True)
    assert stage.grant(job) is None
    stage.pass_s(3)
    assert stage.attempt(job).number == 2


def test_removing_a_node_settles_its_grant_and_the_job_goes_on_elsewhere():
    stage, job, a = granted()
    stage.lose(a)
    assert "nodes remove a" in stage.why(job)
    stage.ask(ev.RemoveNode(0, "a"))
    assert stage.grant(job) is None
    assert stage.where(job) == "b"


def test_an_agent_killed_between_rename_and_published_completes_its_job_when_it_is_back():
    stage, job, a = granted(others=0)
    b = stage.node("b", ALONE)
    local = a.local(job)
    a.published_event(local)  # it is in the outbox, and has never been said
    stage.lose(a)
    stage.pass_s(60)
    assert stage.state(job) is State.RUNNING
    assert not b.has(job)
    local.stage = "ended"
    a.locals[(local.uuid, 1)] = local  # the attempt's folder is still there
    a.back()
    assert stage.state(job) is State.COMPLETED
    assert stage.path(job).count("completed") == 1


# ---- settled by a node that shares the storage -------------------------------------------------------------------


def test_p2_another_node_on_the_same_storage_settles_a_grant_only_after_it_has_run_out():
    stage, job, a = granted(grant_ttl_s=10.0, lost_after_s=3.0)
    b = stage.hosts["b"]
    b.obeys = False
    grant = stage.grant(job)
    assert grant is not None
    stage.lose(a)
    asked_s = None
    while asked_s is None:
        assert stage.now_s < grant.until_s + 20
        stage.pass_s(0.5)
        asked_s = stage.now_s if any(isinstance(e, fx.SendSettle) for e in b.heard) else None
    assert asked_s >= grant.until_s + stage.rules.grant_margin_s
    held = stage.grant(job)
    assert held is not None and held.settling == "b"
    stage.pass_s(3)
    assert sum(isinstance(e, fx.SendSettle) for e in b.heard) >= 3, "it is asked until it answers"


def test_the_output_found_at_its_place_completes_the_job_and_nothing_runs_again():
    stage, job, a = granted()
    uuid = stage.job(job).uuid
    stage.at_target[uuid] = stage.print_of(uuid)  # a had renamed, and could not say so
    stage.lose(a)
    stage.until(lambda: stage.state(job) is State.COMPLETED)
    assert not stage.hosts["b"].has(job)
    a.back()
    stage.pass_s(3)
    assert not a.has(job) and not len(stage.world.attempts)


@pytest.mark.parametrize("there", [None, Fingerprint(1, "foreign")], ids=["nothing there", "something foreign"])
def test_p3_without_its_output_at_the_target_the_job_is_done_again_elsewhere(there):
    stage, job, a = granted()
    if there is not None:
        stage.at_target[stage.job(job).uuid] = there
    stage.lose(a)
    stage.until(lambda: stage.where(job) == "b")
    assert stage.world.attempts[(job, 1)].given_up
    b = stage.hosts["b"]
    b.verified(job)
    assert stage.state(job) is State.COMPLETED
    a.back()
    stage.pass_s(3)
    assert not a.has(job)


def test_a_node_that_is_back_before_the_settlement_speaks_for_itself():
    stage, job, a = granted()
    b = stage.hosts["b"]
    b.obeys = False
    stage.lose(a)
    stage.until(lambda: any(isinstance(e, fx.SendSettle) for e in b.heard))
    uuid = stage.job(job).uuid
    a.back()
    b.say(ev.Settled(*b._at(), uuid, 1, None))
    assert stage.grant(job) is not None
    a.publish(job)
    assert stage.state(job) is State.COMPLETED


def test_only_the_node_that_was_asked_may_settle():
    stage, job, a = granted(others=2)
    for host in stage.hosts.values():
        host.obeys = False
    stage.lose(a)
    stage.until(lambda: bool(stage.grant(job) and stage.grant(job).settling))
    grant = stage.grant(job)
    other = stage.hosts["c" if grant.settling == "b" else "b"]
    other.say(ev.Settled(*other._at(), stage.job(job).uuid, 1, None))
    assert stage.grant(job) == grant
    stage.lose(stage.hosts[grant.settling])
    stage.pass_s(2)
    assert stage.grant(job).settling == other.name, "another is asked when that one is lost too"
    stage.hosts[grant.settling].back()
    stage.pass_s(2)
    stage.lose(other)
    stage.until(lambda: stage.grant(job).settling == grant.settling)


def test_p2_without_shared_storage_the_grant_waits_for_its_node():
    stage = Stage()
    a = stage.node("a")
    stage.node("b", ALONE)
    job = stage.submit()
    a.publishes = False
    a.request(job)
    stage.lose(a)
    stage.pass_s(600, 1.0)
    assert stage.grant(job) is not None
    assert "must be settled" in stage.why(job)
    a.back()
    a.publish(job)
    assert stage.state(job) is State.COMPLETED


def test_a_job_under_the_strict_lease_is_not_started_before_the_lease_is_over_even_when_settled():
    of = terms(on_disconnect=OnDisconnect.STOP)
    stage, job, a = granted(of, grant_ttl_s=1.0, grant_margin_s=0.5, lost_after_s=15.0)
    stage.lose(a)
    heard_s = stage.world.contacts["a"].heard_at_s
    stage.until(lambda: stage.state(job) is State.RETRYING)
    stage.until(lambda: stage.hosts["b"].has(job))
    assert stage.now_s >= heard_s + 15.0 + stage.rules.lease_stop_s + stage.rules.lease_margin_s


# ---- beside the straight way -------------------------------------------------------------------------------------


def test_cancel_and_pause_are_refused_while_a_grant_is_unsettled():
    stage, job, a = granted()
    for answer in (stage.cancel(job), stage.pause(job)):
        assert answer.status == 409 and "publishing" in answer.detail and answer.nodes == ("a",)
    a.publish(job)
    assert stage.state(job) is State.COMPLETED


def test_p4_a_canceled_attempt_gets_no_grant():
    stage = Stage()
    a = stage.node("a")
    job = stage.submit()
    a.obeys = False
    stage.cancel(job)
    answers = a.request(job)
    assert kinds(answers) == ["SendDeny", "SendOrder"]
    assert stage.grant(job) is None


def test_a_live_lease_ends_with_its_lost_node_and_the_successor_gets_it():
    live = terms(queue=Queue.LIVE, live=True)
    stage, job, a = granted(live)
    b = stage.hosts["b"]
    b.publishes = False
    stage.lose(a)
    assert stage.where(job) == "b"
    heard_s = stage.world.contacts["a"].heard_at_s
    while not any(isinstance(e, fx.SendGrant) for e in b.request(job)):
        assert stage.now_s < heard_s + 30
        stage.pass_s(0.5)
    assert stage.now_s >= heard_s + stage.rules.lost_after_live_s + stage.rules.lease_margin_s


def test_a_final_failure_before_the_grant_ends_the_job_without_an_output():
    stage = Stage()
    a = stage.node("a")
    job = stage.submit()
    a.fail(job, WRONG)
    assert stage.state(job) is State.FAILED
    assert stage.uuid_of[job] not in stage.at_target


def test_a_live_job_that_is_given_up_while_a_lost_node_holds_its_lease_leaves_no_grant():
    stage, job, a = granted(terms(queue=Queue.LIVE, live=True), doubt_patience_s=60.0)
    stage.lose(a)
    stage.hosts[stage.where(job)].fail(job, WRONG)
    assert stage.state(job) is State.RETRYING and stage.grant(job) is not None
    stage.until(lambda: stage.state(job) is State.FAILED)
    assert stage.grant(job) is None


@pytest.mark.parametrize(("lost", "helper"), [("a", "b"), ("b", "a")])
def test_any_other_node_on_the_same_storage_may_be_asked_to_settle(lost, helper):
    stage = Stage()
    holder = stage.node(lost)
    job = stage.submit()
    stage.node(helper)
    holder.publishes = False
    holder.request(job)
    stage.lose(holder)
    stage.until(lambda: stage.where(job) == helper)


@pytest.mark.parametrize("first", [4, 50])
def test_p2_a_grant_is_on_record_under_the_request_that_was_answered_last_also_where_that_is_counted_anew(first):
    stage, job, a = granted()
    for request in (first, 7, 9):
        answers = a.request(job, request)
        held = stage.grant(job)
        assert held is not None and held.request == request
        assert [e.request for e in answers if isinstance(e, fx.SendGrant)] == [request]


def test_a_word_about_a_newer_request_than_the_one_on_record_settles_the_grant():
    stage, job, a = granted()
    local = a.local(job)
    a.say(ev.NotPublished(*a._at(), "x", local.uuid, 1, local.request + 1, "the grant for it was lost", None))
    assert stage.grant(job) is None


def test_the_answer_names_the_node_that_publishes():
    stage, job, _a = granted()
    assert stage.cancel(job).detail == f"job {job} is publishing its output on a"


def test_a_node_that_may_write_nothing_but_where_the_output_is_can_settle():
    stage = Stage()
    a = stage.node("a")
    job = stage.submit()
    b = stage.node("b", replace(ROOM, roots=frozenset({"r1:w"})))
    b.obeys = a.publishes = False
    a.request(job)
    stage.lose(a)
    stage.until(lambda: any(isinstance(e, fx.SendSettle) for e in b.heard))


def test_an_answer_that_comes_after_the_settlement_changes_nothing():
    stage, job, a = granted()
    uuid = stage.job(job).uuid
    stage.lose(a)
    stage.until(lambda: stage.where(job) == "b")
    b = stage.hosts["b"]
    b.say(ev.Settled(*b._at(), uuid, 1, None))
    assert (stage.where(job), stage.attempt(job).number) == ("b", 2)


def second_grant() -> tuple[Stage, int, str, Host]:
    """Attempt 1 on a lost node was settled; attempt 2, on another lost one, holds the grant; c is asked about that."""
    stage, job, a = granted(others=2)
    stage.lose(a)
    stage.until(lambda: stage.world.attempts[(job, 1)].given_up)
    second = stage.hosts[stage.where(job)]
    third = next(host for name, host in stage.hosts.items() if name not in ("a", second.name))
    second.publishes = third.obeys = False
    second.request(job)
    stage.lose(second)
    stage.until(lambda: bool(stage.grant(job) and stage.grant(job).settling))
    return stage, job, stage.job(job).uuid, third


def test_p2_an_answer_about_an_attempt_that_holds_no_grant_settles_none():
    stage, job, uuid, third = second_grant()
    grant = stage.grant(job)
    assert grant is not None and (grant.attempt, grant.settling) == (2, third.name)
    third.say(ev.Settled(*third._at(), uuid, 1, None))
    assert stage.grant(job) == grant


def test_p2_an_answer_about_a_newer_attempt_does_not_settle_the_grant_of_the_older_one():
    stage = Stage()
    a = stage.node("a")
    job = stage.submit()
    b = stage.node("b")
    stage.lose(a)
    b.progress(job, 1.0)
    stage.lose(b)
    a.local(job).out_time_s = 50.0
    a.back()
    c = stage.node("c")
    c.obeys = a.publishes = False
    a.request(job)
    stage.lose(a)
    stage.until(lambda: bool(stage.grant(job) and stage.grant(job).settling))
    grant = stage.grant(job)
    assert grant is not None and (grant.attempt, grant.settling) == (1, "c")
    c.say(ev.Settled(*c._at(), stage.job(job).uuid, 2, None))
    assert stage.grant(job) == grant


def test_a_node_that_was_asked_to_settle_and_is_not_any_more_is_not_believed():
    stage, job, a = granted(others=2)
    for host in stage.hosts.values():
        host.obeys = False
    stage.lose(a)
    stage.until(lambda: bool(stage.grant(job) and stage.grant(job).settling))
    first = stage.hosts[stage.grant(job).settling]
    stage.lose(first)
    stage.until(lambda: stage.grant(job).settling not in ("", first.name))
    grant = stage.grant(job)
    first.back()
    first.say(ev.Settled(*first._at(), stage.job(job).uuid, 1, None))
    assert stage.grant(job) == grant


@pytest.mark.parametrize("accepted", [True, False])
def test_p4_in_a_restored_farm_too_an_attempt_that_was_given_up_completes_nothing_by_publishing(accepted):
    stage, job, a = granted(terms(), others=2)
    stage.world.ancestors.restore("a history that was left", 1)
    uuid = stage.job(job).uuid
    stage.hosts["b"].accepts = stage.hosts["c"].accepts = accepted
    stage.lose(a)
    stage.until(lambda: stage.world.attempts[(job, 1)].given_up)
    assert stage.state(job) is (State.RUNNING if accepted else State.ASSIGNED)
    a.obeys = False
    local = a.local(job)
    a.back()
    state = stage.state(job)
    stage.turn(ev.Published(*a._at(), "x", uuid, local.number, 1, stage.print_of(uuid)))
    assert stage.state(job) is state
