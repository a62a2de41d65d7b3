"""Which node gets which job, or the reason why none does.

A pass looks at the lanes' heads in the order of their rank and gives each to the fitting node with the most room. A head that
fits nowhere is passed over, and its whole lane with it: all in it need the same. So no job starts on a node while a
higher-ranked job that fits the node's free capacity waits (P7).

A pass after every event would be too dear with hundreds of nodes and lanes, so it looks at pairs that may have become possible:
a lane in which somebody new waits against every node, any other lane against the nodes whose room has grown. A pair that
did not fit and in which nothing has changed still does not fit.

A job that needs much of a node could wait for ever behind small ones, and so could one that was paused and waits for its
cores on the node where its memory is. After `reserve_after_s` the best-ranked such job gets one node reserved: nothing
else starts there until it fits. One reservation at a time, and never against `live`.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from dataclasses import replace

from . import handout
from .job import Attempt, Job, Queue, Requirements, State, Want
from .node import Capacity, Contact, Node
from .queue import LaneKey, Rank, rank
from .world import NOTHING, Reservation, Usage, World, lane_of

GIB = 1 << 30
NOT_HEARD = "it was not heard yet since the master started"
REASONS_TOLD = 5
Room = tuple[
    int, int, str
]  # of a node: used less offered, of cores and of memory, and its name; the smaller has more room


def never(capacity: Capacity, labels: frozenset[str], need: Requirements) -> str | None:
    """Why a node could not run this even if it were empty; None if it could. `labels` are the operator's."""
    if need.engine not in capacity.engines:
        return f"it has no engine {need.engine}"
    for what, wanted, there in (
        ("no proved encoder", need.encoders, capacity.encoders),
        ("no media root", need.roots, capacity.roots),
        ("no label", need.labels, capacity.labels | labels),
    ):
        missing = wanted - there
        if missing:
            return f"it has {what} {', '.join(sorted(missing))}"
    for feature in sorted(need.features - capacity.features):
        return _forbidden(feature)
    return _short(capacity, NOTHING, need)


def _forbidden(feature: str) -> str:
    """What the node's owner has not allowed, by the name of the setting that would."""
    if feature == "run":
        return "its agent's setting allow_run is off: it takes no plain arguments"
    return f"its agent's setting protocols has no {feature.removeprefix('protocol:')}"


def no_slot(slots: int) -> str:
    """Of a node that offers so many slots, and has none left."""
    return (
        f"all of its {slots} slots are taken" if slots > 1 else "its only slot is taken" if slots else "it has no slot"
    )


def _short(capacity: Capacity, usage: Usage, need: Requirements) -> str | None:
    """What of the countable things is short, in words; None if nothing is."""
    if usage.slots + 1 > capacity.slots:
        return no_slot(capacity.slots)
    if usage.cpu_milli + need.cpu_milli > capacity.cpu_milli:
        free = (capacity.cpu_milli - usage.cpu_milli) / 1000
        return f"{free:g} of {capacity.cpu_milli / 1000:g} cores are free, {need.cpu_milli / 1000:g} are needed"
    if usage.memory_bytes + need.memory_bytes > capacity.memory_bytes:
        free = (capacity.memory_bytes - usage.memory_bytes) / GIB
        return f"{free:.1f} GiB of memory are free, {need.memory_bytes / GIB:.1f} are needed"
    if usage.scratch_bytes + need.scratch_bytes > capacity.scratch_bytes and need.scratch_bytes:
        free = (capacity.scratch_bytes - usage.scratch_bytes) / GIB
        return f"{free:.1f} GiB of scratch space are free, {need.scratch_bytes / GIB:.1f} are needed"
    return None


def farewell(world: World, contact: Contact) -> str:
    """Of an agent that is away: since when, and how long that loses its node none of its jobs."""
    since_s = max(0.0, world.listening_s - contact.heard_s)
    return f"said goodbye {since_s:.0f} s ago and is given {world.rules.away_after_s:g} s to be back"


def closed(world: World, node: Node, contact: Contact | None) -> str | None:
    """Why a node takes nothing at all just now; None if it does."""
    if contact is None:
        return NOT_HEARD
    if contact.lost:
        return "it is lost"
    if contact.away:
        return f"its agent {farewell(world, contact)}"
    if node.drained:
        return "it is drained"
    if contact.hold_until_s > world.now_s:
        return "it refused the last job for want of room"
    return None


def obstacle(world: World, job: Job, node: Node) -> str | None:
    """Why this job does not start on this node now; None if it could."""
    need = job.terms.requirements
    usage = world.usage.get(node.name, NOTHING)
    return (
        closed(world, node, world.contacts.get(node.name))
        or never(node.capacity, node.labels, need)
        or _short(node.capacity, usage, need)
        or _reserved(world, job, node)
    )


