"""The calls about nodes, queues, scenarios and the master itself."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import get_args

from ffrtmp import api
from ffrtmp.farm import events
from ffrtmp.farm.job import Queue

from .. import views
from ..bounds import check_labels
from ..refusal import Refusal
from ..store.backup import logs_beside
from ..submit import find_recipe
from .backend import LiveNode
from .call import Call, Reply
from .jobs import done

SLA_DEFAULT_S = 7 * 86_400.0
SQLITE_NAMES = ("-journal", "-wal", "-shm", ".lock")
INVITATION_MAX_S = 30 * 86_400.0


# ---- queues --------------------------------------------------------------------------------------------------------


async def list_queues(call: Call) -> Reply:
    """The three queues, in their order."""
    return Reply(api.Page(items=tuple(views.queue_view(each) for each in call.backend.live.queues())))


async def pause_queue(call: Call) -> Reply:
    """A paused queue starts nothing; what runs goes on."""
    return await _set_queue(call, paused=True)


async def resume_queue(call: Call) -> Reply:
    """The queue starts jobs again."""
    return await _set_queue(call, paused=False)


async def _set_queue(call: Call, *, paused: bool) -> Reply:
    name = call.param("queue")
    if name not in get_args(api.QueueName):
        raise Refusal(404, f'there is no queue "{name[:80]}"', hint=f"one of {', '.join(get_args(api.QueueName))}")
    queue = Queue[name.upper()]
    return done(await call.backend.request(lambda request: events.SetQueue(request, queue, paused), call.caller))


# ---- nodes ---------------------------------------------------------------------------------------------------------


async def list_nodes(call: Call) -> Reply:
    """A page of nodes, by name."""
    limit = call.limit()
    found = call.backend.live.nodes(call.query.get("after", ""), limit + 1)
    more, nodes = len(found) > limit, found[:limit]
    following = nodes[-1].node.name if more else ""
    return Reply(api.Page(items=tuple(views.node_view(each) for each in nodes), next=following))


async def one_node(call: Call) -> Reply:
    """One node."""
    return Reply(views.node_view(_find_node(call)))


async def invite(call: Call) -> Reply:
    """201 with a one-time ticket for a new node."""
    wanted = call.body(api.InviteRequest)
    if not 1 <= wanted.expires_s <= INVITATION_MAX_S:
        raise Refusal(422, f"expires_s must be between 1 and {INVITATION_MAX_S:g}")
    return Reply(await call.backend.invite(wanted, call.caller), status=201)


async def enroll(call: Call) -> Reply:
    """201: the key is a node's from now on."""
    return Reply(await call.backend.enroll(call.body(api.EnrollRequest), call.caller), status=201)


async def accept_node(call: Call) -> Reply:
    """A node whose start counter went back may come in once."""
    node = _find_node(call).node.name
    return done(await call.backend.request(lambda request: events.AcceptNode(request, node), call.caller))


async def drain_node(call: Call) -> Reply:
    """A drained node gets no more work; what runs there goes on."""
    node = _find_node(call).node.name
    return done(await call.backend.request(lambda request: events.DrainNode(request, node, True), call.caller))


async def resume_node(call: Call) -> Reply:
    """The node gets work again."""
    node = _find_node(call).node.name
    return done(await call.backend.request(lambda request: events.DrainNode(request, node, False), call.caller))


async def label_node(call: Call) -> Reply:
    """The operator's labels of a node, all of them."""
    node, labels = _find_node(call).node.name, call.body(api.Labels).labels
    check_labels(labels, call.service.bounds.labels)
    return done(
        await call.backend.request(lambda request: events.LabelNode(request, node, frozenset(labels)), call.caller)
    )


async def remove_node(call: Call) -> Reply:
    """The node is gone for good."""
    node, force = _find_node(call).node.name, call.flag("force")
    return done(await call.backend.request(lambda request: events.RemoveNode(request, node, force), call.caller))


def _find_node(call: Call) -> LiveNode:
    name = call.param("node")
    found = call.backend.live.node(name)
    if found is not None:
        return found
    raise Refusal(404, f'there is no node "{name[:80]}"', hint="`ffrtmpctl nodes list` shows them")


# ---- scenarios -----------------------------------------------------------------------------------------------------


async def list_scenarios(call: Call) -> Reply:
    """A page of scenarios, by name."""
    after, limit = call.query.get("after", ""), call.limit()
    names = [each for each in sorted(call.backend.recipes) if each > after]
    more, names = len(names) > limit, names[:limit]
    return Reply(api.Page(items=tuple(call.backend.recipes[each] for each in names), next=names[-1] if more else ""))


async def one_scenario(call: Call) -> Reply:
    """One scenario, in full."""
    return Reply(find_recipe(call.param("name"), call.backend.recipes))


# ---- the master ----------------------------------------------------------------------------------------------------


async def sla(call: Call) -> Reply:
    """How many production jobs were started and done in time, of those that ended since `since`."""
    text = call.query.get("since")
    since_s = call.service.now() - SLA_DEFAULT_S if text is None else _time(text)
    return Reply(views.sla(call.backend.reader.sla(since_s)))


def _time(text: str) -> float:
    """Seconds since the epoch of an ISO 8601 time; without a zone it is UTC."""
    try:
        when = datetime.fromisoformat(text)
        return (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        raise Refusal(
            400, "since is no ISO 8601 time", hint="as 2026-01-31T12:00:00Z; a + in it is written %2B"
        ) from None


async def backup(call: Call) -> Reply:
    """201: a backup is at the path, which was not there before."""
    path = _backup_path(call.body(api.BackupRequest).path, call)
    size_bytes = await call.backend.backup(path)
    turn = call.backend.version().turn
    made = api.Backup(path=str(path), logs_path=str(logs_beside(path)), size_bytes=size_bytes, turn=turn)
    return Reply(made, status=201)


def _backup_path(text: str, call: Call) -> Path:
    """Where the backup goes: a new file in one of the allowed folders, links followed; raises Refusal."""
    allowed = ", ".join(str(each) for each in call.backend.backup_folders)
    hint = f"allowed folders: {allowed}"
    if not text.startswith("/") or "\0" in text:
        raise Refusal(422, "the path of a backup is absolute", hint=hint)
    if text.endswith(SQLITE_NAMES):
        raise Refusal(
            422, f"a backup may not end in {', '.join(SQLITE_NAMES)}", hint="SQLite would take it for its own"
        )
    try:
        if Path(text).parent in call.backend.backup_folders:
            Path(text).parent.mkdir(mode=0o700, exist_ok=True)
        path = Path(text).parent.resolve(strict=True) / Path(text).name
        taken = path.exists() or path.is_symlink()
    except (OSError, RuntimeError) as error:
        raise Refusal(422, f"the folder of {text[:200]} cannot be used: {error}", hint=hint) from None
    if path.name in ("", ".", "..") or not any(
        path.parent.is_relative_to(folder.resolve()) for folder in call.backend.backup_folders
    ):
        raise Refusal(403, f"no backup may be written to {path.parent}", hint=hint)
    if taken:
        raise Refusal(409, f"{path} is there already, and a backup overwrites nothing", hint="choose another name")
    return path


async def version(call: Call) -> Reply:
    """Version, protocol, lineage and turn."""
    return Reply(call.backend.version())


async def ready(call: Call) -> Reply:
    """200 when the master serves, 503 with the reason when it does not (yet)."""
    reason = call.backend.not_ready()
    return Reply(api.Ready(ready=not reason, detail=reason), status=503 if reason else 200)


async def live(call: Call) -> Reply:
    """200: the loop turns."""
    return Reply(api.Ready(ready=True))
