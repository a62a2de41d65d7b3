"""Conversations with nodes: who is let in (P9), and what they are told of their attempts.

A node is its key. A key has at most one session, and an address belongs to one node in contact. When a Hello meets a live
session of the same key (or of the same address under another key), the old one is asked for a sign. It answers: the
newcomer is a copy, and gets 409. It is silent: the newcomer takes over, and one with the same key as soon as the old
connection is found closed. A start counter that went back tells of a reverted snapshot or a copied state folder; an operator
must say that this is meant.
"""

from __future__ import annotations

from dataclasses import replace

from . import endings, handout, recovery, restored, silence
from .effects import Directive, SendNoSession, SendSign, SendSorry, SendWelcome
from .events import FromAgent, Hello, Report, Unreachable
from .job import Attempt, AttemptId, Want
from .node import Beat, Capacity, Contact, Node
from .world import Newcomer, World

# ---- who speaks ---------------------------------------------------------------------------------------------------


def heard(world: World, event: FromAgent) -> Contact | None:
    """Any message of a live session is a sign of life. None, and its sender is told to say Hello, for any other message."""
    contact = world.in_contact(event.node)
    if contact is None or contact.session != event.session or contact.connection != event.connection:
        world.effects.append(SendNoSession(event.connection, event.session))
        return None
    sign(world, event.node)
    _waits_no_more(world, event.node, None)  # it is content with the session that it has
    contact = replace(contact, heard_s=world.listening_s, heard_at_s=world.now_s, suspected_s=0.0, away=False)
    world.contacts.put(event.node, contact)
    return contact


def goodbye(world: World, node: str, contact: Contact) -> None:
    """The agent is being restarted: its next life need not ask it for a sign, and its silence is allowed to last longer."""
    world.contacts.put(node, replace(contact, away=True))


# ---- hello -------------------------------------------------------------------------------------------------------


def hello(world: World, event: Hello) -> None:
    """A node asks for a session."""
    node = world.nodes.get(event.node)
    if node is None or event.key not in ("", node.key):  # the node was replaced in this very turn
        _unknown(world, event)
        return
    contact = world.in_contact(event.node)
    same = contact is not None and (contact.connection, contact.incarnation) == (event.connection, event.incarnation)
    if contact is not None and same and node.address == event.address:
        _waits_no_more(world, event.node, None)  # it may have had another address for a moment
        measured(world, node, event.capacity)
        _welcome(world, event, contact.session, again=True)  # the Welcome was lost, or is on its way
        return
    # Nobody is there to be asked: it has said goodbye, or has left its session to tell of its new address.
    leaves = contact is not None and (contact.away or same)
    rival = event.node if contact is not None and not leaves else _holder(world, event)
    _waits_no_more(world, event.node, rival)
    _admit_or_ask(world, event, rival)


def _waits_no_more(world: World, node: str, rival: str | None) -> None:
    """A node has asked for the address of another one than `rival`, and wants that no more."""
    for name in list(world.newcomers):
        if name not in (node, rival) and world.newcomers[name].hello.node == node:
            world.newcomers.put(name, None)


def _admit_or_ask(world: World, event: Hello, rival: str | None) -> None:
    """Let a newcomer in, or ask the node whose place it would take for a sign."""
    if rival is None:
        admit(world, event)
        return
    waiting = world.newcomers.get(rival)
    if waiting is not None and event.node == rival != waiting.hello.node:
        # The node itself, whose connection broke: its word goes before that of one who wants its address.
        _sorry(world, waiting.hello, 409, "another newcomer is being looked at", "", retry=True)
    elif waiting is not None:
        if waiting.hello.connection == event.connection or waiting.hello.node == event.node != rival:
            world.newcomers.put(rival, replace(waiting, hello=event))  # the newer words count
        else:
            _sorry(world, event, 409, "another newcomer is being looked at", "", retry=True)
        return
    old = world.contacts[rival]
    # Whoever has the key may be its new life, and waits for a moment only. Another node gets no address earlier by
    # asking for it than it would be free by itself: else it could wait for a hiccup of a healthy node.
    wait_s = world.rules.sign_s if rival == event.node else world.rules.lost_after_s
    world.newcomers.put(rival, Newcomer(event, world.now_s, world.now_s + wait_s))
    world.effects.append(SendSign(old.connection, old.session))


