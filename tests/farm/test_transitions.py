"""Every edge of the table of transitions can be taken, and this is how; none is taken that is not in the table.

`STORIES` has a short story for each edge. An edge without one is a test that is missing, or an edge that cannot be taken and
has no place in the table. (`History.add` refuses every edge that is not in the table, in all tests of this directory.)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from farm.stage import BROKEN, LATE, ROOM, WRONG, Host, Stage, terms

from ffrtmp.farm import events as ev
from ffrtmp.farm.job import TRANSITIONS, OnDisconnect, Queue, State

Edge = tuple[State | None, State]
Story = Callable[[], Stage]
LIVE = terms(queue=Queue.LIVE, live=True)
STORIES: dict[Edge, Story] = {}
S = State


def story(before: State | None, *after: State) -> Callable[[Story], Story]:
    """The story takes the edge (or both edges, in this order)."""

    def keep(tell: Story) -> Story:
        at = before
        for each in after:
            assert (at, each) not in STORIES
            STORIES[(at, each)] = tell
            at = each
        return tell

    return keep


# ---- beginnings of stories ---------------------------------------------------------------------------------------


def offered(of=None) -> tuple[Stage, int, Host]:
    """ASSIGNED, and the node says nothing yet."""
    stage = Stage()
    a = stage.node("a")
    a.accepts = False
    return stage, stage.submit(of), a


def running(of=None, **room) -> tuple[Stage, int, Host]:
    stage = Stage()
    a = stage.node("a", replace(ROOM, **room))
    return stage, stage.submit(of), a


def paused(**room) -> tuple[Stage, int, Host]:
    stage, job, a = running(**room)
    stage.pause(job)
    return stage, job, a


def resuming() -> tuple[Stage, int, Host]:
    """Released, and another job has its place."""
    stage, job, a = paused(slots=1)
    stage.submit(terms(queue=Queue.LIVE, live=True))
    stage.resume(job)
    return stage, job, a


def retrying(failure=BROKEN) -> tuple[Stage, int, Host]:
    """Its first attempt is doubted, its second has failed."""
    stage, job, a = running()
    b = stage.node("b")
    stage.lose(a)
    b.fail(job, failure)
    return stage, job, a


def stood_still() -> tuple[Stage, int, Host]:
    """Released while its node, on which it stands still, is lost: it waits."""
    stage, job, a = paused()
    a.local(job).out_time_s = 50.0
    stage.lose(a)
    stage.resume(job)
    return stage, job, a


def publishes_unheard(host: Host, job: int) -> None:
    """The output is put at its place, and the word of it has not come through."""
    host.publishes = False
    host.request(job)
    local = host.local(job)
    host.published_event(local)
    local.stage = "ended"
    host.locals[(local.uuid, local.number)] = local


# ---- births ------------------------------------------------------------------------------------------------------


@story(None, S.QUEUED, S.ASSIGNED, S.RUNNING, S.COMPLETED)
def the_straight_way() -> Stage:
    stage, job, a = running()
    a.verified(job)
    return stage


@story(None, S.REJECTED)
def strict_and_impossible() -> Stage:
    stage = Stage()
    stage.submit(strict=True)
    return stage


@story(None, S.RUNNING)
def adopted_by_a_restored_master() -> Stage:
    stage = Stage()
    stage.node("a")
    old = stage.stored()
    stage.submit()
    stage.pass_s(3)
    stage.restart(backup=old)
    stage.pass_s(2)
    return stage


# ---- from QUEUED -------------------------------------------------------------------------------------------------


@story(S.QUEUED, S.RUNNING)
def a_doubted_attempt_returns_to_a_waiting_job() -> Stage:
    stage, _job, a = running()
    stage.lose(a)
    a.back()
    return stage


@story(S.QUEUED, S.RESUMING)
def a_standing_attempt_returns_to_a_waiting_job() -> Stage:
    stage, _job, a = stood_still()
    a.back()
    return stage


@story(S.QUEUED, S.PAUSED, S.QUEUED)
def held_before_it_started_and_released() -> Stage:
    stage = Stage()
    job = stage.submit()
    stage.pause(job)
    stage.resume(job)
    return stage


@story(S.QUEUED, S.CANCELING, S.CANCELED)
def canceled_while_an_attempt_is_doubted() -> Stage:
    stage, job, a = running()
    stage.lose(a)
    stage.cancel(job)
    a.back()
    return stage


@story(S.QUEUED, S.CANCELED)
def canceled_before_it_started() -> Stage:
    stage = Stage()
    stage.cancel(stage.submit())
    return stage


# ---- from ASSIGNED -----------------------------------------------------------------------------------------------


@story(S.ASSIGNED, S.QUEUED)
def refused_for_want_of_room() -> Stage:
    stage, job, a = offered()
    a.refuse(job)
    return stage


@story(S.ASSIGNED, S.RETRYING)
def refused_with_a_reason() -> Stage:
    stage, job, a = offered()
    a.refuse(job, BROKEN)
    return stage


@story(S.ASSIGNED, S.RESUMING)
def a_standing_attempt_returns_before_its_successor_is_accepted() -> Stage:
    stage, _job, a = stood_still()
    stage.node("b", hello=False).accepts = False
    stage.hosts["b"].hello()
    a.back()
    return stage


@story(S.ASSIGNED, S.CANCELING)
def canceled_while_it_is_handed_out() -> Stage:
    stage, job, _a = offered()
    stage.cancel(job)
    return stage


@story(S.ASSIGNED, S.COMPLETED)
def stopped_before_it_began() -> Stage:
    stage, job, a = offered(LIVE)
    stage.stop(job)
    a.refuse(job)
    return stage


@story(S.ASSIGNED, S.FAILED)
def refused_for_good() -> Stage:
    stage, job, a = offered()
    a.refuse(job, WRONG)
    return stage


@story(S.ASSIGNED, S.TIMED_OUT)
def it_timed_out_before_its_acceptance_was_heard() -> Stage:
    stage, job, a = offered()
    a._accepted(stage.attempt(job))
    a.fail(job, LATE)
    return stage


# ---- from RUNNING ------------------------------------------------------------------------------------------------


@story(S.RUNNING, S.PAUSED, S.RESUMING, S.RUNNING)
def paused_and_released() -> Stage:
    stage, job, _a = paused()
    stage.resume(job)
    return stage


@story(S.RUNNING, S.QUEUED)
def its_node_is_lost() -> Stage:
    stage, _job, a = running()
    stage.lose(a)
    return stage


@story(S.RUNNING, S.RESUMING)
def a_standing_attempt_returns_ahead_of_its_successor() -> Stage:
    stage, job, a = stood_still()
    stage.node("b").progress(job, 1.0)
    a.back()
    return stage


@story(S.RUNNING, S.RETRYING, S.QUEUED)
def it_fails_and_its_back_off_passes() -> Stage:
    stage, job, a = running()
    a.fail(job)
    stage.pass_s(6)
    return stage


@story(S.RUNNING, S.CANCELING)
def canceled_in_mid_run() -> Stage:
    stage, job, _a = running()
    stage.cancel(job)
    return stage


@story(S.RUNNING, S.FAILED)
def it_fails_for_good() -> Stage:
    stage, job, a = running()
    a.fail(job, WRONG)
    return stage


@story(S.RUNNING, S.TIMED_OUT)
def it_uses_up_its_time() -> Stage:
    stage, job, a = running()
    a.fail(job, LATE)
    return stage


# ---- from PAUSED -------------------------------------------------------------------------------------------------


@story(S.PAUSED, S.RETRYING, S.PAUSED)
def it_fails_while_it_is_held() -> Stage:
    stage, job, a = paused()
    a.fail(job)
    return stage


@story(S.PAUSED, S.CANCELING)
def canceled_while_it_stands() -> Stage:
    stage, job, _a = paused()
    stage.cancel(job)
    return stage


@story(S.PAUSED, S.CANCELED)
def canceled_while_it_is_held_without_an_attempt() -> Stage:
    stage = Stage()
    job = stage.submit()
    stage.pause(job)
    stage.cancel(job)
    return stage


@story(S.PAUSED, S.COMPLETED)
def its_output_was_put_there_before_the_pause_took_hold() -> Stage:
    stage, job, a = paused()
    a.verified(job)
    return stage


@story(S.PAUSED, S.FAILED)
def it_fails_for_good_while_it_stands() -> Stage:
    stage, job, a = paused()
    a.fail(job, WRONG)
    return stage


@story(S.PAUSED, S.TIMED_OUT)
def it_times_out_while_it_stands() -> Stage:
    stage, job, a = paused()
    a.fail(job, LATE)
    return stage


# ---- from RESUMING -----------------------------------------------------------------------------------------------


@story(S.RESUMING, S.PAUSED)
def held_again() -> Stage:
    stage, job, _a = resuming()
    stage.pause(job)
    return stage


@story(S.RESUMING, S.QUEUED)
def its_node_is_lost_while_it_waits_for_room() -> Stage:
    stage, _job, a = resuming()
    stage.lose(a)
    return stage


@story(S.RESUMING, S.RETRYING)
def it_fails_while_it_waits_for_room() -> Stage:
    stage, job, a = resuming()
    a.fail(job)
    return stage


@story(S.RESUMING, S.CANCELING)
def canceled_while_it_waits_for_room() -> Stage:
    stage, job, _a = resuming()
    stage.cancel(job)
    return stage


@story(S.RESUMING, S.COMPLETED)
def it_is_done_before_it_is_seen_to_run_again() -> Stage:
    stage, job, a = paused()
    a.obeys = False
    stage.resume(job)
    a.verified(job)
    return stage


@story(S.RESUMING, S.FAILED)
def it_fails_for_good_while_it_waits_for_room() -> Stage:
    stage, job, a = resuming()
    a.fail(job, WRONG)
    return stage


@story(S.RESUMING, S.TIMED_OUT)
def it_times_out_while_it_waits_for_room() -> Stage:
    stage, job, a = resuming()
    a.fail(job, LATE)
    return stage


# ---- from RETRYING -----------------------------------------------------------------------------------------------


@story(S.RETRYING, S.RUNNING)
def a_doubted_attempt_returns_between_two_tries() -> Stage:
    stage, _job, a = retrying()
    a.back()
    return stage


@story(S.RETRYING, S.RESUMING)
def a_standing_attempt_returns_between_two_tries() -> Stage:
    stage, job, a = stood_still()
    stage.node("b").fail(job)
    a.back()
    return stage


@story(S.RETRYING, S.CANCELING)
def canceled_between_two_tries_while_an_attempt_is_doubted() -> Stage:
    stage, job, _a = retrying()
    stage.cancel(job)
    return stage


@story(S.RETRYING, S.CANCELED)
def canceled_between_two_tries() -> Stage:
    stage, job, a = running()
    a.fail(job)
    stage.cancel(job)
    return stage


@story(S.RETRYING, S.FAILED)
def the_last_hope_is_gone() -> Stage:
    stage, _job, a = retrying(WRONG)
    a.back(rebooted=True)
    return stage


@story(S.RETRYING, S.TIMED_OUT)
def the_last_hope_is_gone_and_the_last_try_timed_out() -> Stage:
    stage, _job, a = retrying(LATE)
    a.back(rebooted=True)
    return stage


# ---- from CANCELING ----------------------------------------------------------------------------------------------


@story(S.CANCELING, S.COMPLETED)
def canceled_at_a_restored_master_that_did_not_know_of_the_output() -> Stage:
    stage, job, a = running()
    old = stage.stored()
    publishes_unheard(a, job)
    stage.pass_s(0.5)
    a.up = False
    stage.restart(backup=old)
    a.up, a.obeys = True, False
    stage.cancel(job)
    stage.pass_s(2)
    return stage


# ---- the table ---------------------------------------------------------------------------------------------------

EDGES: list[Edge] = [(before, after) for before, row in TRANSITIONS.items() for after in row]


def named(edge: Edge) -> str:
    return f"{edge[0].value if edge[0] else 'birth'} to {edge[1].value}"


@pytest.mark.parametrize("edge", EDGES, ids=named)
def test_p10_each_edge_of_the_table_is_taken(edge: Edge):
    tell = STORIES[edge]
    print(f"{named(edge)} ({TRANSITIONS[edge[0]][edge[1]]}): {tell.__name__.replace('_', ' ')}")
    assert edge in tell().history.edges


def test_the_table_has_a_row_for_each_state_and_none_out_of_an_end():
    assert set(TRANSITIONS) == {None, *State}
    for end in (S.COMPLETED, S.FAILED, S.TIMED_OUT, S.CANCELED, S.REJECTED):
        assert TRANSITIONS[end] == {}
    assert set(STORIES) == set(EDGES)


def test_a_job_under_the_strict_lease_waits_in_retrying():
    stage, job, a = running(terms(on_disconnect=OnDisconnect.STOP))
    stage.lose(a)
    assert stage.path(job)[-2:] == ["running", "retrying"]
    stage.ask(ev.RemoveNode(0, "a"))
    assert stage.path(job)[-1] == "retrying"
