"""The master's parts with somebody watching: they do what they always do, and then `Checks` looks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ffrtmp.farm import events as ev
from ffrtmp.farm.effects import Effect
from ffrtmp.farm.farm import Farm
from ffrtmp_master.rows import TurnRows
from ffrtmp_master.store import Store
from ffrtmp_master.turn import Decision, Turns

if TYPE_CHECKING:
    from simulation.checks import Checks


class WatchedFarm(Farm):
    """Tells of each event."""

    checks: Checks

    def apply(self, event: ev.Event, now_s: float) -> list[Effect]:
        expected = self.checks.before(self, event, now_s)
        effects = super().apply(event, now_s)
        self.checks.applied(self, event, effects, expected)
        return effects


class WatchedTurns(Turns):
    """Tells of each turn that is kept."""

    checks: Checks

    def keep(self, decision: Decision) -> None:
        super().keep(decision)
        self.checks.kept(self, decision)


class WatchedStore(Store):
    """Tells of each turn that is on disk."""

    checks: Checks

    def commit(self, turn: TurnRows) -> None:
        self.checks.commits(turn)
        with self.checks.world.master.numbering():
            super().commit(turn)
        self.checks.on_disk(turn)
