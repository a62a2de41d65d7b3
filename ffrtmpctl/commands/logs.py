"""Show what the engine of a job said, and go on as it says more."""

from __future__ import annotations

import re
from argparse import Namespace

from ffrtmp.api import LOG_CUT, JobView
from ffrtmp.errors import Exit, FarmError

from ..client import Master, NoMaster, Quiet, Refusal, Stream, path_of
from ..context import Context
from ..loglines import LogOut, log_out
from ..patience import Patience
from ..telling import ended, headline
from ..watch import PAUSE_S, QUIET_S, beginning, events, present

INTERRUPTED = 130
_CUT = re.compile(re.escape(LOG_CUT.encode()).replace(b"%d", rb"(\d+)"))
_CUT_MAX = len(LOG_CUT) + 20


class Place:
    """How far into an attempt's log the reader is, in bytes since the attempt's start.

    The text that arrives is the log itself but for the marks of cuts, and a mark counts for what it stands for.
    """

    def __init__(self, offset_bytes: int = 0) -> None:
        self.offset_bytes = offset_bytes
        self._edge = b""  # what may be the beginning of a mark

    def passed(self, data: bytes) -> None:
        """`data` was read."""
        text = self._edge + data
        self.offset_bytes += len(data)
        for mark in _CUT.finditer(text):
            self.offset_bytes += int(mark[1]) - len(mark[0])
        line = text[max(0, text.rfind(b"\n")) :]
        self._edge = line if len(line) <= _CUT_MAX else b""


def logs(args: Namespace, context: Context) -> int:
    """The log of one attempt, or with --follow of all that are still to come."""
    out = log_out(context)
    if args.follow:
        try:
            _Follower(context, args, out).follow()
        except KeyboardInterrupt:
            context.note(f"job {args.job} goes on; `ffrtmpctl jobs cancel {args.job}` ends it")
            return INTERRUPTED
        finally:
            out.end()
        return Exit.DONE
    empty = True
    query = {"attempt": args.attempt, "tail": args.tail}
    with context.master.stream(path_of("jobs", args.job, "logs"), query, quiet_s=context.master.timeout_s) as stream:
        out.attempt(_number(stream.header("Log-Attempt")))
        for data in stream.chunks():
            out.write(data)
            empty = False
    out.end()
    if empty and args.tail != 0:
        view = context.master.get(path_of("jobs", args.job), JobView)
        context.note(f"there is no log yet: {headline(view)}")
    return Exit.DONE


class _Follower:
    """Follows one attempt after the other, and after each break goes on where it was."""

    def __init__(self, context: Context, args: Namespace, out: LogOut) -> None:
        self._master: Master = context.master
        self._context = context
        self._job: str = args.job
        self._only: int | None = args.attempt
        self._tail: int | None = args.tail
        self._out = out
        self._patience = Patience(context.note, sleep=context.master.sleep)
        self._place: Place | None = None  # None: nothing of this attempt was read

    def follow(self) -> None:
        """To the end of the job, or of the one attempt that was asked for."""
        view = beginning(self._context, self._job)
        number = self._only or view.attempt or self._wait_beyond(0).attempt
        while number:
            # A master that stops ends its answers in order too. So an answer is the whole log only if it was asked for
            # when the attempt was known to be over.
            over = ended(view) or view.attempt > number
            if not self._read(number):
                continue  # it broke off, and was borne with
            if not over:
                view = self._go_on(number)
            elif self._only is None and view.attempt > number:
                number = self._next(number, view)
            else:
                return

    def _go_on(self, number: int) -> JobView:
        """The job after an answer that ended before the attempt did, as far as is known."""
        view = present(self._master, self._job, self._patience)
        if not ended(view) and view.attempt == number:
            if self._only is None and view.state in ("queued", "retrying"):
                return self._wait_beyond(number)
            self._patience.sleep(PAUSE_S)
        return view

    def _next(self, number: int, view: JobView) -> int:
        self._place = None
        where = f" on {view.node}" if view.node and view.attempt == number + 1 else ""
        self._context.note(f"attempt {number + 1}{where}")
        return number + 1

    def _read(self, attempt: int) -> bool:
        """What is new of an attempt's log; returns whether the master said that it is all."""
        query = {"attempt": attempt, "follow": 1, "tail": self._tail}
        if self._place is not None:
            query = {"attempt": attempt, "follow": 1, "offset": self._place.offset_bytes}
        answered = False
        try:
            with self._master.stream(path_of("jobs", self._job, "logs"), query, quiet_s=QUIET_S) as stream:
                answered = True
                self._patience.answered()
                self._out.attempt(attempt)
                self._take(stream)
            return True
        except Quiet as error:
            if not answered:
                self._patience.failed(error)
        except (NoMaster, Refusal) as error:
            self._patience.failed(error)
        return False

    def _take(self, stream: Stream) -> None:
        if self._place is None:
            self._place = Place(_number(stream.header("Log-Offset")))
        self._tail = None  # a later attempt is shown from its start
        for data in stream.chunks():
            self._out.write(data)
            self._place.passed(data)

    def _wait_beyond(self, attempt: int) -> JobView:
        """The job when it has a newer attempt, or has ended."""
        for _, view in events(self._master, self._job, self._patience):
            if view.attempt > attempt or ended(view):
                return view
        raise AssertionError("the events of a job end with its end")


def _number(header: str) -> int:
    if header.isascii() and header.isdigit():
        return int(header)
    if header:
        raise FarmError("the master does not say which part of which log its answer is")
    return 0
