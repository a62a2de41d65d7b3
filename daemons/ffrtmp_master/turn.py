"""One turn of the master, without I/O: events in, rows to commit and effects to carry out.

The caller gathers inputs, lets `decide` apply them and what is due, commits `Decision.rows`, and only then carries out the
effects: `keep` says that the commit went well, `undo` that it did not (then nothing of the turn has happened, and nobody was
answered). An input whose rule raises is undone alone and listed in `failed`; the turn goes on.

What the rules do not need to know travels beside the events (specifications, results, facts) and meets the rows here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

import msgspec

from ffrtmp.farm.effects import (
    Answer,
    AttemptOver,
    Changes,
    Effect,
    NewLineage,
    Record,
    SendNoSession,
    SendSorry,
    SendWelcome,
)
from ffrtmp.farm.events import Adopt, Event, GraceOver, Heartbeat, Hello, LookAtNodes, NewcomerDue, SetQueue, Submit
from ffrtmp.farm.farm import Farm
from ffrtmp.spec import Fingerprint, JobSpec, Results

from .api import replies
from .api.backend import Idempotency, Outcome
from .live import Announced, News, Told
from .root_names import RootNames
from .rows import AttemptResult, AuditRow, NewSpec, StoreBroken, TicketRow, TurnRows
from .submit import PreparedJob, complete, output_key

SAID_MOST = 1000
Taken = Callable[[Sequence[str]], dict[str, int]]


@dataclass(frozen=True, slots=True)
class Asked:
    """A submission, as the rows need it."""

    jobs: tuple[PreparedJob, ...]
    who: str
    idempotency: Idempotency | None = None
    names: RootNames = field(default_factory=RootNames)


@dataclass(frozen=True, slots=True)
class Input:
    """One event and what belongs to it."""

    event: Event
    asked: Asked | None = None  # with Submit
    results: Results | None = None  # with Published and Ended
    fingerprint: Fingerprint | None = None  # with Published
    spec: JobSpec | None = None  # with Adopt
    news: News | None = None  # with Hello and Heartbeat: what the node says of itself
    ticket: TicketRow | None = None  # with Invite (a new ticket) and AddNode (it was used)

    @property
    def weight(self) -> int:
        """What it costs to keep and to decide, in events: an attempt that is reported counts like one."""
        return 1 + (len(self.event.reports) if isinstance(self.event, Heartbeat | Hello) else 0)


@dataclass(slots=True)
class Decision:
    """What a turn comes to. `failed` are the inputs that were undone, with what they raised."""

    rows: TurnRows
    effects: list[Effect] = field(default_factory=list)
    failed: list[tuple[Input, Exception]] = field(default_factory=list)
    outcomes: dict[int, Outcome] = field(default_factory=dict)  # of submissions, by request
    told: dict[str, Told] = field(default_factory=dict)  # what nodes have said anew of themselves


class Turns:
    """The farm and its turn counter. A turn that writes nothing has no number."""

    def __init__(self, farm: Farm, turn: int) -> None:
        """`turn` is the number of the last committed one."""
        self.farm = farm
        self.committed = turn
        self.told = Announced()  # as it is committed
        self._said: dict[bytes, News] = {}  # connection -> the words of a Hello that is not answered yet

    def decide(
        self,
        inputs: Iterable[Input],
        now_s: float,
        wall_s: float,
        *,
        taken: Taken,
        audit: Iterable[AuditRow] = (),
        unheard: bool = False,
    ) -> Decision:
        """Apply the inputs and what time brings. `taken` answers which open jobs have these outputs already.

        `unheard`: more has come than this turn takes. Then nobody is called lost or replaced: its sign of life may be among it.
        """
        rows = TurnRows(self.committed + 1, wall_s, wall_s - now_s, Changes())
        decision = Decision(rows)
        rows.audit.extend(audit)
        fresh: dict[str, int] = {}  # outputs of jobs that were accepted in this very turn
        for given in inputs:
            self._apply(decision, given, now_s, taken, fresh)
        for event in self.farm.due(now_s):
            if not (unheard and isinstance(event, LookAtNodes | GraceOver | NewcomerDue)):
                self._apply(decision, Input(event), now_s, taken, fresh)
        rows.changes, rows.ended = self.farm.changes()
        world = self.farm.world
        rows.next_job = int(world.value("next_job"))
        rows.paused_queues = world.paused_queues
        return decision

    def keep(self, decision: Decision) -> None:
        """The turn is committed, or wrote nothing."""
        if not decision.rows.empty:
            self.committed = decision.rows.turn
        self.farm.keep_turn(self.committed)
        self.told.update(decision.told)
        for effect in decision.effects:
            if isinstance(effect, SendWelcome | SendSorry):
                self._said.pop(effect.connection, None)

    def undo(self) -> None:
        """The commit failed and wrote nothing."""
        self.farm.undo_turn()

    def _apply(self, decision: Decision, given: Input, now_s: float, taken: Taken, fresh: dict[str, int]) -> None:
        try:
            given = _with_outputs(given, taken, fresh)
            offered = _output_of(given)
            outputs = {**taken([offered]), **fresh} if offered else {}
            effects = self.farm.apply(given.event, now_s)
        except StoreBroken:
            raise
        except Exception as error:  # whatever a rule raises concerns its event alone
            decision.failed.append((given, error))
            return
        decision.effects += effects
        for effect in effects:
            _keep_effect(decision.rows, effect, given)
        # Somebody may have asked for the same again while a job was forgotten: then that one has the output's name.
        _keep_input(decision.rows, given, effects, "" if offered in outputs else offered)
        self._keep_news(decision, given, effects)
        if isinstance(given.event, SetQueue):
            decision.rows.queues_changed = True
        if given.asked is not None:
            _keep_submission(decision, given.asked, effects, fresh)

    def _keep_news(self, decision: Decision, given: Input, effects: list[Effect]) -> None:
        """Take a node's word for what it is, once it is let in: whoever is refused has said nothing."""
        event = given.event
        if isinstance(event, Hello) and given.news is not None:
            self._said[event.connection] = given.news
            while len(self._said) > SAID_MOST:
                del self._said[next(iter(self._said))]
        for effect in effects:
            if isinstance(effect, SendWelcome):
                self._tell(decision, effect.node, self._said.get(effect.connection))
        if isinstance(event, Heartbeat) and not any(isinstance(effect, SendNoSession) for effect in effects):
            self._tell(decision, event.node, given.news)

    def _tell(self, decision: Decision, node: str, news: News | None) -> None:
        before = decision.told.get(node) or self.told.get(node)
        if news is None or (told := news.after(before)) == before:
            return
        decision.told[node] = told
        decision.rows.node_info[node] = msgspec.msgpack.encode(told)


