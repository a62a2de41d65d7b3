"""The master's store was put back to a backup: no number comes twice, what runs is found again and never told to stop."""

from __future__ import annotations

from dataclasses import replace

import pytest
from farm.stage import BROKEN, ROOM, Host, Stage, fresh, terms

from ffrtmp.farm import effects as fx
from ffrtmp.farm import events as ev
from ffrtmp.farm.job import Job, OnDisconnect, State, Want
from ffrtmp.farm.recovery import arrived_in_order
from ffrtmp.farm.restored import JOBS_AHEAD_MAX, NUMBERS_SKIPPED, is_ahead


def put_back(stage: Stage, backup) -> list[fx.Effect]:
    """A master that starts from the backup's file and does not know it; the effects of the first Hellos."""
    stage.restart(1.0, backup=backup)
    effects: list[fx.Effect] = []
    for host in stage.hosts.values():
        if host.up:
            effects += stage.turn(host.hello_event())
    stage.settle()
    return effects


def begun(*nodes: str) -> tuple[Stage, list[Host]]:
    stage = Stage()
    return stage, [stage.node(name) for name in nodes]


def test_an_agent_that_has_heard_more_than_the_store_knows_proves_the_restore():
    stage, (_a,) = begun("a")
    old = stage.stored()
    stage.submit()
    stage.pass_s(2)
    effects = put_back(stage, old)
    (branch,) = [e for e in effects if isinstance(e, fx.NewLineage)]
    assert branch.parent == old.lineage and branch.branch_turn == old.fields["turn"]
    assert stage.world.lineage == branch.lineage != old.lineage
    assert stage.world.ancestors[old.lineage] == old.fields["turn"]


def test_a_master_that_was_only_restarted_keeps_its_lineage():
    stage, (a,) = begun("a")
    lineage = stage.world.lineage
    job = stage.submit()
    stage.restart()
    assert not any(isinstance(e, fx.NewLineage) for e in stage.turn(a.hello_event()))
    assert stage.world.lineage == lineage
    assert stage.job(job).attempt == 1


def test_a_running_job_that_the_backup_did_not_know_is_adopted_under_its_number():
    stage, (a,) = begun("a")
    old = stage.stored()
    for _ in range(3):
        a.verified(stage.submit())
    job = stage.submit()
    put_back(stage, old)
    assert stage.state(job) is State.RUNNING
    assert stage.path(job)[-1] == "running"
    assert a.has(job), "it was never told to stop"
    assert stage.submit() > job, "no number is used twice"
    a.verified(job)
    assert stage.state(job) is State.COMPLETED


def test_an_adopted_job_whose_number_was_given_away_gets_another():
    stage, (a,) = begun("a")
    old = stage.stored()
    job = stage.submit()
    uuid = stage.job(job).uuid
    stage.pass_s(10)
    stage.restart(1.0, backup=old)
    other = stage.submit()
    assert other == job
    stage.pass_s(2)
    adopted = stage.world.by_uuid[uuid]
    assert adopted != other
    assert stage.state(adopted) is State.RUNNING
    assert stage.attempt(adopted).uuid == uuid
    assert a.up


def test_attempts_of_the_lost_future_are_found_again_and_their_numbers_are_not_used_twice():
    stage, (a, b) = begun("a", "b")
    job = stage.submit()
    assert stage.where(job) == "a"
    old = stage.stored()
    stage.lose(a)
    b.progress(job, 50.0)
    put_back(stage, old)
    assert (stage.where(job), stage.attempt(job).number) == ("b", 2), "a is not there, b is found again"
    assert stage.job(job).attempt >= NUMBERS_SKIPPED
    a.back()
    assert stage.attempt(job).number == 2 and not a.has(job)
    b.verified(job)
    assert stage.state(job) is State.COMPLETED
    assert stage.path(job).count("completed") == 1


