"""Conversations with nodes: who is let in (P9), what they are told, who has fallen silent.

A node is its key. A key has at most one session, and an address belongs to one node in contact. When a Hello meets a live
session of the same key (or of the same address under another key), the old one is asked for a sign. It answers: the
newcomer is a copy, and gets 409. It is silent, or its connection is closed: the newcomer takes over. A start counter that
went back tells of a reverted snapshot or a copied state folder; an operator must say that this is meant.

A restored master knows less than its agents. They carry the lineage and the turn that they last heard: an agent that is
ahead of the store proves the restore. From then on the farm is another lineage, skips numbers, and asks for the attempts
that it does not know instead of having them discarded.
"""

from __future__ import annotations

from dataclasses import replace

from . import recovery
from .effects import Directive, NewLineage, SendNoSession, SendOrder, SendSign, SendSorry, SendWelcome
from .events import Accepted, Adopt, Heartbeat, Hello, Refused, Report
from .job import Attempt, AttemptId, Job, Phase, State, Want
from .node import Beat, Capacity, Contact, Node
from .queue import round_up
from .world import Newcomer, World

NUMBERS_SKIPPED = 100  # attempt numbers left out after a restore: those of the lost future may be on their way
JOBS_AHEAD_MAX = 10_000_000  # more than a store can be behind; a number beyond is nonsense, and is not believed


# ---- hello -------------------------------------------------------------------------------------------------------


def hello(world: World, event: Hello) -> None:
    """A node asks for a session."""
    node = world.nodes.get(event.node)
    if node is None:
        _unknown(world, event)
        return
    contact = world.in_contact(event.node)
    if contact is not None and contact.connection == event.connection and contact.incarnation == event.incarnation:
        _measured(world, node, event.capacity)
        _welcome(world, event, contact.session, again=True)  # the Welcome was lost, or is on its way
        return
    leaves = contact is not None and contact.away  # it has said goodbye: nobody is there to be asked
    _admit_or_ask(world, event, event.node if contact is not None and not leaves else _holder(world, event))


def _admit_or_ask(world: World, event: Hello, rival: str | None) -> None:
    """Let a newcomer in, or ask the node whose place it would take for a sign."""
    if rival is None:
        admit(world, event)
        return
    waiting = world.newcomers.get(rival)
    if waiting is not None:
        if waiting.hello.connection == event.connection:
            world.newcomers.put(rival, replace(waiting, hello=event))  # the newer words count
        else:
            sorry(world, event, 409, "another newcomer is being looked at", "", retry=True)
        return
    old = world.contacts[rival]
    world.newcomers.put(rival, Newcomer(event, world.now_s, world.now_s + world.rules.sign_s))
    world.effects.append(SendSign(old.connection, old.session))


def _unknown(world: World, event: Hello) -> None:
    sorry(world, event, 403, "this key belongs to no node", "ask for a new ticket: ffrtmpctl nodes invite")


def _holder(world: World, event: Hello) -> str | None:
    """The other node in contact that has the newcomer's address."""
    for node in world.nodes.rows():
        if node.name != event.node and node.address == event.address and world.in_contact(node.name) is not None:
            return node.name
    return None


def sign(world: World, name: str) -> None:
    """A node that was asked for a sign has been heard: whoever claims to be it, or to have its address, is refused.

    What came in the same turn as the newcomer was said before the question: it may be the last word of one that is dead.
    """
    waiting = world.newcomers.get(name)
    if waiting is None or world.now_s <= waiting.asked_s:
        return
    world.newcomers.put(name, None)
    event = waiting.hello
    if event.node == name:
        sorry(
            world,
            event,
            409,
            f"node {name} is alive with this same key: this is a copy of it",
            "make a key of its own for this host: ffrtmpctl nodes invite, then ffrtmp-agent join TICKET",
        )
    else:
        sorry(
            world,
            event,
            409,
            f"address {event.address} belongs to node {name}, which is in contact",
            "start this agent with an address of its own: ffrtmp-agent --address HOST",
        )


