"""What users may ask of the farm, and what they are answered.

A request is either refused with nothing changed, or taken; 202 says that the effect follows (a process has to stop first).
"""

from __future__ import annotations

from dataclasses import replace

from . import endings, recovery
from .effects import Answer
from .events import (
    AcceptNode,
    AddNode,
    Cancel,
    DrainNode,
    Invite,
    LabelNode,
    NewJob,
    Pause,
    RemoveNode,
    Resume,
    SetQueue,
    Stop,
    Submit,
    Update,
)
from .job import Attempt, Failure, Job, Reason, Requirements, State, Terms, Want
from .node import Node
from .placement import could_ever, farewell
from .queue import LaneKey, round_up
from .world import World


def answer(
    world: World,
    request: int,
    status: int,
    detail: str,
    hint: str = "",
    *,
    job: Job | None = None,
    nodes: tuple[str, ...] = (),
) -> None:
    """Close a request."""
    jobs = (job.number,) if job is not None else ()
    states = (job.state,) if job is not None else ()
    world.effects.append(Answer(request, status, detail, hint, jobs, states, nodes))


# ---- submission --------------------------------------------------------------------------------------------------


def submit(world: World, event: Submit) -> None:
    """Take a batch, whole or not at all."""
    refusal = _collision(event) or _bounds(world, event)
    if refusal is not None:
        answer(world, event.request, *refusal)
        return
    jobs: list[Job] = []
    unable: dict[Requirements, str] = {}  # jobs of one batch are mostly alike
    for new in event.jobs:
        terms = world.interned(round_up(new.terms))
        if terms.requirements not in unable:
            unable[terms.requirements] = could_ever(world, terms.requirements) or ""
        jobs.append(_birth(world, new, terms, unable[terms.requirements]))
    numbers, states = tuple(job.number for job in jobs), tuple(job.state for job in jobs)
    warnings = tuple("" if job.state is State.REJECTED else unable[job.terms.requirements] for job in jobs)
    world.effects.append(Answer(event.request, 201, jobs=numbers, states=states, warnings=warnings))


def _collision(event: Submit) -> tuple[int, str, str] | None:
    seen: set[str] = set()
    for new in event.jobs:
        if new.taken_by:
            hint = f"wait for it, cancel it, or choose another output: ffrtmpctl jobs status {new.taken_by}"
            return 409, f"job {new.taken_by} is open and has this same output", hint
        if new.output and new.output in seen:
            return (
                409,
                "two jobs of this batch have the same output",
                "give each its own: {index} or {stem} in the template",
            )
        seen.add(new.output)
    return None


def _bounds(world: World, event: Submit) -> tuple[int, str, str] | None:
    rules = world.rules
    if len(world.jobs) + len(event.jobs) > rules.waiting_max:
        return (
            503,
            f"the farm holds {len(world.jobs)} open jobs, and its bound is {rules.waiting_max}",
            "try again later",
        )
    lanes = {_lane(round_up(new.terms)) for new in event.jobs}
    fresh = sum(1 for lane in lanes if lane not in world.lanes)
    if len(world.lanes) + fresh > rules.lanes_max:
        return (
            503,
            f"more than {rules.lanes_max} kinds of jobs would wait",
            "give jobs the same requirements, or raise lanes_max",
        )
    return None


def _lane(terms: Terms) -> LaneKey:
    return (terms.queue, terms.priority, terms.requirements)


def _birth(world: World, new: NewJob, terms: Terms, unable: str) -> Job:
    """A new job, queued; or rejected where no known node could run it (`unable` says why) and that was not to be waited for."""
    number = int(world.value("next_job"))
    world.set("next_job", number + 1)
    if not (unable and new.strict):
        job = Job(number, new.uuid, terms, world.now_s, State.QUEUED)
        world.born(job, "queued", f"accepted for queue {terms.queue.label}, priority {terms.priority.label}")
    else:
        failure = Failure(
            Reason.CAPABILITY_MISMATCH, False, unable, "submit it without --strict to let it wait for such a node"
        )
        job = Job(number, new.uuid, terms, world.now_s, State.REJECTED, failure=failure)
        world.born(job, "rejected", f"no known node could run it: {unable}")
    return job


