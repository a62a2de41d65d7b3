"""A host: what is on its disks, its clock, and an agent or none. Engines are the host's: they outlive their agent."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from simulation.agent import Agent
from simulation.attempt import Directory
from simulation.clock import A_MOMENT_S
from simulation.media import SHARED, Root

from ffrtmp import wire
from ffrtmp_agent import actions as do

if TYPE_CHECKING:
    from simulation.world import World


@dataclass
class StateFolder:
    """What is on the agent's own disk, durably."""

    dirs: dict[do.AttemptKey, Directory] = field(default_factory=dict)
    outbox: dict[str, do.Item] = field(default_factory=dict)
    seen: wire.Seen = field(default_factory=wire.Seen)
    incarnation: int = 0

    def copy(self) -> StateFolder:
        """As a snapshot or a clone has it: no engine is at work there."""
        dirs = {key: replace(directory, engine=None) for key, directory in self.dirs.items() if directory.made}
        return StateFolder(dirs, dict(self.outbox), self.seen, self.incarnation)


class Host:
    """A host by name, with its agent or without."""

    def __init__(self, world: World, name: str, capacity: wire.Capacity, *, rate: float, key: str = "") -> None:
        self.world = world
        self.time = world.time
        self.name = name
        self.key = key or name * 40  # 40 characters of Z85, as CURVE keys have
        self.address = f"10.0.0.{name}"
        self.capacity = capacity
        self.rate = rate  # of its clock
        self.chance: random.Random = world.time.chance(f"host {name}")
        self.folder = StateFolder()
        self.agent: Agent | None = None
        self.boot = 1
        self.frozen_s = 0.0
        self.agent_frozen_s = 0.0
        self.refused: do.GiveUp | None = None
        self._clock_from = (0.0, 100.0)
        self._backlog: list[Callable[[], None]] = []
        self._agents_backlog: list[Callable[[], None]] = []

    # ---- time ----------------------------------------------------------------------------------------------------

    @property
    def clock_s(self) -> float:
        """Its CLOCK_BOOTTIME."""
        since_s, base_s = self._clock_from
        return base_s + (self.time.now_s - since_s) * self.rate

    def do(self, deed: Callable[[], None], agent: Agent | None = None) -> None:
        """Let something happen on the host, or in this life of its agent; not while that is frozen."""
        now_s = self.time.now_s
        if self.frozen_s > now_s:
            self._backlog.append(lambda: self.do(deed, agent))
        elif agent is None:
            deed()
        elif agent is not self.agent:
            return
        elif self.agent_frozen_s > now_s:
            self._agents_backlog.append(lambda: self.do(deed, agent))
        else:
            deed()

    def after(self, seconds: float, deed: Callable[[], None], agent: Agent | None = None) -> None:
        """The same, later, in seconds of the world."""
        self.time.after(seconds, lambda: self.do(deed, agent))

    def freeze(self, seconds: float, *, all_of_it: bool) -> None:
        """Nothing gets on for a while (SIGSTOP, a laptop lid, a stalled hypervisor), and then all at once."""
        until_s = self.time.now_s + seconds
        if all_of_it:
            self.frozen_s = max(self.frozen_s, until_s)
        else:
            self.agent_frozen_s = max(self.agent_frozen_s, until_s)
        self.time.after(seconds + A_MOMENT_S, self._thaw)

    def _thaw(self) -> None:
        now_s = self.time.now_s
        if self.frozen_s <= now_s:
            waiting, self._backlog = self._backlog, []
            for deed in waiting:
                deed()
        if max(self.agent_frozen_s, self.frozen_s) <= now_s:
            waiting, self._agents_backlog = self._agents_backlog, []
            for deed in waiting:
                deed()

    # ---- life ----------------------------------------------------------------------------------------------------

    @property
    def up(self) -> bool:
        """Whether an agent runs."""
        return self.agent is not None

    def start(self) -> None:
        """Start the agent: it finds what is on its disk."""
        if self.agent is None:
            self.time.event()
            self.refused = None
            self.agent = Agent(self)
            self.agent.begin()

    def stop(self) -> None:
        """An orderly stop of the agent."""
        if self.agent is not None:
            self.agent.carry_out(self.agent.session.goodbye())
            self.kill()

    def kill(self) -> None:
        """The agent is gone; engines go on."""
        if self.agent is not None:
            self.time.event()
            self.world.network.close(self.agent.link)
            self.agent = None
            self._agents_backlog.clear()

    def power_cut(self) -> None:
        """The host restarts: no engine and no agent is left, and what was not synced may be lost."""
        self.kill()
        self.frozen_s = self.agent_frozen_s = 0.0
        self._backlog.clear()
        self.boot += 1
        self._clock_from = (self.time.now_s, self.chance.uniform(3.0, 30.0))
        for directory in self.folder.dirs.values():
            engine, directory.engine = directory.engine, None
            if engine is not None:
                engine.write()
            if engine is not None and engine.state != "ended":
                engine.state, engine._round = "ended", -1
            elif directory.outcome and self.chance.random() < 0.3:
                directory.outcome = ""
                self.world.count("outcome lost with the power")
            if self.chance.random() < 0.3:
                directory.log_most = max(directory.log_most, directory.log_bytes)
                directory.log_bytes //= 2
        own = self.world.media.root(f"local-{self.name}")
        for uuid in own.power_cut(lambda: self.chance.random() < 0.5):
            self.world.checks.published.pop(uuid, None)
            self.world.count("rename lost with the power")

    def revert(self, folder: StateFolder) -> None:
        """A snapshot of the state folder is put back, on a host that starts anew."""
        self.power_cut()
        self.folder = folder.copy()

    def reinstall(self, key: str) -> None:
        """The host is set up anew under the same name: nothing of its agent is left, the media are."""
        self.power_cut()
        self.folder, self.key = StateFolder(), key
        self.after(1.0, self.start)

    def move(self, address: str) -> None:
        """Its address is another one from now on (empty: its own), as its agent finds out by itself."""
        address = address or f"10.0.0.{self.name}"
        agent = self.agent
        if address != self.address:
            self.address = address
            if agent is not None:
                self.do(lambda: agent.measured(address, self.capacity), agent)

    def offer(self, capacity: wire.Capacity) -> None:
        """What it offers to jobs is another thing from now on."""
        self.capacity = capacity
        agent = self.agent
        if agent is not None:
            self.do(lambda: agent.measured(self.address, capacity), agent)

    def running(self) -> list[Directory]:
        """The attempts whose engine is there."""
        return [d for d in self.folder.dirs.values() if d.engine is not None and d.engine.state != "ended"]

    def root(self, directory: Directory) -> Root:
        """The storage that an attempt writes to."""
        assert directory.assign.spec.output is not None
        return self.world.media.root(directory.assign.spec.output.root_id)


def roots(name: str) -> tuple[wire.RootFact, ...]:
    """The storages that a host sees: the shared one and its own."""
    own = f"local-{name}"
    return (wire.RootFact("media", SHARED, "/media"), wire.RootFact("own", own, "/own"))
