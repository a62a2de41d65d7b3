"""A world: one master, some hosts, a network and users; a storm of acts, and then peace until all has ended.

Everything is drawn from the seed. The same seed gives the same story, to the byte.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from simulation import nemesis
from simulation.checks import Checks, Violated
from simulation.clock import Time
from simulation.faults import Faults
from simulation.host import Host, StateFolder, roots
from simulation.logs import Logs
from simulation.master import Master
from simulation.media import Media
from simulation.nemesis import Act
from simulation.network import Network, Weather
from simulation.silence import Silence
from simulation.users import Users, capacity

from ffrtmp import wire
from ffrtmp.errors import FarmError
from ffrtmp.farm import effects as fx
from ffrtmp.farm.job import Queue
from ffrtmp.farm.rules import Rules
from ffrtmp_master.store import Store
from ffrtmp_master.turn import Decision

PEACE_S = 600.0
GIVEN_UP_S = 8.0
PLOTS_S = 40.0
CALM_ODDS = 0.06  # of worlds in which nothing goes wrong but that daemons are restarted
STEPS_MOST = 100_000
STATE = ("farm.db", "farm.db-wal", "farm.logs", "farm.logs-wal", "farm.db.numbers.json")


def template(folder: Path) -> None:
    """A store that has just been made, to be copied for each world."""
    Store.open(folder / "farm.db", folder / "farm.logs", fresh_lineage="0" * 16).close()


class World:
    """Everything there is. `run` tells whether the promises held."""

    def __init__(self, seed: int, folder: Path, made: Path, *, telling: bool = False) -> None:
        """`folder` is to be made here, from the template at `made`."""
        shutil.copytree(made, folder)
        self.seed = seed
        self.folder = folder
        self.story: list[str] | None = [] if telling else None
        self.counts: Counter[str] = Counter()
        self.time = Time(str(seed))
        self.chance = self.time.chance("world")
        self.faults = Faults()
        self.over = False
        self.broken = ""
        self.put_back = False
        self._left: dict[tuple[int, int], float] = {}  # given-up attempts in peace, and since when they are seen
        self.calm = self.chance.random() < CALM_ODDS
        self.trouble = 0.0
        self.fails = self.chance.choice((0.0, 0.1, 0.4))
        self.log_max_bytes = self.chance.choice((400, 3000, 16 << 20))
        self.rules, self.timing = self._times()
        self.media = Media()
        self.network = Network(self.time, self.time.chance("network"), Weather(), self.count)
        self.checks = Checks(self)
        self.logs = Logs(self)
        self.silence = Silence(self)
        self.users = Users(self)
        self.master = Master(self)
        self.hosts: dict[str, Host] = {}
        self.clones: list[Host] = []
        self.snapshots: dict[str, StateFolder] = {}
        self._populate()
        self.storm_s = self.chance.choice((10.0, 15.0, 20.0, 60.0))
        self.acts: list[Act] = nemesis.acts(self.time.chance("acts"), self.storm_s, calm=self.calm)

    def _times(self) -> tuple[Rules, wire.Timing]:
        beat_s = self.chance.choice((1.0, 2.0))
        # A calm world has the proportions of the defaults: there a restart must not cost anything (P11).
        lost_s, lost_live_s = (7.5, 5.0) if self.calm else (5.0, 3.0)
        lost_s, lost_live_s = lost_s * beat_s, lost_live_s * beat_s
        rules = Rules(
            heartbeat_s=beat_s,
            lost_after_s=lost_s,
            lost_after_live_s=lost_live_s,
            away_after_s=20.0,
            self_doubt_s=2.0,
            reconnect_grace_s=lost_s + 2.0,
            accept_timeout_s=3.0,
            grant_ttl_s=4.0,
            grant_margin_s=2.0,
            poison_losses=self.chance.choice((2, 3, 1000)),
            backoff_first_s=1.0,
            backoff_max_s=4.0,
            doubt_patience_s=10.0,
            ageing_interval_s=self.chance.choice((0.0, 10.0, 3600.0)),
            reserve_after_s=self.chance.choice((5.0, 900.0)),
            starved_every_s=1.0,
            handouts_per_turn=self.chance.choice((1, 3, 1000)),
            lanes_max=self.chance.choice((8, 256)),
            waiting_max=self.chance.choice((20, 1000)),
        )
        timing = wire.Timing(
            heartbeat_s=beat_s,
            heartbeat_live_s=beat_s / 2,
            lost_after_s=lost_s,
            grant_ttl_s=rules.grant_ttl_s,
            lost_after_live_s=rules.lost_after_live_s,
        )
        return rules, timing

    def _populate(self) -> None:
        chance = self.chance
        self.master.tick_s = chance.choice((0.25, 0.5, 1.0))
        self.master.events_per_turn = chance.choice((2000, 2000, 7))
        self.master.retention_s = chance.choice((0.0, 0.0, 0.0, 15.0))
        self.names = tuple(str(number) for number in range(1, 1 + chance.choice((2, 3, 3, 4))))
        for name in self.names:
            offer = capacity(chance, name, roots(name), rare=name == "1")
            self.hosts[name] = Host(self, name, offer, rate=chance.choice((1.0, 0.98, 1.02)))

    # ---- telling -------------------------------------------------------------------------------------------------

    def tell(self, line: Callable[[], str]) -> None:
        """A line of the story, if anybody listens."""
        if self.story is not None:
            self.story.append(f"{self.time.now_s:10.3f} {line()}")

    def count(self, what: str, times: int = 1) -> None:
        """How often something came to be."""
        self.counts[what] += times

    def turned(self, decision: Decision) -> None:
        """A turn was kept."""
        for effect in decision.effects:
            if isinstance(effect, fx.Record):
                self._record(effect, decision.rows.turn)

    def _record(self, row: fx.Record, turn: int) -> None:
        if row.before is not row.after:
            self.counts[f"transition {row.before.value if row.before else 'none'} -> {row.after.value}"] += 1
        self.tell(lambda: f"turn {turn}: job {row.job} {row.after.value}: {row.text}")

    # ---- the course of it ----------------------------------------------------------------------------------------

    def run(self) -> str:
        """The whole of it; what went wrong, or an empty text."""
        try:
            self._begin()
            for act in self.acts:
                self.time.after(act.at_s + 3.0, lambda act=act: self._act(act))
            self.time.run(self.storm_s + 4.0, self._bound)
            while self.users.plots.under_way and self.time.now_s < self.storm_s + PLOTS_S:
                self.time.run(self.time.now_s + 2.0, self._bound)  # who plots may come to the end of it
            self._peace()
            self.checks.at_the_end()
            self.logs.at_the_end()
        except Violated as broken:
            what = str(broken)
            self.tell(lambda: f"BROKEN: {what}")
            return what
        finally:
            self.over = True
            self.master.close()
        return ""

    def _act(self, act: Act) -> None:
        self.time.event()
        nemesis.perform(self, act)

    def _begin(self) -> None:
        self.master.start()
        for host in self.hosts.values():
            self.users.of_node("add", host.name, self.chance)
        self.time.after(0.5, lambda: [host.start() for host in self.hosts.values()])

    def _bound(self) -> None:
        if self.time.steps > STEPS_MOST:
            self.checks.fail("it goes round without end")

    def _peace(self) -> None:
        """Nothing goes wrong any more; what is down is started; and all has to end within `PEACE_S`."""
        self._heal()
        began_s = self.time.now_s
        self.tell(lambda: "peace")
        while not self._settled():
            if self.time.now_s - began_s > PEACE_S:
                self.checks.fail(f"P1: this never ends: {self._stuck()}")
            self._mend()
            self._nothing_stays()
            self.time.run(self.time.now_s + 2.0, self._bound)

    def _nothing_stays(self) -> None:
        """P4, P5: an attempt that was given up has ended soon, where master and node are in contact and stand nowhere still."""
        before, self._left = self._left, {}
        if not self.master.up or self.master.stands_from_s < self.time.now_s:
            return
        farm = self.master.turns.farm.world
        for attempt in farm.attempts.rows():
            host, contact = self.hosts.get(attempt.node), farm.in_contact(attempt.node)
            if not attempt.given_up or contact is None or host is None or host.agent is None:
                continue
            stands = max(host.frozen_s, host.agent_frozen_s) > self.time.now_s
            if stands or host.agent.session.number != contact.session:
                continue
            since_s = self._left[attempt.id] = before.get(attempt.id, self.time.now_s)
            if self.time.now_s - since_s > GIVEN_UP_S:
                self.checks.fail(f"P5: attempt {attempt.id} was given up, and is still there on {attempt.node}")

    def _heal(self) -> None:
        self.network.weather = Weather()
        self.network.parted.clear()
        self.master.full = self.master.disk.full = self.master.disk.fail_sync = False
        self.master.disk.dies_after = -1
        self.master.doom = ("", 0)
        self.master.slow_s = 0.002
        self.faults.over()
        self.users.plots.over()
        self.master.numbers.fault = ""
        self.trouble = self.fails = 0.0
        for clone in self.clones:
            clone.kill()

    def _mend(self) -> None:
        if not self.master.up:
            return
        known = self.master.turns.farm.world.nodes
        for queue in Queue:
            if queue in self.master.turns.farm.world.paused_queues:
                self.users.of_queue(queue, paused=False)
        for host in self.hosts.values():
            node = known.get(host.name)
            if node is None:
                self.users.of_node("add", host.name, self.chance)
            elif node.drained:
                self.users.of_node("undrain", host.name, self.chance)
            if not host.up and host.refused is not None:
                self.users.of_node("accept", host.name, self.chance)
            host.do(host.start)
        self.users.let_go()

    def _settled(self) -> bool:
        """Whether nothing is left to do anywhere, nor on its way to the disk."""
        if not self.master.up:
            return False
        farm = self.master.turns.farm.world
        folders = [host.folder for host in self.hosts.values()]
        return (
            not farm.undo
            and not len(farm.jobs)
            and not len(farm.attempts)
            and not any(f.dirs or f.outbox for f in folders)
        )

    def _stuck(self) -> str:
        farm = self.master.turns.farm.world
        jobs = [
            f"{j.number} {j.state} {farm.attempts_of(j.number)} {farm.grants.get(j.number)}" for j in farm.jobs.rows()
        ]
        left = [
            f"{h.name}: {[d.name for d in h.folder.dirs.values()]} {list(h.folder.outbox)} {h.refused} "
            f"{h.agent and h.agent.session.attempts}"
            for h in self.hosts.values()
        ]
        return "\n".join([*jobs, *left])

    # ---- backups -------------------------------------------------------------------------------------------------

    def keep_backup(self) -> None:
        """An operator makes a backup."""
        if self.master.up:
            with suppress(FarmError):
                self.master.store.backup(self.folder / "backup")

    def put_backup_back(self) -> None:
        """An operator stops the master and puts the backup in the place of the store, by copying the files."""
        if not (self.folder / "backup").exists():
            return
        if self.master.up:
            self.master.crash(power=False)
        for name in ("farm.db", "farm.logs"):
            for end in ("-wal", "-shm"):
                (self.folder / f"{name}{end}").unlink(missing_ok=True)
        shutil.copyfile(self.folder / "backup", self.folder / "farm.db")
        shutil.copyfile(self.folder / "backup.logs", self.folder / "farm.logs")
        self.put_back = True
        self.tell(lambda: "the backup is put back")

    def keep_copy(self) -> None:
        """Somebody makes a snapshot of the master's whole host: its files as they stand at this moment."""
        copy = self.folder / "copy"
        shutil.rmtree(copy, ignore_errors=True)
        copy.mkdir()
        for name in STATE:
            if (self.folder / name).exists():
                shutil.copyfile(self.folder / name, copy / name)

    def put_copy_back(self) -> None:
        """The snapshot is put back, with the numbers file, so that nothing there tells of the time since."""
        copy = self.folder / "copy"
        if not (copy / "farm.db.numbers.json").exists():
            return
        if self.master.up:
            self.master.crash(power=False)
        for name in (*STATE, "farm.db-shm", "farm.logs-shm"):
            (self.folder / name).unlink(missing_ok=True)
            if (copy / name).exists():
                shutil.copyfile(copy / name, self.folder / name)
        self.put_back = self.checks.unknowing = True
        self.tell(lambda: "the snapshot of the master is put back")


def story(seed: int, folder: Path, made: Path, acts: Sequence[Act] | None = None, *, telling: bool = True) -> World:
    """Run a world, with these acts only where they are given; `broken` of it says what went wrong."""
    world = World(seed, folder, made, telling=telling)
    if acts is not None:
        world.acts = list(acts)
    world.broken = world.run()
    return world
