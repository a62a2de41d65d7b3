"""The cycle of turns: gather, decide, commit, act (DESIGN section 4), without a loop, thread or clock of its own.

How work gets to the disk and how time passes is given by a `Shell`: the master's is asyncio and threads (master.py), a
simulated world's is a list of what happens next. So what is done around a commit, and when it fails, is the same in both.

While a commit runs, agents are heard and their heartbeats answered, and whatever comes waits for the next turn. So commits
are shared by all that came meanwhile, and nothing is answered before it is on disk.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from ffrtmp.farm.effects import NewLineage, Record
from ffrtmp.farm.job import TERMINAL, State
from ffrtmp.journal import Event

from .api.watch import Watchers
from .callers import Callers
from .live import LiveFarm
from .refusal import Refusal
from .rows import StoreRefused
from .store import RowsRejected, Store
from .store.reader import Reader
from .switchboard import Switchboard
from .turn import Decision, Input, Turns

log = logging.getLogger(__name__)
T = TypeVar("T")

AFTER_REFUSAL_S = 1.0
LOGS_S = 0.05  # between two looks for log chunks
INBOX_MOST = 20_000  # events and reports that wait for a turn; beyond it agents' messages wait at their side


@dataclass(frozen=True, slots=True)
class Clocks:
    """The farm's clock (which counts while the host sleeps) and the wall's, both in seconds."""

    farm_s: Callable[[], float]
    wall_s: Callable[[], float]


class Shell(Protocol):
    """What a cycle is given of the world."""

    async def on_disk(self, work: Callable[[], T]) -> T:
        """Do `work` on the store's thread, one after the other."""
        ...

    async def on_logs_disk(self, work: Callable[[], T]) -> T:
        """The same for the logs, beside the store's."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Let time pass."""
        ...

    def wake(self) -> None:
        """There is something for a turn."""
        ...

    def serves(self) -> None:
        """The master serves, for the first time or again."""
        ...

    def refuses(self, why: str) -> None:
        """The store takes nothing."""
        ...


