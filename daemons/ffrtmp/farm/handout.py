"""How an attempt gets to its node, and how the farm and the node come to agree on it.

An attempt is offered (`SendAssign`) until its node has taken it (`Accepted`: its directory is on the node's disk), refused
it, or let `accept_timeout_s` go by. A number that was offered is used up, whatever becomes of it: an answer may be late,
and must never be taken for that of another try. What is wanted of an attempt that was taken, or given up, is ordered
until the node has done it.
"""

from __future__ import annotations

from dataclasses import replace

from . import endings
from .effects import SendAssign, SendOrder
from .events import Accepted, Refused
from .job import Attempt, Job, OnDisconnect, Phase, State, Want
from .node import Beat, Node
from .world import World


def hand_out(world: World, job: Job, node: Node) -> None:
    """Give the job's next attempt to a node. The number is used up from here on, whatever becomes of it."""
    number = job.attempt + 1
    attempt = Attempt(
        job.number,
        number,
        job.uuid,
        node.name,
        job.terms.requirements,
        job.terms.live,
        want=Want.RUN,
        offered_s=world.now_s,
    )
    world.attempts.put(attempt.id, attempt)
    world.move(
        job,
        State.ASSIGNED,
        "assigned",
        f"attempt {number} is handed out to {node.name}, the fitting node with the most room",
        about=number,
        node=node.name,
        attempt=number,
        current=number,
    )
    _offer(world, attempt)


def _offer(world: World, attempt: Attempt) -> None:
    """Offer an attempt to its node. One of a strict job waits until a former engine that is known to be there has ended.

    Such a one stood still with its host while its lease ran out, and is being ended since the host goes on.
    """
    world.sent_s[attempt.id] = world.now_s
    if former(world, attempt) is None:
        world.effects.append(SendAssign(attempt.node, attempt.id))
    else:
        world.alter(attempt, offered_s=world.now_s)  # the time in which it has to be taken has not begun


def former(world: World, attempt: Attempt) -> Attempt | None:
    """The attempt of a strict job whose node says that it is still there, and after which this one may be offered."""
    job = world.jobs.get(attempt.job)
    if job is None or job.terms.on_disconnect is OnDisconnect.KEEP:
        return None
    others = [a for a in world.attempts_of(job.number) if a.number != attempt.number]
    return next((a for a in others if not a.doubted), None)


def heard_accepted(world: World, event: Accepted, attempt: Attempt | None) -> None:
    """The node says that it took an attempt, as of its heartbeat `event.heartbeat`."""
    if attempt is None:
        world.effects.append(SendOrder(event.node, event.uuid, event.number, Want.DISCARD))
        return
    if not attempt.accepted:
        accepted(world, attempt, event.heartbeat)


def accepted(world: World, attempt: Attempt, heartbeat: int = 0) -> Attempt:
    """The attempt's directory is on its node's disk, as of the node's heartbeat of that number."""
    attempt = world.alter(attempt, accepted=True)
    contact = world.contacts[attempt.node]
    if contact.refusals:
        world.contacts.put(attempt.node, replace(contact, refusals=0))
    beats = contact.beats
    if attempt.id not in beats:
        beats = {**beats, attempt.id: Beat("starting", Phase.ENCODING, 0.0, heartbeat)}
        world.contacts.put(attempt.node, replace(world.contacts[attempt.node], beats=beats))
    job = world.jobs.get(attempt.job)
    if job is None or attempt.given_up:
        world.order(attempt)
    elif job.current == attempt.number and job.state is State.ASSIGNED:
        world.move(job, State.RUNNING, "running", f"{attempt.node} runs attempt {attempt.number}", node=attempt.node)
        if attempt.want is not Want.RUN:
            world.order(attempt)
    return attempt


def refused(world: World, event: Refused, attempt: Attempt) -> None:
    """The node made no attempt. Without a failure it has no room just now, and gets nothing for a while."""
    if attempt.accepted:
        endings.ended(world, attempt, "absent", event.failure, 0.0)  # it had made one, and says that there is none
        return
    world.forget(attempt, "refused", event.failure)
    job = world.jobs.get(attempt.job)
    if event.failure is None:
        hold_off(world, event.node)
    if job is None:
        return
    if attempt.given_up or job.current != attempt.number or job.state is not State.ASSIGNED:
        endings.other_gone(world, job)
    elif event.failure is None:
        endings.requeue(world, job, attempt, "refused", f"{event.node}: {event.detail}")
    else:
        endings.failed(world, job, attempt, event.failure, 0.0)


def hold_off(world: World, node: str) -> None:
    """No work for a node for a while, longer each time in a row: every hand-out uses up a number and is written down."""
    contact = world.contacts[node]
    wait_s = min(world.rules.hold_most_s, world.rules.hold_s * 2.0 ** min(contact.refusals, 10))
    world.contacts.put(node, replace(contact, hold_until_s=world.now_s + wait_s, refusals=contact.refusals + 1))


def overdue(world: World, attempt: Attempt, now_s: float) -> bool:
    """Whether the node and the farm disagree on this attempt, and the last order is a while ago."""
    if now_s - world.sent_s.get(attempt.id, 0.0) < world.rules.resend_s:
        return False
    contact = world.in_contact(attempt.node)
    if contact is None or contact.away:
        return False
    if not attempt.accepted or attempt.want in (Want.DISCARD, Want.STOP):
        return True
    beat = contact.beats.get(attempt.id)
    stands = beat is not None and beat.stage == "paused"
    return (attempt.want is Want.PAUSE) != stands


def repeat(world: World, attempt: Attempt) -> None:
    """Repeat an order; an offer that nobody took in time burns its number."""
    if attempt.accepted or attempt.given_up:
        world.order(attempt)
        return
    if world.now_s - attempt.offered_s < world.rules.accept_timeout_s:
        _offer(world, attempt)
        return
    job = world.jobs.get(attempt.job)
    hold_off(world, attempt.node)
    world.give_up(attempt)
    if job is not None and job.current == attempt.number and job.state is State.ASSIGNED:
        text = f"{attempt.node} did not take attempt {attempt.number} in time"
        # It may be starting there all the same: the next of a strict job waits as long as this one could run unheard.
        strict = job.terms.on_disconnect is OnDisconnect.STOP
        until_s = world.now_s + endings.strict_s(world.rules, live=attempt.live) if strict else 0.0
        endings.requeue(world, job, attempt, "not_accepted", text, not_before_s=until_s)
