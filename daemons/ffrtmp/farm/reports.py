"""What a heartbeat says of a node's attempts, held against what the farm wants of them."""

from __future__ import annotations

from dataclasses import replace

from . import endings, handout, sessions
from .effects import SendOrder
from .events import Heartbeat, Report
from .job import Attempt, AttemptId, State, Want
from .node import Beat, Contact
from .world import World


def heartbeat(world: World, event: Heartbeat, contact: Contact) -> None:
    """Compare what the node has with what it should have."""
    if event.capacity is not None:
        sessions.measured(world, world.nodes[event.node], event.capacity)
    beats: dict[AttemptId, Beat] = {}
    for report in event.reports:
        attempt = world.on(event.node, report.uuid, report.number)
        if attempt is None:
            _stranger(world, event.node, report)
            continue
        beats[attempt.id] = Beat(report.stage, report.phase, report.out_time_s, event.number)
        if not attempt.accepted:
            handout.accepted(world, attempt)
        _follow(world, world.attempts[attempt.id], report)
    _missing(world, event, contact, beats)
    world.contacts.put(event.node, replace(world.contacts[event.node], beats=beats))


def _stranger(world: World, node: str, report: Report) -> None:
    """An attempt that the farm does not know (any more). One that waits for its adoption is left alone."""
    if (report.uuid, report.number) not in world.contacts[node].offered:
        world.effects.append(SendOrder(node, report.uuid, report.number, Want.DISCARD))


def _missing(world: World, event: Heartbeat, contact: Contact, beats: dict[AttemptId, Beat]) -> None:
    """What the node had in an earlier heartbeat and does not name any more has vanished."""
    for attempt in world.attempts_on(event.node):
        if attempt.id in beats:
            continue
        before = contact.beats.get(attempt.id)
        if before is None:
            continue
        if attempt.accepted and before.number < event.number:
            endings.ended(world, attempt, "absent", None, 0.0)
        else:
            beats[attempt.id] = before


def _follow(world: World, attempt: Attempt, report: Report) -> None:
    """Bring the job's state in line with what its attempt does."""
    job = world.jobs.get(attempt.job)
    if job is None or attempt.given_up or job.current != attempt.number:
        return
    if report.stage == "paused" and attempt.want is Want.PAUSE:
        if not attempt.paused:
            world.alter(attempt, paused=True)
        if job.state is State.RUNNING:  # one that is RESUMING stands still too, until there is room for it
            world.move(job, State.PAUSED, "paused", f"attempt {attempt.number} stands still", node=attempt.node)
    elif report.stage == "running" and attempt.want is Want.RUN and job.state is State.RESUMING:
        world.move(job, State.RUNNING, "resumed", f"attempt {attempt.number} runs again", node=attempt.node)
