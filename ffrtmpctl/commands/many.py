"""`cancel` and `retry`: of named jobs, or of all that a filter finds."""

from __future__ import annotations

from argparse import Namespace

import msgspec

from ffrtmp.api import Many, Page, Selection, Submitted
from ffrtmp.errors import Exit, FarmError

from ..asking import ask, needs_terminal
from ..client import decode, path_of
from ..context import Context
from ..parser_jobs import needs_choice
from .jobs import about, each, tell_done

COUNTED = 1000  # how many jobs are looked at before asking


def many(args: Namespace, context: Context) -> int:
    """Cancel or retry; `args.verb` says which."""
    filters = needs_choice(args)
    if args.jobs:
        return each(context, args.jobs, lambda job: _one(context, job, args.verb))
    if not args.yes:
        _confirm(args, context, filters)
    selection = msgspec.convert({**filters, "limit": args.limit}, Selection)
    reply = context.master.call("POST", path_of("jobs", args.verb), body=selection, repeatable=args.verb == "cancel")
    if context.json:
        context.document(reply.body)
    return _tell(context, reply.into(Many), args)


def _one(context: Context, job: str, verb: str) -> None:
    if verb == "cancel":
        tell_done(
            context, f"job {job}", context.master.call("POST", path_of("jobs", job, verb), repeatable=True).body, verb
        )
        return
    reply = context.master.call("POST", path_of("jobs", job, verb))
    if context.json:
        context.line(reply.body)
        return
    for made in reply.into(Submitted).items:
        context.say(f"job {made.job} is job {job} again, {made.state}" + (f": {made.reason}" if made.reason else ""))


def _confirm(args: Namespace, context: Context, filters: dict[str, str]) -> None:
    """Ask a person; raises FarmError when nobody can be asked or the answer is no."""
    needs_terminal(f"jobs {args.verb} by filter")
    body = context.master.call("GET", "/v1/jobs", query={**filters, "limit": COUNTED}).body
    page = decode(body, Page[msgspec.Raw])
    if not page.items:
        raise FarmError("no job fits the filter", code=Exit.NOT_FOUND)
    count = f"more than {len(page.items)}" if page.next else str(len(page.items))
    words = " ".join(f"{name}={value}" for name, value in filters.items())
    ask(context.err, f"{args.verb} {count} job{'' if count == '1' else 's'} ({words})")


def _tell(context: Context, answer: Many, args: Namespace) -> int:
    done = {"cancel": "canceled", "retry": "submitted again"}[args.verb]
    if not context.json:
        count = len(answer.done)
        context.say(f"{count} job{'' if count == 1 else 's'} {done}")
        if count + len(answer.refused) >= args.limit:
            context.note(f"that was --limit {args.limit}; there may be more")
        for job, reason in answer.refused.items():
            context.note(about(f"job {job}", reason))
    return Exit.REFUSED if answer.refused else Exit.DONE
