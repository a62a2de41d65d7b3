"""Follow jobs to their end: --wait and --follow.

The master sends the job's view at each change. The stream may break or fall silent at any time; it is then opened
again, and because its first line is always the job as it is now, nothing is missed that still matters.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence

from ffrtmp.api import JobView
from ffrtmp.errors import Exit, FarmError

from .client import Master, NoMaster, Quiet, Refusal, decode, path_of
from .context import Context
from .display import Display, display_for
from .patience import Patience
from .render import size
from .telling import ended, headline, reason_of

QUIET_S = 30.0  # a stream on which nothing came for so long is opened again, in case nobody holds its other end
PAUSE_S = 0.5
INTERRUPTED = 130


def present(master: Master, job: str | int, patience: Patience) -> JobView:
    """The job as it is now, also from a master that is away for a while; raises as `events`."""
    while True:
        try:
            view = master.get(path_of("jobs", job), JobView)
        except (NoMaster, Refusal) as error:
            patience.failed(error)
            continue
        patience.answered()
        return view


def beginning(context: Context, job: str | int) -> JobView:
    """The job when somebody begins to follow it. A master that is just restarting is waited for, as long as --timeout."""
    return present(
        context.master, job, Patience(context.note, limit_s=context.master.timeout_s, sleep=context.master.sleep)
    )


def events(master: Master, job: str | int, patience: Patience) -> Iterator[tuple[bytes, JobView]]:
    """The job at each change, as it came and decoded, the present state first, until it has ended.

    Raises NoMaster when the master is away for longer than `patience` allows, Refusal when it knows no such job.
    """
    while True:
        answered = False
        try:
            with master.stream(path_of("jobs", job, "events"), quiet_s=QUIET_S) as stream:
                answered = True
                patience.answered()
                for line in stream.lines():
                    view = decode(line, JobView)
                    yield line, view
                    if ended(view):
                        return
        except Quiet as error:
            if not answered:
                patience.failed(error)
        except (NoMaster, Refusal) as error:
            patience.failed(error)
        patience.sleep(PAUSE_S)


def watch(context: Context, jobs: Sequence[str | int], *, clock: Callable[[], float] = time.monotonic) -> int:
    """Show jobs until all have ended, one after the other; returns FAILED unless all completed."""
    display = display_for(context, len(jobs), clock)
    last: list[JobView] = []
    try:
        with display:
            for job in jobs:
                last.append(_to_the_end(context, job, display))
    except KeyboardInterrupt:
        _tell_interrupted(context, jobs[len(last) :])
        return INTERRUPTED
    return _tell_ends(context, last)


def _to_the_end(context: Context, job: str | int, display: Display) -> JobView:
    patience = Patience(display.notice, sleep=context.master.sleep)
    for line, view in events(context.master, job, patience):
        display.show(line, view)
    return view


def _tell_interrupted(context: Context, rest: Sequence[str | int]) -> None:
    if len(rest) == 1:
        context.note(f"job {rest[0]} goes on; `ffrtmpctl jobs cancel {rest[0]}` ends it")
    else:
        context.note(f"{len(rest)} jobs go on; `ffrtmpctl jobs list --state open` shows them")


def _tell_ends(context: Context, views: Sequence[JobView]) -> int:
    code = int(Exit.DONE)
    for view in views:
        if view.state == "completed":
            if not context.json:
                context.say(headline(view) + _measured(view))
            continue
        code = int(Exit.FAILED)
        failure = view.failure
        what = headline(view) + (f": {reason_of(failure)}" if failure else "")
        context.report(FarmError(what, hint=(failure.hint if failure else "") or _where_to_look(view)))
    return code


def _measured(view: JobView) -> str:
    results = view.results
    if results is None or results.output_bytes is None:
        return ""
    return f" ({size(results.output_bytes)})"


def _where_to_look(view: JobView) -> str:
    return f"`ffrtmpctl jobs why {view.job}` and `ffrtmpctl jobs logs {view.job}` tell more"
