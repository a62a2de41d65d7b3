"""A node is lost, and comes back: the heart of the farm.

That a node is lost is a guess (silence.py), and everything here is right whether the guess is or not. Its attempts become
*doubted*: they may be dead, or encode on without us. Two attempts of a job may encode at once; only one may publish
(publish.py), so that a wrong guess costs work and never the output.

| the doubted attempt | its job, when the node is lost (`doubt_node`) |
|---|---|
| was given up, or another one counts | goes on as it is |
| may be publishing (it holds the grant) | waits until that is settled: its output may be at its place already |
| is paused by a user, or was asked for its planned end | stays so |
| has the strict lease (`on_disconnect = stop`) | is queued once the lease is over: the attempt is given up, and ends by itself |
| else | is queued at once, and gets a new attempt elsewhere |

A node that comes back says which attempts it has (sessions.py). One that it does not name is over (endings.py), and so
is one that was given up meanwhile. For any other `returned` chooses:

| the farm finds | it keeps |
|---|---|
| the job has ended or is being canceled | neither |
| another attempt holds the grant | that one |
| the job has no other attempt, or that one's node is lost too | the one that came back: it is there |
| a successor at work | the one that is further, the older where they are level; a live successor once it puts out |

The one that is not kept is given up. If the one that came back is kept, its loss is not counted any more (P8).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from .endings import count_loss, strict_s
from .job import Attempt, Job, OnDisconnect, Phase, State, Want
from .node import Beat
from .rules import Rules
from .world import World

_PHASES = list(Phase)


# ---- a node is lost ----------------------------------------------------------------------------------------------


def doubt_node(world: World, name: str, why: str) -> None:
    """Doubt every attempt on a node; `why` goes on after the node's name ("has not been heard")."""
    for attempt in world.attempts_on(name):
        if not attempt.doubted:
            _doubt(world, world.attempts[attempt.id], why)


def _doubt(world: World, attempt: Attempt, why: str) -> None:
    """Doubt one attempt; the first table above says what that is to its job."""
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
        world.note(job, "node_lost", f"{attempt.node} {why}; the job stays paused", node=attempt.node)
    elif attempt.want is Want.STOP:
        world.note(job, "node_lost", f"{attempt.node} {why} while the job was being stopped", node=attempt.node)
    else:
        replace_doubted(world, job, attempt, f"{attempt.node} {why}")


def replace_doubted(world: World, job: Job, attempt: Attempt, text: str) -> None:
    """Let another attempt take the place of one on a lost node: at once, or (the strict form) after its lease is over."""
    if job.terms.on_disconnect is OnDisconnect.KEEP:
        count_loss(world, job, attempt, text)
        return
    until_s = world.last_heard_s(attempt.node) + strict_s(world.rules, live=attempt.live)
    world.alter(attempt, want=Want.DISCARD, fence_s=until_s)
    count_loss(world, job, attempt, text, not_before_s=until_s)


# ---- it comes back -----------------------------------------------------------------------------------------------


def returned(world: World, attempt: Attempt, beat: Beat) -> bool:
    """A doubted attempt is there again. Keep it, or give it up (the second table above); says whether it is kept."""
    # One that runs after all, against what the farm last heard, uses CPU again.
    attempt = world.alter(attempt, doubted=False, paused=attempt.paused and beat.stage == "paused")
    job = world.jobs.get(attempt.job)
    if job is None or attempt.given_up or job.state is State.CANCELING:
        world.give_up(attempt)
        return False
    grant = world.grants.get(job.number)
    if grant is not None and grant.attempt != attempt.number:
        world.give_up(attempt)
        return False
    if job.current == attempt.number:  # it was not replaced: it publishes, is paused, or is being stopped
        if job.state is State.RESUMING and not attempt.paused:
            world.want(attempt, Want.RUN)  # it waits for CPU that it has again
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
    """Whether the one that came back is further than its rival, or as far and older.

    A rival that has not begun, or of which a master that was restarted has not heard yet, is behind: this one is there.
    """
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
        world.alter(attempt, want=Want.PAUSE)  # others may have its CPU by now: placement.wake lets it go on
    else:
        world.want(attempt, Want.PAUSE if held else Want.RUN)


# ---- a start of the master ---------------------------------------------------------------------------------------
#
# Waits are kept on disk by wall time, and that clock may have been set before the next master reads it. So nothing that
# keeps two engines apart rests on it: a master that starts counts such waits anew, as it does with grants.


def arrived_in_order(jobs: Iterable[Job], now_s: float) -> list[Job]:
    """Jobs of lower numbers came earlier, and none in the future, whatever the clock said then: ageing goes by it (P7)."""
    latest_s, found = now_s, []
    for job in sorted(jobs, key=lambda job: job.number, reverse=True):
        latest_s = min(latest_s, job.arrival_s)
        found.append(job if job.arrival_s == latest_s else replace(job, arrival_s=latest_s))
    return found[::-1]


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
        due_s = max(due_s, now_s + strict_s(rules, live=job.terms.live))
    return replace(job, due_s=due_s)


def fence_again(attempt: Attempt, now_s: float, rules: Rules) -> Attempt:
    """The same for an attempt: its fence runs anew, and it was not offered in times to come."""
    fence_s = now_s + strict_s(rules, live=attempt.live) if attempt.fence_s else 0.0
    return replace(attempt, fence_s=fence_s, offered_s=min(attempt.offered_s, now_s))
