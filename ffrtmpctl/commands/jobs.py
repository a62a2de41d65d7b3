"""See jobs and steer single ones."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable, Iterable

import msgspec

from ffrtmp.api import Done, HistoryRow, JobUpdate, JobView, Page, Sla, Why
from ffrtmp.errors import Exit, FarmError

from ..client import decode, pages, path_of
from ..context import Context
from ..parser_jobs import filters_of
from ..render import duration, local_time, table

LIST_HEAD = ("JOB", "STATE", "QUEUE", "PRIORITY", "SCENARIO", "NODE", "DONE", "SUBMITTED", "OUTPUT")


def list_jobs(args: Namespace, context: Context) -> int:
    """One page of jobs, or all."""
    query = {**filters_of(args), "limit": args.limit, "after": args.after, "order": args.order}
    if args.all:
        bodies: Iterable[bytes] = pages(context.master, "/v1/jobs", {**query, "limit": 1000})
    else:
        bodies = [context.master.call("GET", "/v1/jobs", query=query).body]
    if context.json:
        context.document(joined(bodies))
        return Exit.DONE
    views, after = _read(bodies)
    table(context.out, LIST_HEAD, (_row(view) for view in views))
    if after and not args.all:
        context.note(f"there are more: --after {after}, or --all")
    return Exit.DONE


def joined(bodies: Iterable[bytes]) -> bytes:
    """Several pages as one, with whatever their items contain."""
    parts = [decode(body, Page[msgspec.Raw]) for body in bodies]
    items = tuple(item for part in parts for item in part.items)
    return msgspec.json.encode(Page(items=items, next=parts[-1].next))


def _read(bodies: Iterable[bytes]) -> tuple[list[JobView], str]:
    views: list[JobView] = []
    after = ""
    for body in bodies:
        page = decode(body, Page[JobView])
        views += page.items
        after = page.next
    return views, after


def _row(view: JobView) -> tuple[str, ...]:
    done = "" if view.percent is None else f"{view.percent:.0f} %"
    return (
        str(view.job),
        view.state,
        view.queue,
        view.priority,
        view.scenario,
        view.node,
        done,
        local_time(view.submitted),
        view.output,
    )


def status(args: Namespace, context: Context) -> int:
    """How a job is doing, once or until its end."""
    if args.wait:
        from ..watch import beginning, watch

        beginning(context, args.job)
        return watch(context, [args.job])
    reply = context.master.call("GET", path_of("jobs", args.job))
    if context.json:
        context.document(reply.body)
        return Exit.DONE
    from ..telling import tell_job

    tell_job(context.out, reply.into(JobView))
    return Exit.DONE


def why(args: Namespace, context: Context) -> int:
    """Why a job is where it is."""
    reply = context.master.call("GET", path_of("jobs", args.job, "why"))
    if context.json:
        context.document(reply.body)
        return Exit.DONE
    answer = reply.into(Why)
    context.say(answer.sentence + (f" ({local_time(answer.ended)})" if answer.ended else ""))
    for node in sorted(answer.nodes):
        context.say(f"  {node}: {answer.nodes[node]}")
    if answer.hint:
        context.say(f"hint: {answer.hint}")
    return Exit.DONE


def history(args: Namespace, context: Context) -> int:
    """Every change of a job, the oldest first."""
    bodies = list(pages(context.master, path_of("jobs", args.job, "history"), {"limit": 1000}))
    if context.json:
        context.document(joined(bodies))
        return Exit.DONE
    rows = [row for body in bodies for row in decode(body, Page[HistoryRow]).items]
    table(context.out, ("AT", "ATTEMPT", "STATE", "NODE", "WHAT"), (_change(row) for row in rows))
    return Exit.DONE


def _change(row: HistoryRow) -> tuple[str, ...]:
    moved = row.after if row.before in (None, row.after) else f"{row.before} -> {row.after}"
    text = row.text or row.kind
    if row.failure is not None:
        told = [part for part in (row.failure.reason, row.failure.line) if part and part not in text]
        text += f" ({': '.join(told)})" if told else ""
    return local_time(row.at), str(row.attempt or ""), moved, row.node, text


def order(args: Namespace, context: Context) -> int:
    """stop, pause, resume: one request a job."""
    return each(context, args.jobs, lambda job: _order(context, job, args.verb))


def _order(context: Context, job: str, verb: str) -> None:
    # Safe to repeat: the state is asked for, not a change of it.
    reply = context.master.call("POST", path_of("jobs", job, verb), repeatable=True)
    tell_done(context, f"job {job}", reply.body, verb)


def update(args: Namespace, context: Context) -> int:
    """Another queue or priority."""
    if not (args.queue or args.priority):
        hint = "ffrtmpctl jobs update 42 --priority high"
        raise FarmError("what is to change? give --queue, --priority or both", hint=hint, code=Exit.USAGE)
    body = JobUpdate(queue=args.queue, priority=args.priority)

    def one(job: str) -> None:
        tell_done(context, f"job {job}", context.master.call("PATCH", path_of("jobs", job), body=body).body, "updated")

    return each(context, args.jobs, one)


def sla(args: Namespace, context: Context) -> int:
    """How many production jobs met their times."""
    reply = context.master.call("GET", "/v1/sla", query={"since": args.since})
    if context.json:
        context.document(reply.body)
        return Exit.DONE
    answer = reply.into(Sla)
    if answer.percent is None:
        context.say("no production job has ended" + (" since then" if args.since else ""))
        return Exit.DONE
    context.say(f"{answer.percent:.1f} % met their times: {answer.met} of {answer.jobs} production jobs")
    context.say(f"  waited longer than {duration(30):<13}{answer.queue_missed}")
    context.say(f"  worked longer than {duration(600):<13}{answer.processing_missed}")
    context.say(f"  failed by the platform's fault  {answer.platform_failed}")
    return Exit.DONE


def each(context: Context, names: Iterable[str], do: Callable[[str], None]) -> int:
    """Do it for each, going on after one that is refused; the first error is the exit code."""
    code = int(Exit.DONE)
    for name in names:
        try:
            do(name)
        except FarmError as error:
            if error.code == Exit.NO_MASTER:
                raise
            context.report(error)
            code = code or int(error.code)
    return code


def tell_done(context: Context, subject: str, body: bytes, verb: str) -> None:
    """The answer to an order, in a line."""
    if context.json:
        context.line(body)
        return
    done = decode(body, Done)
    context.say(about(subject, done.detail or done.state or verb))
    if done.hint:
        context.say(f"  {done.hint}")


def about(subject: str, text: str) -> str:
    """A sentence about "job 42", which is named once: the master's sentences mostly name it already."""
    kind = subject.partition(" ")[0]
    return text if text.startswith(f"{kind} ") else f"{subject}: {text}"