def _reserved(world: World, job: Job, node: Node) -> str | None:
    kept = world.reservation
    if kept is None or kept.node != node.name or job.terms.queue is Queue.LIVE:
        return None
    waits = world.jobs.get(kept.job)
    if waits is None or kept.job == job.number or (lane_of(waits) == lane_of(job) and job.number < kept.job):
        return None  # an older one of its kind has come back to the lane: it goes first, as always
    return f"it is reserved for job {kept.job}, which has waited long for so much room"


def place(world: World) -> int:
    """Hand out what waits and fits; returns how many attempts were handed out, at most `handouts_per_turn`."""
    _reopen(world)
    wake(world)
    check_reservation(world)
    most = world.rules.handouts_per_turn
    handed = 0
    while handed < most and (world.dirty_all or world.dirty_lanes or world.dirty_nodes):
        handed += _pass(world, most - handed)
    if handed < most:
        _relieve(world)
    return handed


def _pass(world: World, most: int) -> int:
    """Give the heads of lanes to nodes in the order of rank. What becomes possible meanwhile is for the next pass."""
    candidates = _candidates(world)
    heads = _heads(world, candidates)
    rooms: dict[LaneKey, list[Room]] = {}
    world.dirty_all = False
    world.dirty_lanes.clear()
    world.dirty_nodes.clear()
    handed = 0
    kept = world.reservation
    while heads:
        if handed >= most or world.reservation is not kept:
            world.dirty_all = True  # the rest is for the next turn; or more has become possible for all
            break
        _rank, lane, number = heapq.heappop(heads)
        job = world.jobs[number]
        if lane not in rooms:
            rooms[lane] = _rooms(world, job.terms.requirements, candidates[lane])
        node = _roomiest(world, job, rooms[lane])
        if node is None:
            continue
        handout.hand_out(world, job, node)
        if kept is not None and kept.job == number:
            release(world, kept)
        handed += 1
        _push(world, heads, lane)
    return handed


def _reopen(world: World) -> None:
    """Let nodes take work again that had refused some a while ago."""
    for name in list(world.held_off):
        contact = world.contacts[name]
        if contact.hold_until_s <= world.now_s:
            world.contacts.put(name, replace(contact, hold_until_s=0.0))


def wake(world: World) -> None:
    """Let paused jobs go on whose node has CPU for them again, in the order of their rank."""
    for attempt in _standing(world):
        usage = world.usage.get(attempt.node, NOTHING)
        capacity = world.nodes[attempt.node].capacity
        if usage.slots + 1 <= capacity.slots and usage.cpu_milli + attempt.requirements.cpu_milli <= capacity.cpu_milli:
            world.want(world.alter(attempt, paused=False), Want.RUN)


def _standing(world: World) -> list[Attempt]:
    """The attempts of resumed jobs that wait for CPU on nodes in contact, in the order of their jobs' rank."""
    jobs = sorted((world.jobs[n] for n in world.resuming), key=lambda j: rank(j, world.now_s, world.rules))
    attempts = [world.attempts[(job.number, job.current)] for job in jobs]
    return [a for a in attempts if a.paused and world.in_contact(a.node) is not None]


def _candidates(world: World) -> dict[LaneKey, list[Node]]:
    """For each lane the nodes that may have become possible for it since the last pass."""
    lanes = [lane for lane in world.lanes if lane[0] not in world.paused_queues]
    anywhere = world.dirty_all or any(lane in world.dirty_lanes for lane in lanes)
    everyone = _open(world, world.nodes) if anywhere else []
    changed = everyone if world.dirty_all else _open(world, world.dirty_nodes)
    return {lane: everyone if lane in world.dirty_lanes else changed for lane in lanes}


def _open(world: World, names: Iterable[str]) -> list[Node]:
    """Those of these nodes that take something, in no particular order."""
    found = [node for node in map(world.nodes.get, names) if node is not None]
    return [node for node in found if closed(world, node, world.contacts.get(node.name)) is None]


def _heads(world: World, candidates: dict[LaneKey, list[Node]]) -> list[tuple[Rank, LaneKey, int]]:
    heads: list[tuple[Rank, LaneKey, int]] = []
    for lane, nodes in candidates.items():
        if nodes:
            _push(world, heads, lane)
    return heads


def _push(world: World, heads: list[tuple[Rank, LaneKey, int]], lane: LaneKey) -> None:
    number = world.lanes.head(lane)
    if number is not None:
        # The rank ends in the job's number, so that a tie never gets as far as comparing lanes.
        heapq.heappush(heads, (rank(world.jobs[number], world.now_s, world.rules), lane, number))