def test_a_requeued_job_of_a_restored_store_skips_numbers():
    stage, (a,) = begun("a")
    job = stage.submit()
    old = stage.stored()
    stage.pass_s(3)
    put_back(stage, old)
    a.fail(job)
    stage.pass_s(8)
    assert stage.attempt(job).number > NUMBERS_SKIPPED


def test_an_output_that_was_published_in_the_lost_future_completes_the_job():
    stage, (a,) = begun("a")
    job = stage.submit()
    old = stage.stored()
    a.publishes = False
    a.request(job)
    local = a.local(job)
    a.published_event(local)
    local.stage = "ended"
    a.locals[(local.uuid, 1)] = local
    put_back(stage, old)
    assert stage.state(job) is State.COMPLETED


def test_a_job_canceled_after_the_restore_whose_output_is_there_is_completed():
    stage, (a,) = begun("a")
    job = stage.submit()
    old = stage.stored()
    a.publishes = a.obeys = False
    a.request(job)
    local = a.local(job)
    a.published_event(local)
    local.stage = "ended"
    a.locals[(local.uuid, 1)] = local
    stage.pass_s(0.5)
    a.up = False
    stage.restart(1.0, backup=old)
    a.up = True
    assert stage.cancel(job).status == 202
    stage.turn(a.hello_event())
    stage.settle()
    assert stage.state(job) is State.COMPLETED, "a canceled job would have left no file"


def test_two_nodes_that_offer_attempts_of_one_unknown_job_are_compared():
    stage, (a, b) = begun("a", "b")
    old = stage.stored()
    job = stage.submit()
    stage.lose(a)
    assert stage.where(job) == "b"
    uuid = stage.job(job).uuid
    stage.restart(1.0, backup=old)
    a.up = True
    stage.turn(a.hello_event(), b.hello_event())
    stage.settle()
    stage.pass_s(2)
    number = stage.world.by_uuid[uuid]
    assert sum(host.has(job) for host in (a, b)) == 1
    assert len(stage.world.attempts) == 1
    assert stage.state(number) is State.RUNNING


def test_p4_an_attempt_that_is_adopted_after_each_of_two_restores_has_a_successor_of_another_number_each_time():
    stage, (a,) = begun("a")
    old = stage.stored()
    job = stage.submit()
    a.obeys = False  # it is there whatever it hears, as where a disk lost the word of its end
    put_back(stage, old)
    handed_out = stage.job(job).attempt + 1
    put_back(stage, old)
    assert stage.where(job) == "a"
    assert stage.job(job).attempt > handed_out


def test_nobody_is_adopted_who_was_not_asked():
    stage, (a,) = begun("a")
    effects = a.say(ev.Adopt(*a._at(), "made-up", 7, 1, terms()))
    assert effects == [] and not len(stage.world.jobs)


def test_p6_a_job_that_stood_still_when_it_was_adopted_waits_for_room_before_it_goes_on():
    stage = Stage()
    a = stage.node("a", replace(ROOM, slots=1))
    old = stage.stored()
    held = stage.submit()
    stage.pause(held)
    other = stage.submit()
    assert stage.state(other) is State.RUNNING
    put_back(stage, old)
    assert stage.state(held) is State.RESUMING
    assert a.local(held).stage == "paused"
    a.verified(other)
    stage.pass_s(2)
    assert stage.state(held) is State.RUNNING
    assert a.local(held).stage == "running"


def test_an_offer_that_is_made_twice_is_taken_once():
    stage, (a,) = begun("a")
    old = stage.stored()
    job = stage.submit()
    put_back(stage, old)
    local = a.local(job)
    answers = a.say(ev.Adopt(*a._at(), local.uuid, job, 1, terms()))
    assert [e.want for e in answers if isinstance(e, fx.SendOrder)] == [Want.RUN], "the first answer may be lost"
    assert len(stage.world.jobs) == 1
    b = stage.node("b")
    said = stage.farm.apply(ev.Adopt(*b._at(), local.uuid, job, 1, terms()), stage.now_s)
    assert said == [], "a node offers nobody else's"


