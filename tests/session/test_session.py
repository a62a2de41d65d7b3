"""The agent's heart, message by message: what is lost, late or said twice, what an earlier life left, who is refused.

What a slow or restored master does to it is in tests/review/test_the_agents_heart.py.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TypeVar

import pytest

from ffrtmp import wire
from ffrtmp.spec import Fingerprint, JobSpec, Recipe, Results, Source
from ffrtmp_agent import actions as do
from ffrtmp_agent.local import About, Local, Step
from ffrtmp_agent.session import HELLO_S, RESEND_S, TOMBSTONES, Session

UUID = "11111111-1111-4111-8111-111111111111"
KEY = (UUID, 1)
ABOUT = About("a", "10.0.0.1", "boot", 3, wire.Facts(), wire.Capacity(4000, 8 << 30, 2))
PRINT = Fingerprint(1, "0" * 64)
TIMING = wire.Timing(heartbeat_s=2.0, lost_after_s=15.0, grant_ttl_s=10.0)
ABSENT = wire.Ended(7, f"absent.{UUID}.1", UUID, 1, "absent")
M = TypeVar("M", bound=wire.Message)


def welcome(session: int = 7, *directives: wire.Directive) -> wire.Welcome:
    return wire.Welcome(session, "line", 1, "a", TIMING, directives)


@pytest.fixture
def session() -> Session:
    """One in contact, as session 7, since 0 s."""
    session = Session(ABOUT, wire.Seen(), 0.0)
    session.tick(0.0)
    session.receive(welcome(), 0.0)
    return session


def assign(number: int = 1, uuid: str = UUID) -> wire.Assign:
    return wire.Assign(
        7, "line", 2, uuid, 42, number, "default", "medium", JobSpec(Recipe("x"), Source(url="http://x/"))
    )


def order(want: str, session: int = 7) -> wire.Order:
    return wire.Order(session, UUID, 1, want)  # type: ignore[arg-type]


def said(actions: list[do.Action], kind: type[M]) -> list[M]:
    return [a.message for a in actions if isinstance(a, do.Send) and isinstance(a.message, kind)]


def running(session: Session) -> None:
    assert session.receive(assign(), 0.0)[-1] == do.Create(assign())
    session.created(KEY, 0.0)
    session.seen_stage(KEY, "running", 0.0)


def verified(session: Session, now_s: float = 1.0) -> int:
    running(session)
    (request,) = said(session.verified(KEY, PRINT, Results(), now_s), wire.PublishRequest)
    return request.request


# ---- contact -----------------------------------------------------------------------------------------------------


def test_hello_is_said_until_it_is_answered_and_a_silent_connection_is_replaced() -> None:
    session = Session(ABOUT, wire.Seen("line", 5, 9), 0.0)
    hellos = [session.tick(n * HELLO_S) for n in range(8)]
    assert [len(said(actions, wire.Hello)) for actions in hellos] == [1] * 8
    assert sum(do.Reconnect() in actions for actions in hellos) == 2
    assert said(hellos[0], wire.Hello)[0].seen == wire.Seen("line", 5, 9)
    assert said(session.receive(welcome(), 16.0), wire.Heartbeat), "the first heartbeat goes at once"
    assert session.receive(welcome(), 16.1) == [], "said twice"


def test_what_belongs_to_another_session_is_dropped(session: Session) -> None:
    running(session)
    assert session.receive(order("discard", session=6), 1.0) == []
    assert session.receive(wire.NoSession(6), 1.0) == []
    assert session.receive(wire.Ack(8, "x", "line", 100), 1.0) == []
    assert session.seen.turn < 100
    assert session.attempts[KEY].step is Step.RUNNING


def test_a_session_that_the_master_has_not_is_begun_anew_at_once(session: Session) -> None:
    running(session)
    (hello,) = said(session.receive(wire.NoSession(7), 1.0), wire.Hello)
    assert [(report.uuid, report.attempt) for report in hello.attempts] == [KEY]
    assert not session.live
    assert session.receive(order("discard"), 1.1) == [], "there is no session"


def test_a_silent_master_is_looked_for_over_a_new_connection(session: Session) -> None:
    assert do.Reconnect() not in session.tick(14.9)
    actions = session.tick(15.1)
    assert actions[0] == do.Reconnect()
    assert said(actions, wire.Hello)
    assert not session.live


def test_a_node_that_is_refused_for_good_gives_up_and_one_that_may_try_again_does() -> None:
    session = Session(ABOUT, wire.Seen(), 0.0)
    session.tick(0.0)
    assert session.receive(wire.Sorry(409, "later", retry=True), 0.5) == []
    assert session.tick(0.5 + HELLO_S - 0.1) == []
    assert said(session.tick(0.5 + HELLO_S), wire.Hello)
    assert session.receive(wire.Sorry(409, "a copy", "make a key"), 3.0) == [do.GiveUp(409, "a copy", "make a key")]


def test_a_refusal_that_comes_when_the_node_is_in_contact_is_of_another_time(session: Session) -> None:
    assert session.receive(wire.Sorry(409, "a copy"), 1.0) == []
    assert session.live


def test_an_address_that_changes_while_a_hello_is_under_way_is_told_before_the_session_begins() -> None:
    session = Session(ABOUT, wire.Seen(), 0.0)
    session.tick(0.0)
    session.say_hello_again()
    session.about = replace(ABOUT, address="10.0.0.9")
    (hello,) = said(session.receive(welcome(), 0.1), wire.Hello)
    assert hello.address == "10.0.0.9"
    assert not session.live
    session.receive(welcome(8), 0.2)
    assert session.live


def test_a_sign_is_given_at_once_when_it_is_asked_for(session: Session) -> None:
    assert said(session.receive(wire.GiveSign(7), 0.1), wire.Heartbeat)


def test_what_the_master_has_reached_is_remembered_and_never_less_of_one_history(session: Session) -> None:
    session.receive(wire.HeartbeatAck(7, 1, "line", 50), 1.0)
    assert session.receive(wire.HeartbeatAck(7, 2, "line", 40), 1.1) == []
    assert session.seen == wire.Seen("line", 50, 0)
    session.receive(assign(), 1.2)
    assert session.seen == wire.Seen("line", 50, 42)
    assert session.receive(wire.Ack(7, "x", "other", 3), 1.3) == [do.SaveSeen(wire.Seen("other", 3, 42))]


# ---- an assignment -----------------------------------------------------------------------------------------------


def test_an_assignment_that_is_repeated_starts_one_attempt(session: Session) -> None:
    assert session.receive(assign(), 0.0)[-1] == do.Create(assign())
    assert session.receive(assign(), 0.1) == [], "it is being made"
    assert said(session.created(KEY, 0.2), wire.Accepted)
    again = session.receive(assign(), 0.3)
    assert len(again) == 1
    assert said(again, wire.Accepted), "its acceptance was lost"


def test_an_attempt_that_is_being_made_is_not_told_of(session: Session) -> None:
    session.receive(assign(), 0.0)
    (beat,) = said(session.tick(2.0), wire.Heartbeat)
    assert beat.attempts == ()
    (told, *_more) = said(session.created(KEY, 2.1), wire.Heartbeat)
    assert [(report.uuid, report.attempt) for report in told.attempts] == [KEY]


def test_an_attempt_that_cannot_be_made_is_refused_and_a_late_repetition_of_it_starts_nothing(session: Session) -> None:
    session.receive(assign(), 0.0)
    (refused,) = said(session.not_created(KEY, "no space left", None), wire.Refused)
    assert refused.detail == "no space left"
    assert session.receive(assign(), 1.0) == [do.Send(ABSENT)]


def test_p6_a_full_node_refuses_what_does_not_fit(session: Session) -> None:
    for number in (1, 2):
        session.receive(assign(number), 0.0)
    (refused,) = said(session.receive(assign(3), 0.1), wire.Refused)
    assert "slots" in refused.detail
    assert len(session.attempts) == 2


def test_p6_a_paused_attempt_gives_back_its_slot(session: Session) -> None:
    running(session)
    session.receive(order("pause"), 0.1)
    session.seen_stage(KEY, "paused", 0.2)
    for number in (2, 3):
        assert isinstance(session.receive(assign(number), 0.3)[-1], do.Create)


def test_p6_a_paused_attempt_that_was_told_to_go_on_has_its_slot_before_it_runs(session: Session) -> None:
    running(session)
    session.receive(order("pause"), 0.1)
    session.seen_stage(KEY, "paused", 0.2)
    session.receive(order("run"), 0.3)
    assert isinstance(session.receive(assign(2), 0.3)[-1], do.Create)
    (refused,) = said(session.receive(assign(3), 0.3), wire.Refused)
    assert "slots" in refused.detail


# ---- orders ------------------------------------------------------------------------------------------------------


def test_p4_an_attempt_that_is_given_up_while_it_is_made_is_cleaned_as_soon_as_it_is_there(session: Session) -> None:
    session.receive(assign(), 0.0)
    assert session.receive(order("discard"), 0.1) == []
    assert session.created(KEY, 0.2) == [do.Clean(KEY)]
    (item,) = session.ended(KEY, "stopped")
    assert isinstance(item, do.PutItem)


def test_p5_an_attempt_that_a_hello_did_not_name_while_it_was_made_is_not_begun_after_it(session: Session) -> None:
    session.receive(assign(), 0.0)
    (hello,) = said(session.receive(wire.NoSession(7), 0.1), wire.Hello)
    assert not hello.attempts, "to the master it is gone with this"
    session.receive(welcome(8), 0.2)
    assert session.created(KEY, 0.3) == [do.Clean(KEY)]


def test_p5_an_answer_to_a_hello_that_came_late_is_followed_by_another_hello_that_names_all(session: Session) -> None:
    running(session)
    (hello,) = said(session.receive(welcome(8), 1.0), wire.Hello)
    assert [(report.uuid, report.attempt) for report in hello.attempts] == [KEY]
    assert not session.live, "what the late one did not name, the master does not know in session 8"
    session.receive(welcome(8), 1.1)
    assert session.live and session.number == 8


def test_p5_an_attempt_that_was_made_when_a_late_hello_was_answered_is_not_begun(session: Session) -> None:
    session.receive(assign(), 0.0)
    session.receive(welcome(8), 0.2)
    assert session.created(KEY, 0.3) == [do.Clean(KEY)]


def test_p4_an_attempt_that_was_given_up_before_it_could_be_made_is_refused(session: Session) -> None:
    session.receive(assign(), 0.0)
    session.receive(order("discard"), 0.1)
    assert said(session.not_created(KEY, "no space left", None), wire.Refused)
    assert session.receive(order("discard"), 0.2) == [do.Send(ABSENT)]


def test_p4_an_order_that_comes_before_its_assignment_is_remembered(session: Session) -> None:
    assert session.receive(order("discard"), 0.0) == [do.Send(ABSENT)]
    assert session.receive(assign(), 0.1)[-1] == do.Send(ABSENT)
    assert not session.attempts


def test_only_so_many_attempts_that_are_gone_are_remembered(session: Session) -> None:
    for number in range(1, TOMBSTONES + 10):
        session.receive(wire.Order(7, UUID, number, "discard"), 0.0)
    assert isinstance(session.receive(assign(), 0.1)[-1], do.Create), "the oldest is forgotten"
    assert not said(session.receive(assign(TOMBSTONES), 0.2), wire.Accepted)
    assert len(session.attempts) == 1


def test_a_job_that_was_stopped_by_a_stranger_goes_on(session: Session) -> None:
    running(session)
    assert do.Control(KEY, "resume") in session.seen_stage(KEY, "paused", 1.0)


def test_pause_and_resume_reach_the_runner_and_only_where_it_is_otherwise(session: Session) -> None:
    running(session)
    assert session.receive(order("run"), 0.1) == []
    assert session.receive(order("pause"), 0.2) == [do.Control(KEY, "pause")]
    assert said(session.seen_stage(KEY, "paused", 0.3), wire.Heartbeat), "it is told at once"
    assert session.receive(order("pause"), 0.4) == []
    assert session.receive(order("run"), 0.5) == [do.Control(KEY, "resume")]
    assert session.receive(order("pause"), 0.6) == [do.Control(KEY, "pause")], "it may run by now"


# ---- publishing --------------------------------------------------------------------------------------------------


def test_p2_an_attempt_publishes_only_with_a_grant_and_only_until_that_runs_out(session: Session) -> None:
    request = verified(session, 1.0)
    assert session.receive(wire.Grant(7, UUID, 1, request, 10.0), 2.0) == [do.Publish(KEY, request, 11.0)]
    assert session.receive(wire.Grant(7, UUID, 1, request, 10.0), 2.1) == [], "said twice"


def test_p2_a_grant_that_comes_too_late_is_asked_for_again(session: Session) -> None:
    request = verified(session, 1.0)
    (again,) = said(session.receive(wire.Grant(7, UUID, 1, request, 10.0), 11.0), wire.PublishRequest)
    assert again.request > request


def test_p2_a_grant_that_runs_out_at_the_disk_is_asked_for_again(session: Session) -> None:
    request = verified(session)
    session.receive(wire.Grant(7, UUID, 1, request, 10.0), 2.0)
    (again,) = said(session.publish_late(KEY, 12.0), wire.PublishRequest)
    assert again.request > request
    assert session.attempts[KEY].step is Step.VERIFIED


def test_a_request_is_repeated_under_a_new_number_until_it_is_answered(session: Session) -> None:
    request = verified(session, 1.0)
    assert not said(session.tick(1.0 + RESEND_S - 0.5), wire.PublishRequest)
    session.tick(1.0 + RESEND_S)
    later = said(session.tick(1.0 + 3 * RESEND_S), wire.PublishRequest)
    assert later
    assert later[0].request > request


def test_a_result_that_is_ready_before_the_master_is_there_is_asked_for_when_it_is(session: Session) -> None:
    running(session)
    session.receive(wire.NoSession(7), 1.0)
    assert session.verified(KEY, PRINT, Results(), 2.0) == []
    actions = session.receive(welcome(8, wire.Directive(UUID, 1, "keep")), 9.0)
    (request,) = said(actions, wire.PublishRequest)
    assert request.session == 8


def test_p3_nothing_interrupts_a_rename(session: Session) -> None:
    request = verified(session)
    session.receive(wire.Grant(7, UUID, 1, request, 10.0), 2.0)
    assert session.receive(order("discard"), 2.1) == []
    (item,) = session.publish_done(KEY, PRINT)
    assert isinstance(item, do.PutItem)
    assert isinstance(item.message, wire.Published)
    assert session.receive(order("discard"), 2.2) == [], "it is over"


def test_p4_an_attempt_that_is_given_up_after_its_grant_ran_out_is_cleaned(session: Session) -> None:
    request = verified(session)
    session.receive(wire.Grant(7, UUID, 1, request, 10.0), 2.0)
    session.publish_late(KEY, 12.0)
    assert session.receive(order("discard"), 12.1) == [do.Clean(KEY)]
    assert session.receive(wire.Grant(7, UUID, 1, session.attempts[KEY].request, 10.0), 12.2) == []


def test_an_output_that_cannot_be_put_there_is_told_with_its_reason(session: Session) -> None:
    request = verified(session)
    session.receive(wire.Grant(7, UUID, 1, request, 10.0), 2.0)
    failure = wire.Failure("user_error", False, "out.mp4 is there already")
    (put,) = session.publish_failed(KEY, "out.mp4 is there already", failure)
    assert isinstance(put, do.PutItem)
    assert isinstance(put.message, wire.NotPublished)
    assert put.message.failure == failure


# ---- the outbox --------------------------------------------------------------------------------------------------


def test_p1_an_item_is_said_when_it_is_on_disk_and_until_it_is_acknowledged(session: Session) -> None:
    running(session)
    failure = wire.Failure("runtime_error", True, "Conversion failed!")
    (put,) = session.ended(KEY, "failed", failure)
    assert isinstance(put, do.PutItem)
    assert not said(session.tick(5.0), wire.Ended), "not before it is on disk"
    assert said(session.item_kept(put.item, put.message), wire.Ended)
    assert said(session.tick(5.1 + RESEND_S), wire.Ended)
    session.receive(wire.NoSession(7), 8.0)
    assert not said(session.tick(8.1), wire.Ended)
    (ended,) = said(session.receive(welcome(8), 9.0), wire.Ended)
    assert ended.session == 8
    assert session.receive(wire.Ack(8, put.item, "line", 3), 9.1)[1:] == [], "its log is on its way"
    assert session.log_shipped(KEY) == [do.Remove(KEY, put.item)]
    assert not said(session.tick(20.0), wire.Ended)


def test_an_acknowledgement_that_comes_twice_removes_once(session: Session) -> None:
    running(session)
    (put,) = session.ended(KEY, "failed", None)
    assert isinstance(put, do.PutItem)
    session.item_kept(put.item, put.message)
    session.log_shipped(KEY)
    assert do.Remove(KEY, put.item) in session.receive(wire.Ack(7, put.item, "line", 1), 1.0)
    assert session.receive(wire.Ack(7, put.item, "line", 1), 1.1) == []
    assert session.receive(assign(), 1.2)[-1] == do.Send(ABSENT), "nor does a late assignment start it again"


def test_an_attempt_ends_once(session: Session) -> None:
    running(session)
    assert session.ended(KEY, "failed", None)
    assert session.ended(KEY, "failed", None) == []


# ---- another life ------------------------------------------------------------------------------------------------


def found(step: Step = Step.RUNNING) -> tuple[Session, Local]:
    """An agent that was started anew, with an attempt of before."""
    session, local = Session(ABOUT, wire.Seen("line", 5, 42), 0.0), Local(UUID, 42, 1, step=step, want="")
    session.found(local)
    return session, local


def test_p11_what_an_earlier_life_left_is_told_in_the_first_hello() -> None:
    session, _local = found()
    (hello,) = said(session.tick(0.0), wire.Hello)
    assert [(report.uuid, report.job, report.attempt) for report in hello.attempts] == [(UUID, 42, 1)]


def test_p1_an_item_that_an_earlier_life_left_is_said_and_removed_when_it_is_acknowledged() -> None:
    session, _local = found(Step.OVER)
    item = f"{UUID}.1.published"
    session.found_item(item, wire.Published(5, item, UUID, 1, 9, PRINT, Results()))
    session.tick(0.0)
    (published,) = said(session.receive(welcome(7, wire.Directive(UUID, 1, "keep")), 1.0), wire.Published)
    assert published.session == 7
    session.log_shipped(KEY)
    assert do.Remove(KEY, item) in session.receive(wire.Ack(7, item, "line", 6), 2.0)


def test_an_item_whose_directory_is_gone_already_is_dropped_when_it_is_acknowledged() -> None:
    session = Session(ABOUT, wire.Seen(), 0.0)
    item = f"{UUID}.1.ended"
    session.found_item(item, wire.Ended(5, item, UUID, 1, "failed"))
    session.tick(0.0)
    session.receive(welcome(), 1.0)
    assert do.Remove(KEY, item) in session.receive(wire.Ack(7, item, "line", 6), 2.0)


def test_p2_no_request_number_of_an_earlier_life_comes_again(session: Session) -> None:
    request = verified(session)
    _session, local = found()
    younger = Session(About("a", "10.0.0.1", "boot", 4, wire.Facts(), ABOUT.capacity), wire.Seen(), 0.0)
    younger.found(local)
    younger.tick(0.0)
    younger.receive(welcome(8, wire.Directive(UUID, 1, "keep")), 0.0)
    (again,) = said(younger.verified(KEY, PRINT, Results(), 1.0), wire.PublishRequest)
    assert again.request > request


def test_p4_an_attempt_that_the_master_gave_up_meanwhile_is_cleaned() -> None:
    session, _local = found()
    session.tick(0.0)
    assert do.Clean(KEY) in session.receive(welcome(7, wire.Directive(UUID, 1, "stop")), 1.0)


# ---- the rest ----------------------------------------------------------------------------------------------------


def test_a_look_at_another_nodes_target_is_answered_in_the_session_that_is_there_then(session: Session) -> None:
    settle = wire.Settle(7, UUID, 42, 1, assign().spec)
    assert session.receive(settle, 1.0) == [do.Look(settle)]
    assert said(session.looked(settle, PRINT), wire.Settled)[0].fingerprint == PRINT
    session.receive(wire.NoSession(7), 2.0)
    assert session.looked(settle, None) == []


def test_an_agent_that_stops_says_so() -> None:
    assert Session(ABOUT, wire.Seen(), 0.0).goodbye() == []
    session = Session(ABOUT, wire.Seen(), 0.0)
    session.tick(0.0)
    session.receive(welcome(), 0.0)
    assert session.goodbye() == [do.Send(wire.Goodbye(7))]
