"""How the turn loop wakes those who follow a job: they are told that something changed, and look for themselves.

A wake-up carries nothing, so a slow follower costs one flag, not a queue; what happened meanwhile it reads from the store.
All on the one event loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager


class Watch:
    """One follower of one job."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def wake(self) -> None:
        """Something changed."""
        self._event.set()

    async def changed(self, timeout_s: float) -> bool:
        """Wait for a change since the last call; False when there was none for `timeout_s`."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._event.wait()
        except TimeoutError:
            return False
        self._event.clear()
        return True


class Watchers:
    """All followers; `most` of them at a time."""

    def __init__(self, most: int = 256) -> None:
        self.most = most
        self.closed = False
        self._by_job: dict[int, set[Watch]] = {}
        self._count = 0

    @property
    def full(self) -> bool:
        """Whether there is no room for another."""
        return self._count >= self.most

    @contextmanager
    def watch(self, job: int) -> Iterator[Watch]:
        """Follow a job for as long as the block runs."""
        watch = Watch()
        self._by_job.setdefault(job, set()).add(watch)
        self._count += 1
        try:
            yield watch
        finally:
            self._count -= 1
            self._by_job[job].discard(watch)
            if not self._by_job[job]:
                del self._by_job[job]

    def wake(self, job: int) -> None:
        """The job's state, its progress or one of its logs changed. Cheap where nobody follows it."""
        for watch in self._by_job.get(job, ()):
            watch.wake()

    def close(self) -> None:
        """The server ends: every follower is woken and leaves."""
        self.closed = True
        for watches in self._by_job.values():
            for watch in watches:
                watch.wake()
