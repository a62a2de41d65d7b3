"""Both directions of the wire: frames into a master that has jobs in all kinds of states, and into an agent's session."""

from __future__ import annotations

import itertools
import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
from farm import invariants
from fuzz.engine import DEEP, REFUSED
from fuzz.shapes import WORDS, bitten, packed, sound, spoilt
from hypothesis import strategies as st
from store.little_master import CAPACITY, LittleMaster, key_of, little_master

from ffrtmp import wire
from ffrtmp.farm import events as ev
from ffrtmp.spec import Fingerprint, JobSpec, MediaPath, Pattern, Recipe, Results, Source
from ffrtmp_agent import actions as do
from ffrtmp_agent.local import About
from ffrtmp_agent.session import Session

MEMORY = Path("/dev/shm")
NODES = ("a", "b")
UUIDS = [f"00000000-0000-0000-0000-00000000000{n}" for n in range(1, 8)]
PRINT = Fingerprint(1000, "0" * 64)
SPEC = JobSpec(Recipe("x"), Source(pattern=Pattern()), MediaPath("media", "root-1", "x.mp4"))


class Loud(logging.Handler):
    """Turns what the master logs as an error into a failure of the test."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.heard: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.heard.append(record)

    def check(self) -> None:
        """Raise the first error that was logged since the last look."""
        heard, self.heard = self.heard, []
        for record in heard:
            raise AssertionError(record.getMessage()) from (record.exc_info[1] if record.exc_info else None)


@contextmanager
def listening() -> Iterator[Loud]:
    """Nothing on the terminal, and every error kept."""
    loud, log = Loud(), logging.getLogger("ffrtmp_master")
    before = log.propagate
    log.addHandler(loud)
    log.propagate = False
    try:
        yield loud
    finally:
        log.removeHandler(loud)
        log.propagate = before


def _hints(sessions: tuple[int, ...]) -> dict[str, st.SearchStrategy[Any]]:
    small = st.integers(1, 3)
    return {
        "session": st.sampled_from(sessions),
        "uuid": st.sampled_from(UUIDS),
        "attempt": st.just(1) | small,
        "job": st.integers(1, 8),
        "number": small,
        "request": small,
        "protocol": st.just(wire.PROTOCOL),
        "incarnation": small,
        "address": st.sampled_from(("10.0.0.1.a", "10.0.0.1.b", "10.0.0.3")),
        "name": st.sampled_from(NODES) | WORDS,
        "lineage": st.sampled_from(("lineage-1", "lineage-2", "")),
        "turn": st.integers(0, 30),
        "queue": st.sampled_from(("live", "default", "batch")),
        "priority": st.sampled_from(("high", "medium", "low")),
        "fingerprint": st.just(msgspec.to_builtins(PRINT)),
        "labels": st.lists(st.sampled_from(("big", "gpu")), max_size=2),
    }


class ToMaster:
    """Frames of two agents, one to six in a row, to a master with jobs that run, publish, wait and have ended."""

    name = "wire to the master"

    @contextmanager
    def open(self) -> Iterator[None]:
        with TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as name, listening() as self._loud:
            self._folder = Path(name)
            self._began = self._folder / "began"
            self._began.mkdir()
            with little_master(self._began) as master:
                self._reports = _begin(master)
            yield

    def examples(self) -> st.SearchStrategy[Any]:
        frame = bitten(spoilt(sound(wire.FromAgent, _hints((9, 10, 9, 10, 7, 0)))).map(packed))
        return st.lists(st.tuples(st.sampled_from(NODES), frame), min_size=1, max_size=6)

    def attempt(self, example: Any) -> str:
        folder = self._folder / "now"
        shutil.copytree(self._began, folder)
        try:
            with little_master(folder, now_s=2000.0) as master:
                master.tokens = itertools.count(9)
                for node in NODES:
                    master.hello(node, *self._reports[node], incarnation=2)
                reached = [_heard(master, node, frame) for node, frame in example]
                _check(master)
        finally:
            shutil.rmtree(folder)
        self._loud.check()
        return DEEP if any(reached) else REFUSED


def _begin(master: LittleMaster) -> dict[str, list[wire.AttemptReport]]:
    """Seven jobs: running, assigned, publishing and completed on a, running on b, canceling on b, waiting."""
    for node in NODES:
        master.ask(lambda n, node=node: ev.AddNode(n, node, key_of(node)))  # type: ignore[misc]
    master.turn()
    sessions = {"a": master.hello("a")}
    for number in range(1, 8):
        if number == 5:
            sessions["b"] = master.hello("b")
            master.ask(lambda n: ev.DrainNode(n, "a", True))
            master.turn()
        assert master.submit(f"{number}.mp4").status == 0
        master.turn()
    reports: dict[str, list[wire.AttemptReport]] = {"a": [], "b": []}
    for number, row in enumerate(sorted(master.world.attempts.rows(), key=lambda a: a.job), 1):
        if number != 2:
            master.hear(row.node, wire.Accepted(sessions[row.node], row.uuid, row.number, 1))
        reports[row.node].append(wire.AttemptReport(row.uuid, row.job, row.number, "running"))
    master.turn()
    for node, told in reports.items():
        master.hear(node, wire.Heartbeat(sessions[node], 2, attempts=tuple(told)))
    master.turn()
    for number in (3, 4):
        uuid = reports["a"][number - 1].uuid
        master.hear("a", wire.PublishRequest(sessions["a"], uuid, 1, 1, PRINT))
        master.turn()
    master.hear("a", wire.Published(sessions["a"], "i", reports["a"][3].uuid, 1, 1, PRINT, Results()))
    master.ask(lambda n: ev.Cancel(n, 6))
    master.ask(lambda n: ev.DrainNode(n, "b", True))
    master.turn()
    master.submit("8.mp4")
    master.turn()
    UUIDS[:] = sorted({job.uuid for job in master.world.jobs.rows()} | {report.uuid for report in reports["a"]})
    del reports["a"][3]
    return reports


def _heard(master: LittleMaster, node: str, frame: bytes) -> bool:
    try:
        master.hear(node, frame)
    except msgspec.DecodeError:
        return False
    broke = master.board.complaints.counts["a message could not be taken"]
    assert not broke, "a message was dropped because something in the master raised"
    reached = bool(master.cycle.inbox or master.board.logs)
    master.turn()
    for _connection, said in master.mouth.said:
        wire.decode_from_master(said)
    master.mouth.said.clear()
    return reached


def _check(master: LittleMaster) -> None:
    world = master.world
    invariants.derived(world)
    invariants.attempts(world)
    for job in world.jobs.rows():
        invariants.whole(world, job)
    assert master.store.verify_history() == []
    assert {job.number for job in master.store.load(0.0).jobs} == set(world.jobs)


class ToAgent:
    """Frames of a master, one to six in a row, to a session with attempts at every step."""

    name = "wire to the agent"

    @contextmanager
    def open(self) -> Iterator[None]:
        yield

    def examples(self) -> st.SearchStrategy[Any]:
        hints = _hints((9, 9, 9, 7)) | {"action": st.sampled_from(("keep", "stop", "offer"))}
        return st.lists(bitten(spoilt(sound(wire.FromMaster, hints)).map(packed)), min_size=1, max_size=6)

    def attempt(self, example: Any) -> str:
        shell = _Shell()
        reached = False
        for frame in example:
            try:
                message = wire.decode_from_master(frame)
            except msgspec.DecodeError:
                continue
            reached |= isinstance(message, wire.Welcome) or getattr(message, "session", 0) == shell.session.number
            shell.carry_out(shell.session.receive(message, shell.now_s))
            shell.step()
        return DEEP if reached else REFUSED


class _Shell:
    """Carries out what a session asks for, in the order in which it may happen, and keeps nothing."""

    def __init__(self) -> None:
        self.now_s = 100.0
        about = About("a", "10.0.0.1", "boot", 1, wire.Facts(), CAPACITY)
        self.session = Session(about, wire.Seen("lineage-1", 3, 3), self.now_s)
        self.over = False
        self.carry_out(self.session.tick(self.now_s))
        self.carry_out(self.session.receive(wire.Welcome(9, "lineage-1", 3, "a", wire.Timing()), self.now_s))
        for number, uuid in enumerate(UUIDS[:4], 1):
            assign = wire.Assign(9, "lineage-1", 3, uuid, number, 1, "default", "medium", SPEC)
            self.carry_out(self.session.receive(assign, self.now_s))
        for uuid in UUIDS[1:3]:
            self.carry_out(self.session.verified((uuid, 1), PRINT, Results(), self.now_s))
        self.carry_out(self.session.ended((UUIDS[3], 1), "completed"))

    def step(self) -> None:
        """Some time passes."""
        self.now_s += 1.5
        with suppress(KeyError):
            self.carry_out(self.session.seen_stage((UUIDS[0], 1), "paused", self.now_s))
        self.carry_out(self.session.tick(self.now_s))
        assert self.session.next_s() == self.session.next_s(), "the next look is at no time"

    def carry_out(self, found: list[do.Action]) -> None:
        """What agent.py does, without disk and processes."""
        for action in found:
            match action:
                case do.Send(message):
                    assert wire.decode_from_agent(wire.encode(message)) == message
                case do.Create(assign):
                    self.carry_out(self.session.created((assign.uuid, assign.attempt), self.now_s))
                case do.Clean(key):
                    self.carry_out(self.session.ended(key, "stopped"))
                case do.Publish(key, _request, _until_s):
                    self.carry_out(self.session.publish_done(key, PRINT))
                case do.PutItem(item, message):
                    self.carry_out(self.session.item_kept(item, message))
                case do.Look(settle):
                    self.carry_out(self.session.looked(settle, None))