def _rooms(world: World, need: Requirements, nodes: list[Node]) -> list[Room]:
    """The nodes that fit, as a heap."""
    rooms = [
        _room(world, node)
        for node in nodes
        # The cheap test first: on a busy farm it decides nearly always.
        if not _short(node.capacity, world.usage.get(node.name, NOTHING), need)
        and not never(node.capacity, node.labels, need)
    ]
    heapq.heapify(rooms)
    return rooms


def _room(world: World, node: Node) -> Room:
    usage = world.usage.get(node.name, NOTHING)
    return usage.cpu_milli - node.capacity.cpu_milli, usage.memory_bytes - node.capacity.memory_bytes, node.name


def _roomiest(world: World, job: Job, rooms: list[Room]) -> Node | None:
    """The fitting node with the most free cores, then memory; names decide a tie, so that runs repeat.

    `rooms` is what `_rooms` found earlier in this pass, in which room only becomes less and a reservation stays: so what
    fits no more is forgotten, and what has less room than it had sinks to where it belongs.
    """
    need = job.terms.requirements
    while rooms:
        node = world.nodes[rooms[0][-1]]
        room = _room(world, node)
        if _short(node.capacity, world.usage.get(node.name, NOTHING), need) or _reserved(world, job, node):
            heapq.heappop(rooms)
        elif room != rooms[0]:
            heapq.heapreplace(rooms, room)
        else:
            return node
    return None


def _relieve(world: World) -> None:
    """Reserve a node for the best-ranked job that has waited too long and for which one can be reserved."""
    if world.reservation is not None or world.now_s - world.starved_s < world.rules.starved_every_s:
        return
    world.starved_s = world.now_s
    heads = (world.lanes.head(lane) for lane in world.lanes if lane[0] not in world.paused_queues)
    numbers = [n for n in heads if n is not None] + [a.job for a in _standing(world)]
    jobs = [world.jobs[n] for n in numbers]
    for job in sorted(jobs, key=lambda j: rank(j, world.now_s, world.rules)):
        waited_s = world.now_s - job.arrival_s
        if job.terms.queue is not Queue.LIVE and waited_s >= world.rules.reserve_after_s and reserve(world, job):
            return


def reserve(world: World, job: Job) -> bool:
    """Keep free the node that could run this job and lacks least for it; False where no node ever could."""
    need = job.terms.requirements
    attempt = world.current(job)  # of one that was paused: it can go on nowhere else
    able = [
        (world.usage.get(node.name, NOTHING).cpu_milli - node.capacity.cpu_milli, node.name)
        for node in world.nodes.rows()
        if (attempt is None or node.name == attempt.node)
        and not closed(world, node, world.contacts.get(node.name))
        and not never(node.capacity, node.labels, need)
    ]
    if not able:
        return False
    _lacks, best = min(able)
    world.set("reservation", Reservation(job.number, best))
    world.note(job, "reserved", f"{best} takes nothing else until this job fits", node=best)
    return True


def release(world: World, kept: Reservation) -> None:
    """End the reservation in force; its node may take other work again."""
    world.set("reservation", None)
    world.dirty_nodes.add(kept.node)


def check_reservation(world: World) -> None:
    """A reservation ends with its job's waiting, and where its node takes nothing or could not run the job any more."""
    kept = world.reservation
    if kept is None:
        return
    job = world.jobs.get(kept.job)
    node = world.nodes.get(kept.node)
    if (
        job is None
        or not _waits(world, job, kept.node)
        or node is None
        or closed(world, node, world.contacts.get(node.name))
        or never(node.capacity, node.labels, job.terms.requirements)
    ):
        release(world, kept)


def _waits(world: World, job: Job, node: str) -> bool:
    """Whether a reservation of this node still helps the job."""
    if job.state is State.QUEUED:
        return job.terms.queue not in world.paused_queues
    return any(a.job == job.number and a.node == node for a in _standing(world))


def could_ever(world: World, need: Requirements) -> str | None:
    """None if some known node could run this when empty, whether it is in contact or not; else why none could."""
    nodes: dict[str, list[str]] = {}  # reason -> the nodes that have it: it is told once
    for node in world.nodes.rows():
        reason = unable(world, node, need)
        if reason is None:
            return None
        nodes.setdefault(reason, []).append(node.name)
    told = [f"{_listed(names)}: {reason}" for reason, names in nodes.items()]
    return "; ".join(told[:REASONS_TOLD]) or "no node is known"


def unable(world: World, node: Node, need: Requirements) -> str | None:
    """Why a node could not run this even if it were empty; None if it could.

    Of a node that is not heard yet nobody knows what it has now: what is kept of it may be old, or nothing at all.
    """
    reason = never(node.capacity, node.labels, need)
    return NOT_HEARD if reason is not None and world.contacts.get(node.name) is None else reason


def _listed(names: list[str]) -> str:
    more = len(names) - REASONS_TOLD
    return ", ".join(names[:REASONS_TOLD]) + (f" and {more} more" if more > 0 else "")
