"""A simulated world: the real rules, turns, store and switchboard of a master, the real sessions of agents, time that tests move.

Only the network, the disks of the agents and their engines are tables (line.py, host.py). The master may die before or after
a commit, and its disk may refuse one.
"""

from __future__ import annotations

import itertools
import logging
import random
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from uuid import UUID

import apsw
from session.host import Host, Media
from session.line import Line, Weather

from ffrtmp import wire
from ffrtmp.farm import events as ev
from ffrtmp.farm.farm import Farm
from ffrtmp.farm.rules import Rules
from ffrtmp.spec import JobSpec, MediaPath, Pattern, Recipe, Source
from ffrtmp_master.api.watch import Watchers
from ffrtmp_master.complaints import Complaints, Pace
from ffrtmp_master.hub import Received
from ffrtmp_master.live import LiveFarm
from ffrtmp_master.store.reader import Reader
from ffrtmp_master.store.store import Store
from ffrtmp_master.submit import PreparedJob, output_key, terms_of
from ffrtmp_master.switchboard import HELLO_EVERY_S, HELLOS_AT_ONCE, Switchboard
from ffrtmp_master.turn import Asked, Input, Turns

RULES = Rules(
    heartbeat_s=1.0,
    lost_after_s=5.0,
    self_doubt_s=2.0,
    reconnect_grace_s=6.0,
    accept_timeout_s=3.0,
    grant_ttl_s=4.0,
    grant_margin_s=2.0,
    poison_losses=1000,
    backoff_first_s=1.0,
    backoff_max_s=2.0,
    doubt_patience_s=10.0,
)
TIMING = wire.Timing(heartbeat_s=1.0, lost_after_s=5.0, grant_ttl_s=4.0)
NAMES = ("1", "2", "3")
SUBMITTED, ADMITTED = 1, 2


class Killed(Exception):
    """The master dies here."""


