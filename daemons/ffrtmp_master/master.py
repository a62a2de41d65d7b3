"""The master: gather, decide, commit, act (DESIGN section 4).

One thread does everything but the disk: it hears agents and users, applies the rules and sends. Commits run on the store's
thread; while one runs, agents are heard and their heartbeats answered, and whatever comes waits for the next turn. So
commits are shared by all that came meanwhile, and nothing is answered before it is on disk.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from ffrtmp.farm.effects import NewLineage, Record
from ffrtmp.farm.job import TERMINAL, State
from ffrtmp.journal import Event
from ffrtmp.service import Notifier

from .desk import Desk
from .refusal import Refusal
from .rows import StoreRefused
from .store import RowsRejected, Store
from .switchboard import Switchboard
from .turn import Decision, Input, Turns

log = logging.getLogger(__name__)

TICK_S = 0.25
AFTER_REFUSAL_S = 1.0
RETIRE_EVERY_S = 60.0
STATUS_EVERY_S = 5.0
INBOX_MOST = 20_000  # events and reports that wait for a turn; beyond it agents' messages wait at their side


@dataclass(frozen=True, slots=True)
class Clocks:
    """The farm's clock (which counts while the host sleeps) and the wall's, both in seconds."""

    farm_s: Callable[[], float]
    wall_s: Callable[[], float]


class Master:
    """Runs turns until it is asked to stop or the store breaks."""

    def __init__(
        self,
        store: Store,
        turns: Turns,
        clocks: Clocks,
        notifier: Notifier,
        *,
        events_per_turn: int,
        retention_s: float,
    ) -> None:
        """`desk` and `board` are given afterwards: they post their inputs here."""
        self.store = store
        self.turns = turns
        self.clocks = clocks
        self.notifier = notifier
        self.events_per_turn = events_per_turn
        self.retention_s = retention_s
        self.inbox: deque[Input] = deque()
        self._weight = 0  # of the inbox
        self._wake = asyncio.Event()
        self._stopping = False
        self._disk = ThreadPoolExecutor(1, thread_name_prefix="store")
        self._logs_disk = ThreadPoolExecutor(1, thread_name_prefix="logs")
        self.desk: Desk
        self.board: Switchboard

    def post(self, given: Input) -> None:
        """Take an input into the next turn. Where too much waits, no more is heard from agents until it is less."""
        self.inbox.append(given)
        self._weight += given.weight
        if self._weight > INBOX_MOST:
            self.board.hold(True)
        self._wake.set()

    def stop(self) -> None:
        """End after the turn that runs."""
        self._stopping = True
        self._wake.set()

    async def run(self) -> None:
        """Turns, until `stop`. Raises StoreBroken when nothing can be promised any more."""
        logs = asyncio.create_task(self._ship_logs(), name="logs")
        chores = asyncio.create_task(self._chores(), name="chores")
        try:
            while not self._stopping:
                await self._pause()
                self.notifier.beat()
                for task in (logs, chores):
                    if task.done():
                        task.result()
                await self._turn()
            await self._last_turns()
        finally:
            for task in (logs, chores):
                task.cancel()
            await asyncio.gather(logs, chores, return_exceptions=True)
            self._disk.shutdown()
            self._logs_disk.shutdown()

    async def _pause(self) -> None:
        """Until something has come, or the clock wants a look."""
        if not self.inbox and not self._stopping:
            try:
                async with asyncio.timeout(TICK_S):
                    await self._wake.wait()
            except TimeoutError:
                return
        # Let what has arrived in the sockets be gathered before the clock is read.
        await asyncio.sleep(0)
        self._wake.clear()

    async def _last_turns(self) -> None:
        """What has come before the stop is still done; what agents go on saying is for the next start."""
        left = len(self.inbox)
        while left > 0:
            left -= await self._turn()
        self.desk.close("the master is being stopped")

    async def _turn(self) -> int:
        """One turn with what has come, as far as its bound lets; how many inputs that were."""
        inputs: list[Input] = []
        taken = 0
        while self.inbox and taken < self.events_per_turn:
            inputs.append(self.inbox.popleft())
            taken += inputs[-1].weight
        self._weight -= taken
        if self._weight <= INBOX_MOST // 2:
            self.board.hold(self._stopping)
        if self.inbox:
            self._wake.set()
        await self._make(inputs)
        return len(inputs)

    async def _make(self, inputs: list[Input]) -> None:
        """Decide, commit, act. Rows that make no sense are one input's fault: it is looked for, and goes alone."""
        audits = list(self.desk.audits)
        decision = self.turns.decide(
            inputs,
            self.clocks.farm_s(),
            self.clocks.wall_s(),
            taken=self.desk.reader.open_outputs,
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
            del self.desk.audits[: len(audits)]
            if not inputs:
                await asyncio.sleep(AFTER_REFUSAL_S)
            return
        except StoreRefused as error:
            await self._refused(decision, str(error))
            return
        self.turns.keep(decision)
        del self.desk.audits[: len(audits)]
        self._act(decision)

    def _drop(self, decision: Decision, error: RowsRejected, inputs: list[Input]) -> None:
        """This one input, or what was due, cannot be stored; all else goes on."""
        what = type(inputs[0].event).__name__ if inputs else "what was due"
        log.error("%s was undone: %s", what, error, extra=Event.EVENT_UNDONE.field)
        refusal = Refusal(500, f"the store cannot hold this: {error}", hint="the master's journal has more")
        self.desk.refuse(decision, refusal)

    async def _commit(self, decision: Decision) -> None:
        if not decision.rows.empty:
            await asyncio.get_running_loop().run_in_executor(self._disk, self.store.commit, decision.rows)
            self._serves()
        elif not self.desk.refusing.startswith("the store"):
            self._serves()

    def _serves(self) -> None:
        if self.desk.refusing:
            self.desk.refusing = ""
            self.notifier.ready(self._status())
            log.info("the farm serves", extra=Event.MASTER_READY.field)

    async def _refused(self, decision: Decision, why: str) -> None:
        """Nothing was written: nothing has happened, nobody is answered but with 503, and it is tried again."""
        self.turns.undo()
        if not self.desk.refusing:
            log.error("the store refuses: %s", why, extra=Event.STORE_REFUSED.field)
        self.desk.refusing = f"the store refuses: {why}"
        self.notifier.status(self.desk.refusing)
        hint = "nothing was changed; try again when there is room"
        self.desk.refuse(decision, Refusal(503, self.desk.refusing, hint=hint))
        await asyncio.sleep(AFTER_REFUSAL_S)

    def _act(self, decision: Decision) -> None:
        if decision.rows.changes.nodes:
            self.board.tell_enrolled()
            self.board.know_nodes()
        self.board.tell_lost()
        self.board.act(decision.effects)
        self.desk.answer(decision)
        for effect in decision.effects:
            if isinstance(effect, Record):
                self.desk.watchers.wake(effect.job)
                _tell(effect)
            elif isinstance(effect, NewLineage):
                log.warning(
                    "an agent has heard of later turns: this store was put back to turn %d; lineage %s begins",
                    effect.branch_turn,
                    effect.lineage,
                    extra=Event.MASTER_RESTORED.field,
                )
        for number in decision.rows.ended:
            self.desk.live.forget(number)

    # ---- beside the turns ----------------------------------------------------------------------------------------

    async def _ship_logs(self) -> None:
        """Store log chunks as they come, many in one transaction."""
        loop = asyncio.get_running_loop()
        refused = False
        while True:
            heard = self.board.take_logs()
            if not heard:
                await asyncio.sleep(0.05)
                continue
            try:
                chunks = [each.chunk for each in heard]
                taken = await loop.run_in_executor(self._logs_disk, self.store.append_logs, chunks)
            except StoreRefused as error:  # the agents send them again
                if not refused:
                    log.error("logs cannot be stored: %s", error, extra=Event.STORE_REFUSED.field)
                refused = True
                await asyncio.sleep(AFTER_REFUSAL_S)
                continue
            refused = False
            self.board.logs_stored(each for each, kept in zip(heard, taken, strict=True) if kept)

    async def _chores(self) -> None:
        """Retire old jobs in slices; forget expired tickets; say how things stand."""
        loop = asyncio.get_running_loop()
        retire_s = self.clocks.farm_s() + min(RETIRE_EVERY_S, self.retention_s)
        while True:
            await asyncio.sleep(STATUS_EVERY_S)
            if not self.desk.refusing:
                self.notifier.status(self._status())
            self.desk.tickets.sweep(self.clocks.wall_s())
            if self.clocks.farm_s() < retire_s:
                continue
            try:
                before_s = self.clocks.wall_s() - self.retention_s
                retired = await loop.run_in_executor(self._disk, self.store.retire, before_s)
            except StoreRefused as error:
                log.warning("old jobs cannot be retired: %s", error)
                retired = 0
            retire_s = self.clocks.farm_s() + (1.0 if retired else min(RETIRE_EVERY_S, self.retention_s))

    def _status(self) -> str:
        queues = self.desk.live.queues()
        live = queues[0].running
        running = sum(q.running for q in queues)
        waiting = sum(q.waiting for q in queues)
        world = self.turns.farm.world
        nodes = sum(1 for name in world.nodes if world.in_contact(name) is not None)
        return f"{live} live, {running} running, {waiting} queued, {nodes} nodes"


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