def _holder(world: World, event: Hello) -> str | None:
    """The other node in contact that has the newcomer's address."""
    for name in world.at_address.get(event.address, ()):
        if name != event.node and world.in_contact(name) is not None:
            return name
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
        _sorry(
            world,
            event,
            409,
            f"node {name} is alive with this same key: this is a copy of it",
            "make a key of its own for this host: ffrtmpctl nodes invite, then ffrtmp-agent join TICKET",
        )
    else:
        _sorry(
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
        silence.call_lost(world, name, "gave no sign when another node came with its address")
    hello(world, waiting.hello)  # it may have another rival by now


def unreachable(world: World, event: Unreachable) -> None:
    """Whoever was to give a sign on this connection will give none; but it may be on its way back over another one.

    So only whoever has the same key takes over at once, and another node waits for the address as long as ever.
    """
    for name in list(world.newcomers):
        contact = world.contacts.get(name)
        if world.newcomers[name].hello.node == name and contact is not None and contact.connection == event.connection:
            no_sign(world, name)


def admit(world: World, event: Hello) -> None:
    """Open a session, unless the start counter went back."""
    node = world.nodes[event.node]  # a newcomer that waits is forgotten with its node
    if event.incarnation < node.incarnation and not node.accept_lower:
        _sorry(
            world,
            event,
            409,
            f"node {event.node} was started {node.incarnation} times, and this one {event.incarnation}: a copy, or a snapshot",
            f"if this is the right one: ffrtmpctl nodes accept {event.node}",
        )
        return
    restored.notice(world, event)
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
    _welcome(world, event, event.token)


# ---- what it has -------------------------------------------------------------------------------------------------


def _welcome(world: World, event: Hello, session: int, *, again: bool = False) -> None:
    """Answer a Hello: for each attempt that it names, whether that is to be kept; then what else is wanted of them."""
    directives = _directives(world, event, again)
    world.effects.append(SendWelcome(event.connection, event.node, session, directives))
    for attempt in world.attempts_on(event.node):
        if attempt.want in (Want.PAUSE, Want.STOP):
            world.order(attempt)


def _directives(world: World, event: Hello, again: bool) -> tuple[Directive, ...]:
    """Go through what the node has, then through what it should have and does not name.

    What the farm does not know, or not on this node, is to be stopped; a restored master has it offered instead.
    `again`: the Hello is repeated in a session that is open already. Then work may have been handed out since that the
    agent had not received when it spoke; its acceptance is waited for as always.
    """
    ahead = restored.is_ahead(world, event)
    known: dict[AttemptId, Report] = {}
    offered: set[tuple[str, int]] = set()
    strange: list[Directive] = []
    for report in event.reports:
        key = (
            world.by_identity.get((report.uuid, report.number))
            or restored.rediscover(world, event, report, ahead)
            or _still_there(world, event.node, report)
        )
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


def _still_there(world: World, node: str, report: Report) -> AttemptId | None:
    """An attempt that the farm had believed to be over, for a late Hello of before it began did not name it.

    It is to end, and until it has, it has its room (P6) and its job is not canceled (P5).
    """
    job = world.jobs.get(world.by_uuid.get(report.uuid, 0))
    if job is None or report.stage == "ended" or not 0 < report.number <= job.attempt:
        return None
    needs, live = job.terms.requirements, job.terms.live
    attempt = Attempt(
        job.number,
        report.number,
        job.uuid,
        node,
        needs,
        live,
        want=Want.DISCARD,
        accepted=True,
        paused=report.stage == "paused",
    )
    world.attempts.put(attempt.id, attempt)
    return attempt.id


def _unnamed(world: World, node: str, beats: dict[AttemptId, Beat], again: bool) -> None:
    """What the node was given and does not name is gone; one that it had taken was lost with its disk or folder.

    Or the Hello came late, and was said before the attempt began: then it is named soon, and ended (`_still_there`).
    """
    for attempt in world.attempts_on(node):
        if attempt.id not in beats and (attempt.accepted or not again):
            how = "node_lost" if attempt.accepted else "absent"
            endings.ended(world, attempt, how, None, 0.0, surely=False)


def _back(world: World, attempt: Attempt, beat: Beat) -> bool:
    """A node's Hello names an attempt that the farm knows of there; says whether it is kept."""
    if not attempt.accepted:
        attempt = handout.accepted(world, attempt)
    if attempt.doubted:
        return recovery.returned(world, attempt, beat)
    return not attempt.given_up


def measured(world: World, node: Node, capacity: Capacity) -> None:
    """What a node offers is what it last said."""
    if node.capacity != capacity:
        world.nodes.put(node.name, replace(node, capacity=capacity))


def _unknown(world: World, event: Hello) -> None:
    _sorry(world, event, 403, "this key belongs to no node", "ask for a new ticket: ffrtmpctl nodes invite")


def _sorry(world: World, event: Hello, status: int, detail: str, hint: str, *, retry: bool = False) -> None:
    """Refuse a Hello."""
    world.effects.append(SendSorry(event.connection, status, detail, hint, retry))
