"""A host in a simulated world: the real session, and a shell round it whose disk and engines are plain tables.

What is on the disk (`dirs`, `outbox`, `seen`, the media root, which all hosts share) outlives a crash of the agent; the
session, and what it had asked for and not got, do not. Each thing that takes time on a real host takes a moment here, and the
agent may die in it: between making a directory and saying so, between the rename and its word of it.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable
from dataclasses import dataclass, field

from session.line import Line

from ffrtmp import wire
from ffrtmp.spec import Fingerprint, JobSpec, Results
from ffrtmp_agent import actions as do
from ffrtmp_agent.local import About, Local, Step
from ffrtmp_agent.session import Session

MOMENT_S = 0.3
BROKEN = wire.Failure("runtime_error", True, "Conversion failed!")
TAKEN = wire.Failure("platform_error", True, "the staging folder was taken away")
CAPACITY_SLOTS = 3


@dataclass
class Directory:
    """An attempt's directory."""

    assign: wire.Assign
    ends_s: float
    fails: bool
    intent: bool = False
    discarded: bool = False

    @property
    def print(self) -> Fingerprint:
        """Of the output that this attempt makes: no two attempts make the same bytes."""
        return Fingerprint(1000, f"{self.assign.job}.{self.assign.attempt}")


@dataclass
class Media:
    """The storage that all hosts share. `watch` is told of each rename, before it is made."""

    outputs: dict[str, Fingerprint] = field(default_factory=dict)
    staging: set[tuple[str, int]] = field(default_factory=set)
    watch: Callable[[wire.Assign], None] = lambda _assign: None

    def target(self, spec: JobSpec) -> str:
        """The output's path."""
        assert spec.output is not None
        return spec.output.relative