# ---- one job -----------------------------------------------------------------------------------------------------


def _open(world: World, request: int, number: int) -> Job | None:
    job = world.jobs.get(number)
    if job is None:
        answer(world, request, 404, f"no open job {number}", "ffrtmpctl jobs list shows what there is")
    return job


def _publishing(world: World, request: int, job: Job) -> bool:
    grant = world.grants.get(job.number)
    if grant is None or job.terms.live:
        return False
    attempt = world.attempts.get((job.number, grant.attempt))
    where = attempt.node if attempt is not None else ""
    detail = f"job {job.number} is publishing its output{' on ' + where if where else ''}"
    answer(world, request, 409, detail, "it will be over in a moment", job=job, nodes=(where,) if where else ())
    return True


def cancel(world: World, event: Cancel) -> None:
    """End a job and leave nothing of it but its log (P5)."""
    job = _open(world, event.request, event.job)
    if job is None or _publishing(world, event.request, job):
        return
    if job.state is State.CANCELING:
        _canceling(world, event.request, job)
        return
    attempts = world.attempts_of(job.number)
    if not attempts:
        job = world.move(job, State.CANCELED, "canceled", "canceled by a user")
        answer(world, event.request, 200, f"job {job.number} is canceled", job=job)
        return
    if job.number in world.grants:
        world.grants.put(job.number, None)  # a live job's lease on its target
    job = world.move(job, State.CANCELING, "canceling", "canceled by a user", verdict=None)
    for attempt in attempts:
        world.give_up(attempt)
    _canceling(world, event.request, job)


def _canceling(world: World, request: int, job: Job) -> None:
    nodes = tuple(sorted({a.node for a in world.attempts_of(job.number)}))
    away = [n for n in nodes if (contact := world.in_contact(n)) is None or contact.away]
    hint = (
        f"{', '.join(away)} is not in contact; it ends there when it is back, or: ffrtmpctl nodes remove"
        if away
        else ""
    )
    answer(world, request, 202, f"job {job.number} is being canceled on {', '.join(nodes)}", hint, job=job, nodes=nodes)


def stop(world: World, event: Stop) -> None:
    """End a live job in the planned way: its output is finished in order."""
    job = _open(world, event.request, event.job)
    if job is None:
        return
    if not job.terms.live:
        answer(
            world,
            event.request,
            409,
            "only live jobs are stopped; a file job would leave half a file",
            "use: jobs cancel",
            job=job,
        )
        return
    attempt = world.current(job)
    if attempt is None or job.state not in (State.RUNNING, State.ASSIGNED):
        answer(
            world,
            event.request,
            409,
            f"job {job.number} is {job.state.value}, not running",
            "use: jobs cancel",
            job=job,
        )
        return
    world.want(attempt, Want.STOP)
    world.note(job, "stopping", "a user asked for its planned end", node=attempt.node)
    answer(world, event.request, 202, f"job {job.number} is being stopped", job=job, nodes=(attempt.node,))


def pause(world: World, event: Pause) -> None:
    """Hold a job: its processes stand still, its memory stays."""
    job = _open(world, event.request, event.job)
    if job is None or _publishing(world, event.request, job):
        return
    attempt = world.current(job)
    if job.state in (State.QUEUED, State.RETRYING) and job.verdict is None:
        job = world.move(job, State.PAUSED, "paused", "paused by a user before it ran")
        answer(world, event.request, 200, f"job {job.number} is paused", job=job)
    elif job.state is State.PAUSED:
        answer(world, event.request, 200, f"job {job.number} is paused already", job=job)
    elif attempt is None or job.state not in (State.ASSIGNED, State.RUNNING, State.RESUMING):
        answer(world, event.request, 409, f"job {job.number} is {job.state.value} and cannot be paused", job=job)
    elif attempt.doubted:
        detail = f"{attempt.node}, which runs job {job.number}, is not in contact"
        answer(world, event.request, 409, detail, "try again when it is back", job=job, nodes=(attempt.node,))
    elif attempt.want is Want.STOP:
        answer(world, event.request, 409, f"job {job.number} is being stopped", "use: jobs cancel", job=job)
    else:
        world.want(attempt, Want.PAUSE)
        if job.state is State.RESUMING:
            job = world.move(job, State.PAUSED, "paused", "paused again before it went on", node=attempt.node)
        else:
            world.note(job, "pausing", "a user asked for a pause", node=attempt.node)
        answer(world, event.request, 202, f"job {job.number} is being paused", job=job, nodes=(attempt.node,))


