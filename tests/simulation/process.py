"""A process of a simulated world: coroutines of production code, which sleep and wait for disks in the world's time.

The code asks by awaiting; this says when it goes on. A process that is killed goes on nowhere: what it had not done by
then is not done.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Coroutine, Generator
from dataclasses import dataclass
from typing import Any

from simulation.clock import A_MOMENT_S, Time


class Killed(BaseException):
    """The process dies here. No `except Exception` of its own may keep it alive."""


@dataclass
class Thread:
    """A thread for disk work: one thing after the other."""

    free_s: float = 0.0


@dataclass(frozen=True)
class Sleep:
    """Go on in so many seconds."""

    seconds: float


@dataclass(frozen=True)
class Rest:
    """Go on when woken, or after so many seconds."""

    seconds: float


@dataclass(frozen=True)
class Work:
    """Do this on a thread."""

    thread: Thread
    work: Callable[[], Any]


@types.coroutine
def ask(request: Sleep | Rest | Work) -> Generator[Any, Any, Any]:
    """Await this."""
    return (yield request)


class Process:
    """Runs coroutines until it dies."""

    def __init__(
        self, time: Time, took_s: Callable[[], tuple[float, float]], died: Callable[[BaseException], None]
    ) -> None:
        """`took_s`: how long disk work takes, before it is done and until that is noticed. `died` hears what ended it."""
        self.time = time
        self.alive = True
        self.stands_until_s = 0.0
        self._took_s = took_s
        self._died = died
        self._resting: Coroutine[Any, Any, None] | None = None
        self._rest = 0
        self._woken = False

    def spawn(self, task: Coroutine[Any, Any, None]) -> None:
        """Begin a coroutine."""
        self.time.after(0.0, lambda: self._go_on(task, None))

    def end(self) -> None:
        """Nothing of it goes on."""
        self.alive = False

    def _stands(self, deed: Callable[[], None]) -> bool:
        """Whether the process stands still (SIGSTOP); then this is done, in its order, as soon as it goes on."""
        if not self.alive or self.stands_until_s <= self.time.now_s:
            return False
        self.time.after(self.stands_until_s - self.time.now_s + A_MOMENT_S, deed)
        return True

    def enter(self, work: Callable[[], None]) -> None:
        """Run code of the process from outside; it may die of it."""
        if not self.alive or self._stands(lambda: self.enter(work)):
            return
        try:
            work()
        except Killed as death:
            self._die(death)

    def wake(self) -> None:
        """Let a coroutine that rests go on."""
        task = self._resting
        if task is None:
            self._woken = True
            return
        self._resting = None
        self.time.after(0.0005, lambda: self._go_on(task, None))

    def _die(self, death: BaseException) -> None:
        self.alive = False
        self._died(death)

    def _go_on(self, task: Coroutine[Any, Any, None], given: Any, error: BaseException | None = None) -> None:
        if not self.alive:
            task.close()
            return
        if self._stands(lambda: self._go_on(task, given, error)):
            return
        try:
            request = task.throw(error) if error is not None else task.send(given)
            self._serve(task, request)
        except StopIteration:
            pass
        except (Killed, Exception) as death:
            task.close()
            self._die(death)

    def _serve(self, task: Coroutine[Any, Any, None], request: Sleep | Rest | Work) -> None:
        if isinstance(request, Sleep):
            self.time.after(request.seconds, lambda: self._go_on(task, None))
        elif isinstance(request, Rest):
            self._let_rest(task, request.seconds)
        else:
            self._do(task, request)

    def _let_rest(self, task: Coroutine[Any, Any, None], seconds: float) -> None:
        self._resting = task
        self._rest += 1
        number = self._rest
        if self._woken:
            self._woken = False
            self.wake()
            return

        def tired() -> None:
            if self._resting is task and self._rest == number:
                self._resting = None
                self._go_on(task, None)

        self.time.after(seconds, tired)

    def _do(self, task: Coroutine[Any, Any, None], request: Work) -> None:
        before_s, after_s = self._took_s()
        begins_s = max(self.time.now_s, request.thread.free_s)
        request.thread.free_s = begins_s + before_s + after_s

        def work() -> None:
            if not self.alive:
                task.close()
                return
            if self._stands(work):
                return
            try:
                result = request.work()
            except Killed as death:
                task.close()
                self._die(death)
            except Exception as error:
                failed = error
                self.time.after(after_s, lambda: self._go_on(task, None, failed))
            else:
                self.time.after(after_s, lambda: self._go_on(task, result))

        self.time.after(begins_s - self.time.now_s + before_s, work)
