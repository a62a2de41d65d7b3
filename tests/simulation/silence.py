"""Whether a node that is called lost was out of reach (P11): held against what really came to the master's host.

A master that was restarted, stood still or had a slow disk must not make the nodes pay for it, nor may the restart of an agent
that has said goodbye. So silence is measured here once more: by the world's clock, without the time in which the master
stood still, and from the last word in the node's session that came to the master's host, whether it was heard by then or not.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from ffrtmp import wire
from ffrtmp.farm import effects as fx
from ffrtmp.farm import events as ev

if TYPE_CHECKING:
    from simulation.world import World

    from ffrtmp.farm.farm import Farm
    from ffrtmp.farm.world import World as Tables

SLACK_S = 0.05
LOSSES = ("node_lost", "poison")
NO_SIGN = (wire.LogChunk, wire.AdoptionOffer)  # no events of the rules: they are not held against a silence
# What takes a node's words away after they have come: then its silence is not its own.
EXCUSES = ("act rule fails", "act rows", "act no event", "act lie")


class Silence:
    """What has come of each node since the master began to listen."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._began_s = 0.0
        self._stood_s = 0.0  # how long this life of the master has stood still
        self._undone_s = -math.inf  # when a turn was undone, with the words in it
        self._heard_s: dict[str, float] = {}  # node -> when its last word came
        self._sessions: dict[str, int] = {}
        self._let_in: dict[str, tuple[int, float]] = {}  # in this turn

    @property
    def _now_s(self) -> float:
        """The world's time, without that in which the master stood still."""
        return min(self._world.time.now_s, self._world.master.stands_from_s) - self._stood_s

    def master_began(self) -> None:
        """A master listens, from now on."""
        self._stood_s, self._undone_s = 0.0, -math.inf
        self._began_s = self._world.time.now_s
        self._heard_s.clear()
        self._sessions.clear()
        self._let_in.clear()

    def stood(self, seconds: float) -> None:
        """The master has stood still for so long, and goes on."""
        self._stood_s += seconds

    def arrived(self, tables: Tables, connection: bytes, key: str, message: wire.FromAgent) -> None:
        """A frame has come to the master's host."""
        if isinstance(message, NO_SIGN):
            return
        for name in tables.contacts:
            contact = tables.contacts[name]
            if tables.nodes[name].key != key:
                continue  # it was replaced, and this one is not heard any more
            if contact.connection == connection and contact.session == getattr(message, "session", 0):
                self._heard_s[name] = self._now_s

    def kept(self) -> None:
        """The turn is kept: whoever was let in is there."""
        for name, (session, heard_s) in self._let_in.items():
            if self._sessions.get(name) != session:
                self._sessions[name] = session
                self._heard_s[name] = max(heard_s, self._heard_s.get(name, heard_s))
        self._let_in.clear()

    def undone(self) -> None:
        """The turn is not kept: who spoke in it has said nothing."""
        self._let_in.clear()
        self._undone_s = self._now_s

    def applied(self, farm: Farm, event: ev.Event, effects: list[fx.Effect]) -> str:
        """An event was applied; what is wrong, or an empty text."""
        for effect in effects:
            if isinstance(effect, fx.SendWelcome):
                self._let_in[effect.node] = (effect.session, self._now_s)
        if not isinstance(event, ev.LookAtNodes | ev.GraceOver):
            return ""
        lost = {e.node for e in effects if isinstance(e, fx.Record) and e.kind in LOSSES and e.node}
        if not lost or any(self._world.counts[what] for what in EXCUSES):
            return ""
        self._world.count("loss judged", len(lost))
        told = []
        for name in sorted(lost):
            quiet_s, allowed_s = self._quiet_s(name, event), self._allowed_s(farm.world, name, event)
            if quiet_s < allowed_s - SLACK_S and self._now_s - self._undone_s > 2 * allowed_s:
                told.append(f"{name} after {quiet_s:.1f} s of silence, not {allowed_s:.1f}")
        return f"P11: {type(event).__name__} calls lost {', '.join(told)}" if told else ""

    def _quiet_s(self, name: str, event: ev.TimeEvent) -> float:
        """For how long nothing has come of it, or the master has waited for all."""
        began_s = self._began_s if isinstance(event, ev.GraceOver) else self._heard_s.get(name, self._began_s)
        return self._now_s - began_s

    def _allowed_s(self, tables: Tables, name: str, event: ev.TimeEvent) -> float:
        rules = tables.rules
        if isinstance(event, ev.GraceOver):
            return rules.reconnect_grace_s
        if tables.contacts[name].away:
            return rules.away_after_s
        return rules.lost_after_live_s if any(a.live for a in tables.attempts_on(name)) else rules.lost_after_s