def no_sign(world: World, name: str) -> None:
    """A node that was asked is silent, or its connection is closed: the newcomer takes over."""
    waiting = world.newcomers.get(name)
    if waiting is None:
        return
    world.newcomers.put(name, None)
    if waiting.hello.node == name:
        _admit_or_ask(world, waiting.hello, _holder(world, waiting.hello))
        return
    if world.in_contact(name) is not None:
        call_lost(world, name, "gave no sign when another node came with its address")
    hello(world, waiting.hello)  # it may have another rival by now


def admit(world: World, event: Hello) -> None:
    """Open a session, unless the start counter went back."""
    node = world.nodes.get(event.node)
    if node is None:
        _unknown(world, event)
        return
    if event.incarnation < node.incarnation and not node.accept_lower:
        sorry(
            world,
            event,
            409,
            f"node {event.node} was started {node.incarnation} times, and this one {event.incarnation}: a copy, or a snapshot",
            f"if this is the right one: ffrtmpctl nodes accept {event.node}",
        )
        return
    _lineage(world, event)
    now = replace(
        node,
        address=event.address,
        capacity=event.capacity,
        incarnation=event.incarnation,
        accept_lower=False,
    )
    if now != node:
        world.nodes.put(event.node, now)
    world.contacts.put(
        event.node,
        Contact(event.token, event.connection, event.incarnation, event.boot_id, world.listening_s, world.now_s),
    )
    world.dirty_nodes.add(event.node)
    _welcome(world, event, event.token)


def _welcome(world: World, event: Hello, session: int, *, again: bool = False) -> None:
    directives = _directives(world, event, again)
    world.effects.append(SendWelcome(event.connection, event.node, session, directives))
    for attempt in world.attempts_on(event.node):
        if attempt.want in (Want.PAUSE, Want.STOP):
            world.order(attempt)


def _directives(world: World, event: Hello, again: bool) -> tuple[Directive, ...]:
    """Go through what the node has, then through what it should have and does not name.

    `again`: the Hello is repeated in a session that is open already. Then work may have been handed out since that the
    agent had not received when it spoke; its acceptance is waited for as always.
    """
    ahead = _is_ahead(world, event)
    known: dict[AttemptId, Report] = {}
    offered: set[tuple[str, int]] = set()
    strange: list[Directive] = []
    for report in event.reports:
        key = world.by_identity.get((report.uuid, report.number)) or _rediscovered(world, event, report, ahead)
        if key is not None and world.attempts[key].node == event.node:
            known[key] = report
            continue
        stranger = ahead and report.uuid in event.strangers
        if stranger:
            offered.add((report.uuid, report.number))
        strange.append(Directive(report.uuid, report.number, "offer" if stranger else "stop"))
    beats = {key: Beat(r.stage, r.phase, r.out_time_s, 0) for key, r in known.items()}
    contact = world.contacts[event.node]
    world.contacts.put(event.node, replace(contact, beats=beats, offered=frozenset(offered)))
    kept = [
        Directive(r.uuid, r.number, "keep" if _back(world, world.attempts[key], beats[key]) else "stop")
        for key, r in known.items()
    ]
    _unnamed(world, event.node, beats, again)
    return (*kept, *strange)


def _unnamed(world: World, node: str, beats: dict[AttemptId, Beat], again: bool) -> None:
    for attempt in world.attempts_on(node):
        if attempt.id not in beats and (attempt.accepted or not again):
            recovery.ended(world, attempt, "node_lost" if attempt.accepted else "absent", None, 0.0)


def _write_beats(world: World, node: str, beats: dict[AttemptId, Beat]) -> None:
    world.contacts.put(node, replace(world.contacts[node], beats=beats))


def _back(world: World, attempt: Attempt, beat: Beat) -> bool:
    """An attempt is named by its node's Hello; says whether it is kept."""
    if not attempt.accepted:
        accepted(world, attempt)
        attempt = world.attempts[attempt.id]
    if attempt.doubted:
        return recovery.returned(world, attempt, beat)
    return not attempt.given_up


# ---- a restored master -------------------------------------------------------------------------------------------


def _is_ahead(world: World, event: Hello) -> bool:
    """Whether the agent has heard of turns that this store does not have, or of a history that it never knew."""
    if not event.seen_lineage or event.seen_lineage == world.lineage:
        return False
    left_at = world.ancestors.get(event.seen_lineage)
    return left_at is None or event.seen_turn > left_at


