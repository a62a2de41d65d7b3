"""Who waits for an answer of the master, and what is noted of them: between the API's calls and the turns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from ffrtmp.farm import events as ev
from ffrtmp.farm.effects import Answer

from .api.backend import Outcome
from .refusal import Refusal
from .rows import AuditRow, StoreRefused
from .turn import Decision, Input

AUDITS_MOST = 10_000  # that wait for a store which refuses; then the newest are not kept


class Pending(Protocol):
    """One who waits: a future of asyncio is one."""

    def done(self) -> bool: ...

    def set_result(self, result: Outcome, /) -> None: ...

    def set_exception(self, exception: Refusal | ConnectionError, /) -> None: ...


@dataclass(slots=True)
class Callers:
    """The requests that wait for the commit of their turn. `refusing` says why the master does not serve; empty: it does."""

    refusing: str = "the first turn has not been made yet"
    audits: list[AuditRow] = field(default_factory=list)
    _waiting: dict[int, Pending] = field(default_factory=dict)
    _requests: int = 0

    def ask(self, make: Callable[[int], Input], pending: Pending) -> tuple[int, Input]:
        """Give a request its number: what is to be posted, and what `left` wants when nobody waits any more."""
        self._requests += 1
        self._waiting[self._requests] = pending
        return self._requests, make(self._requests)

    def left(self, request: int) -> None:
        """Nobody waits for this answer any more."""
        self._waiting.pop(request, None)

    def answer(self, decision: Decision) -> None:
        """The turn is committed: hand out its answers."""
        for effect in decision.effects:
            if isinstance(effect, Answer):
                outcome = decision.outcomes.get(effect.request, Outcome(effect))
                self._close(effect.request, outcome)
        self._refuse_failed(decision)

    def refuse(self, decision: Decision, refusal: Refusal) -> None:
        """The turn was undone: nobody gets another answer from it."""
        for effect in decision.effects:
            if isinstance(effect, Answer):
                self._close(effect.request, refusal)
        self._refuse_failed(decision)

    def close(self, why: str) -> None:
        """No more turns are made: whoever still waits is told so."""
        for request in list(self._waiting):
            self._close(request, Refusal(503, why, hint="nothing was changed; try again in a moment"))

    def cut(self) -> None:
        """The store has failed in the middle of a turn. Nobody knows what of it is on disk, so nobody is told anything."""
        for pending in self._waiting.values():
            if not pending.done():
                pending.set_exception(ConnectionAbortedError("the store has failed"))

    def audit(self, row: AuditRow) -> None:
        """Keep who did what, in the next turn."""
        if len(self.audits) < AUDITS_MOST:
            self.audits.append(row)

    def _refuse_failed(self, decision: Decision) -> None:
        for given, error in decision.failed:
            request = getattr(given.event, "request", None)
            if isinstance(given.event, ev.UserEvent) and isinstance(request, int):
                self._close(request, _of_fault(error))

    def _close(self, request: int, how: Outcome | Refusal) -> None:
        pending = self._waiting.get(request)
        if pending is None or pending.done():
            return
        if isinstance(how, Refusal):
            pending.set_exception(how)
        else:
            pending.set_result(how)


def _of_fault(error: Exception) -> Refusal:
    if isinstance(error, StoreRefused):
        return Refusal(503, f"the store refuses: {error}", hint="nothing was changed; try again")
    return Refusal(500, f"a rule of the farm failed: {type(error).__name__}", hint="the master's journal has the trace")
