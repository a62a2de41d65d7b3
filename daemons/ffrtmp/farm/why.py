"""Why a job is where it is, in a sentence with a hint. Every decision of the rules has a reason; this puts them together."""

from __future__ import annotations

from dataclasses import dataclass, field

from . import handout
from .job import Attempt, Job, State, Want
from .placement import closed, could_ever, farewell, never, obstacle, unable
from .queue import rank
from .world import World

_NODES_TOLD = 50


@dataclass(frozen=True, slots=True)
class Why:
    """A sentence, what to do, and for a waiting job what stands against each node."""

    sentence: str
    hint: str = ""
    nodes: dict[str, str] = field(default_factory=dict)


def why(world: World, number: int) -> Why | None:
    """The explanation of an open job; None if there is none of that number."""
    job = world.jobs.get(number)
    if job is None:
        return None
    attempt = world.current(job)
    if job.state is State.QUEUED:
        return _waits(world, job)
    if job.state is State.RETRYING:
        return _between(world, job)
    if job.state is State.CANCELING:
        return _canceling(world, job)
    return _there(world, job, attempt)


def _waits(world: World, job: Job) -> Why:
    if job.terms.queue in world.paused_queues:
        name = job.terms.queue.label
        return Why(f"it waits because queue {name} is paused", f"ffrtmpctl queues resume {name}")
    nodes = {
        node.name: obstacle(world, job, node) or "it starts there next" for node in world.nodes.rows()[:_NODES_TOLD]
    }
    if could_ever(world, job.terms.requirements) is not None:
        return _unable(world, job)
    away = _away(world, job)
    if away:
        return Why(f"it waits for {away}", "ffrtmpctl nodes list", nodes)
    ahead = _ahead(world, job)
    if ahead:
        return Why(f"it waits for room, behind {ahead} jobs of higher rank or earlier arrival", "", nodes)
    return Why("it is the next of its kind and waits for room on a node that can run it", "", nodes)


def _unable(world: World, job: Job) -> Why:
    """No known node could run it: what each lacks stands beside the node, once."""
    need = job.terms.requirements
    known = list(world.nodes.rows())
    nodes = {node.name: unable(world, node, need) or "" for node in known[:_NODES_TOLD]}
    if not known:
        return Why("it waits because no node is known", "ffrtmpctl nodes invite makes a ticket for one")
    heard = [node for node in known if world.contacts.get(node.name) is not None]
    if len(heard) < len(known):
        return Why("it waits because no node that was heard could run it", "ffrtmpctl nodes list", nodes)
    if "run" in need.features and not any("run" in node.capacity.features for node in known):
        sentence = "it waits because no agent takes plain arguments: the setting allow_run is off on all nodes"
        return Why(sentence, "set allow_run for an agent whose host may run them, or cancel the job", nodes)
    return Why("it waits because no known node could run it", "add such a node, or cancel it", nodes)


def _away(world: World, job: Job) -> str:
    """The nodes that could run it, where all of them are lost, away, drained or unheard; else empty."""
    able = [n for n in world.nodes.rows() if never(n.capacity, n.labels, job.terms.requirements) is None]
    there = [n for n in able if not n.drained and (c := world.in_contact(n.name)) is not None and not c.away]
    if there or not able:
        return ""
    if len(able) == 1:
        return f"{able[0].name}, the only node that could run it: {closed(world, able[0], world.contacts.get(able[0].name))}"
    return f"one of the {len(able)} nodes that could run it: all of them are lost, away, drained or not heard yet"


def _ahead(world: World, job: Job) -> int:
    """How many waiting jobs are in lanes whose head goes first (an upper bound: the tails of those lanes may not)."""
    mine = rank(job, world.now_s, world.rules)
    count = 0
    for lane in world.lanes:
        head = world.lanes.first(lane)
        other = world.jobs.get(head) if head is not None else None
        if other is not None and rank(other, world.now_s, world.rules) < mine:
            count += world.lanes.waiting(lane)
    return count


def _between(world: World, job: Job) -> Why:
    cause = f"{job.failure.reason.value}: {job.failure.line}" if job.failure else "its node was lost"
    left = max(0.0, job.due_s - world.now_s)
    fenced = [a.node for a in world.attempts_of(job.number) if a.fence_s > world.now_s]
    if fenced:
        return Why(
            f"its engine on {fenced[-1]}, which was lost, may run for another {left:.0f} s; it starts anew after that"
        )
    if job.verdict is None:
        tried = f"{job.failures} of {job.terms.max_retries + 1} tries failed"
        hint = job.failure.hint if job.failure else ""
        return Why(f"it is tried again in {left:.0f} s ({tried}); the last ended with {cause}", hint)
    where = ", ".join(a.node for a in world.doubted(job.number))
    return Why(
        f"it is {job.verdict.value} in {left:.0f} s unless {where} comes back with an attempt that lives ({cause})",
        f"ffrtmpctl nodes remove {where}, if that node is gone for good",
    )


def _canceling(world: World, job: Job) -> Why:
    attempts = world.attempts_of(job.number)
    nodes = {a.node: _contact(world, a.node) for a in attempts}
    return Why(f"it is being canceled; {', '.join(sorted(nodes))} has not said yet that nothing is left", "", nodes)


def _contact(world: World, node: str) -> str:
    contact = world.in_contact(node)
    if contact is None:
        return "not in contact"
    return f"its agent {farewell(world, contact)}" if contact.away else "in contact"


def _gone(world: World, attempt: Attempt) -> str:
    """What is said after a node's name where it is not in contact; else empty."""
    contact = world.in_contact(attempt.node)
    if attempt.doubted:
        return ", which is lost"
    return f", whose agent {farewell(world, contact)}" if contact is not None and contact.away else ""


def _there(world: World, job: Job, attempt: Attempt | None) -> Why:
    if attempt is None:
        return Why("it is paused by a user, and no attempt of it is there", f"ffrtmpctl jobs resume {job.number}")
    gone = _gone(world, attempt)
    grant = world.grants.get(job.number)
    if attempt.doubted and grant is not None:
        return Why(
            f"{attempt.node} was lost while it published; that must be settled before anything else runs",
            f"it is settled when {attempt.node} is back, by a node that shares the storage, or by: "
            f"ffrtmpctl nodes remove {attempt.node}",
        )
    if attempt.want is Want.STOP:
        hint = f"ffrtmpctl nodes remove {attempt.node}, if that node is gone for good" if attempt.doubted else ""
        return Why(f"it is being stopped on {attempt.node}{gone}", hint)
    if job.state is State.PAUSED:
        return Why(f"it is paused by a user on {attempt.node}{gone}", f"ffrtmpctl jobs resume {job.number}")
    if gone and not attempt.doubted:
        then = "its grant is settled" if grant is not None and not attempt.live else "the job is done anew"
        sentence = (
            f"attempt {attempt.number} is on {attempt.node}{gone}; after that the node counts as lost, and {then}"
        )
        return Why(sentence, f"start the agent of {attempt.node} again, or wait")
    if job.state is State.RESUMING:
        return Why(f"it was resumed and waits for CPU on {attempt.node}, where its memory is")
    former = handout.former(world, attempt) if job.state is State.ASSIGNED else None
    if former is not None:
        return Why(f"it starts on {attempt.node} as soon as its engine on {former.node}, which came back, has ended")
    if job.state is State.ASSIGNED:
        return Why(f"it was handed out to {attempt.node}, which has not said yet that it took it")
    return Why(f"attempt {attempt.number} runs on {attempt.node}, the fitting node with the most room at its start")
