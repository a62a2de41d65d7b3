"""Failed attempts: tried again with back-off as often as allowed, and no more (P8)."""

from __future__ import annotations

from dataclasses import replace

import pytest
from farm.stage import BROKEN, LATE, WRONG, Stage, terms

from ffrtmp.farm import events as ev
from ffrtmp.farm.endings import backoff_s
from ffrtmp.farm.job import Failure, Reason, State
from ffrtmp.farm.rules import Rules


def test_a_transient_failure_is_tried_again_after_a_back_off():
    stage = Stage(backoff_first_s=5.0)
    a = stage.node("a")
    job = stage.submit()
    a.fail(job, BROKEN)
    assert stage.state(job) is State.RETRYING
    assert not any(isinstance(event, ev.JobDue) for event in stage.farm.due(stage.now_s)), "its time has not come"
    assert "tried again in" in stage.why(job) and BROKEN.line in stage.why(job) and BROKEN.hint in stage.why(job)
    stage.pass_s(4.5)
    assert stage.state(job) is State.RETRYING
    stage.pass_s(1.5)
    assert stage.state(job) is State.RUNNING
    a.verified(job)
    assert stage.state(job) is State.COMPLETED
    assert "retrying" in stage.path(job)


@pytest.mark.parametrize("max_retries", [0, 1, 3])
def test_p8_a_job_fails_after_max_retries_and_one_attempts(max_retries):
    stage = Stage(backoff_max_s=1.0)
    a = stage.node("a")
    job = stage.submit(terms(max_retries=max_retries))
    for _ in range(max_retries + 1):
        assert stage.state(job) is State.RUNNING
        a.fail(job, BROKEN)
        stage.pass_s(2)
    assert stage.state(job) is State.FAILED
    assert sum(r.kind == "assigned" for r in stage.history.rows) == max_retries + 1
    last = next(r for r in reversed(stage.history.rows) if r.job == job)
    assert last.failure == BROKEN


def test_the_back_off_doubles_up_to_its_cap_and_jitter_takes_at_most_a_quarter_off():
    rules = Rules()
    assert [backoff_s(n, 0.0, rules) for n in range(1, 9)] == [5, 10, 20, 40, 80, 160, 300, 300]
    assert backoff_s(1000, 0.0, rules) == 300
    assert backoff_s(2, 1.0, rules) == 7.5


def test_jobs_that_fail_together_are_not_tried_again_together():
    stage = Stage()
    a = stage.node("a")
    first, second = stage.submit(), stage.submit()
    events = [replace(a.ended_event(a.local(j), "failed", BROKEN), jitter=n) for n, j in enumerate((first, second))]
    stage.turn(*events)
    assert stage.job(first).due_s != stage.job(second).due_s


def test_a_failure_that_another_try_cannot_mend_is_final_at_once():
    stage = Stage()
    a = stage.node("a")
    job = stage.submit()
    a.fail(job, WRONG)
    assert stage.path(job) == ["queued", "assigned", "running", "failed"]


def test_a_job_that_used_up_its_time_is_timed_out():
    stage = Stage()
    a = stage.node("a")
    job = stage.submit()
    a.fail(job, LATE)
    assert stage.state(job) is State.TIMED_OUT


def test_a_failure_that_is_told_twice_counts_once():
    stage = Stage()
    a = stage.node("a")
    job = stage.submit()
    event = a.ended_event(a.local(job), "failed", BROKEN)
    stage.turn(event, event)
    stage.turn(event)
    assert stage.job(job).failures == 1


@pytest.mark.parametrize("how", ["stopped", "completed", "absent"])
def test_an_attempt_that_ends_without_an_output_and_without_a_reason_is_a_platform_failure(how):
    stage = Stage()
    a = stage.node("a")
    job = stage.submit()
    a.end(job, how)
    assert stage.state(job) is State.RETRYING
    assert stage.job(job).failure.reason.value == "platform_error"


def test_an_attempt_whose_node_went_down_under_it_is_lost_and_not_failed():
    stage = Stage()
    a = stage.node("a")
    job = stage.submit()
    a.end(job, "node_lost")
    assert stage.state(job) is State.RUNNING
    assert (stage.job(job).failures, stage.job(job).lost) == (0, (1,))


def test_a_running_job_that_is_refused_after_all_is_tried_again():
    stage = Stage()
    a = stage.node("a")
    job = stage.submit()
    a.refuse(job, BROKEN)
    assert stage.state(job) is State.RETRYING
    stage.pass_s(8)
    assert stage.attempt(job).number == 2


def test_a_job_that_is_due_does_not_wait_for_those_that_wait_longer():
    stage = Stage(backoff_first_s=5.0)
    a = stage.node("a")
    first, second, third = (stage.submit() for _ in range(3))
    a.fail(second)
    stage.until(lambda: stage.state(second) is State.RUNNING)
    a.fail(first)
    a.fail(second)
    a.fail(third)
    waits = {job: stage.job(job).due_s - stage.now_s for job in (first, second, third)}
    assert waits[first] < 6.0 and waits[third] < 6.0 and 9.0 < waits[second] < 11.0
    stage.pass_s(6)
    assert [stage.state(job) for job in (first, second, third)] == [State.RUNNING, State.RETRYING, State.RUNNING]


@pytest.mark.parametrize("reason", list(Reason))
def test_a_final_failure_is_the_end_of_its_job_and_only_one_for_lack_of_time_is_called_timed_out(reason):
    stage = Stage()
    a = stage.node("a")
    job = stage.submit()
    a.fail(job, Failure(reason, False, "it went wrong"))
    assert stage.state(job) is (State.TIMED_OUT if reason is Reason.TIMEOUT else State.FAILED)


def test_a_time_out_that_another_try_may_mend_ends_as_a_failure():
    stage = Stage()
    a = stage.node("a")
    job = stage.submit(terms(max_retries=0))
    a.fail(job, replace(LATE, transient=True))
    assert stage.state(job) is State.FAILED


def test_p8_a_bound_of_losses_that_was_lowered_meanwhile_holds_from_the_next_one_on():
    stage = Stage(poison_losses=9)
    stage.look = lambda: None  # it holds every job against the bound that is in force
    a = stage.node("a")
    job = stage.submit()
    for _ in range(3):
        a.end(job, "node_lost")
    stage.rules = replace(stage.rules, poison_losses=2)
    stage.restart()
    a.hello()
    a.end(job, "node_lost")
    assert stage.state(job) is State.FAILED
    failure = stage.ended[job].failure
    assert failure is not None and not failure.transient
    assert failure.line == "was running on 4 nodes when they were lost"
