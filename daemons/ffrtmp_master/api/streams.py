"""The calls that go on for as long as a job does: its log as it grows, and its changes.

A follower costs a waiting coroutine and a flag. Their number is bounded, one that stops reading is cut off by the server's
reaper, and each looks at the store for itself when it is woken.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

import msgspec
from aiohttp import web

from ..refusal import Refusal
from .call import Call
from .jobs import MAX_NUMBER, find_job, short_view
from .logtext import LogText
from .watch import Watch

log = logging.getLogger("ffrtmp.api")
LOOK_S = 1.0  # a follower that was not woken looks all the same, and notices that its client is gone
TOGETHER_S = 0.2  # changes that come closer together are told as one
REPEAT_S = 15.0  # an unchanged view is sent again, so that both ends know of each other
TAIL_MAX_LINES = 1_000_000
_PLAIN = {"Content-Type": "text/plain; charset=utf-8", "X-Content-Type-Options": "nosniff"}


async def logs(call: Call) -> web.StreamResponse:
    """The log of one attempt, from an offset, or its last lines; with `follow` as it grows."""
    job = find_job(call).number
    if "tail" in call.query and "offset" in call.query:
        raise Refusal(400, "tail and offset are two ways to say where to begin", hint="give one of them")
    asked = call.whole("attempt", 0, 1, MAX_NUMBER)
    if not call.flag("follow"):
        return await _send_log(call, job, _attempt(call, job, asked), None)
    with _following(call, job) as watch:
        attempt = _attempt(call, job, asked)
        while not attempt and not _ended(call, job) and not _left(call):
            await watch.changed(LOOK_S)
            attempt = _attempt(call, job, 0)
        return await _send_log(call, job, attempt, watch)


async def events(call: Call) -> web.StreamResponse:
    """The job's view at each change, a line each, until the job ends."""
    job = find_job(call).number
    with _following(call, job) as watch:
        return await _stream(call, {"Content-Type": "application/x-ndjson"}, lambda out: _tell(call, job, watch, out))


# ---- logs ----------------------------------------------------------------------------------------------------------


def _attempt(call: Call, job: int, asked: int) -> int:
    """The attempt that is asked for, or the newest; 0 where there is none yet. Raises Refusal (404)."""
    numbers = [each.number for each in call.backend.reader.attempts(job)]
    if asked and asked not in numbers:
        raise Refusal(
            404, f"job {job} has no attempt {asked}", hint=f"`ffrtmpctl jobs status {job}` shows its attempts"
        )
    return asked or max(numbers, default=0)


async def _send_log(call: Call, job: int, attempt: int, watch: Watch | None) -> web.StreamResponse:
    start = _start(call, job, attempt)
    text = LogText(call.backend.reader, job, attempt, start)
    headers = {**_PLAIN, "Log-Attempt": str(attempt), "Log-Offset": str(start)}
    return await _stream(call, headers, lambda out: _copy(call, job, attempt, text, watch, out))


def _start(call: Call, job: int, attempt: int) -> int:
    lines = call.whole("tail", -1, 0, TAIL_MAX_LINES)
    if lines >= 0:
        return call.backend.reader.tail_start(job, attempt, lines)
    return call.whole("offset", 0, 0, MAX_NUMBER)


async def _copy(
    call: Call, job: int, attempt: int, text: LogText, watch: Watch | None, out: web.StreamResponse
) -> None:
    """Send what is there; with a watch, also what comes, until the log can be held for complete."""
    clock = asyncio.get_running_loop().time
    grew_s = clock()
    while True:
        new = text.more()
        if new is not None:
            grew_s = clock()
            await out.write(new)
            await asyncio.sleep(0)  # a long log lets others in between
        elif watch is None or _left(call) or _complete(call, job, attempt, clock() - grew_s):
            break
        elif not await watch.changed(min(LOOK_S, call.service.log_grace_s)):
            await out.write(text.rest())
    await out.write(text.rest())


def _complete(call: Call, job: int, attempt: int, silent_s: float) -> bool:
    """Whether nothing more of this log is to come: the agent said so, or the job went on or ended and it is silent."""
    newest = _attempt(call, job, 0)
    if newest <= attempt and not _ended(call, job):
        return False
    return call.backend.live.log_complete(job, attempt) or silent_s >= call.service.log_grace_s


# ---- events --------------------------------------------------------------------------------------------------------


async def _tell(call: Call, job: int, watch: Watch, out: web.StreamResponse) -> None:
    clock = asyncio.get_running_loop().time
    told, told_s = b"", 0.0
    while not _left(call):
        row = call.backend.reader.job(job)
        if row is None:
            return
        line = msgspec.json.encode(short_view(call, row)) + b"\n"
        if line != told or clock() - told_s >= REPEAT_S:
            await out.write(line)
            told, told_s = line, clock()
        if row.terminal:
            return
        await asyncio.sleep(TOGETHER_S)
        while not await watch.changed(LOOK_S) and clock() - told_s < REPEAT_S and not _left(call):
            pass


# ---- followers -----------------------------------------------------------------------------------------------------


@contextmanager
def _following(call: Call, job: int) -> Iterator[Watch]:
    watchers = call.backend.watchers
    if watchers.full:
        raise Refusal(429, f"{watchers.most} followers are there already", hint="try again when some have left")
    with watchers.watch(job) as watch:
        yield watch


def _left(call: Call) -> bool:
    """Whether the client has gone, or the server is about to."""
    transport = call.request.transport
    return call.backend.watchers.closed or transport is None or transport.is_closing()


def _ended(call: Call, job: int) -> bool:
    row = call.backend.reader.job(job)
    return row is None or row.terminal


async def _stream(
    call: Call, headers: dict[str, str], write: Callable[[web.StreamResponse], Awaitable[None]]
) -> web.StreamResponse:
    """Answer 200 and let `write` fill the body. A fault in mid-body breaks the connection: half a log must not look whole."""
    out = web.StreamResponse(headers=headers)
    await out.prepare(call.request)
    try:
        await write(out)
        await out.write_eof()
    except ConnectionError:
        log.debug("a follower has gone")
    except Exception:
        log.exception("fault in a stream to %s", call.caller.label)
        if call.request.transport is not None:
            call.request.transport.abort()
    return out