def test_a_stranger_at_a_master_that_was_not_restored_is_told_to_stop():
    stage, (a,) = begun("a")
    hello = a.hello_event(
        reports=(ev.Report("nobody", 5, 1, "running"),),
        strangers=frozenset({"nobody"}),
        connection=a.connection + b"x",
        seen_lineage=stage.world.lineage,
        seen_turn=1,
    )
    a.leave()
    stage.pass_s(18)
    a.up = True
    a.connection = hello.connection
    welcome = next(e for e in stage.turn(hello) if isinstance(e, fx.SendWelcome))
    assert [d.action for d in welcome.directives] == ["stop"]


def test_a_number_that_cannot_be_is_not_believed():
    stage, (a,) = begun("a")
    a.leave()
    stage.pass_s(18)
    a.up = True
    a.connection += b"x"
    next_job = stage.world.value("next_job")
    hello = a.hello_event(seen_lineage="other", seen_turn=9, seen_job=2**62)
    stage.turn(hello)
    assert stage.world.value("next_job") == next_job
    stage.turn(replace(hello, connection=b"again"))
    assert stage.submit() < JOBS_AHEAD_MAX


def test_no_number_that_an_agent_has_heard_of_is_given_again():
    stage, (a,) = begun("a")
    old = stage.stored()
    last = [stage.submit() for _ in range(3)][-1]
    for job in range(1, last + 1):
        a.verified(job)
    stage.pass_s(2)
    put_back(stage, old)
    assert stage.submit() == last + 1, "their outputs are there, and their numbers are told"


def test_a_number_that_an_adopted_job_keeps_is_not_given_again():
    stage, (a,) = begun("a")
    old = stage.stored()
    job = stage.submit()
    uuid = stage.job(job).uuid
    stage.pass_s(2)
    stage.restart(1.0, backup=old)
    reports = tuple(replace(x.report(), job=0, number=4) for x in a.locals.values())
    stage.turn(a.hello_event(reports=reports, seen_job=0))
    a.session = stage.world.contacts["a"].session
    stage.mail.clear()
    a.say(ev.Adopt(*a._at(), uuid, 50, 4, terms()))
    assert stage.world.by_uuid[uuid] == 50 and stage.job(50).attempt == 4 + 2 * NUMBERS_SKIPPED
    assert stage.submit() == 51


def test_what_an_offered_attempt_came_to_is_acknowledged_only_when_it_was_adopted():
    stage, (a,) = begun("a")
    old = stage.stored()
    job = stage.submit()
    stage.pass_s(2)
    stage.restart(1.0, backup=old)
    stage.turn(a.hello_event())
    offers, stage.mail = stage.mail, []
    assert [type(e).__name__ for e in offers] == ["Adopt"]
    a.publishes = False
    local = a.local(job)
    assert stage.turn(ev.Ended(*a._at(), "x", local.uuid, 1, "failed", BROKEN)) == [], "it is said again"
    stage.turn(*offers)
    effects = stage.turn(ev.Ended(*a._at(), "x", local.uuid, 1, "failed", BROKEN))
    assert fx.SendAck("a", "x") in effects
    assert stage.state(job) is State.RETRYING


def test_a_history_that_was_left_is_known_after_a_restart_too():
    stage, (a,) = begun("a")
    old = stage.stored()
    stage.submit()
    stage.pass_s(2)
    put_back(stage, old)
    stage.restart()
    assert {name: stage.world.ancestors[name] for name in stage.world.ancestors} == {old.lineage: old.fields["turn"]}
    behind = a.hello_event(seen_lineage=old.lineage, seen_turn=old.fields["turn"])
    assert not is_ahead(stage.world, behind) and is_ahead(stage.world, replace(behind, seen_turn=behind.seen_turn + 1))


