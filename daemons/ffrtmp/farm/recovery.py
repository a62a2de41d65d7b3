"""What happens when something is lost: nodes, attempts, and what comes back.

The story of a lost node
------------------------
A node is silent for longer than `lost_after`. It is called *lost*; that is a guess, and everything here is right whether
the guess is or not. Its attempts become *doubted*: they may be dead, or encode on without us. Their jobs are queued again
at once and get a new attempt elsewhere. Two attempts of a job may encode, but only one may publish (publish.py).

When the node comes back it says which attempts are there (sessions.py), and `returned` chooses: a job that has ended
or was canceled needs none; one whose other attempt has been granted keeps that; else the attempt that is further is kept and
the other one is given up. What the node does not name any more is gone.

A job must not kill node after node: after being lost in mid-run `poison_losses` times it is failed (P8). But a node that
comes back with the attempt alive was only out of sight, and that loss is taken back. So the verdict waits for `doubt_patience`
while an attempt is still doubted. The same holds for every final failure: no job fails while an older attempt of it
may yet come back with the result.

Under `on_disconnect = stop` a doubted attempt ends by itself when its lease runs out; its successor starts only after that.

Waits are kept on disk by wall time, and that clock may have been set before the next master reads it. So nothing that keeps
two engines apart rests on it: a master that starts counts such waits anew (`waits_again`), as it does with grants.

What a user asked for outlives the attempt it was asked of: a job that is held stays held when its attempt is gone, and one
whose planned end was asked for is not started again (`requeue`).
"""

from __future__ import annotations

import heapq
from dataclasses import replace
from typing import Any

from .job import Attempt, Failure, Job, OnDisconnect, Phase, Reason, State, Want
from .node import Beat
from .rules import Rules
from .world import World

_PHASES = list(Phase)
DUE_AT_ONCE = 1000  # of the waits that are over, in one turn


def backoff_s(failures: int, jitter: float, rules: Rules) -> float:
    """How long to wait after the n-th failure: first x 2^(n-1), capped, and up to a quarter less by `jitter` (0..1)."""
    wait = min(rules.backoff_max_s, rules.backoff_first_s * 2.0 ** min(failures - 1, 30))
    return wait * (1.0 - 0.25 * jitter)


# ---- nodes -------------------------------------------------------------------------------------------------------


def doubt_node(world: World, name: str, why: str) -> None:
    """Doubt everything on a node, and queue its jobs again."""
    for attempt in world.attempts_on(name):
        if not attempt.doubted:
            _doubt(world, world.attempts[attempt.id], why)


def _doubt(world: World, attempt: Attempt, why: str) -> None:
    attempt = world.alter(attempt, doubted=True)
    job = world.jobs.get(attempt.job)
    if job is None or attempt.given_up or job.current != attempt.number or job.state is State.CANCELING:
        return
    grant = world.grants.get(job.number)
    if grant is not None and grant.attempt == attempt.number and not attempt.live:
        # It may be publishing at this moment. Nobody else gets a grant, so nobody else needs to encode.
        world.note(
            job,
            "node_lost",
            f"{attempt.node} {why} with the right to publish; that is settled first",
            node=attempt.node,
        )
        return
    if job.state is State.PAUSED:
        world.note(job, "node_lost", f"{attempt.node} {why}; the job stays held", node=attempt.node)
    elif attempt.want is Want.STOP:
        world.note(job, "node_lost", f"{attempt.node} {why} while the job was being stopped", node=attempt.node)
    else:
        replace_doubted(world, job, attempt, f"{attempt.node} {why}")


def replace_doubted(world: World, job: Job, attempt: Attempt, text: str) -> None:
    """Let another attempt take the place of one on a lost node: at once, or (the strict form) after its lease is over."""
    if job.terms.on_disconnect is OnDisconnect.KEEP:
        count_loss(world, job, attempt, text)
        return
    until_s = world.last_heard_s(attempt.node) + _strict_s(world.rules, live=attempt.live)
    world.alter(attempt, want=Want.DISCARD, fence_s=until_s)
    count_loss(world, job, attempt, text, not_before_s=until_s)


