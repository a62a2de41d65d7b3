"""The master of a simulated world: the production's cycle of turns, switchboard, rules and store, as a process that may die.

It may die between any two steps: before a commit, between two writes of one, after it, and between any two messages that a
turn sends. Its disk is `disk.Disk`, its threads and sleeps are the world's.
"""

from __future__ import annotations

import logging
import math
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from simulation import disk as disks
from simulation.numbers import Numbers
from simulation.process import Killed, Process, Rest, Sleep, Thread, Work, ask
from simulation.watched import WatchedFarm, WatchedStore, WatchedTurns

from ffrtmp import wire
from ffrtmp.errors import FarmError
from ffrtmp_master.api.watch import Watchers
from ffrtmp_master.callers import Callers
from ffrtmp_master.complaints import Complaints, Pace
from ffrtmp_master.cycle import Clocks, Cycle
from ffrtmp_master.hub import Received
from ffrtmp_master.live import LiveFarm
from ffrtmp_master.rows import StoreBroken, StoreRefused
from ffrtmp_master.store import Store
from ffrtmp_master.store.reader import Reader
from ffrtmp_master.switchboard import HELLO_EVERY_S, HELLOS_AT_ONCE, Switchboard
from ffrtmp_master.translate import Chance

if TYPE_CHECKING:
    from simulation.world import World

T = TypeVar("T")
AGAIN_S = 1.0
RETIRE_S = 5.0
LOGS_S = 0.3
NUMBERS_BLOCK = 3  # few are reserved at a time, so that it is done often


