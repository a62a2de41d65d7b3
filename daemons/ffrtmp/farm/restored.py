"""A master that was restored from a backup knows less than its agents.

They carry the lineage and the turn that they last heard: an agent that is ahead of the store proves the restore. From then
on the farm is another lineage, skips numbers, and asks for the attempts that it does not know (`offer`) instead of having
them discarded. What its store knows the job of is there again at once, as if its node had been lost; a job that it never
heard of is adopted with the attempt.
"""

from __future__ import annotations

from dataclasses import replace

from . import recovery
from .effects import NewLineage
from .events import Adopt, Hello, Report
from .job import Attempt, AttemptId, Job, State, Want
from .node import Beat
from .queue import round_up
from .world import World

NUMBERS_SKIPPED = 100  # attempt numbers left out after a restore: those of the lost future may be on their way
JOBS_AHEAD_MAX = 10_000_000  # more than a store can be behind; a number beyond is nonsense, and is not believed


def notice(world: World, event: Hello) -> None:
    """Notice that the store was put back to an earlier state, and go on as another history."""
    turn = int(world.value("turn"))
    # Once in a life of the master: of the history that begins here nobody can have seen more than it has.
    if event.seen_lineage == world.lineage and event.seen_turn > turn and not world.value("branched"):
        world.set("branched", True)
        parent = world.lineage
        world.effects.append(NewLineage(event.fresh_lineage, parent, turn))
        world.ancestors.put(parent, turn)
        world.set("lineage", event.fresh_lineage)
        for job in world.jobs.rows():
            world.change(job, attempt=job.attempt + NUMBERS_SKIPPED)
    if is_ahead(world, event):
        next_job = int(world.value("next_job"))
        told = [event.seen_job, *(r.job for r in event.reports)]
        highest = max((n for n in told if n < next_job + JOBS_AHEAD_MAX), default=0)
        world.set("next_job", max(next_job, highest + 1))


def is_ahead(world: World, event: Hello) -> bool:
    """Whether the agent has heard of turns that this store does not have, or of a history that it never knew."""
    if not event.seen_lineage or event.seen_lineage == world.lineage:
        return False
    left_at = world.ancestors.get(event.seen_lineage)
    return left_at is None or event.seen_turn > left_at


def rediscover(world: World, event: Hello, report: Report, ahead: bool) -> AttemptId | None:
    """An attempt that the store forgot, of a job that it knows: it is there again, as if it had been doubted."""
    number = world.by_uuid.get(report.uuid)
    if not ahead or number is None:
        return None
    job = world.jobs[number]
    attempt = _found(job, report, event.node)
    world.attempts.put(attempt.id, attempt)
    world.change(job, attempt=max(job.attempt, report.number))
    return attempt.id


def _found(job: Job, report: Report, node: str) -> Attempt:
    return Attempt(
        job.number,
        report.number,
        job.uuid,
        node,
        job.terms.requirements,
        job.terms.live,
        accepted=True,
        doubted=True,
        paused=report.stage == "paused",
    )


def adopt(world: World, event: Adopt) -> None:
    """A job that a restored store has never heard of, offered by the node that runs it. The order is its answer."""
    contact = world.contacts[event.node]
    identity = (event.uuid, event.number)
    there = world.by_identity.get(identity)
    if there is not None:
        if world.attempts[there].node == event.node:
            world.order(world.attempts[there])  # offered twice: the answer was lost
        return
    if identity not in contact.offered:
        return  # it was not asked for; the next heartbeat that names it gets an order
    known = world.jobs.get(world.by_uuid.get(event.uuid, 0))
    report = Report(event.uuid, event.job, event.number, "paused" if event.paused else "running")
    beat = Beat(report.stage, report.phase, 0.0, 0)
    if known is not None:
        # Another node has offered another attempt of it before: the two are compared as after a loss.
        attempt = _found(known, report, event.node)
        world.change(known, attempt=max(known.attempt, event.number))
    else:
        job = _adopted(world, event)
        attempt = replace(_found(job, report, event.node), doubted=False)
        if event.paused:
            # Others may have its CPU by now: placement.wake lets it go on.
            attempt = replace(attempt, want=Want.PAUSE)
            world.move(job, State.RESUMING, "returned", "it stands still, and waits for room", node=event.node)
    world.attempts.put(attempt.id, attempt)
    world.contacts.put(
        event.node, replace(contact, beats={**contact.beats, attempt.id: beat}, offered=contact.offered - {identity})
    )
    if known is None or recovery.returned(world, attempt, beat):
        world.order(world.attempts[attempt.id])


def _adopted(world: World, event: Adopt) -> Job:
    first_free = int(world.value("next_job"))
    usable = 0 < event.job < first_free + JOBS_AHEAD_MAX and event.job not in world.jobs
    number = event.job if usable else first_free
    world.set("next_job", max(first_free, number + 1))
    terms = world.interned(round_up(event.terms))
    # Each time that a store is put back it may adopt the same attempt; what it hands out then must be new every time.
    used = event.number + NUMBERS_SKIPPED * (1 + int(world.value("restores")))
    job = Job(number, event.uuid, terms, world.now_s, State.RUNNING, attempt=used, current=event.number)
    text = f"{event.node} runs it; this master was restored from before it was submitted"
    world.born(job, "adopted", text, event.node)
    return job
