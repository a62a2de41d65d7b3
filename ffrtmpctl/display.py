"""How progress is shown: a bar on a terminal, a line for each change elsewhere, JSON lines for programs."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING

from ffrtmp.api import JobView

from .context import Context
from .telling import ended, headline

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

EVERY_S = 5.0  # between two lines about the same state


class Display:
    """JSON lines, each change once; the other ways of showing differ in `show` and `notice`."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self._last = b""

    def __enter__(self) -> Display:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def show(self, line: bytes, view: JobView) -> None:
        """A job, as it came and decoded."""
        if line != self._last:
            self.context.line(line)
            self.context.out.flush()
        self._last = line

    def notice(self, text: str) -> None:
        """A remark, e.g. that the master is away."""
        self.context.note(text)


class Lines(Display):
    """One line at each change of state, and about progress at most one every `EVERY_S`. `clock` is monotonic."""

    def __init__(self, context: Context, clock: Callable[[], float]) -> None:
        super().__init__(context)
        self._clock = clock
        self._state: tuple[object, ...] = ()
        self._text = ""
        self._due_s = 0.0

    def show(self, line: bytes, view: JobView) -> None:
        """A line, if there is something new to tell. The end is told by who waits."""
        state = (view.job, view.state, view.phase, view.node, view.attempt)
        text = headline(view)
        now_s = self._clock()
        if ended(view) or text == self._text or (state == self._state and now_s < self._due_s):
            return
        self._state, self._text, self._due_s = state, text, now_s + EVERY_S
        self.context.say(text)
        self.context.out.flush()


class Bar(Display):
    """A bar for the job that is waited for, and how many of them are done."""

    def __init__(self, context: Context, count: int) -> None:
        super().__init__(context)
        self._count = count
        self._jobs: list[int] = []
        self._progress = _progress(context)
        self._task: TaskID | None = None

    def __enter__(self) -> Display:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def show(self, line: bytes, view: JobView) -> None:
        """Move the bar."""
        if view.job not in self._jobs:
            self._jobs.append(view.job)
        text = headline(view)
        if self._count > 1:
            text = f"{len(self._jobs)} of {self._count}: {text}"
        if self._task is None:
            self._task = self._progress.add_task(text, total=100.0)
        done = 100.0 if view.state == "completed" else view.percent
        self._progress.update(self._task, description=text, completed=done or 0.0)

    def notice(self, text: str) -> None:
        """Above the bar."""
        self._progress.console.print(text, markup=False, highlight=False)


def _progress(context: Context) -> Progress:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn
    from rich.table import Column

    text = TextColumn(
        "{task.description}", markup=False, table_column=Column(ratio=3, overflow="ellipsis", no_wrap=True)
    )
    return Progress(
        BarColumn(bar_width=None, table_column=Column(ratio=1)),
        text,
        console=Console(file=context.out),
        transient=True,
        expand=True,
    )


def display_for(context: Context, count: int, clock: Callable[[], float]) -> Display:
    """What fits the output: JSON where it was asked for, a bar on a terminal, lines elsewhere."""
    if context.json:
        return Display(context)
    return Bar(context, count) if context.out.isatty() else Lines(context, clock)