class Shell:
    """What the cycle is given of this world."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._store, self._logs = Thread(), Thread()

    async def on_disk(self, work: Callable[[], T]) -> T:
        result: T = await ask(Work(self._store, work))
        return result

    async def on_logs_disk(self, work: Callable[[], T]) -> T:
        result: T = await ask(Work(self._logs, work))
        return result

    async def sleep(self, seconds: float) -> None:
        await ask(Sleep(seconds))

    def wake(self) -> None:
        self._process.wake()

    def serves(self) -> None:
        """Nobody is told."""

    def refuses(self, why: str) -> None:
        """Nobody is told."""


class Master:
    """The master's host: its disk, its clock, and the process that runs or does not."""

    cycle: Cycle
    callers: Callers
    reader: Reader
    store: Store
    board: Switchboard

    def __init__(self, world: World) -> None:
        self.world = world
        self.time = world.time
        self.folder = world.folder
        self.chance: random.Random = world.time.chance("master")
        self.process: Process | None = None
        self.disk = disks.Disk("")
        self.full = False
        self.numbers = Numbers(world.folder)
        self.slow_s = 0.002
        self.tick_s = 0.25
        self.retention_s = 0.0
        self.wall_from_s = 1_700_000_000.0
        self.events_per_turn = 2000
        self.doom = ("", 0)
        self.lives = 0
        self.stands_from_s = math.inf
        self._clock_from_s = -50.0
        world.network.before_send = lambda _message: self._step("act")

    # ---- time ----------------------------------------------------------------------------------------------------

    @property
    def farm_s(self) -> float:
        """CLOCK_BOOTTIME of its host."""
        return self.time.now_s - self._clock_from_s

    @property
    def wall_s(self) -> float:
        """Its wall clock, which jumps."""
        return self.time.now_s + self.wall_from_s

    @property
    def up(self) -> bool:
        """Whether it runs."""
        return self.process is not None

    # ---- life ----------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start it on what is on its disk; where that is impossible now, it is tried again."""
        if self.process is not None:
            return
        self.disk = disks.mount(self.folder)
        self.disk.full = self.full
        try:
            lineage = f"{self.chance.getrandbits(64):016x}"
            with self.numbering():
                store = self.store = WatchedStore.open(
                    self.folder / "farm.db",
                    self.folder / "farm.logs",
                    log_max_bytes=self.world.log_max_bytes,
                    numbers_block=NUMBERS_BLOCK,
                    fresh_lineage=lineage,
                )
        except (FarmError, StoreRefused, StoreBroken) as error:
            if not self.full and not self.numbers.fault:
                self.world.checks.fail(f"P1: the store cannot be opened: {error}")
            self.world.count("start without room")
            self._again()
            return
        store.checks = self.world.checks
        self.lives += 1
        self.time.event()
        self.reader = store.reader()
        self._assemble(store)

    def _assemble(self, store: Store) -> None:
        loaded = store.load(self.wall_s - self.farm_s)
        self.world.checks.starts(loaded, store, self.reader)
        farm = WatchedFarm(self.world.rules, lineage=loaded.lineage, now_s=self.farm_s)
        farm.checks = self.world.checks
        loaded.put_into(farm)
        self.world.checks.begun(farm)
        self.turns = WatchedTurns(farm, loaded.turn)
        self.turns.checks = self.world.checks
        live, watchers = LiveFarm(farm, self.turns.told), Watchers()
        self.process = Process(self.time, self._took_s, self._died)
        self.world.silence.master_began()
        self.callers = Callers()
        clocks = Clocks(lambda: self.farm_s, lambda: self.wall_s)
        shell = Shell(self.process)
        per_turn = self.events_per_turn
        self.cycle = Cycle(
            store, self.reader, self.turns, clocks, shell, self.callers, live, watchers, events_per_turn=per_turn
        )
        self.cycle.board = self.board = self._board(live, watchers)
        self.board.know_nodes()
        self.world.network.listen(self._hear)
        for task in (self._loop(self.cycle), self._ship_logs(self.cycle), self._chores(self.cycle)):
            self.process.spawn(task)
        self.world.tell(lambda: f"the master starts, turn {loaded.turn} of {loaded.lineage}")

    def _board(self, live: LiveFarm, watchers: Watchers) -> Switchboard:
        board = Switchboard(
            turns=self.turns,
            reader=self.reader,
            live=live,
            watchers=watchers,
            timing=self.world.timing,
            max_retries=3,
            post=self.cycle.post,
            enroll=lambda _connection, _key, _message: None,
            complaints=Complaints(logging.getLogger(__name__), lambda: self.time.now_s),
            hellos=Pace(HELLOS_AT_ONCE, HELLO_EVERY_S, lambda: self.time.now_s),
            chance=self._chance_of_event,
        )
        board.hub = self.world.network  # type: ignore[assignment]  # it has the two methods that are used
        return board

    def _chance_of_event(self) -> Chance:
        return Chance(self.chance.getrandbits(62) + 1, f"{self.chance.getrandbits(64):016x}", self.chance.random())

    @contextmanager
    def numbering(self) -> Iterator[None]:
        """In this block the numbers file may be written, if nothing is in the way."""
        self.numbers.before(full=self.full)
        try:
            yield
        except (StoreRefused, StoreBroken) as error:
            if self.numbers.path.name in str(error):
                self.world.count("numbers file not written")
            raise
        self.numbers.after()

    async def _loop(self, cycle: Cycle) -> None:
        """As master.py has it."""
        while not cycle.stopping:
            if not cycle.inbox:
                await ask(Rest(self.tick_s))
            await cycle.turn()
        await cycle.last_turns()
        self.world.tell(lambda: "the master stops in order")
        self._close(clean=True)
        self._again()

    async def _ship_logs(self, cycle: Cycle) -> None:
        """As `Cycle.ship_logs`, with fewer looks: an idle one is a step of the world for nothing."""
        while True:
            await ask(Sleep(max(LOGS_S, await cycle.store_logs())))

    async def _chores(self, cycle: Cycle) -> None:
        while True:
            await ask(Sleep(RETIRE_S))
            if self.retention_s and await cycle.retire(self.retention_s):
                self.world.checks.retired()

    def _took_s(self) -> tuple[float, float]:
        if self.slow_s > 1.0:
            self.world.count("slow disk")
        self._step("commit")
        return self.slow_s * self.chance.random(), 0.001 * self.chance.random() + (
            0.5 if self.doom[0] == "committed" else 0
        )

    def _hear(self, connection: bytes, key: str, message: wire.FromAgent) -> None:
        if self.process is not None:
            self.world.silence.arrived(self.turns.farm.world, connection, key, message)
            self.process.enter(lambda: self.board.hear(Received(connection, key, message)))

    # ---- death ---------------------------------------------------------------------------------------------------

    def doomed(self, where: str, number: int) -> None:
        """It dies at the n-th step of this kind from now on: commit, write, committed, act."""
        self.doom = (where, number)
        if where == "write":
            self.disk.dies_after = number

    def _step(self, where: str) -> None:
        kind, number = self.doom
        if kind != where or not self.up:
            return
        self.doom = (kind, number - 1)
        if number <= 0:
            self.doom = ("", 0)
            self.world.count(f"master killed at {where}")
            raise Killed

    def committed(self) -> None:
        """A commit is on disk, and nobody has been told."""
        self.time.event()
        if self.doom[0] == "committed":
            self._step("committed")

    def _died(self, death: BaseException) -> None:
        if not isinstance(death, Killed | StoreBroken):
            self.world.checks.fail(f"P12: the master died of {death!r}")
        if isinstance(death, StoreBroken):
            self.callers.cut()  # as main.py does
        self.world.tell(lambda: f"the master dies: {death!r}")
        self.crash(power=self.chance.random() < 0.4)

    def stop(self) -> None:
        """Let it stop in order."""
        if self.process is not None:
            self.cycle.stopping = True
            self.process.wake()

    def freeze(self, seconds: float) -> None:
        """It stands still for a while (SIGSTOP, a stalled hypervisor); what comes meanwhile waits in its sockets."""
        process = self.process
        if process is None or self.stands_from_s < math.inf:
            return
        self.world.tell(lambda: f"the master stands still for {seconds:.1f} s")
        self.stands_from_s = self.time.now_s
        process.stands_until_s = self.time.now_s + seconds

        def goes_on() -> None:
            if self.process is process:
                self.stands_from_s = math.inf
                self.world.silence.stood(seconds)

        self.time.after(seconds, goes_on)

    def crash(self, *, power: bool) -> None:
        """Its process is gone; with `power` the host's memory too."""
        if self.process is None:
            return
        self.world.tell(lambda: "the master's host loses power" if power else "the master is killed")
        self._close(clean=False)
        if power:
            self.world.count("master lost power")
            self.disk.cut(self.chance)
            self.numbers.power_cut(self.chance)
            self._clock_from_s = self.time.now_s - self.chance.uniform(3.0, 30.0)
        for what, times in self.disk.struck.items():
            self.world.count(what, times)
        self._again()

    def _close(self, *, clean: bool) -> None:
        assert self.process is not None
        self.time.event()
        self.process.end()
        self.process = None
        self.stands_from_s = math.inf
        self.doom = ("", 0)
        self.world.network.deaf()
        self.disk.dead = self.disk.dead or not clean
        if not clean:
            self.store._database.broken = self.store._logs.broken = True  # it is not there to close anything in order
        with suppress(Exception):
            self.reader.close()
        with suppress(Exception):
            self.store.close()
        self.world.users.gone()

    def _again(self) -> None:
        if not self.world.over:
            self.time.after(self.chance.uniform(0.05, 2 * AGAIN_S), self.start)

    def close(self) -> None:
        """The world ends."""
        if self.process is not None:
            self._close(clean=True)

    def audit(self, work: Callable[[], Any]) -> None:
        """Run code of the API."""
        if self.process is not None:
            self.time.event()
            self.process.enter(partial(_ignore, work))


def _ignore(work: Callable[[], Any]) -> None:
    work()
