"""An attempt is over or out of reach: what becomes of its job.

| what happened to the attempt | its job |
|---|---|
| it published | completed (publish.py) |
| it failed, and another try may help | tried again after a back-off, `max_retries` times |
| it failed for good, or all tries are spent | failed, or timed out |
| its node was lost or went down under it | queued again; the loss is counted, and `poison_losses` of them fail the job (P8) |
| its node did not take it, or was removed | queued again, and nothing is counted |
| it was not the one that counts | nothing; but a cancel or a verdict may have waited for its end |

No verdict is final while another attempt of the job is doubted: that one may yet come back with the result, and with it
the loss was none. So the job is RETRYING with a `verdict` until no attempt is left to hope for, or `doubt_patience_s` is over.

What a user asked for outlives the attempt it was asked of: a job that is paused stays paused when its attempt is gone, and one
whose planned end was asked for is not started again (`requeue`).
"""

from __future__ import annotations

import heapq
from typing import Any

from .job import Attempt, Failure, Job, OnDisconnect, Reason, State, Want
from .rules import Rules
from .world import World

_DUE_AT_ONCE = 1000  # jobs whose wait is over, in one turn


# ---- attempts that end -------------------------------------------------------------------------------------------


def ended(
    world: World, attempt: Attempt, how: str, failure: Failure | None, jitter: float, *, surely: bool = True
) -> None:
    """Nothing of an attempt is left on its node, and it published nothing. `how`: see `events.Ended`.

    `surely`: its node has said so. Else the next of a strict job waits until this one's lease would be over.
    """
    world.forget(attempt, how, failure)
    job = _without(world, attempt)
    if job is None:
        return
    if attempt.given_up or job.current != attempt.number or job.state is State.CANCELING:
        other_gone(world, job)
    elif how == "completed" and attempt.live:
        world.move(job, State.COMPLETED, "completed", "the live job was ended as planned", node=attempt.node)
    elif how == "node_lost":
        text = f"{attempt.node} went down under attempt {attempt.number}"
        count_loss(world, job, attempt, text, not_before_s=_not_before_s(world, job, surely=surely))
    elif failure is None and (attempt.want is Want.STOP or not attempt.accepted):
        text = f"attempt {attempt.number} ended" if attempt.accepted else f"{attempt.node} never started it"
        requeue(world, job, attempt, "not_started", text, not_before_s=_not_before_s(world, job, surely=surely))
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
        # Its engine ends with its lease, which it may have been given a moment ago.
        until_s = _not_before_s(world, job, surely=False)
        requeue(world, job, attempt, "node_gone", f"{attempt.node} is gone for good", not_before_s=until_s)


def _not_before_s(world: World, job: Job, *, surely: bool) -> float:
    """When the next attempt of a job may begin whose last one is gone: at once, unless it is strict and that is not sure."""
    strict = job.terms.on_disconnect is OnDisconnect.STOP and not surely
    return world.now_s + strict_s(world.rules, live=job.terms.live) if strict else 0.0


def strict_s(rules: Rules, *, live: bool) -> float:
    """How long after its last renewal an attempt under the strict lease may still be at work."""
    return (rules.lost_after_live_s if live else rules.lost_after_s) + rules.lease_stop_s + rules.lease_margin_s


def _without(world: World, attempt: Attempt) -> Job | None:
    """Settle the grant of an attempt that is gone; its job, if that is open."""
    grant = world.grants.get(attempt.job)
    if grant is not None and grant.attempt == attempt.number:
        world.grants.put(attempt.job, None)
    return world.jobs.get(attempt.job)


# ---- no fault of the job -----------------------------------------------------------------------------------------


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
    """A pause was asked of an attempt that is gone: the job itself is paused."""
    world.move(job, State.PAUSED, "paused", "paused by a user", about=attempt.number, node=attempt.node)


# ---- failures and verdicts ---------------------------------------------------------------------------------------


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


def backoff_s(failures: int, jitter: float, rules: Rules) -> float:
    """How long to wait after the n-th failure: first x 2^(n-1), capped, and up to a quarter less by `jitter` (0..1)."""
    wait = min(rules.backoff_max_s, rules.backoff_first_s * 2.0 ** min(failures - 1, 30))
    return wait * (1.0 - 0.25 * jitter)


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


def other_gone(world: World, job: Job) -> None:
    """One of a job's other attempts is gone: does that end a cancel, or a verdict that waited?"""
    if job.state is State.CANCELING and not world.attempts_of(job.number):
        world.move(job, State.CANCELED, "canceled", "no process of it is left")
    elif job.state is State.RETRYING and job.verdict is not None and not world.doubted(job.number):
        world.move(job, job.verdict, "verdict", "no attempt of it is left to hope for", cause=job.failure)


# ---- waits -------------------------------------------------------------------------------------------------------


def due_jobs(world: World, now_s: float) -> list[int]:
    """The jobs whose back-off, or patience with doubted attempts, is over at `now_s`, in order. Changes nothing that counts."""
    heap = world.backoff
    ready: list[tuple[float, int]] = []
    while heap and heap[0][0] <= now_s and len(ready) < _DUE_AT_ONCE:
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