def _strict_s(rules: Rules, *, live: bool) -> float:
    """How long after its last renewal an attempt under the strict lease may still be at work."""
    return (rules.lost_after_live_s if live else rules.lost_after_s) + rules.lease_stop_s + rules.lease_margin_s


def waits_again(job: Job, now_s: float, rules: Rules) -> Job:
    """A job as a master that starts takes it over: what it waits for is never cut short, and bounded.

    The lease of a strict attempt and the patience with doubted ones are counted from now; a back-off is at most the longest.
    """
    if job.state not in (State.RETRYING, State.PAUSED) or job.current:
        return job
    if job.verdict is not None:
        return replace(job, due_s=now_s + rules.doubt_patience_s)
    due_s = min(job.due_s, now_s + rules.backoff_max_s)
    if job.terms.on_disconnect is OnDisconnect.STOP and job.attempt:
        due_s = max(due_s, now_s + _strict_s(rules, live=job.terms.live))
    return replace(job, due_s=due_s)


def fence_again(attempt: Attempt, now_s: float, rules: Rules) -> Attempt:
    """The same for an attempt: its fence runs anew, and it was not offered in times to come."""
    fence_s = now_s + _strict_s(rules, live=attempt.live) if attempt.fence_s else 0.0
    return replace(attempt, fence_s=fence_s, offered_s=min(attempt.offered_s, now_s))


def count_loss(world: World, job: Job, attempt: Attempt, text: str, *, not_before_s: float = 0.0) -> None:
    """A job loses the attempt that it counted on, through no fault of the job's: back to the queue, or to judgement."""
    losses = job.lost
    if attempt.accepted and attempt.number not in losses:
        losses = (*losses, attempt.number)
    if len(losses) >= world.rules.poison_losses:
        failure = Failure(
            Reason.PLATFORM_ERROR,
            False,
            f"was running on {len(losses)} nodes when they were lost",
            "look at what those nodes have in common before you submit it again",
        )
        judge(world, job, State.FAILED, failure, "poison", text, lost=losses)
    else:
        requeue(world, job, attempt, "node_lost", text, not_before_s=not_before_s, lost=losses)


def requeue(
    world: World, job: Job, attempt: Attempt, kind: str, text: str, *, not_before_s: float = 0.0, **fields: Any
) -> None:
    """The job has lost `attempt` through no fault of its own: it waits for another, unless a user wanted it to stand or end.

    `attempt` is given as it was before it was given up, for its `want` says what the user asked for.
    """
    if attempt.want is Want.STOP:
        world.move(job, State.COMPLETED, "completed", f"{text}; its planned end had been asked for", node=attempt.node)
    elif job.state is State.PAUSED and _held(job, attempt):
        job = world.change(job, current=0, due_s=not_before_s, **fields)
        world.note(job, kind, f"{text}; a user holds the job", about=attempt.number, node=attempt.node)
    else:
        state = State.RETRYING if not_before_s > world.now_s else State.QUEUED
        after = world.move(job, state, kind, text, node=attempt.node, current=0, due_s=not_before_s, **fields)
        if _held(job, attempt):
            _hold(world, after, attempt)


def _held(job: Job, attempt: Attempt) -> bool:
    """Whether a user wants the job to stand still (one that is RESUMING stands, and only waits for room)."""
    return attempt.want is Want.PAUSE and job.state is not State.RESUMING


def _hold(world: World, job: Job, attempt: Attempt) -> None:
    """A pause was asked of an attempt that is gone: the job itself is held."""
    world.move(job, State.PAUSED, "paused", "held by a user", about=attempt.number, node=attempt.node)


# ---- failures ----------------------------------------------------------------------------------------------------