def resume(world: World, event: Resume) -> None:
    """Let a paused job go on as soon as there is room."""
    job = _open(world, event.request, event.job)
    if job is None:
        return
    attempt = world.current(job)
    if job.state is State.PAUSED and attempt is not None and attempt.doubted:
        if _publishing(world, event.request, job):
            return
        attempt = world.alter(attempt, want=Want.RUN)
        recovery.replace_doubted(world, job, attempt, f"resumed by a user while {attempt.node} is lost")
        job = world.jobs.get(job.number) or job
    elif job.state is State.PAUSED:
        job = _release(world, job, attempt)
    elif job.state in (State.ASSIGNED, State.RUNNING) and attempt is not None and attempt.want is Want.PAUSE:
        world.want(attempt, Want.RUN)
        world.note(job, "resumed", "resumed by a user before the pause took hold", node=attempt.node)
    elif job.state is not State.RESUMING:
        answer(world, event.request, 409, f"job {job.number} is {job.state.value}, not paused", job=job)
        return
    answer(world, event.request, 202, f"job {job.number} goes on when there is room", job=job)


def _release(world: World, job: Job, attempt: Attempt | None) -> Job:
    """Let a job go on from PAUSED that has no attempt, or one on a node in contact."""
    if attempt is None:
        # A wait that began before it was paused (back-off, or the lease of a lost attempt) is waited out all the same.
        state = State.RETRYING if job.due_s > world.now_s else State.QUEUED
        return world.move(job, state, "resumed", "resumed by a user")
    job = world.move(job, State.RESUMING, "resuming", "resumed by a user", node=attempt.node)
    if not attempt.paused:
        world.want(attempt, Want.RUN)  # the pause has not taken hold: it still has its CPU
    return job


def update(world: World, event: Update) -> None:
    """Change queue or priority of a job that waits."""
    job = _open(world, event.request, event.job)
    if job is None:
        return
    if job.state not in (State.QUEUED, State.RETRYING) and not (job.state is State.PAUSED and not job.current):
        answer(world, event.request, 409, f"job {job.number} is {job.state.value} and waits no more", job=job)
        return
    terms = replace(
        job.terms,
        queue=job.terms.queue if event.queue is None else event.queue,
        priority=job.terms.priority if event.priority is None else event.priority,
    )
    job = world.change(job, terms=world.interned(terms))
    world.note(job, "updated", f"queue {terms.queue.label}, priority {terms.priority.label} by a user")
    answer(world, event.request, 200, f"job {job.number} waits in {terms.queue.label}, {terms.priority.label}", job=job)


def set_queue(world: World, event: SetQueue) -> None:
    """A paused queue starts nothing; what runs goes on."""
    paused = world.paused_queues
    world.set("paused_queues", paused | {event.queue} if event.paused else paused - {event.queue})
    world.dirty_all = True
    state = "paused" if event.paused else "open"
    answer(world, event.request, 200, f"queue {event.queue.label} is {state}")


# ---- nodes -------------------------------------------------------------------------------------------------------


def _node(world: World, request: int, name: str) -> Node | None:
    node = world.nodes.get(name)
    if node is None:
        answer(world, request, 404, f"no node {name}", "ffrtmpctl nodes list shows what there is")
    return node


