"""What only memory knows of the farm, for people to look at: progress, load, who is in contact, why a job waits."""

from __future__ import annotations

from collections import UserDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import msgspec

from ffrtmp import wire
from ffrtmp.farm.farm import Farm
from ffrtmp.farm.job import Queue, State
from ffrtmp.farm.node import Node
from ffrtmp.farm.why import Why, why
from ffrtmp.farm.world import NOTHING
from ffrtmp.spec import Progress

from .api.backend import LiveNode, LiveQueue
from .paths import Roots
from .root_names import RootNames

_WHOLE_LOGS_KEPT = 10_000


class Told(msgspec.Struct, frozen=True):
    """What a node says of itself; kept in the store, so that a lost node can still be described."""

    facts: wire.Facts
    capacity: wire.Capacity


@dataclass(frozen=True, slots=True)
class News:
    """What a message says of its node; None where that has not changed."""

    facts: wire.Facts | None
    capacity: wire.Capacity | None

    def after(self, before: Told | None) -> Told:
        """What is known of the node with this."""
        known = before or Told(wire.Facts(), wire.Capacity(0, 0, 0))
        return Told(self.facts or known.facts, self.capacity or known.capacity)


class Announced(UserDict[str, Told]):
    """What each node says of itself. The names of the roots are put together when they are asked for and have changed."""

    _names: RootNames | None = None

    def __setitem__(self, node: str, told: Told) -> None:
        before = self.data.get(node)
        if before is None or _storages(before) != _storages(told):
            self._names = None
        super().__setitem__(node, told)

    def __delitem__(self, node: str) -> None:
        self._names = None
        super().__delitem__(node)

    @property
    def roots(self) -> Roots:
        """The media roots that each node announced, or had announced when it was last heard."""
        return {node: told.capacity.roots for node, told in self.data.items()}

    @property
    def names(self) -> RootNames:
        """What the names of media roots mean now."""
        if self._names is None:
            self._names = RootNames.of(self.roots)
        return self._names


def _storages(told: Told) -> list[tuple[str, str]]:
    return [(root.identity, root.name) for root in told.capacity.roots]


@dataclass(slots=True)
class Pulse:
    """What a node said in its last heartbeat."""

    load: tuple[float, float, float] = (0.0, 0.0, 0.0)
    free_memory_bytes: int = 0


@dataclass(slots=True)
class LiveFarm:
    """Implements the API's `Live`. `told` is kept up by the turns, `pulse` and `seen` by the switchboard."""

    farm: Farm
    told: Announced = field(default_factory=Announced)
    pulse: dict[str, Pulse] = field(default_factory=dict)
    seen: dict[int, tuple[int, Progress]] = field(default_factory=dict)  # job -> (attempt, progress)
    whole_logs: dict[tuple[int, int], None] = field(default_factory=dict)  # (job, attempt), the newest

    def keep_nodes(self, names: Iterable[str]) -> None:
        """These are all nodes that there are: forget what others have said."""
        kept = set(names)
        for name in [name for name in self.told if name not in kept]:
            del self.told[name]
        for name in [name for name in self.pulse if name not in kept]:
            del self.pulse[name]

    def progress(self, job: int) -> Progress | None:
        """The last progress heard of a job's current attempt."""
        row = self.farm.world.jobs.get(job)
        seen = self.seen.get(job)
        if row is None or seen is None or seen[0] != row.current:
            return None
        return seen[1]

    def phase(self, job: int) -> str:
        """What a running job is doing: encoding, verifying, publishing; empty where unknown."""
        world = self.farm.world
        row = world.jobs.get(job)
        attempt = world.current(row) if row is not None else None
        contact = world.in_contact(attempt.node) if attempt is not None else None
        beat = contact.beats.get(attempt.id) if contact is not None and attempt is not None else None
        if job in world.grants:
            return "publishing"
        return beat.phase.value if beat is not None else ""

    def nodes(self, after: str, limit: int) -> Sequence[LiveNode]:
        """The first `limit` nodes by name whose names come after `after`."""
        nodes = self.farm.world.nodes
        return [self._node(nodes[name]) for name in sorted(name for name in nodes if name > after)[:limit]]

    def node(self, name: str) -> LiveNode | None:
        """One node, or None."""
        node = self.farm.world.nodes.get(name)
        return None if node is None else self._node(node)

    def _node(self, node: Node) -> LiveNode:
        world = self.farm.world
        contact = world.contacts.get(node.name)
        usage = world.usage.get(node.name, NOTHING)
        told = self.told.get(node.name)
        pulse = self.pulse.get(node.name)
        state: Literal["ready", "drained", "away", "lost", "unheard"] = "ready"
        if contact is None:
            state = "unheard"
        elif contact.lost:
            state = "lost"
        elif contact.away:
            state = "away"
        elif node.drained:
            state = "drained"
        return LiveNode(
            node=node,
            state=state,
            jobs=tuple(f"{job}.{number}" for job, number in sorted(world.on_node.get(node.name, ()))),
            cpu_used_milli=usage.cpu_milli,
            memory_used_bytes=usage.memory_bytes,
            slots_used=usage.slots,
            heard_s=max(0.0, world.now_s - contact.heard_at_s) if contact is not None else None,
            load=pulse.load if pulse is not None else (),
            free_memory_bytes=pulse.free_memory_bytes if pulse is not None else 0,
            facts=told.facts if told is not None else wire.Facts(),
            capacity=told.capacity if told is not None else None,
        )

    def roots(self) -> Roots:
        """The media roots that each node announced, or had announced when it was last heard."""
        return self.told.roots

    def names(self) -> RootNames:
        """What the names of media roots mean now."""
        return self.told.names

    def queues(self) -> Sequence[LiveQueue]:
        """All three queues. What runs is counted by attempts that are there and not given up."""
        world = self.farm.world
        waiting: dict[Queue, int] = dict.fromkeys(Queue, 0)
        oldest: dict[Queue, float] = dict.fromkeys(Queue, 0.0)
        for lane in world.lanes:
            queue = lane[0]
            waiting[queue] += world.lanes.waiting(lane)
            first = world.lanes.first(lane)
            head = world.jobs.get(first) if first is not None else None
            if head is not None:
                oldest[queue] = max(oldest[queue], world.now_s - head.arrival_s)
        running = self._running()
        return [LiveQueue(q, q in world.paused_queues, waiting[q], running.get(q, 0), oldest[q]) for q in Queue]

    def _running(self) -> Mapping[Queue, int]:
        world = self.farm.world
        count: dict[Queue, int] = {}
        for attempt in world.attempts.rows():
            job = world.jobs.get(attempt.job)
            if job is not None and job.current == attempt.number and job.state in (State.RUNNING, State.ASSIGNED):
                count[job.terms.queue] = count.get(job.terms.queue, 0) + 1
        return count

    def why(self, job: int) -> Why | None:
        """Why an open job is where it is."""
        return why(self.farm.world, job)

    def log_complete(self, job: int, attempt: int) -> bool:
        """Whether the agent has said that this log has ended."""
        return (job, attempt) in self.whole_logs

    def log_ended(self, job: int, attempt: int) -> None:
        """The last chunk of this log is stored."""
        self.whole_logs[(job, attempt)] = None
        while len(self.whole_logs) > _WHOLE_LOGS_KEPT:
            del self.whole_logs[next(iter(self.whole_logs))]

    def forget(self, job: int) -> None:
        """The job has ended."""
        self.seen.pop(job, None)