@pytest.mark.parametrize(
    ("said", "ordered"),
    [
        ([10.0, 20.0, 30.0], [10.0, 20.0, 30.0]),
        ([99.0, 20.0, 30.0], [20.0, 20.0, 30.0]),
        ([10.0, 99.0, 30.0], [10.0, 30.0, 30.0]),
        ([10.0, 20.0, 99.0], [10.0, 20.0, 50.0]),
    ],
)
def test_p7_a_store_gives_jobs_in_the_order_of_numbers_and_none_that_came_later_than_the_next(said, ordered):
    jobs = [Job(n, f"u{n}", terms(), at_s, State.QUEUED) for n, at_s in enumerate(said, 1)]
    for given in (jobs, jobs[::-1]):
        found = arrived_in_order(given, 50.0)
        assert [(job.number, job.arrival_s) for job in found] == list(enumerate(ordered, 1))


@pytest.mark.parametrize("lineage", ["", "A history that sorts first", "a history that sorts last"])
def test_an_agent_of_another_history_proves_no_restore_of_this_one(lineage):
    stage, (a,) = begun("a")
    here = stage.world.lineage
    stage.turn(ev.Goodbye(*a._at()))
    effects = stage.turn(a.hello_event(connection=b"y", incarnation=9, seen_lineage=lineage, seen_turn=10**6))
    assert not any(isinstance(e, fx.NewLineage) for e in effects) and stage.world.lineage == here


def test_a_history_begins_once_in_the_life_of_a_master_whatever_agents_claim():
    stage, (a,) = begun("a")
    old = stage.stored()
    stage.submit()
    stage.pass_s(2)
    put_back(stage, old)
    lineage = stage.world.lineage
    stage.turn(ev.Goodbye(*a._at()))
    effects = stage.turn(a.hello_event(connection=b"y", incarnation=9, seen_lineage=lineage, seen_turn=10**6))
    assert any(isinstance(e, fx.SendWelcome) for e in effects)
    assert stage.world.lineage == lineage


def test_a_restore_that_an_agent_proves_skips_a_hundred_numbers_of_each_job():
    stage, (a,) = begun("a")
    job = stage.submit()
    old = stage.stored()
    old = replace(old, fields={**old.fields, "jobs": [replace(each, attempt=36) for each in old.fields["jobs"]]})
    stage.pass_s(3)
    put_back(stage, old)
    assert a.has(job) and stage.job(job).attempt == 36 + NUMBERS_SKIPPED


@pytest.mark.parametrize("ahead", [0, 1])
def test_numbers_are_believed_up_to_a_bound(ahead):
    stage, (a,) = begun("a")
    first_free = 200
    stage.world.set("next_job", first_free)
    told = first_free + JOBS_AHEAD_MAX - 1 + ahead
    stage.turn(ev.Goodbye(*a._at()))
    stage.turn(a.hello_event(connection=b"x", incarnation=9, seen_lineage="other", seen_turn=9, seen_job=told))
    assert stage.world.value("next_job") == (first_free if ahead else told + 1)


def offered(stage: Stage, a: Host, *, number: int) -> str:
    """A job that a restored master has never heard of was offered to it; its UUID."""
    uuid = "".join(["un", "heard of"])
    stage.turn(ev.Goodbye(*a._at()))
    report = ev.Report(uuid, 0, number, "running")
    a.connection, a.incarnation = b"x", 9
    hello = a.hello_event(reports=(report,), seen_lineage="other", seen_turn=9, seen_job=0, strangers=frozenset({uuid}))
    stage.turn(hello)
    a.session = stage.world.contacts["a"].session
    stage.mail.clear()
    return uuid


@pytest.mark.parametrize(
    ("asked", "given"),
    [
        (50, 50),
        (51, 51),
        (0, 200),
        (-5, 200),
        (2**62, 200),
        (200 + JOBS_AHEAD_MAX, 200),
        (200 + JOBS_AHEAD_MAX - 1, 200 + JOBS_AHEAD_MAX - 1),
    ],
)
def test_a_job_is_adopted_under_its_number_where_that_can_be_and_none_is_given_twice(asked, given):
    stage, (a,) = begun("a")
    stage.world.set("next_job", 200)
    uuid = offered(stage, a, number=36)
    a.say(ev.Adopt(*a._at(), uuid, asked, 36, terms()))
    assert stage.world.by_uuid[uuid] == given
    assert stage.job(given).attempt == 36 + NUMBERS_SKIPPED
    assert stage.submit() == max(200, given + 1)