class Host:
    """One host, by name. `up` starts its agent; `down` kills it."""

    def __init__(self, name: str, line: Line, media: Media, chance: random.Random, *, encode_s: float) -> None:
        self.name = name
        self.key = f"key of {name}"
        self.line, self.media, self.chance = line, media, chance
        self.encode_s = encode_s
        self.fails = 0.1  # of the engines
        self.dirs: dict[do.AttemptKey, Directory] = {}
        self.outbox: dict[str, do.Item] = {}
        self.seen = wire.Seen()
        self.incarnation = 0
        self.session: Session | None = None
        self.connection = b""
        self.refused: list[do.GiveUp] = []
        self._later: list[tuple[float, int, Callable[[Session], list[do.Action]]]] = []
        self._count = itertools.count()

    # ---- life ----------------------------------------------------------------------------------------------------

    def up(self) -> None:
        """Start the agent: it finds what is on its disk."""
        self.incarnation += 1
        root = wire.RootFact("media", "root-1", "/media")
        capacity = wire.Capacity(8000, 8 << 30, CAPACITY_SLOTS, 1 << 40, roots=(root,))
        about = About(self.name, f"10.0.0.{self.name}", "boot", self.incarnation, wire.Facts(), capacity)
        session = self.session = Session(about, self.seen, self.line.now_s)
        over = {(item.uuid, item.attempt) for item in self.outbox.values()}
        for key, directory in self.dirs.items():
            local = Local(key[0], directory.assign.job, key[1], 1000, 512 << 20, step=Step.RUNNING, want="")
            local.step = Step.OVER if key in over else Step.RUNNING
            session.found(local)
        for item, message in self.outbox.items():
            session.found_item(item, message)
        self.connect()

    def down(self) -> None:
        """The agent is killed; its jobs go on."""
        self.session = None
        self._later.clear()
        self.line.close(self.connection)

    def connect(self) -> None:
        """A new connection in place of the old one."""
        self.line.close(self.connection)
        self.connection = self.line.connect(self._hear)

    def _hear(self, message: wire.FromMaster) -> None:
        if self.session is not None:
            self._carry_out(self.session.receive(message, self.line.now_s))

    def step(self) -> None:
        """What time brings."""
        now_s = self.line.now_s
        while self.session is not None and self._later and self._later[0][0] <= now_s:
            _due_s, _number, work = heapq.heappop(self._later)
            self._carry_out(work(self.session))
        if self.session is None:
            return
        for key, directory in list(self.dirs.items()):
            self._look(self.session, key, directory)
        self._carry_out(self.session.tick(now_s))

    def _look(self, session: Session, key: do.AttemptKey, directory: Directory) -> None:
        """The attempt as the process table and its directory tell it."""
        local = session.attempts.get(key)
        if local is not None and local.step is Step.OVER and not local.log_done:
            self._carry_out(session.log_shipped(key))  # how that is done is test_shipping's
        if local is None or local.step is not Step.RUNNING:
            return
        now_s = self.line.now_s
        if now_s < directory.ends_s:
            self._carry_out(session.seen_stage(key, "running", now_s))
        elif directory.intent and self.media.outputs.get(self.media.target(directory.assign.spec)) == directory.print:
            self._carry_out(session.publish_done(key, directory.print))
        elif directory.fails:
            self.media.staging.discard((directory.assign.uuid, key[1]))
            self._carry_out(session.ended(key, "failed", BROKEN))
        else:
            self._carry_out(session.verified(key, directory.print, Results(frames=1), now_s))

    # ---- actions -------------------------------------------------------------------------------------------------

    def _soon(self, work: Callable[[Session], list[do.Action]]) -> None:
        """On the disk's thread: in order, and a moment later."""
        last_s = max((due_s for due_s, _number, _work in self._later), default=0.0)
        due_s = max(last_s, self.line.now_s + self.chance.uniform(0, MOMENT_S))
        heapq.heappush(self._later, (due_s, next(self._count), work))

    def _carry_out(self, actions: list[do.Action]) -> None:
        for action in actions:
            self._do(action)

    def _do(self, action: do.Action) -> None:
        match action:
            case do.Send(message):
                self.line.say(self.connection, message)
            case do.Create(assign):
                self._soon(lambda session: self._create(session, assign))
            case do.Clean(key):
                self._soon(lambda session: self._clean(session, key))
            case do.Publish(key, _request, until_s):
                self._soon(lambda session: self._publish(session, key, until_s))
            case do.PutItem(item, message):
                self._soon(lambda session: self._put(session, item, message))
            case do.Remove(key, item):
                self._soon(lambda _session: self._remove(key, item))
            case do.Look(settle):
                self._soon(lambda session: self._settle(session, settle))
            case do.SaveSeen(seen):
                self.seen = seen
            case do.Reconnect():
                self.connect()
            case do.GiveUp():
                self.refused.append(action)
                self.down()
            case _:
                raise AssertionError(f"nobody asked for {action} in this world")

    def _create(self, session: Session, assign: wire.Assign) -> list[do.Action]:
        key = (assign.uuid, assign.attempt)
        if key in self.dirs:
            return session.not_created(key, "it is there already", None)
        now_s = self.line.now_s
        ends_s = now_s + self.chance.uniform(0.5, 1.5) * self.encode_s
        self.dirs[key] = Directory(assign, ends_s, self.chance.random() < self.fails)
        self.media.staging.add(key)
        return session.created(key, now_s)

    def _clean(self, session: Session, key: do.AttemptKey) -> list[do.Action]:
        self.dirs[key].ends_s = self.line.now_s
        self.media.staging.discard(key)
        return session.ended(key, "stopped")

    def _publish(self, session: Session, key: do.AttemptKey, until_s: float) -> list[do.Action]:
        directory = self.dirs[key]
        directory.intent = True
        if self.line.now_s >= until_s:
            directory.intent = False
            return session.publish_late(key, self.line.now_s)
        target = self.media.target(directory.assign.spec)
        if key not in self.media.staging:
            return session.publish_failed(key, TAKEN.line, TAKEN)
        there = self.media.outputs.get(target)
        if there is not None:
            self.media.staging.discard(key)
            assert there in directory.assign.granted, "somebody else's file stands at the output path"
            return session.publish_done(key, there)
        self.media.watch(directory.assign)
        self.media.outputs[target] = directory.print
        self.media.staging.discard(key)
        if self.chance.random() < 0.05:
            self.down()  # between the rename and its word of it
            return []
        return session.publish_done(key, directory.print)

    def _put(self, session: Session, item: str, message: do.Item) -> list[do.Action]:
        self.outbox[item] = message
        return session.item_kept(item, message)

    def _remove(self, key: do.AttemptKey, item: str) -> list[do.Action]:
        self.dirs.pop(key, None)
        self.outbox.pop(item, None)
        return []

    def _settle(self, session: Session, settle: wire.Settle) -> list[do.Action]:
        self.media.staging.discard((settle.uuid, settle.attempt))
        return session.looked(settle, self.media.outputs.get(self.media.target(settle.spec)))