def _with_outputs(given: Input, taken: Taken, fresh: dict[str, int]) -> Input:
    """Tell a Submit which of its outputs are taken, by what is on disk and by what this turn accepted before it."""
    if not isinstance(given.event, Submit) or given.asked is None:
        return given
    keys = [job.output_key for job in given.asked.jobs if job.output_key]
    known = {**taken(keys), **fresh} if keys else {}
    if not any(key in known for key in keys):
        return given
    jobs = tuple(
        replace(prepared.new, taken_by=known.get(prepared.output_key, 0)) if prepared.output_key else prepared.new
        for prepared in given.asked.jobs
    )
    return replace(given, event=replace(given.event, jobs=jobs))


def _keep_effect(rows: TurnRows, effect: Effect, given: Input) -> None:
    if isinstance(effect, Record):
        rows.records.append(effect)
    elif isinstance(effect, AttemptOver):
        rows.attempt_results[effect.attempt] = AttemptResult(
            effect.how, effect.failure, given.results, given.fingerprint
        )
    elif isinstance(effect, NewLineage):
        rows.lineage = effect


def _output_of(given: Input) -> str:
    """The output of a job that is offered for adoption; empty for all else."""
    return output_key(given.spec) if given.spec is not None and isinstance(given.event, Adopt) else ""


def _keep_input(rows: TurnRows, given: Input, effects: list[Effect], output: str) -> None:
    if given.spec is not None and isinstance(given.event, Adopt):
        for effect in effects:
            if isinstance(effect, Record) and effect.before is None:
                rows.specs.append(NewSpec(effect.job, given.spec, "a restored master", output))
    if given.ticket is not None and any(isinstance(e, Answer) and e.status < 300 for e in effects):
        rows.tickets.append(given.ticket)


def _keep_submission(decision: Decision, asked: Asked, effects: list[Effect], fresh: dict[str, int]) -> None:
    outcome = replies.outcome(asked.jobs, effects, asked.names)
    decision.outcomes[outcome.answer.request] = outcome
    if not outcome.body:
        return
    key = asked.idempotency.key if asked.idempotency is not None else ""
    for prepared, number in zip(asked.jobs, outcome.answer.jobs, strict=True):
        spec = complete(prepared.spec, number)
        output = output_key(spec)
        decision.rows.specs.append(NewSpec(number, spec, asked.who, output, key))
        if output:
            fresh[output] = number
    if asked.idempotency is not None:
        decision.rows.idempotency.append(replies.idempotency_row(asked.idempotency, outcome))
