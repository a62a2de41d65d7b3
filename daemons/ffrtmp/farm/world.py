"""All that the farm knows, as tables of frozen records (table.py says how their writes are taken back).

What can be derived is derived at the write, going both ways alike (an undo is a write too): which attempts a node
holds and how much of it they use, the lanes, who is known by which UUID. The lanes, the back-off heap and what is unsettled
may hold entries that are no longer true; whoever reads them looks at the record first. So an undo never takes anything out.
A turn looks at these, not at all jobs and attempts.

Two clocks: `now_s` is the farm's monotonic clock. `listening_s` stands while the master does not listen, and silence is
measured on it, so that a master that was stopped for a minute calls nobody lost. Leases and waits run on `now_s`.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from .effects import AttemptOver, Changes, Effect, Record, SendOrder
from .events import Hello
from .job import Attempt, AttemptId, Failure, Grant, Job, Queue, State, Terms, Want, check
from .node import Contact, Node
from .queue import LaneKey, Lanes
from .rules import Rules
from .table import K, Table, Undo, V

TERMS_KEPT = 10_000
DEAF_S = 1.0  # the shell looks several times a second: a longer gap means that it did not listen


@dataclass(frozen=True, slots=True)
class Usage:
    """What the attempts on a node hold of it."""

    cpu_milli: int = 0
    memory_bytes: int = 0
    scratch_bytes: int = 0
    slots: int = 0

    def plus(self, attempt: Attempt, sign: int) -> Usage:
        """With this attempt added (1) or taken away (-1). One that stands still keeps memory and scratch only."""
        need = attempt.requirements
        awake = 0 if attempt.paused else sign
        return Usage(
            self.cpu_milli + awake * need.cpu_milli,
            self.memory_bytes + sign * need.memory_bytes,
            self.scratch_bytes + sign * need.scratch_bytes,
            self.slots + awake,
        )


@dataclass(frozen=True, slots=True)
class Newcomer:
    """A Hello that waits for a sign of the session it would replace (P9). Kept under the node that was asked."""

    hello: Hello
    asked_s: float
    until_s: float


@dataclass(frozen=True, slots=True)
class Reservation:
    """The one node that is kept free for a starved wide job."""

    job: int
    node: str


NOTHING = Usage()


class World:
    """The tables, their indexes and the few ways of changing them that all rules share."""

    def __init__(self, rules: Rules, lineage: str, now_s: float) -> None:
        """An empty farm at `now_s`, which is when the master began to listen."""
        self.rules = rules
        self.now_s = now_s
        self.effects: list[Effect] = []
        self.undo: Undo = []
        self.jobs: Table[int, Job] = Table(self.undo, self._job_written)
        self.ended: Table[int, Job] = Table(self.undo)  # became terminal in this turn
        self.attempts: Table[AttemptId, Attempt] = Table(self.undo, self._attempt_written)
        self.grants: Table[int, Grant] = Table(self.undo)
        self.nodes: Table[str, Node] = Table(self.undo, self._node_written)
        self.contacts: Table[str, Contact] = Table(self.undo, self._contact_written)
        self.newcomers: Table[str, Newcomer] = Table(self.undo)
        self.ancestors: Table[str, int] = Table(self.undo)  # lineage -> the turn at which it was left
        self._values: Table[str, tuple[Any]] = Table(self.undo)
        # Derived; see the essay above.
        self.lanes = Lanes(lambda number: lane_of(self.jobs.get(number)))
        self.backoff: list[tuple[float, int]] = []
        self.resuming: dict[int, None] = {}
        self.usage: dict[str, Usage] = {}
        self.on_node: dict[str, dict[AttemptId, None]] = {}
        self.of_job: dict[int, dict[AttemptId, None]] = {}
        self.by_identity: dict[tuple[str, int], AttemptId] = {}
        self.by_uuid: dict[str, int] = {}
        self.unsettled: dict[AttemptId, None] = {}  # the node may not have, or not do, what is wanted there
        self.at_address: dict[str, dict[str, None]] = {}  # the nodes whose records have it
        self.there: dict[str, None] = {}  # nodes in contact
        self.quietest_s = now_s  # on the listening clock: nobody in contact was last heard before
        self.held_off: dict[str, None] = {}  # nodes that get no work for a while
        self.dirty_nodes: set[str] = set()
        self.dirty_lanes: set[LaneKey] = set()
        self.dirty_all = True
        self.starved_s = now_s  # when starved jobs were last looked for
        self.terms: dict[Terms, Terms] = {}  # one object for equal ones
        # Kept for pace only; forgetting them costs a repeated message.
        self.sent_s: dict[AttemptId, float] = {}
        for name, value in {
            "lineage": lineage,
            "turn": 0,
            "next_job": 1,
            "paused_queues": frozenset(),
            "reservation": None,
            "started_s": now_s,
            "grace_over": False,  # whoever has not come back after the start is called lost from here on
            "looked_s": now_s,  # when the master last looked who is silent
            "deaf_s": 0.0,  # how long the listening clock has stood in all
            "restores": 0,  # how often the store has been put back to a backup
            "branched": False,  # this master has found that its store was put back to a backup
        }.items():
            self._values.restore(name, (value,))

    # ---- single values -------------------------------------------------------------------------------------------

    def value(self, name: str) -> Any:
        """One of the single values: lineage, next_job, paused_queues, reservation, ..."""
        return self._values[name][0]

    def set(self, name: str, value: Any) -> None:
        """Write one of the single values, undoably."""
        self._values.put(name, (value,))

    @property
    def lineage(self) -> str:
        """The name of this store's history."""
        return str(self.value("lineage"))

    @property
    def paused_queues(self) -> frozenset[Queue]:
        """Queues that start nothing."""
        paused: frozenset[Queue] = self.value("paused_queues")
        return paused

    @property
    def reservation(self) -> Reservation | None:
        """The reservation in force."""
        reservation: Reservation | None = self.value("reservation")
        return reservation

    @property
    def listening_s(self) -> float:
        """The clock on which silence is measured.

        It stands as soon as nobody has looked for too long, not only from the next look on: what is gathered after a gap
        is applied before that look, and would else be dated ahead of the clock by the length of the gap.
        """
        looked_s = float(self.value("looked_s"))
        deaf = self.now_s - looked_s > max(self.rules.heartbeat_s, DEAF_S)
        return (looked_s if deaf else self.now_s) - float(self.value("deaf_s"))

    def looked(self) -> None:
        """The master listens and looks: if the listening clock stood, it goes on from there."""
        self.set("deaf_s", self.now_s - self.listening_s)
        self.set("looked_s", self.now_s)

    # ---- what the listeners keep ---------------------------------------------------------------------------------

    def _job_written(self, number: int, old: Job | None, new: Job | None) -> None:
        before = lane_of(old)
        after = lane_of(new)
        if before != after:
            if before is not None:
                self.lanes.left(before)
            if after is not None:
                self.lanes.entered(after, number)
                # Behind another one it fits where that one fits, and that one is looked for already.
                if self.lanes.head(after) == number:
                    self.dirty_lanes.add(after)
        if (
            new is not None
            and new.state is State.RETRYING
            and (old is None or old.due_s != new.due_s or old.state != new.state)
        ):
            heapq.heappush(self.backoff, (new.due_s, number))
        if new is not None and new.state is State.RESUMING:
            self.resuming[number] = None
        else:
            self.resuming.pop(number, None)
        if old is None and new is not None:
            self.by_uuid[new.uuid] = number
        elif new is None and old is not None:
            self.by_uuid.pop(old.uuid, None)

    def _attempt_written(self, key: AttemptId, old: Attempt | None, new: Attempt | None) -> None:
        if old is not None:
            usage = self.usage.get(old.node, NOTHING).plus(old, -1)
            self.usage[old.node] = usage
            self._drop(self.on_node, old.node, key)
            self._drop(self.of_job, old.job, key)
            if old.node not in self.on_node:
                del self.usage[old.node]
            self.by_identity.pop((old.uuid, old.number), None)
            self.dirty_nodes.add(old.node)
        if new is not None:
            self.usage[new.node] = self.usage.get(new.node, NOTHING).plus(new, 1)
            self.on_node.setdefault(new.node, {})[key] = None
            self.of_job.setdefault(new.job, {})[key] = None
            self.by_identity[(new.uuid, new.number)] = key
            self.unsettled[key] = None
        else:
            self.sent_s.pop(key, None)

    @staticmethod
    def _drop(index: dict[K, dict[V, None]], of: K, key: V) -> None:
        index[of].pop(key, None)
        if not index[of]:
            del index[of]

    def _node_written(self, name: str, old: Node | None, new: Node | None) -> None:
        self.dirty_nodes.add(name)
        if old is not None:
            self._drop(self.at_address, old.address, name)
        if new is not None:
            self.at_address.setdefault(new.address, {})[name] = None

    def _contact_written(self, name: str, old: Contact | None, new: Contact | None) -> None:
        if (old is None) != (new is None) or (
            old and new and (old.lost, old.away, old.hold_until_s) != (new.lost, new.away, new.hold_until_s)
        ):
            self.dirty_nodes.add(name)
        if new is not None and not new.lost:
            self.there[name] = None
            self.quietest_s = min(self.quietest_s, new.heard_s)
        else:
            self.there.pop(name, None)
        if new is not None and new.hold_until_s > 0.0:
            self.held_off[name] = None
        else:
            self.held_off.pop(name, None)
        if new is not None and (old is None or new.beats is not old.beats):
            self.unsettled.update((key, None) for key, beat in new.beats.items() if beat.stage == "paused")

    # ---- undo and changes ----------------------------------------------------------------------------------------

    def undo_to(self, mark: int) -> None:
        """Take back every write after the list had this length."""
        while len(self.undo) > mark:
            table, key, old = self.undo.pop()
            table.restore(key, old)
        self.dirty_all = True

    def changes(self) -> tuple[Changes, dict[int, Job]]:
        """What has been written since the last `keep`, and the jobs that ended."""
        changes = Changes()
        kept: Mapping[int, dict[Any, object]] = {
            id(self.jobs): changes.jobs,
            id(self.attempts): changes.attempts,
            id(self.grants): changes.grants,
            id(self.nodes): changes.nodes,
        }
        for table, key, _old in self.undo:
            rows = kept.get(id(table))
            if rows is not None:
                rows[key] = table.get(key)
        return changes, {job.number: job for job in self.ended.rows()}

    def keep(self) -> None:
        """What has been written is committed: there is no way back from here."""
        self.undo.clear()
        for number in list(self.ended):
            self.ended.restore(number, None)

    # ---- questions -----------------------------------------------------------------------------------------------

    def in_contact(self, node: str) -> Contact | None:
        """The live session of a node, or None."""
        contact = self.contacts.get(node)
        return contact if contact is not None and not contact.lost else None

    def interned(self, terms: Terms) -> Terms:
        """One object for all jobs with these terms: a million waiting jobs share a handful."""
        if len(self.terms) >= TERMS_KEPT:
            self.terms.clear()  # who has one keeps it; only the sharing begins anew
        return self.terms.setdefault(terms, terms)

    def last_heard_s(self, node: str) -> float:
        """When a node was last heard, on the farm's clock; one that was not heard at all: when the master started."""
        contact = self.contacts.get(node)
        return contact.heard_at_s if contact is not None else float(self.value("started_s"))

    def attempts_of(self, job: int) -> list[Attempt]:
        """The attempts of a job that may still be alive, in order."""
        return [self.attempts[key] for key in sorted(self.of_job.get(job, ()))]

    def attempts_on(self, node: str) -> list[Attempt]:
        """The attempts that hold something of a node, in order."""
        return [self.attempts[key] for key in sorted(self.on_node.get(node, ()))]

    def on(self, node: str, uuid: str, number: int) -> Attempt | None:
        """The attempt of that identity if it is on this node: a node speaks for nobody else's."""
        key = self.by_identity.get((uuid, number))
        attempt = self.attempts.get(key) if key is not None else None
        return attempt if attempt is not None and attempt.node == node else None

    def in_question(self) -> list[Attempt]:
        """The attempts whose nodes may not have, or not do, what is wanted; others are not looked at again until they change."""
        found = []
        for key in list(self.unsettled):
            attempt = self.attempts.get(key)
            if attempt is None or self._settled(attempt):
                del self.unsettled[key]
            else:
                found.append(attempt)
        return found

    def _settled(self, attempt: Attempt) -> bool:
        """Whether it was taken, is to run, and does not stand still as far as its node has said."""
        if not attempt.accepted or attempt.want is not Want.RUN:
            return False
        contact = self.contacts.get(attempt.node)
        beat = contact.beats.get(attempt.id) if contact is not None else None
        return beat is None or beat.stage != "paused"

    def doubted(self, job: int) -> list[Attempt]:
        """The attempts of a job on lost nodes that were not given up."""
        return [a for a in self.attempts_of(job) if a.doubted and not a.given_up]

    def current(self, job: Job) -> Attempt | None:
        """The attempt that the farm counts on."""
        return self.attempts.get((job.number, job.current)) if job.current else None

    # ---- the ways of changing ------------------------------------------------------------------------------------

    def born(self, job: Job, kind: str, text: str, node: str = "") -> None:
        """A job is there for the first time."""
        check(None, job.state)
        self.effects.append(Record(job.number, job.current, None, job.state, kind, text, node, job.failure))
        (self.ended if job.terminal else self.jobs).put(job.number, job)

    def move(
        self,
        job: Job,
        state: State,
        kind: str,
        text: str,
        *,
        about: int | None = None,
        node: str = "",
        cause: Failure | None = None,
        **fields: Any,
    ) -> Job:
        """Take an edge of the table and write it down (P10). A job that ends gives up whatever is left of it.

        `about` is the number of the attempt that the row speaks of, by default the current one; `fields` are what else
        changes of the job.
        """
        check(job.state, state)
        new = replace(job, state=state, **fields)
        self.effects.append(
            Record(job.number, job.current if about is None else about, job.state, state, kind, text, node, cause)
        )
        if new.terminal:
            self.jobs.put(job.number, None)
            self.ended.put(job.number, new)
            if job.number in self.grants:
                self.grants.put(job.number, None)
            for left in self.attempts_of(job.number):
                self.give_up(left)
        else:
            self.jobs.put(job.number, new)
        return new

    def note(self, job: Job, kind: str, text: str, *, about: int | None = None, node: str = "") -> None:
        """A row of history that changes no state."""
        about = job.current if about is None else about
        self.effects.append(Record(job.number, about, job.state, job.state, kind, text, node))

    def change(self, job: Job, **fields: Any) -> Job:
        """Write fields of a job that are not its state."""
        new = replace(job, **fields)
        self.jobs.put(job.number, new)
        return new

    def alter(self, attempt: Attempt, **fields: Any) -> Attempt:
        """Write fields of an attempt."""
        new = replace(attempt, **fields)
        self.attempts.put(attempt.id, new)
        return new

    def want(self, attempt: Attempt, want: Want) -> Attempt:
        """Say what an attempt is to be, and order it; the order is repeated until the node agrees."""
        new = self.alter(attempt, want=want) if attempt.want is not want else attempt
        self.order(new)
        return new

    def order(self, attempt: Attempt) -> None:
        """Send what is wanted of an attempt, where its node can hear it."""
        if self.in_contact(attempt.node) is not None:
            self.sent_s[attempt.id] = self.now_s
            self.effects.append(SendOrder(attempt.node, attempt.uuid, attempt.number, attempt.want))

    def give_up(self, attempt: Attempt) -> Attempt:
        """From now on this attempt changes nothing any more (P4)."""
        return attempt if attempt.given_up else self.want(attempt, Want.DISCARD)

    def forget(self, attempt: Attempt, how: str, failure: Failure | None = None) -> None:
        """Nothing of the attempt is left."""
        self.attempts.put(attempt.id, None)
        self.effects.append(AttemptOver(attempt.id, how, failure))


def lane_of(job: Job | None) -> LaneKey | None:
    """The lane in which a job waits, or None where it does not wait for a node."""
    if job is None or job.state is not State.QUEUED:
        return None
    terms = job.terms
    return (terms.queue, terms.priority, terms.requirements)