def failed(world: World, job: Job, attempt: Attempt, failure: Failure, jitter: float) -> None:
    """The current attempt failed: try again after a while, or end the job.

    Where all tries were spent before, the attempt was a last hope that had come back, and its end is the job's.
    """
    failures = min(job.failures, job.terms.max_retries) + 1
    text = f"attempt {attempt.number} failed: {failure.reason.value}"
    if failure.transient and job.failures < job.terms.max_retries and attempt.want is not Want.STOP:
        wait = backoff_s(failures, jitter, world.rules)
        after = world.move(
            job,
            State.RETRYING,
            "failed",
            f"{text}; next try in {wait:.0f} s ({failures} of {job.terms.max_retries})",
            node=attempt.node,
            cause=failure,
            failures=failures,
            failure=failure,
            current=0,
            due_s=world.now_s + wait,
        )
        if _held(job, attempt):
            _hold(world, after, attempt)
    else:
        end = State.TIMED_OUT if failure.reason is Reason.TIMEOUT and not failure.transient else State.FAILED
        judge(world, job, end, failure, "failed", text, failures=failures)


def judge(world: World, job: Job, end: State, failure: Failure, kind: str, text: str, **fields: Any) -> None:
    """End a job as failed, or let the verdict wait while an attempt of it is doubted."""
    doubted = world.doubted(job.number)
    if doubted:
        where = ", ".join(a.node for a in doubted)
        world.move(
            job,
            State.RETRYING,
            kind,
            f"{text}; {end.value} unless {where} comes back with an attempt that lives",
            cause=failure,
            failure=failure,
            current=0,
            verdict=end,
            due_s=world.now_s + world.rules.doubt_patience_s,
            **fields,
        )
    else:
        world.move(job, end, kind, text, cause=failure, failure=failure, verdict=None, **fields)


def waits_over(world: World, now_s: float) -> list[int]:
    heap = world.backoff
    ready: list[tuple[float, int]] = []
    while heap and heap[0][0] <= now_s and len(ready) < DUE_AT_ONCE:
        due_s, number = heapq.heappop(heap)
        job = world.jobs.get(number)
        if job is not None and job.state is State.RETRYING and job.due_s == due_s:
            ready.append((due_s, number))
    for entry in ready:
        heapq.heappush(heap, entry)  # it goes when it is found to be no longer true
    return [number for _due_s, number in ready]


def wait_over(world: World, job: Job) -> None:
    """The back-off of a job is over, or its patience."""
    if job.state is not State.RETRYING or job.due_s > world.now_s:
        return
    if job.verdict is None:
        world.move(job, State.QUEUED, "due", "the wait is over")
    else:
        world.move(job, job.verdict, "verdict", "no attempt came back in time", cause=job.failure)


def other_gone(world: World, job: Job) -> None:
    """One of a job's other attempts is gone: does that end a cancel, or a verdict that waited?"""
    if job.state is State.CANCELING and not world.attempts_of(job.number):
        world.move(job, State.CANCELED, "canceled", "no process of it is left")
    elif job.state is State.RETRYING and job.verdict is not None and not world.doubted(job.number):
        world.move(job, job.verdict, "verdict", "no attempt of it is left to hope for", cause=job.failure)


# ---- attempts that end -------------------------------------------------------------------------------------------


def ended(world: World, attempt: Attempt, how: str, failure: Failure | None, jitter: float) -> None:
    """Nothing of an attempt is left on its node, and it published nothing."""
    world.forget(attempt, how, failure)
    job = _without(world, attempt)
    if job is None:
        return
    if attempt.given_up or job.current != attempt.number or job.state is State.CANCELING:
        other_gone(world, job)
    elif how == "completed" and attempt.live:
        world.move(job, State.COMPLETED, "completed", "the live job was ended as planned", node=attempt.node)
    elif how == "node_lost":
        count_loss(world, job, attempt, f"{attempt.node} went down under attempt {attempt.number}")
    elif failure is None and (attempt.want is Want.STOP or not attempt.accepted):
        text = f"attempt {attempt.number} ended" if attempt.accepted else f"{attempt.node} never started it"
        requeue(world, job, attempt, "not_started", text)
    else:
        cause = failure or Failure(
            Reason.PLATFORM_ERROR, True, f"attempt {attempt.number} vanished ({how})", "see the agent's journal there"
        )
        failed(world, job, attempt, cause, jitter)


