"""The wall clock is set while no master runs. What two attempts must not do rests on numbers, never on that clock."""

from __future__ import annotations

from pathlib import Path

import pytest
from farm.stage import BROKEN, ROOM, Stage, Stored, terms
from store.book import OFFSET_S, open_store, spec

from ffrtmp.farm import effects as fx
from ffrtmp.farm import events as ev
from ffrtmp.farm.job import OnDisconnect, State
from ffrtmp_master.rows import Changes, NewSpec, TurnRows

HOUR_S = 3600.0
set_by = pytest.mark.parametrize("step_s", [-HOUR_S, HOUR_S], ids=["an hour back", "an hour on"])


def restart(stage: Stage, folder: Path, step_s: float) -> None:
    """Write all that the farm knows into a real store, set the clock by `step_s`, and start from what is read back."""
    world = stage.world
    changes = Changes()
    changes.jobs.update({job.number: job for job in world.jobs.rows()})
    changes.attempts.update({attempt.id: attempt for attempt in world.attempts.rows()})
    changes.grants.update({grant.job: grant for grant in world.grants.rows()})
    changes.nodes.update({node.name: node for node in world.nodes.rows()})
    turn = TurnRows(stage.turns, OFFSET_S + stage.now_s, OFFSET_S, changes, next_job=int(world.value("next_job")))
    turn.specs.extend(NewSpec(job.number, spec()) for job in world.jobs.rows())
    with open_store(folder) as store:
        store.commit(turn)
        loaded = store.load(OFFSET_S + step_s)
    fields = {
        "turn": loaded.turn,
        "next_job": loaded.next_job,
        "ancestors": {},
        "paused_queues": loaded.paused_queues,
        "jobs": loaded.jobs,
        "attempts": loaded.attempts,
        "grants": loaded.grants,
        "nodes": loaded.nodes,
    }
    stage.restart(backup=Stored(world.lineage, fields, dict(stage.history.states), set(stage.known)))


def on_two(**fields) -> tuple[Stage, int]:
    """A job that runs on node a, and a node b that could run it too."""
    stage = Stage()
    stage.node("a")
    job = stage.submit(terms(**fields))
    stage.node("b")
    assert stage.where(job) == "a"
    return stage, job


@set_by
@pytest.mark.parametrize("removed", [False, True], ids=["lost", "removed"])
def test_a_strict_attempt_has_ended_before_its_successor_starts_whatever_the_clock_says(
    tmp_path: Path, step_s: float, removed: bool
):
    stage, job = on_two(on_disconnect=OnDisconnect.STOP)
    heard_s, rules = stage.world.contacts["a"].heard_at_s, stage.rules
    stage.lose(stage.hosts["a"])
    if removed:
        stage.ask(ev.RemoveNode(0, "a"))
    restart(stage, tmp_path, step_s)
    over_s = heard_s + rules.lost_after_s + rules.lease_stop_s + rules.lease_margin_s
    stage.until(lambda: stage.hosts["b"].has(job), within_s=rules.backoff_max_s + 5.0)
    assert stage.now_s >= over_s


@set_by
def test_p2_a_grant_of_before_is_held_until_it_is_settled_whatever_the_clock_says(tmp_path: Path, step_s: float):
    stage, job = on_two()
    a, b = stage.hosts["a"], stage.hosts["b"]
    a.publishes = False
    a.verified(job)
    stage.lose(a)
    b.obeys = False  # it shares the storage, and does not say what it sees there
    restart(stage, tmp_path, step_s)
    started_s = stage.now_s
    held = stage.grant(job)
    assert held is not None and held.attempt == 1

    def asked_to_settle() -> bool:
        return any(isinstance(heard, fx.SendSettle) for heard in b.heard)

    stage.until(asked_to_settle, within_s=60.0)
    assert stage.now_s >= started_s + stage.rules.grant_ttl_s + stage.rules.grant_margin_s
    stage.pass_s(30.0)
    assert not b.has(job), "nobody else gets an attempt while the grant is not settled"
    a.publishes = True
    a.back()
    a.publish(job)
    assert stage.state(job) is State.COMPLETED


@set_by
def test_p4_an_attempt_that_was_given_up_before_stays_so_whatever_the_clock_says(tmp_path: Path, step_s: float):
    stage, job = on_two()
    a, b = stage.hosts["a"], stage.hosts["b"]
    stage.lose(a)
    stage.until(lambda: b.has(job))
    b.publishes = False
    b.verified(job)
    restart(stage, tmp_path, step_s)
    b.back()
    a.obeys = a.publishes = False
    a.back()
    told = a.request(job)
    assert any(isinstance(each, fx.SendDeny) for each in told)
    assert not any(isinstance(each, fx.SendGrant) for each in told)
    b.publishes = True
    b.request(job)
    assert stage.state(job) is State.COMPLETED


@set_by
def test_p1_a_wait_between_two_tries_is_no_longer_than_the_longest_whatever_the_clock_says(
    tmp_path: Path, step_s: float
):
    stage = Stage()
    a = stage.node("a", ROOM)
    job = stage.submit()
    a.fail(job, BROKEN)
    assert stage.state(job) is State.RETRYING
    restart(stage, tmp_path, step_s)
    stage.until(lambda: stage.state(job) is State.RUNNING, within_s=stage.rules.backoff_max_s + 5.0)


@set_by
def test_p8_a_verdict_waits_for_a_doubted_attempt_whatever_the_clock_says(tmp_path: Path, step_s: float):
    stage, job = on_two(max_retries=0)
    a, b = stage.hosts["a"], stage.hosts["b"]
    stage.lose(a)
    stage.until(lambda: b.has(job))
    b.fail(job, BROKEN)
    assert stage.job(job).verdict is State.FAILED
    restart(stage, tmp_path, step_s)
    stage.pass_s(stage.rules.doubt_patience_s - 5.0, 1.0)
    a.back()
    assert stage.state(job) is State.RUNNING, "it came back in time"
