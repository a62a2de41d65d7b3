"""The master's parts with somebody watching: they do what they always do, and then `Checks` looks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from simulation import words
from simulation.strays import STRANGE

from ffrtmp.farm import events as ev
from ffrtmp.farm.effects import Effect
from ffrtmp.farm.farm import Farm
from ffrtmp_master.rows import TurnRows
from ffrtmp_master.store import Store
from ffrtmp_master.store.logs import LogAppend
from ffrtmp_master.turn import Decision, Turns

if TYPE_CHECKING:
    from simulation.checks import Checks


class WatchedFarm(Farm):
    """Tells of each event."""

    checks: Checks

    def _dispatch(self, event: ev.Event) -> None:
        super()._dispatch(event)
        self.checks.world.faults.ruled(event)

    def apply(self, event: ev.Event, now_s: float) -> list[Effect]:
        expected = self.checks.before(self, event, now_s)
        nothing = words.weightless(self, event)
        effects = super().apply(event, now_s)
        self.checks.applied(self, event, effects, expected)
        wrong = words.came_of(self, nothing, effects) if nothing is not None else ""
        wrong = wrong or self.checks.signs.applied(event, effects)
        wrong = wrong or self.checks.world.silence.applied(self, event, effects)
        if wrong:
            self.checks.fail(wrong)
        return effects


class WatchedTurns(Turns):
    """Tells of each turn that is kept."""

    checks: Checks

    def keep(self, decision: Decision) -> None:
        super().keep(decision)
        self.checks.kept(self, decision)
        self.checks.world.silence.kept()
        self.checks.world.users.plots.noticed(decision.effects)

    def decide(self, *args: Any, **fields: Any) -> Decision:
        self.checks.signs.turn()
        return super().decide(*args, **fields)

    def undo(self) -> None:
        super().undo()
        self.checks.world.silence.undone()


class WatchedStore(Store):
    """Tells of each turn that is on disk."""

    checks: Checks

    def commit(self, turn: TurnRows) -> None:
        world = self.checks.world
        struck = world.faults.stored(turn, world.master.disk, list(self.checks.mirror.jobs))
        if struck:
            world.count(struck)
        self.checks.commits(turn)
        with self.checks.world.master.numbering():
            super().commit(turn)
        self.checks.on_disk(turn)

    def append_logs(self, chunks: Sequence[LogAppend]) -> tuple[bool, ...]:
        for chunk in chunks:
            if STRANGE in chunk.data:
                self.checks.fail(f"P4: a stray writes into the log of {chunk.job}.{chunk.attempt}")
        return super().append_logs(chunks)
