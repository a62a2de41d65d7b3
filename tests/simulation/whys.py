"""Whether what a user is told of a job is true: each sentence of `jobs why` against what is found the long way round."""

from __future__ import annotations

from collections.abc import Callable

from farm import oracle

from ffrtmp.farm.job import Job, Requirements, State, Want
from ffrtmp.farm.node import Node
from ffrtmp.farm.why import Why
from ffrtmp.farm.world import World

NEXT = "it starts there next"
Claim = Callable[[World, Node, Requirements, oracle.Room], bool]


def _contact(world: World, node: Node, what: str) -> bool:
    contact = world.contacts.get(node.name)
    return contact is not None and bool(getattr(contact, what))


# What is said of a node, and when it is true.
CLAIMS: dict[str, Claim] = {
    "was not heard yet": lambda w, n, _need, _room: w.contacts.get(n.name) is None,
    "it is lost": lambda w, n, _need, _room: _contact(w, n, "lost"),
    "said goodbye": lambda w, n, _need, _room: _contact(w, n, "away"),
    "it is drained": lambda _w, n, _need, _room: n.drained,
    "refused the last job": lambda w, n, _need, _room: w.contacts[n.name].hold_until_s > w.now_s,
    "it has no engine": lambda _w, n, need, _room: need.engine not in n.capacity.engines,
    "it has no proved encoder": lambda _w, n, need, _room: not need.encoders <= n.capacity.encoders,
    "it has no media root": lambda _w, n, need, _room: not need.roots <= n.capacity.roots,
    "it has no label": lambda _w, n, need, _room: not need.labels <= n.capacity.labels | n.labels,
    "allow_run is off": lambda _w, n, need, _room: "run" in need.features - n.capacity.features,
    "protocols has no": lambda _w, n, need, _room: not need.features <= n.capacity.features,
    "slot": lambda _w, _n, _need, room: room.slots < 1,
    "cores are free": lambda _w, _n, need, room: need.cpu_milli > room.cpu,
    "of memory are free": lambda _w, _n, need, room: need.memory_bytes > room.memory,
    "of scratch space are free": lambda _w, _n, need, room: need.scratch_bytes > room.scratch,
    "it is reserved for job": lambda w, n, _need, _room: w.reservation is not None and w.reservation.node == n.name,
}


def untrue(world: World, number: int, told: Why | None) -> str:
    """What of it is not true, in words; empty where all is."""
    job = world.jobs.get(number)
    if told is None or job is None:
        return "" if told is None and job is None else f"of job {number}: {told}"
    if not told.sentence:
        return f"nothing is said of job {number}"
    judge = {State.QUEUED: _queued, State.RETRYING: _retrying, State.CANCELING: _canceling}.get(job.state, _there)
    wrong = judge(world, job, told)
    return f"job {number} ({job.state.value}) is said to be so: {told}; {wrong}" if wrong else ""


def _queued(world: World, job: Job, told: Why) -> str:
    if job.terms.queue in world.paused_queues:
        return "" if "is paused" in told.sentence else "its queue is paused"
    need = job.terms.requirements
    able = [node for node in world.nodes.rows() if oracle.can(node, need)]
    if bool(able) == any(each in told.sentence for each in ("no node", "no known node", "no agent takes")):
        return f"able are {[node.name for node in able]}"
    there = [n for n in able if not n.drained and (c := world.in_contact(n.name)) is not None and not c.away]
    for_nodes = told.sentence.startswith("it waits for ") and not told.sentence.startswith("it waits for room")
    if able and for_nodes == bool(there):
        return f"in reach are {[node.name for node in there]}"
    return next((wrong for name, text in told.nodes.items() if (wrong := _of_node(world, job, name, text))), "")


def _of_node(world: World, job: Job, name: str, text: str) -> str:
    node, need, room = world.nodes[name], job.terms.requirements, oracle.rooms(world)[name]
    fits = oracle.takes_work(world, node) and oracle.can(node, need) and room.fits(need)
    if text in (NEXT, ""):
        return "" if fits == (text == NEXT) or not text else f"it does not fit on {name}"
    if fits and "reserved" not in text:
        return f"it fits on {name}"
    # What a node offers when it is empty is short as well as what is left of it.
    true = any(said in text and claim(world, node, need, room) for said, claim in CLAIMS.items())
    return "" if true else f"that is not so of {name}"


def _retrying(world: World, job: Job, told: Why) -> str:
    doubted = {attempt.node for attempt in world.doubted(job.number)}
    fenced = [a for a in world.attempts_of(job.number) if a.fence_s > world.now_s]
    if fenced:
        return "" if "starts anew after that" in told.sentence else "it waits for a lease"
    if job.verdict is None:
        return "" if "it is tried again in" in told.sentence else "it is tried again"
    whole = "unless" in told.sentence and all(node in told.sentence for node in doubted)
    return "" if whole else f"a verdict waits for {doubted}"


def _canceling(world: World, job: Job, told: Why) -> str:
    nodes = {attempt.node for attempt in world.attempts_of(job.number)}
    return "" if nodes == set(told.nodes) else f"it is left on {nodes}"


def _there(world: World, job: Job, told: Why) -> str:
    attempt = world.current(job)
    if attempt is None:
        return "" if "no attempt of it is there" in told.sentence else "it has no attempt"
    if attempt.node not in told.sentence:
        return f"it is on {attempt.node}"
    settles = attempt.doubted and job.number in world.grants
    said = {
        "settled before anything else": settles,
        "is being stopped": not settles and attempt.want is Want.STOP,
        "paused by a user": not settles and job.state is State.PAUSED,
        "said goodbye": _contact(world, world.nodes[attempt.node], "away") and not attempt.doubted,
    }
    wrong = [words for words, true in said.items() if words in told.sentence and not true]
    missing = [words for words, true in list(said.items())[:3] if true and words not in told.sentence]
    return f"that is not so: {wrong}{missing}" if wrong or missing else ""
