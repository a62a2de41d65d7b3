"""The master's loop: the cycle of turns (cycle.py) on asyncio, with a thread for each disk.

One thread does everything but the disk: it hears agents and users, applies the rules and sends. Commits run on the store's
thread, so that agents are heard meanwhile.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from ffrtmp.service import Notifier

from .cycle import Clocks, Cycle
from .desk import Desk
from .garbage import Garbage

T = TypeVar("T")

TICK_S = 0.25
RETIRE_EVERY_S = 60.0
STATUS_EVERY_S = 5.0


class Master:
    """Runs turns until it is asked to stop or the store breaks. It is the `Shell` of its cycle."""

    cycle: Cycle
    desk: Desk

    def __init__(self, clocks: Clocks, notifier: Notifier, garbage: Garbage, *, retention_s: float) -> None:
        """`cycle` and `desk` are given afterwards: they are made with its shell."""
        self.clocks = clocks
        self.notifier = notifier
        self.garbage = garbage
        self.retention_s = retention_s
        self._wake = asyncio.Event()
        self._disk = ThreadPoolExecutor(1, thread_name_prefix="store")
        self._logs_disk = ThreadPoolExecutor(1, thread_name_prefix="logs")

    def stop(self) -> None:
        """End after the turn that runs."""
        self.cycle.stopping = True
        self._wake.set()

    async def run(self) -> None:
        """Turns, until `stop`. Raises StoreBroken when nothing can be promised any more."""
        logs = asyncio.create_task(self.cycle.ship_logs(), name="logs")
        chores = asyncio.create_task(self._chores(), name="chores")
        self._wake.set()  # for the first turn: nobody is served before it
        try:
            while not self.cycle.stopping:
                await self._pause()
                self.notifier.beat()
                for task in (logs, chores):
                    if task.done():
                        task.result()
                await self.cycle.turn()
            await self.cycle.last_turns()
        finally:
            for task in (logs, chores):
                task.cancel()
            await asyncio.gather(logs, chores, return_exceptions=True)
            self._disk.shutdown()
            self._logs_disk.shutdown()

    async def _pause(self) -> None:
        """Until something has come, or the clock wants a look."""
        if not self.cycle.inbox and not self.cycle.stopping:
            try:
                async with asyncio.timeout(TICK_S):
                    await self._wake.wait()
            except TimeoutError:
                return
        # Let what has arrived in the sockets be gathered before the clock is read.
        await asyncio.sleep(0)
        self._wake.clear()

    async def _chores(self) -> None:
        """Retire old jobs in slices; forget expired tickets; look for garbage; say how things stand."""
        retire_s = self.clocks.farm_s() + min(RETIRE_EVERY_S, self.retention_s)
        while True:
            await asyncio.sleep(STATUS_EVERY_S)
            if not self.desk.callers.refusing:
                self.notifier.status(self._status())
            self.desk.tickets.sweep(self.clocks.wall_s())
            self.garbage.look()
            if self.clocks.farm_s() < retire_s:
                continue
            more = await self.cycle.retire(self.retention_s)
            retire_s = self.clocks.farm_s() + (1.0 if more else min(RETIRE_EVERY_S, self.retention_s))

    def _status(self) -> str:
        queues = self.desk.live.queues()
        live = queues[0].running
        running = sum(q.running for q in queues)
        waiting = sum(q.waiting for q in queues)
        nodes = len(self.cycle.turns.farm.world.there)
        return f"{live} live, {running} running, {waiting} queued, {nodes} nodes"

    # ---- what the cycle is given ---------------------------------------------------------------------------------

    async def on_disk(self, work: Callable[[], T]) -> T:
        """Do `work` on the store's thread."""
        return await asyncio.get_running_loop().run_in_executor(self._disk, work)

    async def on_logs_disk(self, work: Callable[[], T]) -> T:
        """Do `work` on the logs' thread."""
        return await asyncio.get_running_loop().run_in_executor(self._logs_disk, work)

    async def sleep(self, seconds: float) -> None:
        """Let time pass."""
        await asyncio.sleep(seconds)

    def wake(self) -> None:
        """There is something for a turn."""
        self._wake.set()

    def serves(self) -> None:
        """Tell the service manager."""
        self.notifier.ready(self._status())

    def refuses(self, why: str) -> None:
        """Tell the service manager."""
        self.notifier.status(why)