def test_the_next_number_is_never_one_that_an_adopted_job_has():
    for number in (50, 51):
        stage, (a,) = begun("a")
        uuid = offered(stage, a, number=1)
        a.say(ev.Adopt(*a._at(), uuid, number, 1, terms()))
        assert stage.submit() == number + 1


def test_what_an_adopted_attempt_came_to_is_acknowledged_as_often_as_it_is_said():
    stage, (a,) = begun("a")
    uuid = offered(stage, a, number=1)
    stage.turn(ev.Adopt(*a._at(), uuid, 5, 1, terms()))
    for _ in range(2):
        effects = stage.turn(ev.Ended(*a._at(), "x", uuid, 1, "failed", BROKEN))
        assert fx.SendAck("a", "x") in effects


@pytest.mark.parametrize(("one", "other"), [("a", "b"), ("b", "a")])
def test_a_node_that_offers_the_attempt_of_another_is_not_answered(one, other):
    stage, (a, b) = begun("a", "b")
    there, third = (a, b) if one == "a" else (b, a)
    stage.ask(ev.DrainNode(0, third.name, True))
    job = stage.submit()
    assert stage.where(job) == there.name == one
    said = stage.turn(ev.Adopt(*third._at(), stage.job(job).uuid, job, 1, terms()))
    assert said == [] and third.name == other


@pytest.mark.parametrize("first", ["a", "b"])
def test_of_two_offered_attempts_of_one_job_that_are_level_the_older_is_kept(first):
    stage, (a, b) = begun("a", "b")
    old = stage.stored()
    job = stage.submit()
    stage.lose(a)
    assert stage.where(job) == "b"
    uuid = stage.job(job).uuid
    stage.restart(1.0, backup=old)
    a.up = True
    for host in (a, b) if first == "a" else (b, a):
        stage.turn(host.hello_event())
        stage.settle()
        if host.has(job):
            host.beat()
    assert stage.where(stage.world.by_uuid[uuid]) == "a" and not b.has(job)


@pytest.mark.parametrize(("said", "paused"), [("paused", True), ("running", False), ("ended", False)])
def test_p6_an_attempt_that_the_store_forgot_is_found_again_as_it_stands(said, paused):
    stage, (a,) = begun("a")
    stage.ask(ev.DrainNode(0, "a", True))
    job = stage.submit()
    old = stage.stored()
    stage.ask(ev.DrainNode(0, "a", False))
    a.local(job).stage = said
    a.obeys = False
    stage.pass_s(2)
    stage.restart(1.0, backup=old)
    stage.turn(a.hello_event())
    assert ("resuming" in stage.path(job)) is paused, "one that stands still needs room before it goes on"


def test_a_history_that_was_left_later_than_an_agent_heard_of_it_is_not_ahead():
    stage, (a,) = begun("a")
    stage.world.ancestors.restore("an old one", 1000)
    hello = a.hello_event(seen_lineage="an old one")
    turns = {turn: is_ahead(stage.world, fresh(replace(hello, seen_turn=turn))) for turn in (999, 1000, 1001)}
    assert turns == {999: False, 1000: False, 1001: True}
    assert not is_ahead(stage.world, fresh(replace(hello, seen_lineage=stage.world.lineage, seen_turn=1)))


def test_a_strict_job_that_waited_for_a_node_when_the_master_was_started_anew_may_be_held_and_released_at_once():
    stage, (a,) = begun("a")
    a.accepts = False
    job = stage.submit(terms(on_disconnect=OnDisconnect.STOP))
    a.refuse(job)
    assert stage.state(job) is State.QUEUED and stage.job(job).attempt == 1
    a.leave()
    stage.restart()
    stage.pause(job)
    stage.resume(job)
    assert stage.state(job) is State.QUEUED