class World:
    """A master on `folder`, hosts by name, and what connects them. Use `world`."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder = folder
        self.chance = random.Random(seed)
        self.line = Line(self.chance, Weather())
        self.media = Media(watch=self._watch)
        self.published: list[str] = []
        self.hosts = {name: Host(name, self.line, self.media, self.chance, encode_s=3.0) for name in NAMES}
        self.keys = {host.name: host.key for host in self.hosts.values()}
        self.inbox: list[Input] = []
        self.kill = 0.0  # the chance of a death at a commit
        self.refuse = 0.0  # the chance of a full disk at a commit
        self._uuids = (str(UUID(int=self.chance.getrandbits(128), version=4)) for _ in itertools.count())
        self.line.to_master = self._hear
        self.store: Store | None = None
        self.start()

    # ---- the master ----------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start the master on what is on its disk."""
        store = self.store = Store.open(self.folder / "farm.db", self.folder / "farm.logs")
        self.reader: Reader = store.reader()
        loaded = store.load(0.0)
        farm = Farm(RULES, lineage=loaded.lineage, now_s=self.line.now_s)
        farm.restore(
            turn=loaded.turn,
            next_job=loaded.next_job,
            ancestors=loaded.ancestors,
            paused_queues=loaded.paused_queues,
            jobs=loaded.jobs,
            attempts=loaded.attempts,
            grants=loaded.grants,
            nodes=loaded.nodes,
        )
        self.turns = Turns(farm, loaded.turn)
        self.board = Switchboard(
            turns=self.turns,
            reader=self.reader,
            live=LiveFarm(farm),
            watchers=Watchers(),
            timing=TIMING,
            max_retries=3,
            post=self.inbox.append,
            enroll=lambda _connection, _key, _message: None,
            complaints=Complaints(logging.getLogger(__name__), lambda: self.line.now_s),
            hellos=Pace(HELLOS_AT_ONCE, HELLO_EVERY_S, lambda: self.line.now_s),
        )
        self.board.hub = self.line  # type: ignore[assignment]  # it has the two methods that are used
        self.board.know_nodes()

    def stop(self) -> None:
        """The master is gone, with all that it had not committed."""
        if self.store is not None:
            self.reader.close()
            self.store.close()
        self.store = None
        self.inbox.clear()

    def _hear(self, connection: bytes, message: wire.FromAgent) -> None:
        if self.store is None:
            return
        key = next((host.key for host in self.hosts.values() if host.connection == connection), "")
        self.board.hear(Received(connection, key, message))

    def _turn(self) -> None:
        assert self.store is not None
        inputs, self.inbox[:] = list(self.inbox), []
        now_s = self.line.now_s
        decision = self.turns.decide(inputs, now_s, now_s, taken=self.reader.open_outputs)
        assert not decision.failed, decision.failed
        if not decision.rows.empty:
            if self.chance.random() < self.kill:
                raise Killed
            if self.chance.random() < self.refuse:
                self.turns.undo()
                return
            self.store.commit(decision.rows)
            if self.chance.random() < self.kill:
                raise Killed
        self.turns.keep(decision)
        if decision.rows.changes.nodes:
            self.board.know_nodes()
        self.board.act(decision.effects)
        self._logs()

    def _logs(self) -> None:
        assert self.store is not None
        heard = self.board.take_logs()
        taken = self.store.append_logs([each.chunk for each in heard]) if heard else ()
        self.board.logs_stored(each for each, kept in zip(heard, taken, strict=True) if kept)

    # ---- people --------------------------------------------------------------------------------------------------

    def admit(self) -> None:
        """Every host is enrolled."""
        for host in self.hosts.values():
            self.inbox.append(Input(ev.AddNode(ADMITTED, host.name, host.key)))
        self.run(0.5)

    def submit(self, count: int) -> None:
        """Submit jobs, each with an output of its own."""
        for number in range(count):
            output = MediaPath("media", "root-1", f"{number}-{next(self._uuids)}.mp4")
            spec = JobSpec(Recipe("x"), Source(pattern=Pattern()), output)
            terms = terms_of(spec, ev.Queue.DEFAULT, ev.Priority.MEDIUM, 1000)
            new = ev.NewJob(next(self._uuids), terms, output=output_key(spec))
            asked = Asked((PreparedJob(new, spec, output_key(spec)),), "somebody")
            self.inbox.append(Input(ev.Submit(SUBMITTED, (new,)), asked=asked))
        self.run(0.5)

    # ---- time ----------------------------------------------------------------------------------------------------

    def run(self, seconds: float) -> None:
        """Let time pass."""
        ends_s = self.line.now_s + seconds
        while self.line.now_s < ends_s:
            self.line.now_s += 0.1
            self.line.deliver()
            for host in self.hosts.values():
                host.step()
            if self.store is not None:
                try:
                    self._turn()
                except Killed:
                    self.stop()

    def _watch(self, assign: wire.Assign) -> None:
        """A rename is about to happen: it is the first of its job, and its attempt holds the grant, on disk (P2)."""
        assert assign.uuid not in self.published, f"job {assign.job} is published twice"
        self.published.append(assign.uuid)
        with closing(apsw.Connection(str(self.folder / "farm.db"), flags=apsw.SQLITE_OPEN_READONLY)) as disk:
            holders = list(disk.execute("SELECT attempt FROM grants WHERE job = ?", (assign.job,)))
        assert holders == [(assign.attempt,)], f"attempt {assign.job}.{assign.attempt} publishes, granted is {holders}"

    @property
    def settled(self) -> bool:
        """Whether nothing is left to do anywhere."""
        world = self.turns.farm.world
        hosts = self.hosts.values()
        return not len(world.jobs) and not len(world.attempts) and not any(h.dirs or h.outbox for h in hosts)


@contextmanager
def world(folder: Path, seed: int) -> Iterator[World]:
    """A world with a master and enrolled hosts, all up."""
    there = World(folder, seed)
    try:
        there.admit()
        for host in there.hosts.values():
            host.up()
        there.run(3.0)
        yield there
    finally:
        there.stop()