def _lineage(world: World, event: Hello) -> None:
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
    if _is_ahead(world, event):
        next_job = int(world.value("next_job"))
        told = [event.seen_job, *(r.job for r in event.reports)]
        highest = max((n for n in told if n < next_job + JOBS_AHEAD_MAX), default=0)
        world.set("next_job", max(next_job, highest + 1))


def _rediscovered(world: World, event: Hello, report: Report, ahead: bool) -> AttemptId | None:
    """An attempt that the store forgot, of a job that it knows: it is there again, as if it had been doubted."""
    number = world.by_uuid.get(report.uuid)
    if not ahead or number is None:
        return None
    job = world.jobs[number]
    attempt = _found(job, report, event.node)
    world.attempts.put(attempt.id, attempt)
    if report.number > job.attempt:
        world.change(job, attempt=report.number)
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
    report = Report(event.uuid, event.job, event.number, "running")
    beat = Beat(report.stage, report.phase, 0.0, 0)
    if known is not None:
        # Another node has offered another attempt of it before: the two are compared as after a loss.
        attempt = _found(known, report, event.node)
        world.change(known, attempt=max(known.attempt, event.number))
    else:
        job = _adopted(world, event)
        attempt = replace(_found(job, report, event.node), doubted=False)
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
    used = event.number + NUMBERS_SKIPPED
    job = Job(number, event.uuid, terms, world.now_s, State.RUNNING, attempt=used, current=event.number)
    text = f"{event.node} runs it; this master was restored from before it was submitted"
    world.born(job, "adopted", text, event.node)
    return job


# ---- while a session lasts ---------------------------------------------------------------------------------------


def session_of(world: World, name: str, connection: bytes, session: int) -> Contact | None:
    """The live session that a message belongs to; None, and the sender is told to say Hello, for any other."""
    contact = world.in_contact(name)
    if contact is None or contact.session != session or contact.connection != connection:
        world.effects.append(SendNoSession(connection, session))
        return None
    return contact


def heard(world: World, name: str, contact: Contact) -> Contact:
    """Any message of a live session counts as a sign of life."""
    sign(world, name)
    contact = replace(contact, heard_s=world.listening_s, heard_at_s=world.now_s, suspected_s=0.0, away=False)
    world.contacts.put(name, contact)
    return contact


def heartbeat(world: World, event: Heartbeat, contact: Contact) -> None:
    """Compare what the node has with what it should have."""
    if event.capacity is not None:
        _measured(world, world.nodes[event.node], event.capacity)
    beats: dict[AttemptId, Beat] = {}
    for report in event.reports:
        key = world.by_identity.get((report.uuid, report.number))
        attempt = world.attempts.get(key) if key is not None else None
        if attempt is None or attempt.node != event.node:
            _stranger(world, event.node, report)
            continue
        beats[attempt.id] = Beat(report.stage, report.phase, report.out_time_s, event.number)
        if not attempt.accepted:
            accepted(world, attempt)
        follow(world, world.attempts[attempt.id], report)
    _missing(world, event, contact, beats)
    _write_beats(world, event.node, beats)


def _measured(world: World, node: Node, capacity: Capacity) -> None:
    if node.capacity != capacity:
        world.nodes.put(node.name, replace(node, capacity=capacity))


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
            recovery.ended(world, attempt, "absent", None, 0.0)
        else:
            beats[attempt.id] = before


def accepted(world: World, attempt: Attempt, heartbeat: int = 0) -> Attempt:
    """The attempt's directory is on its node's disk, as of the node's heartbeat of that number."""
    attempt = world.alter(attempt, accepted=True)
    contact = world.contacts[attempt.node]
    if contact.refusals:
        world.contacts.put(attempt.node, replace(contact, refusals=0))
    beats = contact.beats
    if attempt.id not in beats:
        _write_beats(world, attempt.node, {**beats, attempt.id: Beat("starting", Phase.ENCODING, 0.0, heartbeat)})
    job = world.jobs.get(attempt.job)
    if job is None or attempt.given_up:
        world.order(attempt)
    elif job.current == attempt.number and job.state is State.ASSIGNED:
        world.move(job, State.RUNNING, "running", f"{attempt.node} runs attempt {attempt.number}", node=attempt.node)
        if attempt.want is not Want.RUN:
            world.order(attempt)
    return attempt


