"""What operators do with nodes, and the bounds of a submission."""

from __future__ import annotations

from dataclasses import replace

import pytest
from farm.stage import ROOM, Stage, terms

from ffrtmp.config_master import MasterConfig
from ffrtmp.farm import effects as fx
from ffrtmp.farm import events as ev
from ffrtmp.farm.job import Priority, Queue, Reason, Requirements, State, Terms
from ffrtmp.farm.queue import round_up
from ffrtmp.farm.rules import Rules
from ffrtmp.farm.why import why
from ffrtmp_master.main import rules_of

RARE = frozenset({"rare"})


def test_a_drained_node_finishes_its_jobs_and_takes_no_new_ones():
    stage = Stage()
    a = stage.node("a")
    first = stage.submit()
    answer = stage.ask(ev.DrainNode(0, "a", True))
    assert answer.status == 200 and "1 still run" in answer.detail
    second = stage.submit()
    assert (stage.state(first), stage.state(second)) == (State.RUNNING, State.QUEUED)
    a.verified(first)
    assert stage.state(first) is State.COMPLETED
    stage.ask(ev.DrainNode(0, "a", False))
    assert stage.state(second) is State.RUNNING
    assert stage.ask(ev.DrainNode(0, "z", True)).status == 404


def test_removing_a_node_gives_its_jobs_to_others_and_refuses_its_key():
    stage = Stage()
    a = stage.node("a")
    job = stage.submit()
    stage.node("b")
    answer = stage.ask(ev.RemoveNode(0, "a"))
    assert answer.status == 409 and "--force" in answer.hint
    effects = stage.turn(ev.RemoveNode(77, "a", force=True))
    assert fx.AttemptOver((job, 1), "given_up") in effects
    stage.settle()
    assert stage.where(job) == "b"
    assert stage.job(job).lost == () and stage.job(job).failures == 0
    effects = stage.turn(a.beat_event())
    assert [type(e).__name__ for e in effects] == ["SendNoSession"]
    assert stage.ask(ev.RemoveNode(0, "a")).status == 404


def test_labels_of_the_operator_count_like_those_of_the_node():
    stage = Stage()
    stage.node("a")
    job = stage.submit(terms(labels=RARE))
    assert stage.state(job) is State.QUEUED
    answer = stage.ask(ev.LabelNode(0, "a", RARE))
    assert (answer.status, answer.detail) == (200, "node a has rare")
    assert stage.state(job) is State.RUNNING
    assert stage.ask(ev.LabelNode(0, "a", frozenset())).detail == "node a has no labels"
    assert stage.ask(ev.LabelNode(0, "z", RARE)).status == 404


def test_a_ticket_is_for_a_name_that_is_free_or_for_a_node_that_is_there():
    stage = Stage()
    stage.node("a")
    assert stage.ask(ev.Invite(0)).status == 201
    assert stage.ask(ev.Invite(0, "b")).status == 201
    assert stage.ask(ev.Invite(0, "a")).status == 409
    assert stage.ask(ev.Invite(0, "a", replace="a")).status == 201
    assert stage.ask(ev.Invite(0, "b", replace="z")).status == 404


# ---- submissions -------------------------------------------------------------------------------------------------


def test_a_strict_job_that_no_node_could_run_is_rejected_with_the_reason():
    stage = Stage()
    stage.node("a")
    answer = stage.ask(ev.Submit(0, (stage.new(terms(8000), strict=True),)))
    assert answer.states == (State.REJECTED,)
    row = stage.history.rows[-1]
    assert row.failure is not None and row.failure.reason is Reason.CAPABILITY_MISMATCH
    assert "a: 4 of 4 cores are free, 8 are needed" in row.failure.line
    assert stage.cancel(answer.jobs[0]).status == 404


def test_a_strict_job_that_a_full_drained_or_lost_node_could_run_waits():
    stage = Stage()
    a = stage.node("a", replace(ROOM, slots=1))
    stage.submit()
    stage.lose(a)
    stage.ask(ev.DrainNode(0, "a", True))
    job = stage.submit(strict=True)
    assert stage.state(job) is State.QUEUED


def test_a_job_that_no_node_could_run_waits_and_runs_when_one_comes():
    stage = Stage()
    job = stage.submit(terms(labels=RARE))
    assert "no node is known" in stage.why(job)
    stage.node("a")
    told = why(stage.world, job)
    assert told is not None and "no known node could run it" in told.sentence
    assert told.nodes == {"a": "it has no label rare"}, "what is told beside a node is not told in the sentence too"
    stage.node("b", replace(ROOM, labels=RARE))
    assert stage.where(job) == "b"


def test_a_batch_is_taken_whole_or_not_at_all():
    stage = Stage()
    answer = stage.ask(ev.Submit(0, tuple(stage.new() for _ in range(5))))
    assert (answer.status, answer.jobs) == (201, (1, 2, 3, 4, 5))
    assert answer.states == (State.QUEUED,) * 5
    clash = (stage.new(output="r1:x"), stage.new(output="r1:y"), stage.new(output="r1:x"))
    answer = stage.ask(ev.Submit(0, clash))
    assert answer.status == 409 and not answer.jobs and "{index}" in answer.hint
    taken = (stage.new(output="r1:z"), stage.new(output="r1:w", taken_by=3))
    answer = stage.ask(ev.Submit(0, taken))
    assert answer.status == 409 and "job 3" in answer.detail
    assert len(stage.world.jobs) == 5 and stage.world.value("next_job") == 6