def node_removed(world: World, attempt: Attempt) -> None:
    """The node of an attempt is removed: whatever it does, it is not heard any more. No fault of the job's, and no loss."""
    world.forget(attempt, "given_up")
    job = _without(world, attempt)
    if job is None:
        return
    if job.current != attempt.number or job.state is State.CANCELING:
        other_gone(world, job)
    else:
        requeue(world, job, attempt, "node_gone", f"{attempt.node} is gone for good")


def _without(world: World, attempt: Attempt) -> Job | None:
    """Settle the grant of an attempt that is gone; its job, if that is open."""
    grant = world.grants.get(attempt.job)
    if grant is not None and grant.attempt == attempt.number:
        world.grants.put(attempt.job, None)
    return world.jobs.get(attempt.job)


# ---- attempts that come back -------------------------------------------------------------------------------------


def returned(world: World, attempt: Attempt, beat: Beat) -> bool:
    """A doubted attempt is there again. Keep it, or give it up; says whether it is kept."""
    attempt = world.alter(attempt, doubted=False, paused=attempt.paused and beat.stage == "paused")
    job = world.jobs.get(attempt.job)
    if job is None or attempt.given_up or job.state is State.CANCELING:
        world.give_up(attempt)
        return False
    grant = world.grants.get(job.number)
    if grant is not None and grant.attempt != attempt.number:
        world.give_up(attempt)
        return False
    if job.current == attempt.number:
        return True
    rival = world.current(job)
    if rival is not None and not rival.doubted and not _ahead(world, attempt, beat, rival):
        world.note(
            job, "given_up", f"attempt {attempt.number} came back behind attempt {rival.number}", about=attempt.number
        )
        world.give_up(attempt)
        return False
    if rival is not None:
        world.note(job, "given_up", f"attempt {attempt.number} came back ahead of it", about=rival.number)
        world.give_up(rival)
    _take_back(world, job, attempt)
    return True


def _ahead(world: World, attempt: Attempt, beat: Beat, rival: Attempt) -> bool:
    """Whether the one that came back is at least as far as its rival; the older one wins where they are level."""
    contact = world.in_contact(rival.node)
    other = contact.beats.get(rival.id) if contact is not None else None
    if beat.stage == "ended" and beat.phase is Phase.ENCODING:
        return False  # it has failed; its report follows
    if other is None or not rival.accepted:
        return True
    if attempt.live:
        return other.out_time_s <= 0.0
    mine = (_PHASES.index(beat.phase), beat.out_time_s)
    theirs = (_PHASES.index(other.phase), other.out_time_s)
    return mine > theirs or (mine == theirs and attempt.number < rival.number)


def _take_back(world: World, job: Job, attempt: Attempt) -> None:
    """The farm counts on this attempt again; a loss that was none is taken back (P8)."""
    fields: dict[str, Any] = {
        "current": attempt.number,
        "lost": tuple(n for n in job.lost if n != attempt.number),
        "verdict": None,
    }
    text = f"attempt {attempt.number} came back on {attempt.node} and is kept"
    held = job.state is State.PAUSED
    state = State.PAUSED if held else State.RESUMING if attempt.paused else State.RUNNING
    if job.state is state:
        job = world.change(job, **fields)
        world.note(job, "returned", text, about=attempt.number, node=attempt.node)
    else:
        world.move(job, state, "returned", text, about=attempt.number, node=attempt.node, **fields)
    if attempt.paused:
        world.alter(attempt, want=Want.PAUSE)  # it goes on when there is room (placement.wake)
    else:
        world.want(attempt, Want.PAUSE if held else Want.RUN)