def add_node(world: World, event: AddNode) -> None:
    """Admit a key. Saying it again is harmless."""
    node = world.nodes.get(event.name)
    if node is not None and node.key == event.key:
        answer(world, event.request, 200, f"node {event.name} is known", nodes=(event.name,))
        return
    other = next((n.name for n in world.nodes.rows() if n.key == event.key), None)
    if other is not None:
        detail = f"this key belongs to node {other} already"
        hint = f"a node is its key: go on as {other}, or let this host make a key of its own"
        answer(world, event.request, 409, detail, hint, nodes=(other,))
        return
    if node is not None and not event.replace:
        hint = f"choose another --name, or take its place: ffrtmp-agent join --replace {event.name}"
        answer(world, event.request, 409, f"there is a node {event.name} with another key", hint, nodes=(event.name,))
        return
    if node is not None:
        _close_books(world, event.name, "was replaced by a reinstalled host")
        node = replace(node, key=event.key, incarnation=0, accept_lower=False)
    world.nodes.put(event.name, node or Node(event.name, event.key, event.address))
    answer(world, event.request, 201, f"node {event.name} is admitted", nodes=(event.name,))


def invite(world: World, event: Invite) -> None:
    """Whether a ticket may be printed: not for a name that is taken, and not in the place of a node that is not there."""
    if event.replace and _node(world, event.request, event.replace) is None:
        return
    if event.name and not event.replace and event.name in world.nodes:
        hint = f"choose another name, or invite with --replace {event.name}"
        answer(world, event.request, 409, f"there is a node {event.name}", hint, nodes=(event.name,))
        return
    answer(world, event.request, 201, "the ticket may be given out")


def drain_node(world: World, event: DrainNode) -> None:
    """A drained node starts nothing new; what runs there goes on."""
    node = _node(world, event.request, event.node)
    if node is not None:
        world.nodes.put(node.name, replace(node, drained=event.drained))
        left = len(world.on_node.get(node.name, ()))
        detail = (
            f"node {node.name} takes no new jobs; {left} still run there"
            if event.drained
            else f"node {node.name} takes jobs"
        )
        answer(world, event.request, 200, detail, nodes=(node.name,))


def accept_node(world: World, event: AcceptNode) -> None:
    """Let a node in once whose start counter went back."""
    node = _node(world, event.request, event.node)
    if node is not None:
        world.nodes.put(node.name, replace(node, accept_lower=True))
        answer(
            world,
            event.request,
            200,
            f"node {node.name} may come in with a lower start counter, once",
            nodes=(node.name,),
        )


def label_node(world: World, event: LabelNode) -> None:
    """Set the operator's labels of a node."""
    node = _node(world, event.request, event.node)
    if node is not None:
        world.nodes.put(node.name, replace(node, labels=event.labels))
        labels = ", ".join(sorted(event.labels)) or "no labels"
        answer(world, event.request, 200, f"node {node.name} has {labels}", nodes=(node.name,))


def remove_node(world: World, event: RemoveNode) -> None:
    """The node is gone for good. Whatever it still does, it cannot be heard any more."""
    node = _node(world, event.request, event.node)
    if node is None:
        return
    contact = world.in_contact(node.name)
    if contact is not None and not event.force:
        what, hint = "is in contact", f"drain it first: ffrtmpctl nodes drain {node.name}; or --force"
        if contact.away:
            what, hint = f"may come back: its agent {farewell(world, contact)}", "wait until it is lost; or --force"
        answer(world, event.request, 409, f"node {node.name} {what}", hint, nodes=(node.name,))
        return
    _close_books(world, node.name, "was removed")
    world.nodes.put(node.name, None)
    answer(world, event.request, 200, f"node {node.name} is removed and its key is refused", nodes=(node.name,))


def _close_books(world: World, name: str, why: str) -> None:
    """Close a node's books: its attempts are over, its grants settled, its session void."""
    for attempt in world.attempts_on(name):
        job = world.jobs.get(attempt.job)
        if job is not None:
            world.note(job, "node_gone", f"{name} {why}", about=attempt.number, node=name)
        endings.node_removed(world, attempt)
    if world.contacts.get(name) is not None:
        world.contacts.put(name, None)
    for asked in list(world.newcomers):
        if name in (asked, world.newcomers[asked].hello.node):
            world.newcomers.put(asked, None)
