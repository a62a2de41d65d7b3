"""Nodes."""

from __future__ import annotations

import time
from argparse import Namespace
from collections.abc import Callable

from ffrtmp.api import Invitation, InviteRequest, Labels, NodeView, Page, RootView
from ffrtmp.errors import Exit, FarmError

from ..asking import ask, needs_terminal
from ..client import decode, pages, path_of
from ..context import Context
from ..patience import Patience
from ..render import cores, details, duration, local_time, size, table
from .jobs import joined, tell_done

LOOK_S = 0.5
HEAD = ("NODE", "STATE", "ADDRESS", "JOBS", "CPU", "MEMORY", "LOAD", "HEARD", "LABELS")


def list_nodes(args: Namespace, context: Context) -> int:
    """All nodes, now or when enough of them are ready."""
    if args.wait is not None:
        _wait(context, args.wait)
    bodies = list(pages(context.master, "/v1/nodes", {"limit": 1000}))
    if context.json:
        context.document(joined(bodies))
        return Exit.DONE
    views = [view for body in bodies for view in decode(body, Page[NodeView]).items]
    table(context.out, HEAD, (_row(view) for view in views))
    if not views:
        context.note("there is no node yet; `ffrtmpctl nodes invite` makes a ticket for one")
    return Exit.DONE


def _wait(context: Context, wanted: int) -> None:
    """Return when so many nodes are ready; raises FarmError when that takes longer than an answer may."""
    limit_s = context.master.timeout_s
    ends_s = time.monotonic() + limit_s
    patience = Patience(context.note, limit_s=limit_s, sleep=context.master.sleep)
    ready = 0
    while ready < wanted:
        try:
            bodies = list(pages(context.master, "/v1/nodes", {"limit": 1000}))
        except FarmError as error:
            patience.failed(error)
            continue
        patience.answered()
        states = [view.state for body in bodies for view in decode(body, Page[NodeView]).items]
        ready = states.count("ready")
        if ready < wanted and time.monotonic() >= ends_s:
            there = f"{ready} of the {len(states)} nodes" if states else "no node"
            what = f"{wanted} should be ready, and after {limit_s:g} s {there} {'are' if ready > 1 else 'is'}"
            hint = "`ffrtmpctl nodes list` shows them, each agent's log says what it waits for; --timeout waits longer"
            raise FarmError(what, hint=hint, code=Exit.FAILED)
        if ready < wanted:
            context.master.sleep(LOOK_S)


def _row(view: NodeView) -> tuple[str, ...]:
    return (
        view.node,
        view.state,
        view.address,
        *(used.replace(" of ", "/") for used in _used(view)),
        f"{view.load[0]:.1f}" if view.load else "",
        _heard(view),
        " ".join(view.labels),
    )


def _heard(view: NodeView) -> str:
    return "" if view.heard_s is None else f"{duration(view.heard_s)} ago"


def describe(args: Namespace, context: Context) -> int:
    """All of one node."""
    reply = context.master.call("GET", path_of("nodes", args.node))
    if context.json:
        context.document(reply.body)
        return Exit.DONE
    view = reply.into(NodeView)
    heard = _heard(view)
    context.say(f"node {view.node} is {view.state}" + (f", heard {heard}" if heard else ""))
    details(context.out, _about(view))
    if view.roots:
        context.say("  media roots")
        for root in view.roots:
            context.say(f"    {_root(root)}")
    if view.facts:
        context.say("  facts")
        details(context.out, [(name, _fact(view.facts[name])) for name in sorted(view.facts)], indent="    ")
    return Exit.DONE


def _used(view: NodeView) -> tuple[str, str, str]:
    """Slots, cores and memory, each as used of offered; "-" of a node that was never heard."""
    return (
        _share(view.slots_used, view.slots, str),
        _share(view.cpu_used_milli, view.cpu_milli, cores),
        _share(view.memory_used_bytes, view.memory_bytes, size),
    )


def _share(used: int, whole: int | None, show: Callable[[int], str]) -> str:
    return "-" if whole is None else f"{show(used)} of {show(whole)}"


def _about(view: NodeView) -> list[tuple[str, str]]:
    slots, cpu, memory = _used(view)
    return [
        ("address", view.address),
        ("key", view.key),
        ("labels", " ".join(view.labels)),
        ("jobs", slots + (f": {' '.join(view.jobs)}" if view.jobs else "")),
        ("cores", cpu),
        ("memory", memory),
        ("free memory", size(view.free_memory_bytes) if view.free_memory_bytes else ""),
        ("load", " ".join(f"{load:.2f}" for load in view.load)),
        ("life", str(view.incarnation or "")),
        ("engines", " ".join(view.engines)),
        ("encoders", " ".join(view.encoders)),
        ("protocols", " ".join(view.protocols)),
    ]


def _root(root: RootView) -> str:
    rights = " and ".join(word for word, has in (("read", root.readable), ("written", root.writable)) if has)
    return f"{root.name}: {root.path}, {rights or 'not used'}, {size(root.free_bytes)} free ({root.identity})"


def _fact(value: object) -> str:
    if isinstance(value, (list, tuple)):
        return " ".join(str(item) for item in value)
    return str(value)


def invite(args: Namespace, context: Context) -> int:
    """A ticket for another host."""
    body = InviteRequest(name=args.name, expires_s=args.expires, address=args.address, replace=args.replace)
    reply = context.master.call("POST", "/v1/nodes/invite", body=body)
    if context.json:
        context.document(reply.body)
        return Exit.DONE
    ticket = reply.into(Invitation)
    context.note(f"good for one host, until {local_time(ticket.expires)}; on that host say:")
    context.out.write(f"ffrtmp-agent join {ticket.ticket}\n")
    if ticket.opened:
        context.note(f"the master now listens for agents on the network, at {ticket.hub}")
    if "//localhost:" in ticket.hub and not args.address:
        context.note("another host cannot reach this one as localhost: say how it can with --address HOST")
    return Exit.DONE


def order(args: Namespace, context: Context) -> int:
    """accept, drain, resume."""
    reply = context.master.call("POST", path_of("nodes", args.node, args.verb), repeatable=True)
    tell_done(context, f"node {args.node}", reply.body, args.verb)
    return Exit.DONE


def remove(args: Namespace, context: Context) -> int:
    """Take one out for good, after asking."""
    if not args.yes:
        needs_terminal("nodes remove")
        ask(context.err, f"remove node {args.node} for good (to be back, its host has to join again)")
    reply = context.master.call("DELETE", path_of("nodes", args.node), query={"force": 1 if args.force else None})
    tell_done(context, f"node {args.node}", reply.body, "removed")
    return Exit.DONE


def label(args: Namespace, context: Context) -> int:
    """Set the labels."""
    if bool(args.labels) == args.clear:
        hint = f"ffrtmpctl nodes label {args.node} fast eu, or --clear"
        raise FarmError("which labels? give some, or --clear for none", hint=hint, code=Exit.USAGE)
    body = Labels(labels=tuple(args.labels))
    tell_done(
        context,
        f"node {args.node}",
        context.master.call("PUT", path_of("nodes", args.node, "labels"), body=body).body,
        "labelled",
    )
    return Exit.DONE
