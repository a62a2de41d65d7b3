"""Whose word counts: what a node says of attempts that are not its, were given up, or in a conversation that is over, changes
no job and no grant (P4, P9). Looked at in every event that comes from an agent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ffrtmp.farm import effects as fx
from ffrtmp.farm import events as ev
from ffrtmp.farm.farm import Farm
from ffrtmp.farm.job import Job, State

OF_ATTEMPTS = ev.OfAttempt | ev.FromOutbox
VERDICTS = (State.FAILED, State.TIMED_OUT)


@dataclass(frozen=True)
class Before:
    """What a word of no weight found."""

    void: bool  # there is no such conversation
    grants: dict[int, Any]
    job: Job | None  # of the attempt that was given up
    own: tuple[int, int] = (0, 0)  # that attempt: its end settles its own grant, a live one's lease on its target


class Signs:
    """Who was asked for a sign of life, and when: an answer is what was said after the question (P9)."""

    def __init__(self) -> None:
        self._asked: set[bytes] = set()  # connections, in this turn

    def turn(self) -> None:
        """Another turn begins."""
        self._asked.clear()

    def applied(self, event: ev.Event, effects: list[fx.Effect]) -> str:
        """An event was applied; what is wrong, or an empty text."""
        self._asked.update(effect.connection for effect in effects if isinstance(effect, fx.SendSign))
        if not isinstance(event, ev.AgentEvent) or event.connection not in self._asked:
            return ""
        refused = [e for e in effects if isinstance(e, fx.SendSorry) and e.status == 409 and not e.retry]
        return f"P9: what was said before the question counts as its answer: {refused}" if refused else ""


def weightless(farm: Farm, event: ev.Event) -> Before | None:
    """Whether nothing may come of this; None for what counts."""
    if not isinstance(event, ev.AgentEvent):
        return None
    world = farm.world
    contact = world.in_contact(event.node)
    if contact is None or contact.session != event.session or contact.connection != event.connection:
        return Before(True, _grants(farm), None)
    if not isinstance(event, OF_ATTEMPTS) or isinstance(event, ev.Settled):
        return None
    there = [a for a in world.attempts_on(event.node) if (a.uuid, a.number) == (event.uuid, event.number)]
    attempt = there[0] if there else None
    if attempt is not None and not attempt.given_up:
        return None
    if attempt is None:
        return Before(False, _grants(farm), None)
    return Before(False, _grants(farm), world.jobs.get(attempt.job), attempt.id)


def _grants(farm: Farm) -> dict[int, Any]:
    return {number: farm.world.grants[number] for number in farm.world.grants}


def came_of(farm: Farm, before: Before, effects: list[fx.Effect]) -> str:
    """What has come of it that may not, in words; empty where all is well."""
    if before.void:
        more = [effect for effect in effects if not isinstance(effect, fx.SendNoSession)]
        return f"P9: a word of no session leads to {more}" if more or _grants(farm) != before.grants else ""
    for effect in effects:
        if isinstance(effect, fx.SendGrant | fx.SendWelcome | fx.SendAssign):
            return f"P4: an attempt that does not count gets {effect}"
        if isinstance(effect, fx.Record) and effect.before is not effect.after and not _may(farm, before.job, effect):
            return f"P4: a word of an attempt that does not count leads to {effect}"
    ended = before.job is not None and before.job.number not in farm.world.jobs
    for number, grant in before.grants.items():
        if (number, grant.attempt) == before.own and number not in farm.world.grants:
            continue
        if farm.world.grants.get(number) != grant and not (
            ended and before.job is not None and number == before.job.number
        ):
            return f"P4: a word of an attempt that does not count changes {grant}"
    return ""


def _may(farm: Farm, job: Job | None, row: fx.Record) -> bool:
    """A cancel or a verdict that has waited for the end of just this attempt; see publish.published for the third."""
    if job is None or row.job != job.number:
        return False
    if job.state is State.CANCELING:
        return row.after is State.CANCELED or (row.after is State.COMPLETED and len(farm.world.ancestors) > 0)
    return job.verdict is not None and row.after is job.verdict and row.after in VERDICTS
