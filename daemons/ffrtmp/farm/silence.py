"""Who has fallen silent, and whether that is the node's doing or the master's own.

To call a node lost is a guess that costs work, so the master doubts itself first, in four ways:

* silence counts only while the master was listening (`World.listening_s`);
* a node that says Hello over a new connection is not silent, though it has to wait until the old one has given no sign;
* when most nodes fall silent together, it is given `self_doubt_s` more;
* after a start of the master nobody is called lost before `reconnect_grace_s` is over. Contacts are not stored: until then
  a node that was lost and one that has merely not come back yet look alike.
"""

from __future__ import annotations

from dataclasses import replace

from . import recovery
from .world import World


def look(world: World) -> None:
    """Call lost who has been silent for too long."""
    world.looked()
    if not _anyone_may_be(world):
        return
    there = list(world.there)
    silent = [n for n in there if _silent(world, n)]
    world.quietest_s = min((world.contacts[n].heard_s for n in there), default=world.listening_s)
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


def _anyone_may_be(world: World) -> bool:
    """Whether somebody may have been silent for as long as the most watched may be: nearly always none, and none is looked at."""
    rules = world.rules
    shortest_s = min(rules.lost_after_live_s, rules.lost_after_s, rules.away_after_s)
    return world.listening_s - world.quietest_s > shortest_s


def _silent(world: World, name: str) -> bool:
    """Whether a node has been silent for longer than it may. A live job there shortens that for the whole node."""
    newcomer = world.newcomers.get(name)
    if newcomer is not None and newcomer.hello.node == name:
        return False
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
    recovery.doubt_node(world, name, why)


def grace_over(world: World) -> None:
    """After a start of the master: whoever holds attempts and has not come back by now is lost."""
    world.set("grace_over", True)
    for name in world.nodes:
        if world.contacts.get(name) is None and world.on_node.get(name):
            recovery.doubt_node(world, name, "did not come back to the restarted master")
