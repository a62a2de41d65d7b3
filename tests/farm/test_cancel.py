"""Cancel and stop: what is canceled has no process left (P5)."""

from __future__ import annotations

from farm.stage import BROKEN, Stage, terms

from ffrtmp.farm import events as ev
from ffrtmp.farm.job import Queue, State

LIVE = terms(queue=Queue.LIVE, live=True)


def test_a_job_that_waits_is_canceled_at_once():
    stage = Stage()
    job = stage.submit()
    answer = stage.cancel(job)
    assert (answer.status, answer.states) == (200, (State.CANCELED,))
    stage.node("a")
    assert stage.path(job) == ["queued", "canceled"]


def test_p5_a_running_job_is_canceled_only_when_nothing_of_it_is_left():
    stage = Stage()
    a = stage.node("a")
    a.obeys = False
    job = stage.submit()
    answer = stage.cancel(job)
    assert (answer.status, answer.states, answer.nodes) == (202, (State.CANCELING,), ("a",))
    stage.pass_s(10)
    assert stage.state(job) is State.CANCELING
    a.obeys = True
    stage.pass_s(2)
    assert stage.state(job) is State.CANCELED
    assert not a.has(job)


def test_p5_an_attempt_that_a_late_hello_made_forgotten_is_waited_for_once_its_node_names_it():
    stage = Stage()
    a = stage.node("a")
    late = a.hello_event(connection=b"an older one", token=999)
    job = stage.submit()
    a.leave()
    stage.lose(a)
    b = stage.node("b")
    b.obeys = a.obeys = False
    stage.turn(late)  # sent before the job came, so it does not name the attempt
    assert stage.attempt(job).node == "b" and not stage.world.attempts_on("a")
    stage.cancel(job)
    a.back()
    stage.pass_s(10)  # the late Hello's session is asked for a sign, and gives none
    b.obeys = True
    stage.pass_s(3)
    assert not b.has(job) and a.has(job)
    assert stage.state(job) is State.CANCELING
    a.obeys = True
    stage.pass_s(3)
    assert stage.state(job) is State.CANCELED and not a.has(job)


def test_p5_cancel_reaches_the_node_in_the_same_turn():
    stage = Stage()
    a = stage.node("a")
    job = stage.submit()
    stage.cancel(job)
    assert stage.state(job) is State.CANCELED
    assert not a.has(job)


def test_a_cancel_that_is_asked_twice_says_the_same_twice():
    stage = Stage()
    a = stage.node("a")
    a.obeys = False
    job = stage.submit()
    assert stage.cancel(job).status == stage.cancel(job).status == 202
    assert stage.path(job).count("canceling") == 1


def test_a_job_that_is_over_or_unknown_cannot_be_canceled():
    stage = Stage()
    a = stage.node("a")
    job = stage.submit()
    a.verified(job)
    assert stage.cancel(job).status == 404
    assert stage.cancel(999).status == 404
    assert stage.state(job) is State.COMPLETED


def test_a_job_that_is_being_handed_out_is_canceled_when_the_node_has_dropped_it():
    stage = Stage()
    a = stage.node("a")
    a.accepts = a.obeys = False
    job = stage.submit()
    assert stage.cancel(job).status == 202
    assert stage.state(job) is State.CANCELING
    a.obeys = True
    stage.pass_s(2)
    assert stage.state(job) is State.CANCELED
    a.accepts = True
    stage.pass_s(3)
    assert not a.has(job)


def test_an_acceptance_that_crosses_a_cancel_starts_nothing():
    stage = Stage()
    a = stage.node("a")
    a.accepts = a.obeys = False
    job = stage.submit()
    accepted = a._accepted(stage.attempt(job))
    stage.cancel(job)
    a.obeys = True
    a.say(accepted)
    assert stage.state(job) is State.CANCELED
    assert not a.has(job)


def test_a_refusal_that_crosses_a_cancel_ends_it():
    stage = Stage()
    a = stage.node("a")
    a.accepts = a.obeys = False
    job = stage.submit()
    attempt = stage.attempt(job)
    stage.cancel(job)
    a.say(ev.Refused(*a._at(), attempt.uuid, 1, "no room"))
    assert stage.state(job) is State.CANCELED


def test_a_job_between_two_tries_is_canceled_at_once():
    stage = Stage()
    a = stage.node("a")
    job = stage.submit()
    a.fail(job, BROKEN)
    assert stage.cancel(job).status == 200
    assert stage.state(job) is State.CANCELED
    stage.pass_s(30)
    assert stage.path(job)[-1] == "canceled"


def test_the_answer_to_a_cancel_names_the_lost_node_that_may_still_hold_the_job():
    stage = Stage()
    a = stage.node("a")
    job = stage.submit()
    stage.lose(a)
    answer = stage.cancel(job)
    assert answer.status == 202 and answer.nodes == ("a",)
    assert "a is not in contact" in answer.hint
    assert "a has not said yet that nothing is left" in stage.why(job)
    stage.ask(ev.RemoveNode(0, "a"))
    assert stage.state(job) is State.CANCELED


def test_a_canceled_live_job_gives_its_lease_back():
    stage = Stage()
    a = stage.node("a")
    a.publishes = False
    job = stage.submit(LIVE)
    a.request(job)
    assert stage.grant(job) is not None
    assert stage.cancel(job).status == 202
    assert stage.state(job) is State.CANCELED
    assert not len(stage.world.grants)


def test_stop_is_the_planned_end_of_a_live_job():
    stage = Stage()
    stage.node("a")
    job = stage.submit(LIVE)
    assert stage.stop(job).status == 202
    assert stage.state(job) is State.COMPLETED
    assert not len(stage.world.attempts)


def test_stop_is_for_live_jobs_that_run():
    stage = Stage()
    waiting = stage.submit(LIVE)
    assert stage.stop(waiting).status == 409
    stage.node("a")
    file = stage.submit()
    answer = stage.stop(file)
    assert answer.status == 409 and answer.hint == "use: jobs cancel"
    assert stage.stop(999).status == 404


def test_a_live_job_that_fails_while_it_is_being_stopped_is_not_started_again():
    stage = Stage()
    a = stage.node("a")
    a.obeys = False
    job = stage.submit(LIVE)
    stage.stop(job)
    assert stage.pause(job).status == 409
    a.fail(job, BROKEN)
    assert stage.state(job) is State.FAILED


def test_a_live_job_that_is_stopped_before_it_began_never_begins():
    stage = Stage(accept_timeout_s=5.0)
    a = stage.node("a")
    a.accepts = a.obeys = False
    job = stage.submit(LIVE)
    assert stage.stop(job).status == 202
    stage.pass_s(6)
    assert stage.state(job) is State.COMPLETED
    a.accepts = a.obeys = True
    stage.pass_s(10)
    assert not a.has(job) and not len(stage.world.attempts)
