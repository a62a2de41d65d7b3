"""Agents that are admitted and confused: they say what is well formed and makes no sense, or is not true.

A *stray* speaks of what is none of its: attempts of others, attempts that nobody has, conversations that are over. Nothing may
come of it (`words.py` looks). A *liar* says what is not true of its own attempts; that may cost it its jobs, so its host is
not held to P2 and P3 any more, and the farm must bear it.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from simulation.attempt import BROKEN, LATE, WRONG

from ffrtmp import wire
from ffrtmp.spec import Fingerprint, Results

if TYPE_CHECKING:
    from simulation.host import Host
    from simulation.world import World

STRANGE = b"!"  # what a stray writes into logs; no log may show it
FLOOD_REPORTS = 7000  # attempts in one heartbeat of a flood


def stray(world: World, host: Host, chance: random.Random) -> None:
    """Say some things of attempts that are not this host's."""
    agent = host.agent
    if agent is None:
        return
    for _ in range(4):
        uuid, number = _not_its(world, host, chance)
        session = chance.choice((agent.session.number, agent.session.number, agent.session.number + 1, 0))
        message = _of_others(world, session, uuid, number, chance)
        world.network.say(agent.link, message)


def _not_its(world: World, host: Host, chance: random.Random) -> tuple[str, int]:
    """An attempt of another node, of none, or of a number that was never given."""
    others = [identity for identity, node in world.checks.attempts.items() if node != host.name]
    there = [(a.uuid, a.number) for a in world.checks.mirror.attempts.values() if a.node != host.name]
    if there and chance.random() < 0.4:
        return chance.choice(there)
    if not others or chance.random() < 0.2:
        return world.users.fresh_uuid(), 1
    uuid, number = chance.choice(others[-8:])
    return uuid, number + (50 if chance.random() < 0.2 else 0)


def _of_others(world: World, session: int, uuid: str, number: int, chance: random.Random) -> wire.FromAgent:
    made, item = Fingerprint(1, f"{uuid}.{number}"), f"{uuid}.{number}.stray"
    failure = chance.choice((None, BROKEN, WRONG, LATE))
    how: wire.How = chance.choice(("failed", "stopped", "completed", "node_lost", "absent"))
    report = wire.AttemptReport(uuid, chance.randrange(1, 50), number, "running")
    spec = next((job.spec for job in world.users.accepted.values() if job.uuid == uuid), None)
    messages: list[wire.FromAgent] = [
        wire.Accepted(session, uuid, number, 1),
        wire.Refused(session, uuid, number, "no room", failure),
        wire.PublishRequest(session, uuid, number, 1, made),
        wire.Published(session, item, uuid, number, 1, made, Results()),
        wire.NotPublished(session, item, uuid, number, 1 << 40, "expired", failure),
        wire.Ended(session, item, uuid, number, how, failure),
        wire.LogChunk(session, uuid, number, 0, STRANGE * 10, last=True),
        wire.Goodbye(session + 1),
        wire.Heartbeat(session + 1, 1, attempts=(report,)),
    ]
    if spec is not None:
        messages.append(wire.AdoptionOffer(session, uuid, 7, number, spec, "default", "medium"))
    if uuid not in {attempt.uuid for attempt in world.checks.mirror.attempts.values()}:
        messages.append(wire.Settled(session, uuid, number, made))
    return chance.choice(messages)


def old_hello(world: World, host: Host, chance: random.Random) -> None:
    """A Hello of an earlier life comes late, over the connection of this one."""
    agent = host.agent
    if agent is None or not agent.link.connection:
        return
    about = agent.session.about
    counter = about.incarnation - chance.choice((1, 1, 5))
    seen = chance.choice((agent.session.seen, wire.Seen("f" * 16, 10, 10), wire.Seen()))
    hello = wire.Hello(
        chance.choice((wire.PROTOCOL, wire.PROTOCOL, 999)),
        about.boot_id,
        max(0, counter),
        about.address,
        about.name,
        about.facts,
        about.capacity,
        (),
        seen,
    )
    world.network.say(agent.link, hello)