def heard_accepted(world: World, event: Accepted, attempt: Attempt | None) -> None:
    """The node says that it took an attempt, as of its heartbeat `event.heartbeat`."""
    if attempt is None:
        world.effects.append(SendOrder(event.node, event.uuid, event.number, Want.DISCARD))
        return
    if not attempt.accepted:
        accepted(world, attempt, event.heartbeat)


def refused(world: World, event: Refused, attempt: Attempt) -> None:
    """The node made no attempt. Without a failure it has no room just now, and gets nothing for a while."""
    if attempt.accepted:
        recovery.ended(world, attempt, "absent", event.failure, 0.0)  # it had made one, and says that there is none
        return
    world.forget(attempt, "refused", event.failure)
    job = world.jobs.get(attempt.job)
    if event.failure is None:
        hold(world, event.node)
    if job is None:
        return
    if attempt.given_up or job.current != attempt.number or job.state is not State.ASSIGNED:
        recovery.left(world, job)
    elif event.failure is None:
        recovery.requeue(world, job, attempt, "refused", f"{event.node}: {event.detail}")
    else:
        recovery.failed(world, job, attempt, event.failure, 0.0)


def hold(world: World, node: str) -> None:
    """No work for a node for a while, longer each time in a row: every hand-out uses up a number and is written down."""
    contact = world.contacts.get(node)
    if contact is not None:
        wait_s = min(world.rules.hold_most_s, world.rules.hold_s * 2.0 ** min(contact.refusals, 10))
        world.contacts.put(node, replace(contact, hold_until_s=world.now_s + wait_s, refusals=contact.refusals + 1))


def follow(world: World, attempt: Attempt, report: Report) -> None:
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


# ---- silence -----------------------------------------------------------------------------------------------------


def look(world: World) -> None:
    """Who has been silent for too long? The master doubts itself first.

    When most nodes fall silent together, it is more likely the master's own line: they are given `self_doubt_s` more.
    """
    world.looked()
    there = [n for n in world.contacts if world.in_contact(n) is not None]
    silent = [n for n in there if _silent(world, n)]
    if not silent:
        return
    doubtful = len(there) >= 3 and 2 * sum(_quiet(world, n) for n in there) > len(there)
    for name in silent:
        contact = world.contacts[name]
        since_s = contact.suspected_s
        if not doubtful or (since_s and world.listening_s - since_s >= world.rules.self_doubt_s):
            call_lost(world, name, "has not been heard")
        elif not since_s:
            world.contacts.put(name, replace(contact, suspected_s=world.listening_s))


def _silent(world: World, name: str) -> bool:
    """Whether a node has been silent for longer than it may. A live job there shortens that for the whole node."""
    contact = world.contacts[name]
    rules = world.rules
    live = any(a.live and not a.given_up for a in world.attempts_on(name))
    allowed_s = rules.away_after_s if contact.away else rules.lost_after_live_s if live else rules.lost_after_s
    return world.listening_s - contact.heard_s > allowed_s


def _quiet(world: World, name: str) -> bool:
    """Whether a node has missed heartbeats without a goodbye.

    Nodes do not beat in step: of those that fall silent together one is the first to be silent for too long, and by
    then all the others are quiet.
    """
    contact = world.contacts[name]
    missed = world.listening_s - contact.heard_s > 2 * world.rules.heartbeat_s
    return (missed and not contact.away) or _silent(world, name)


def call_lost(world: World, name: str, why: str) -> None:
    """The session is void; what runs there is doubted."""
    contact = world.contacts[name]
    world.contacts.put(name, replace(contact, lost=True))
    recovery.lose_node(world, name, why)


def grace_over(world: World) -> None:
    """After a start of the master: whoever holds attempts and has not come back by now is lost."""
    world.set("grace_over", True)
    for name in world.nodes:
        if world.contacts.get(name) is None and world.on_node.get(name):
            recovery.lose_node(world, name, "did not come back to the restarted master")


def sorry(world: World, event: Hello, status: int, detail: str, hint: str, *, retry: bool = False) -> None:
    """Refuse a Hello."""
    world.effects.append(SendSorry(event.connection, status, detail, hint, retry))