class Cycle:
    """Makes turns of what is posted. `board` is given afterwards: it posts here itself."""

    board: Switchboard

    def __init__(
        self,
        store: Store,
        reader: Reader,
        turns: Turns,
        clocks: Clocks,
        shell: Shell,
        callers: Callers,
        live: LiveFarm,
        watchers: Watchers,
        *,
        events_per_turn: int,
    ) -> None:
        self.store = store
        self.reader = reader
        self.turns = turns
        self.clocks = clocks
        self.shell = shell
        self.callers = callers
        self.live = live
        self.watchers = watchers
        self.events_per_turn = events_per_turn
        self.stopping = False
        self.inbox: deque[Input] = deque()
        self._weight = 0  # of the inbox
        self._logs_refused = False

    def post(self, given: Input) -> None:
        """Take an input into the next turn. Where too much waits, no more is heard from agents until it is less."""
        self.inbox.append(given)
        self._weight += given.weight
        if self._weight > INBOX_MOST:
            self.board.hold(True)
        self.shell.wake()

    async def last_turns(self) -> None:
        """What has come before the stop is still done; what agents go on saying is for the next start."""
        left = len(self.inbox)
        while left > 0:
            left -= await self.turn()
        self.callers.close("the master is being stopped")

    async def turn(self) -> int:
        """One turn with what has come, as far as its bound lets; how many inputs that were. Raises StoreBroken."""
        inputs: list[Input] = []
        taken = 0
        while self.inbox and taken < self.events_per_turn:
            inputs.append(self.inbox.popleft())
            taken += inputs[-1].weight
        self._weight -= taken
        if self._weight <= INBOX_MOST // 2:
            self.board.hold(self.stopping)
        if self.inbox:
            self.shell.wake()
        await self._make(inputs)
        return len(inputs)

    async def _make(self, inputs: list[Input]) -> None:
        """Decide, commit, act. Rows that make no sense are one input's fault: it is looked for, and goes alone."""
        audits = list(self.callers.audits)
        decision = self.turns.decide(
            inputs,
            self.clocks.farm_s(),
            self.clocks.wall_s(),
            taken=self.reader.open_outputs,
            audit=audits,
            unheard=bool(self.inbox),
        )
        for given, error in decision.failed:
            log.error("%s was undone", type(given.event).__name__, exc_info=error, extra=Event.EVENT_UNDONE.field)
        try:
            await self._commit(decision)
        except RowsRejected as error:
            self.turns.undo()
            if len(inputs) > 1:
                middle = len(inputs) // 2
                await self._make(inputs[:middle])
                await self._make(inputs[middle:])
                return
            self._drop(decision, error, inputs)
            del self.callers.audits[: len(audits)]
            if not inputs:
                await self.shell.sleep(AFTER_REFUSAL_S)
            return
        except StoreRefused as error:
            await self._refused(decision, str(error))
            return
        self.turns.keep(decision)
        del self.callers.audits[: len(audits)]
        self._act(decision)

    def _drop(self, decision: Decision, error: RowsRejected, inputs: list[Input]) -> None:
        """This one input, or what was due, cannot be stored; all else goes on."""
        what = type(inputs[0].event).__name__ if inputs else "what was due"
        log.error("%s was undone: %s", what, error, extra=Event.EVENT_UNDONE.field)
        refusal = Refusal(500, f"the store cannot hold this: {error}", hint="the master's journal has more")
        self.callers.refuse(decision, refusal)

    async def _commit(self, decision: Decision) -> None:
        if not decision.rows.empty:
            await self.shell.on_disk(lambda: self.store.commit(decision.rows))
            self._serves()
        elif not self.callers.refusing.startswith("the store"):
            self._serves()

    def _serves(self) -> None:
        if self.callers.refusing:
            self.callers.refusing = ""
            self.shell.serves()
            log.info("the farm serves", extra=Event.MASTER_READY.field)

    async def _refused(self, decision: Decision, why: str) -> None:
        """Nothing was written: nothing has happened, nobody is answered but with 503, and it is tried again."""
        self.turns.undo()
        if not self.callers.refusing:
            log.error("the store refuses: %s", why, extra=Event.STORE_REFUSED.field)
        self.callers.refusing = f"the store refuses: {why}"
        self.shell.refuses(self.callers.refusing)
        hint = "nothing was changed; try again when there is room"
        self.callers.refuse(decision, Refusal(503, self.callers.refusing, hint=hint))
        await self.shell.sleep(AFTER_REFUSAL_S)

    def _act(self, decision: Decision) -> None:
        if decision.rows.changes.nodes:
            self.board.tell_enrolled()
            self.board.know_nodes()
        self.board.tell_lost()
        self.board.act(decision.effects)
        self.callers.answer(decision)
        for effect in decision.effects:
            if isinstance(effect, Record):
                self.watchers.wake(effect.job)
                _tell(effect)
            elif isinstance(effect, NewLineage):
                log.warning(
                    "an agent has heard of later turns: this store was put back to turn %d; lineage %s begins",
                    effect.branch_turn,
                    effect.lineage,
                    extra=Event.MASTER_RESTORED.field,
                )
        for number in decision.rows.ended:
            self.live.forget(number)

    # ---- beside the turns ----------------------------------------------------------------------------------------

    async def ship_logs(self) -> None:
        """Store log chunks as they come, many in one transaction, for ever. Raises StoreBroken."""
        while True:
            await self.shell.sleep(await self.store_logs())

    async def store_logs(self) -> float:
        """Store the log chunks that have come; how many seconds to wait before the next look."""
        heard = self.board.take_logs()
        if not heard:
            return LOGS_S
        chunks = [each.chunk for each in heard]
        try:
            taken: Sequence[bool] = await self.shell.on_logs_disk(lambda: self.store.append_logs(chunks))
        except StoreRefused as error:  # the agents send them again
            if not self._logs_refused:
                log.error("logs cannot be stored: %s", error, extra=Event.STORE_REFUSED.field)
            self._logs_refused = True
            return AFTER_REFUSAL_S
        self._logs_refused = False
        self.board.logs_stored(each for each, kept in zip(heard, taken, strict=True) if kept)
        return 0.0

    async def retire(self, retention_s: float) -> bool:
        """Forget a slice of the jobs that ended `retention_s` ago; whether there may be more."""
        before_s = self.clocks.wall_s() - retention_s
        try:
            retired = await self.shell.on_disk(lambda: self.store.retire(before_s))
        except StoreRefused as error:
            log.warning("old jobs cannot be retired: %s", error)
            return False
        if retired:
            self.board.forget_owners()
        return retired > 0


_LEVELS = {State.FAILED: logging.WARNING, State.TIMED_OUT: logging.WARNING}


def _tell(record: Record) -> None:
    """Each change of a job's state is a line of the journal, with the fields that find it."""
    extra: dict[str, object] = {"FFRTMP_JOB": record.job}
    if record.attempt:
        extra["FFRTMP_ATTEMPT"] = f"{record.job}.{record.attempt}"
    if record.node:
        extra["FFRTMP_NODE"] = record.node
    if record.before is None:
        extra.update(Event.JOB_SUBMITTED.field)
    elif record.after in TERMINAL:
        extra.update(Event.JOB_ENDED.field)
    level = _LEVELS.get(record.after, logging.INFO) if record.before is not record.after else logging.INFO
    log.log(level, "job %d is %s: %s", record.job, record.after.value, record.text, extra=extra)
