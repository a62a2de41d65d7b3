"""The calls about jobs, but for submission and streams."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import get_args
from uuid import uuid4

from msgspec.structs import replace

from ffrtmp import api
from ffrtmp.farm import events
from ffrtmp.farm.effects import Answer
from ffrtmp.farm.job import Priority, Queue
from ffrtmp.spec import Classification

from .. import views
from ..refusal import Refusal
from ..rows import JobFilter
from ..store import JobRow
from ..submit import again
from .call import NUMBER, UUID, Call, Reply, near
from .submission import put

RETRIED = ("failed", "timed_out", "canceled", "rejected")
TOGETHER = 200  # requests of one selection that wait at a time
FILTERS = ("state", "queue", "priority", "node", "scenario", "classification")
MAX_NUMBER = 10**18


def find_job(call: Call) -> JobRow:
    """The job that the path names, by its number or its whole UUID; raises Refusal (404). Never another one."""
    name = call.param("job")
    reader, row = call.backend.reader, None
    if NUMBER.fullmatch(name):
        row = reader.job(int(name))
    elif UUID.fullmatch(name):
        row = reader.job(name.lower())
    else:
        raise Refusal(404, f'"{name[:80]}" names no job', hint="a job is named by its number or its whole UUID")
    if row is None:
        raise Refusal(404, f"there is no job {name}", hint="`ffrtmpctl jobs list` shows the newest")
    return row


async def list_jobs(call: Call) -> Reply:
    """A page of jobs."""
    order = call.query.get("order", "newest")
    if order not in ("newest", "oldest"):
        raise Refusal(400, "order must be newest or oldest")
    limit = call.limit()
    after = call.whole("after", 0, 1, MAX_NUMBER) or None
    wanted = job_filter(call.query)
    page = call.backend.reader.jobs(wanted, after=after, limit=limit, newest_first=order == "newest")
    items = tuple(short_view(call, row) for row in page.jobs)
    return Reply(api.Page(items=items, next=str(page.next or "")))


async def one_job(call: Call) -> Reply:
    """One job in full."""
    return Reply(full_view(call, find_job(call)))


def short_view(call: Call, row: JobRow) -> api.JobView:
    """A job as lists and events show it."""
    live = call.backend.live
    names = call.names.of_job(row.node)
    return views.job_view(row, live.progress(row.number), live.phase(row.number), call.service.now(), names)


def full_view(call: Call, row: JobRow) -> api.JobView:
    """A job with its attempts and its specification."""
    names = call.names.of_job(row.node)
    attempts = tuple(views.attempt_view(each, row.spec, names) for each in call.backend.reader.attempts(row.number))
    return replace(short_view(call, row), attempts=attempts, spec=views.masked(row.spec))


async def history(call: Call) -> Reply:
    """A page of a job's history, oldest first."""
    job, limit = find_job(call), call.limit()
    after = call.whole("after", 0, 0, MAX_NUMBER)
    rows = call.backend.reader.history(job.number, after=after, limit=limit)
    names = call.names.of_job(job.node)
    items = tuple(views.history_row(row, job.spec, names) for row in rows)
    return Reply(api.Page(items=items, next=str(rows[-1].seq) if len(rows) == limit else ""))


async def why(call: Call) -> Reply:
    """Why a job is where it is."""
    job = find_job(call)
    names = call.names.of_job(job.node)
    return Reply(views.why(job, None if job.terminal else call.backend.live.why(job.number), names))


# ---- requests ------------------------------------------------------------------------------------------------------


async def cancel(call: Call) -> Reply:
    """202: it is being canceled."""
    return await _order(call, events.Cancel)


async def stop(call: Call) -> Reply:
    """202: the live job ends in order."""
    return await _order(call, events.Stop)


async def pause(call: Call) -> Reply:
    """202: it is being held."""
    return await _order(call, events.Pause)


async def resume(call: Call) -> Reply:
    """202: it goes on when there is room."""
    return await _order(call, events.Resume)


async def update(call: Call) -> Reply:
    """Change queue or priority of a job that waits."""
    job, wanted = _open_job(call), call.body(api.JobUpdate)
    if wanted.queue is None and wanted.priority is None:
        raise Refusal(422, "nothing is to be changed", hint="give queue or priority")
    queue = None if wanted.queue is None else Queue[wanted.queue.upper()]
    priority = None if wanted.priority is None else Priority[wanted.priority.upper()]
    answer = await call.backend.request(
        lambda request: events.Update(request, job.number, queue, priority), call.caller
    )
    return done(answer, job)


async def retry(call: Call) -> Reply:
    """A new job that asks for the same."""
    return await _retry(call, find_job(call))


async def _order(call: Call, event: Callable[[int, int], events.UserEvent]) -> Reply:
    job = _open_job(call)
    answer = await call.backend.request(lambda request: event(request, job.number), call.caller)
    if answer.status == 404:  # it ended while the request was on its way
        job = _open_job(call)
    return done(answer, job)


def _open_job(call: Call) -> JobRow:
    job = find_job(call)
    if job.terminal:
        raise _has_ended(job)
    return job


def _has_ended(job: JobRow) -> Refusal:
    state = job.state.value
    hint = f"`ffrtmpctl jobs retry {job.number}` makes a new job of it" if state in RETRIED else ""
    return Refusal(409, f"job {job.number} has ended: it is {state}", hint=hint)


