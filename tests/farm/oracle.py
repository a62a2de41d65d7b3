"""Who should be handed out where, found the long way: every waiting job against every node, nothing remembered (P6, P7)."""

from __future__ import annotations

from dataclasses import dataclass

from ffrtmp.farm.job import Job, Queue, Requirements, State
from ffrtmp.farm.node import Node
from ffrtmp.farm.world import World, lane_of


@dataclass
class Room:
    """What is free on a node."""

    cpu: int
    memory: int
    scratch: int
    slots: int

    def fits(self, need: Requirements) -> bool:
        scratch = need.scratch_bytes <= self.scratch or not need.scratch_bytes
        return need.cpu_milli <= self.cpu and need.memory_bytes <= self.memory and scratch and self.slots >= 1

    def take(self, need: Requirements, *, awake: bool = True, asleep: bool = True) -> None:
        self.cpu -= need.cpu_milli * awake
        self.slots -= awake
        self.memory -= need.memory_bytes * asleep
        self.scratch -= need.scratch_bytes * asleep


def rooms(world: World) -> dict[str, Room]:
    """The free room of every node, from the attempts that are there."""
    free = {
        n.name: Room(n.capacity.cpu_milli, n.capacity.memory_bytes, n.capacity.scratch_bytes, n.capacity.slots)
        for n in world.nodes.rows()
    }
    for attempt in world.attempts.rows():
        free[attempt.node].take(attempt.requirements, awake=not attempt.paused)
    return free


def takes_work(world: World, node: Node) -> bool:
    contact = world.contacts.get(node.name)
    if contact is None or contact.lost or contact.away or node.drained:
        return False
    return contact.hold_until_s <= world.now_s


def can(node: Node, need: Requirements) -> bool:
    """Whether the node could run it when empty."""
    capacity = node.capacity
    empty = Room(capacity.cpu_milli, capacity.memory_bytes, capacity.scratch_bytes, capacity.slots)
    return (
        need.engine in capacity.engines
        and need.encoders <= capacity.encoders
        and need.roots <= capacity.roots
        and need.labels <= capacity.labels | node.labels
        and need.features <= capacity.features
        and empty.fits(need)
    )


def rank(world: World, job: Job) -> tuple[int, int]:
    """Queue, priority, arrival; with ageing a step for each interval, up to the best of `default`."""
    level = 3 * int(job.terms.queue) + int(job.terms.priority)
    interval_s = world.rules.ageing_interval_s
    if interval_s and job.terms.queue is not Queue.LIVE:
        for _ in range(int((world.now_s - job.arrival_s) // interval_s)):
            level = max(3, level - 1)
    return level, job.number


def handouts(world: World) -> list[tuple[int, str]]:
    """The (job, node) pairs that the next `Place` has to hand out, in order."""
    free = rooms(world)
    woken = _wake(world, free)
    waiting = sorted(
        (j for j in world.jobs.rows() if j.state is State.QUEUED and j.terms.queue not in world.paused_queues),
        key=lambda j: rank(world, j),
    )
    kept = _reservation(world, woken)
    found: list[tuple[int, str]] = []
    again = True
    while again:
        again = False
        for job in list(waiting):
            if len(found) == world.rules.handouts_per_turn:
                return found
            node = _best(world, job, free, kept)
            if node is None:
                continue
            found.append((job.number, node))
            free[node].take(job.terms.requirements)
            waiting.remove(job)
            if kept is not None and kept[0].number == job.number:
                kept, again = None, True  # its node is open to all again, the best-ranked first
                break
    return found


def _wake(world: World, free: dict[str, Room]) -> set[int]:
    """Give released jobs their cores back; the jobs that go on."""
    woken = set()
    resuming = [j for j in world.jobs.rows() if j.state is State.RESUMING]
    for job in sorted(resuming, key=lambda j: rank(world, j)):
        attempt = world.attempts[(job.number, job.current)]
        room = free[attempt.node]
        need = attempt.requirements
        in_contact = world.in_contact(attempt.node) is not None
        if attempt.paused and in_contact and room.slots >= 1 and room.cpu >= need.cpu_milli:
            room.take(need, asleep=False)
            woken.add(job.number)
    return woken


def _reservation(world: World, woken: set[int]) -> tuple[Job, str] | None:
    kept = world.reservation
    job = world.jobs.get(kept.job) if kept is not None else None
    node = world.nodes.get(kept.node) if kept is not None else None
    if job is None or node is None:
        return None
    if job.state is State.RESUMING:
        attempt = world.attempts[(job.number, job.current)]
        if job.number in woken or not attempt.paused or attempt.node != node.name:
            return None
    elif job.state is not State.QUEUED or job.terms.queue in world.paused_queues:
        return None
    return (job, node.name) if takes_work(world, node) and can(node, job.terms.requirements) else None


def _best(world: World, job: Job, free: dict[str, Room], kept: tuple[Job, str] | None) -> str | None:
    need = job.terms.requirements
    fitting = [
        n
        for n in world.nodes.rows()
        if takes_work(world, n) and can(n, need) and free[n.name].fits(need) and not _kept_from(job, n.name, kept)
    ]
    if not fitting:
        return None
    return min(fitting, key=lambda n: (-free[n.name].cpu, -free[n.name].memory, n.name)).name


def _kept_from(job: Job, node: str, kept: tuple[Job, str] | None) -> bool:
    if kept is None or kept[1] != node or job.terms.queue is Queue.LIVE or kept[0].number == job.number:
        return False
    return not (lane_of(job) == lane_of(kept[0]) and job.number < kept[0].number)