def lie(world: World, host: Host, chance: random.Random) -> None:
    """Say something untrue of an attempt that is this host's."""
    agent = host.agent
    if agent is None or not agent.session.live or not agent.session.attempts:
        return
    world.checks.loose.add(host.name)
    session = agent.session.number
    (uuid, number) = chance.choice(list(agent.session.attempts))
    report = wire.AttemptReport(uuid, 1, number, "ended", chance.choice(("encoding", "verifying")))
    failure = chance.choice((None, BROKEN, WRONG, LATE))
    made = Fingerprint(1, f"{uuid}.{number}")
    how: wire.How = chance.choice(("failed", "failed", "stopped", "completed", "node_lost", "absent"))
    messages: tuple[wire.FromAgent, ...] = (
        wire.Refused(session, uuid, number, "no room", failure),
        wire.NotPublished(session, f"{uuid}.{number}.lie", uuid, number, 1 << 40, "expired", failure),
        wire.NotPublished(session, f"{uuid}.{number}.lie", uuid, number, 1 << 40, "expired"),
        wire.Ended(session, f"{uuid}.{number}.lie", uuid, number, how, failure),
        wire.PublishRequest(session, uuid, number, 1 << 40, made),
        wire.Heartbeat(session, 1 << 30, attempts=(report,)),
        wire.Heartbeat(session, chance.choice((1, 1 << 30))),
        wire.Accepted(session, uuid, number, 1),
    )
    attempt = next((a for a in world.checks.mirror.attempts.values() if (a.uuid, a.number) == (uuid, number)), None)
    if attempt is not None and attempt.given_up and chance.random() < 0.7:
        item = f"{uuid}.{number}.lie"
        world.network.say(agent.link, wire.Published(session, item, uuid, number, 1, made, Results()))
    else:
        world.network.say(agent.link, chance.choice(messages))


def early_end(world: World, host: Host, chance: random.Random) -> None:
    """An attempt that was handed out a moment ago is said to be over, before a word was said of its beginning."""
    agent = host.agent
    if agent is None or not agent.session.live:
        return
    for attempt in world.checks.mirror.attempts.values():
        if attempt.node == host.name and not attempt.accepted:
            world.checks.loose.add(host.name)
            item = f"{attempt.uuid}.{attempt.number}.lie"
            how: wire.How = chance.choice(("failed", "failed", "failed", "completed", "stopped"))
            failure = None if how != "failed" else chance.choice((BROKEN, WRONG, LATE, LATE))
            session, uuid, number = agent.session.number, attempt.uuid, attempt.number
            if chance.random() < 0.3:
                asks = wire.PublishRequest(session, uuid, number, 1, Fingerprint(1, f"{uuid}.{number}"))
                world.network.say(agent.link, asks)
            else:
                world.network.say(agent.link, wire.Ended(session, item, uuid, number, how, failure))


def lease_of_target(world: World, host: Host, job: int) -> None:
    """A live attempt asks for its target before its engine starts, as the protocol lets it."""
    agent = host.agent
    if agent is None or not agent.session.live:
        return
    for directory in host.running():
        if directory.assign.job == job:
            key = directory.key
            world.network.say(agent.link, wire.PublishRequest(agent.session.number, *key, 1, None))


def flood(world: World, host: Host) -> None:
    """Far too much at once, in a conversation that is over: what waits has a bound, and others are heard all the same."""
    agent, master = host.agent, world.master
    if agent is None or not agent.link.connection or not master.up:
        return
    reports = tuple(wire.AttemptReport("nobody's", 1, number, "running") for number in range(1, FLOOD_REPORTS + 1))
    for number in range(4):
        world.network.to_master(agent.link.connection, host.key, wire.Heartbeat(0, number, attempts=reports))
