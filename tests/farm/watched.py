"""A stage on which each event is held against what it found: who may change what (P2, P4), what users want, who is first (P7)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ffrtmp.farm import effects as fx
from ffrtmp.farm import events as ev
from ffrtmp.farm.job import State

from . import oracle
from .invariants import overfull
from .stage import Stage

# What may tell that a doubted attempt is gone.
ENDS_DOUBT = (ev.RemoveNode, ev.AddNode, ev.Hello, ev.NewcomerDue, ev.Unreachable, ev.Settled)


@dataclass(frozen=True)
class Seen:
    """What an event found, to be compared with what it left."""

    states: dict[int, State]
    grants: dict[int, Any]
    given_up: bool
    job: int | None
    hopes: set[int]  # jobs with an attempt that may come back


class Watched(Stage):
    """A stage that remembers what was handed out and wished for, and looks at every single event."""

    def __init__(self, **rules) -> None:
        self.handed: dict[tuple[str, int], str] = {}
        self.highest_job = 0
        self.wishes: dict[int, str] = {}  # what users want of a job: hold or stop
        super().__init__(**rules)

    def _apply(self, event: ev.Event) -> list[fx.Effect]:
        before = self._seen(event)
        expected = oracle.handouts(self.world) if isinstance(event, ev.Place) else None
        effects = super()._apply(event)
        self._p4(event, before)
        self._p2(effects)
        self._users(event, effects, before.hopes)
        handed = [(r.job, r.node) for r in effects if isinstance(r, fx.Record) and r.kind == "assigned"]
        if expected is not None:
            assert handed == expected, f"P7: {handed} were handed out, {expected} are right"
        else:
            assert not handed
        full = overfull(self.world, handed)
        assert full is None, f"P6: {full} was handed out more than it has room for"
        for number, _node in handed:
            self._numbered(self.world.attempts[(number, self.world.jobs[number].current)])
        self.highest_job = max(self.highest_job, int(self.world.value("next_job")))
        return effects

    def _users(self, event: ev.Event, effects: list[fx.Effect], hopes: set[int]) -> None:
        """What users want of a job lasts until they want something else, whatever becomes of its attempts."""
        taken = any(isinstance(e, fx.Answer) and e.status < 300 for e in effects)
        if taken and isinstance(event, ev.Pause):
            self.wishes[event.job] = "hold"
        elif taken and isinstance(event, ev.Resume):
            self.wishes.pop(event.job, None)
        elif taken and isinstance(event, ev.Stop):
            self.wishes[event.job] = "stop"
        for row in effects:
            if isinstance(row, fx.Record) and row.before is not row.after:
                wish = self.wishes.get(row.job, "")
                assert not (row.after is State.ASSIGNED and wish), f"a job that users want to {wish} is handed out"
                assert row.after is not State.PAUSED or wish == "hold", f"nobody holds it: {row}"
                failed = row.after in (State.FAILED, State.TIMED_OUT) and row.kind != "verdict"
                assert not (failed and row.job in hopes), f"an attempt of it may come back: {row}"

    def _numbered(self, attempt) -> None:
        identity = (attempt.uuid, attempt.number)
        assert identity not in self.handed, f"attempt {identity} is handed out twice"
        self.handed[identity] = attempt.node

    def _seen(self, event: ev.Event) -> Seen:
        identity = (getattr(event, "uuid", ""), getattr(event, "number", 0))
        key = self.world.by_identity.get(identity)
        attempt = self.world.attempts.get(key) if key is not None else None
        given_up = isinstance(event, ev.AgentEvent) and bool(identity[0]) and (attempt is None or attempt.given_up)
        states = {number: self.world.jobs[number].state for number in self.world.jobs}
        grants = {number: self.world.grants[number] for number in self.world.grants}
        parts = isinstance(event, ENDS_DOUBT)
        hopes = set() if parts else {n for n in states if self.world.doubted(n)}
        return Seen(states, grants, given_up, key[0] if key is not None else None, hopes)

    def _p4(self, event: ev.Event, before: Seen) -> None:
        """What is said of an attempt that was given up, or that there is not, changes neither job nor grant."""
        if not before.given_up or isinstance(event, ev.Adopt | ev.Settled):
            return
        for number, state in before.states.items():
            after = self.history.states[number]
            over = state is State.CANCELING and number == before.job
            restored = over and len(self.world.ancestors) and after is State.COMPLETED
            assert after is state or (over and after is State.CANCELED) or restored, f"P4: {event}: {state} -> {after}"
        for number, grant in before.grants.items():
            own = number == before.job and grant.attempt == event.number
            assert own or self.world.grants.get(number) == grant, f"P4: {event} changes the grant {grant}"

    def _p2(self, effects: list[fx.Effect]) -> None:
        for effect in effects:
            if isinstance(effect, fx.SendGrant):
                job = self.world.by_uuid[effect.uuid]
                held = self.world.grants[job]
                assert (held.attempt, held.request) == (effect.number, effect.request), "P2: told without a grant"
                attempt = self.world.attempts[(job, effect.number)]
                assert attempt.node == effect.node and not attempt.given_up and not attempt.doubted