def test_p12_no_more_jobs_are_open_than_the_bound_says():
    stage = Stage(waiting_max=3)
    assert stage.ask(ev.Submit(0, tuple(stage.new() for _ in range(4)))).status == 503
    assert stage.ask(ev.Submit(0, tuple(stage.new() for _ in range(3)))).status == 201
    answer = stage.ask(ev.Submit(0, (stage.new(),)))
    assert answer.status == 503 and "bound is 3" in answer.detail
    stage.cancel(1)
    assert stage.ask(ev.Submit(0, (stage.new(),))).status == 201


def test_p12_no_more_kinds_of_jobs_wait_than_the_bound_says():
    stage = Stage(lanes_max=2)
    stage.submit(terms(1000))
    stage.submit(terms(2000))
    assert stage.ask(ev.Submit(0, (stage.new(terms(3000)),))).status == 503
    assert stage.submit(terms(1900)) == 3, "it is rounded up to a kind that is there"
    stage = Stage(lanes_max=1)
    two = (stage.new(terms(1000)), stage.new(terms(2000)))
    assert stage.ask(ev.Submit(0, two)).status == 503
    stage.submit(terms(1000))
    assert stage.ask(ev.Submit(0, two[1:])).status == 503


MIB, GIB = 1 << 20, 1 << 30


@pytest.mark.parametrize(
    ("asked", "rounded"),
    [(0, 0), (1, 250), (250, 250), (251, 500), (3999, 4000), (4000, 4000), (4001, 5000), (5001, 6000)],
)
def test_cores_are_rounded_up_to_quarters_and_above_four_to_whole_ones(asked: int, rounded: int):
    assert round_up(terms(asked)).requirements.cpu_milli == rounded


@pytest.mark.parametrize(
    ("asked", "rounded"),
    [
        (0, 0),
        (1, 64 * MIB),
        (64 * MIB + 1, 128 * MIB),
        (GIB - 1, GIB),
        (GIB, GIB),
        (GIB + 1, GIB + 256 * MIB),
        (8 * GIB - 1, 8 * GIB),
        (8 * GIB, 8 * GIB),
        (8 * GIB + 1, 9 * GIB),
    ],
)
def test_memory_is_rounded_up_to_larger_steps_the_more_it_is(asked: int, rounded: int):
    assert round_up(terms(1000, memory_bytes=asked)).requirements.memory_bytes == rounded


def test_a_job_waits_under_its_rounded_requirements():
    stage = Stage()
    job = stage.submit(terms(1001, memory_bytes=GIB + 1, scratch_bytes=1, queue=Queue.BATCH, priority=Priority.LOW))
    need = stage.job(job).terms.requirements
    assert (need.cpu_milli, need.memory_bytes, need.scratch_bytes) == (1250, GIB + 256 * MIB, GIB)
    assert round_up(terms(scratch_bytes=GIB + 1)).requirements.scratch_bytes == 2 * GIB


def test_times_and_bounds_that_nobody_sets_are_those_of_the_configuration_page():
    assert rules_of(MasterConfig()) == Rules()


def test_times_that_nobody_can_set_are_those_of_the_design():
    rules = Rules()
    assert (rules.sign_s, rules.resend_s, rules.starved_every_s) == (2.0, 1.0, 5.0)
    assert (rules.hold_s, rules.hold_most_s) == (5.0, 60.0)
    assert (rules.grant_margin_s, rules.lease_stop_s, rules.lease_margin_s) == (5.0, 3.0, 2.0)
    assert rules.handouts_per_turn == 250


def test_a_submission_is_warned_of_the_jobs_that_no_node_could_run_and_of_no_other():
    stage = Stage()
    stage.node("a")
    rare = terms(labels=RARE)
    answer = stage.ask(ev.Submit(0, (stage.new(rare, strict=True), stage.new(rare), stage.new())))
    assert answer.states == (State.REJECTED, State.QUEUED, State.QUEUED)
    assert answer.warnings == ("", "a: it has no label rare", "")
    (row,) = [row for row in stage.history.rows if row.after is State.REJECTED]
    assert row.failure is not None and not row.failure.transient


def test_a_queue_that_is_open_stays_open_when_it_is_opened_and_the_answer_says_which_it_is():
    stage = Stage()
    for paused, said in ((False, "open"), (True, "paused"), (False, "open"), (False, "open")):
        assert stage.ask(ev.SetQueue(0, Queue.BATCH, paused)).detail == f"queue batch is {said}"
        assert (Queue.BATCH in stage.world.paused_queues) is paused


def test_a_job_that_says_nothing_of_itself_needs_one_core_and_ffmpeg_and_waits_in_the_middle():
    assert Requirements() == Requirements(1000, 0, 0, frozenset(), "ffmpeg", frozenset(), frozenset(), frozenset())
    assert (Terms().queue, Terms().priority, Terms().max_retries) == (Queue.DEFAULT, Priority.MEDIUM, 3)


def test_queues_and_priorities_are_numbered_as_they_are_on_disk():
    assert [(q.value, q.label) for q in Queue] == [(0, "live"), (1, "default"), (2, "batch")]
    assert [(p.value, p.label) for p in Priority] == [(0, "high"), (1, "medium"), (2, "low")]


def test_a_node_that_is_removed_is_answered_as_done():
    stage = Stage()
    stage.node("a")
    assert stage.ask(ev.RemoveNode(0, "a", force=True)).status == 200


def test_a_label_that_both_the_operator_and_the_node_give_counts():
    stage = Stage()
    stage.node("a", replace(ROOM, labels=RARE))
    stage.ask(ev.LabelNode(0, "a", RARE))
    assert stage.where(stage.submit(terms(labels=RARE))) == "a"


@pytest.mark.parametrize("asked", [2 * GIB + 1, 7 * GIB + 1])
def test_memory_between_one_and_eight_gib_is_rounded_up_to_quarters(asked: int):
    assert round_up(terms(1000, memory_bytes=asked)).requirements.memory_bytes == asked - 1 + 256 * MIB