def done(answer: Answer, job: JobRow | None = None) -> Reply:
    """A consent as Done; raises Refusal for anything else."""
    if not 200 <= answer.status < 300:
        raise Refusal(answer.status, answer.detail, hint=answer.hint)
    body = api.Done(
        detail=answer.detail,
        hint=answer.hint,
        job=job.number if job else 0,
        state=views.state_name(answer.states[0]) if answer.states else None,
        nodes=answer.nodes,
    )
    return Reply(body, status=answer.status)


async def _retry(call: Call, job: JobRow) -> Reply:
    state = job.state.value
    if state not in RETRIED:
        hint = "submit it again" if state == "completed" else "wait for its end, or cancel it"
        raise Refusal(409, f"job {job.number} is {state}; only what failed or was canceled is tried again", hint=hint)
    prepared = again(job.spec, job.terms, job.number, lambda: str(uuid4()))
    return await put(call, [prepared], None)


# ---- many at once --------------------------------------------------------------------------------------------------


async def cancel_many(call: Call) -> Reply:
    """Cancel every open job of a selection."""
    jobs = await _selected(call, api.STATE_ALIASES["open"])

    async def one(job: JobRow) -> None:
        done(await call.backend.request(lambda request: events.Cancel(request, job.number), call.caller))

    return await _each(jobs, one)


async def retry_many(call: Call) -> Reply:
    """Try every job of a selection again that failed, timed out, was canceled or rejected."""
    jobs = await _selected(call, RETRIED)

    async def one(job: JobRow) -> None:
        await _retry(call, job)

    return await _each(jobs, one)


async def _selected(call: Call, possible: tuple[str, ...]) -> Sequence[JobRow]:
    """The jobs of a selection, oldest first. Without a state: every one that the call is possible for."""
    wanted = call.body(api.Selection)
    named = {name: getattr(wanted, name) for name in FILTERS if getattr(wanted, name)}
    if not named:
        raise Refusal(422, "no filter is given", hint=f"give at least one of {', '.join(FILTERS)}; state=open is all")
    most = call.service.bounds.selection
    if not 1 <= wanted.limit <= most:
        raise Refusal(422, f"limit must be between 1 and {most}")
    found = job_filter(named)
    states = tuple(each for each in possible if not found.states or each in found.states)
    if not states:
        raise Refusal(
            422, f'no job of state "{wanted.state}" can be taken here', hint=f"possible: {', '.join(possible)}"
        )
    return await _take(call, dataclasses.replace(found, states=states), wanted.limit)


async def _take(call: Call, wanted: JobFilter, most: int) -> list[JobRow]:
    """The first `most` jobs of a filter, page by page; between two pages others have their turn."""
    jobs: list[JobRow] = []
    after: int | None = None
    while len(jobs) < most:
        page = call.backend.reader.jobs(wanted, after=after, limit=most - len(jobs), newest_first=False)
        jobs += page.jobs
        after = page.next
        if after is None:
            break
        await asyncio.sleep(0)
    return jobs


async def _each(jobs: Sequence[JobRow], one: Callable[[JobRow], Awaitable[None]]) -> Reply:
    taken: list[int] = []
    refused: dict[str, str] = {}

    async def tried(job: JobRow) -> None:
        try:
            await one(job)
            taken.append(job.number)
        except Refusal as refusal:
            refused[str(job.number)] = refusal.detail

    for start in range(0, len(jobs), TOGETHER):
        await asyncio.gather(*(tried(job) for job in jobs[start : start + TOGETHER]))
    return Reply(api.Many(done=tuple(sorted(taken)), refused=refused), status=202)


# ---- filters -------------------------------------------------------------------------------------------------------

_WORDS = {
    "queue": get_args(api.QueueName),
    "priority": get_args(api.PriorityName),
    "classification": get_args(Classification),
}


def job_filter(words: Mapping[str, str]) -> JobFilter:
    """The filter that query words say; `state` may be several, with commas, and aliases. Raises Refusal (400)."""
    given = {name: words.get(name, "") for name in FILTERS}
    for name, known in _WORDS.items():
        if given[name] and given[name] not in known:
            hint = near(given[name], known)
            raise Refusal(400, f'{name} "{given[name][:80]}" is not one of {", ".join(known)}', hint=hint)
    return JobFilter(
        states=states_of(given["state"]),
        queue=given["queue"],
        priority=given["priority"],
        node=given["node"],
        scenario=given["scenario"],
        classification=given["classification"],
    )


def states_of(text: str) -> tuple[str, ...]:
    """States and aliases, with commas between, as states; raises Refusal (400)."""
    states: list[str] = []
    for word in filter(None, text.split(",")):
        if word in api.STATE_ALIASES:
            states += api.STATE_ALIASES[word]
        elif word in get_args(api.StateName):
            states.append(word)
        else:
            known = (*get_args(api.StateName), *api.STATE_ALIASES)
            hint = " ".join(filter(None, (near(word, known), f"known: {', '.join(known)}")))
            raise Refusal(400, f'there is no state "{word[:80]}"', hint=hint)
    return tuple(dict.fromkeys(states))
