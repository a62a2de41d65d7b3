"""Queues."""

from __future__ import annotations

from argparse import Namespace

from ffrtmp.api import Page, QueueView
from ffrtmp.errors import Exit

from ..client import path_of
from ..context import Context
from ..render import duration, table
from .jobs import tell_done

HEAD = ("QUEUE", "STATE", "WAITING", "RUNNING", "OLDEST WAITS")


def list_queues(args: Namespace, context: Context) -> int:
    """All queues."""
    reply = context.master.call("GET", "/v1/queues")
    if context.json:
        context.document(reply.body)
        return Exit.DONE
    table(context.out, HEAD, (_row(view) for view in reply.into(Page[QueueView]).items))
    return Exit.DONE


def _row(view: QueueView) -> tuple[str, ...]:
    oldest = duration(view.oldest_s) if view.waiting else ""
    return view.queue, "paused" if view.paused else "open", str(view.waiting), str(view.running), oldest


def order(args: Namespace, context: Context) -> int:
    """Pause or resume one."""
    reply = context.master.call("POST", path_of("queues", args.queue, args.verb), repeatable=True)
    tell_done(context, f"queue {args.queue}", reply.body, args.verb)
    return Exit.DONE
