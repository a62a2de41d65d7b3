"""What goes wrong, and what users want: the acts of a world, drawn from its seed before it begins.

An act has a time, a kind and a seed of its own, so one can be left out and the others stay as they are: that is how the story
of a failure is shortened. Each world has a few kinds of trouble, not all of them: rare meetings need room.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from msgspec import structs
from simulation import strays
from simulation.host import Host
from simulation.network import Weather
from simulation.plots import PLOTS
from simulation.users import OF_ENROLMENT, OF_JOBS, capacity

from ffrtmp import wire
from ffrtmp.farm.job import Queue
from ffrtmp_master.turn import Input

if TYPE_CHECKING:
    from simulation.world import World

OF_USERS = (*OF_JOBS, "submit", "submit", "submit", "submit", "submit", "live", "why")
OF_OPERATORS = ("drain", "undrain", "remove", "label", "hold queue", "open queue")
GROUPS: dict[str, tuple[str, ...]] = {
    "network": ("weather", "part", "half", "break"),
    "agents": ("kill agent", "kill agent", "stop agent", "start agents", "freeze agent", "plot last word"),
    "hosts": ("power cut", "freeze host"),
    "master": ("doom", "doom", "doom", "kill master", "restart master", "freeze master"),
    "master's host": ("master power cut", "doom", "wall clock", "freeze master"),
    "disk": ("full", "sync fails", "slow disk", "trouble", "numbers"),
    "operators": OF_OPERATORS,
    "holds": ("pause", "pause", "pause", "resume", "resume", "kill engine", "part", "cancel"),
    "engines": ("kill engine", "pause", "retry"),
    "copies": ("clone", "snapshot", "revert"),
    "backups": ("backup", "restore"),
    "enrolment": (*OF_ENROLMENT, "reinstall", "offer", "plot removed", "plot removed", "plot address", "plot address"),
    "strays": ("stray", "stray", "old hello", "flood"),
    "liars": ("lie", "lie", "early end", "plot early", "plot handed out"),
    "faults of ours": ("rule fails", "rule fails", "rows", "rows", "no event", "remove database"),
    "the curious": ("why", "unstorable", "plot waiting", "plot fidget", "plot nobody"),
    "plots of ends": ("plot publishing", "plot publishing", "plot between", "plot handed out", "plot planned end"),
    "plots of holds": ("plot paused", "plot paused", "plot comes back", "plot crowded"),
    "plots of losses": ("plot comes back", "plot comes back", "plot publishing", "plot paused", "plot too late"),
    "plots of leases": ("plot lease", "plot lease", "plot target", "plot target"),
    "plots of backups": ("plot put back", "plot put back", "plot twice adopted", "plot twice adopted"),
    "master's copies": ("copy master", "revert master"),
}
RESTARTS = (
    "restart master",
    "kill master",
    "master power cut",
    "doom",
    "restart agent",
    "restart agent",
    "crash agent",
)
STEADY_S = 2.0  # an agent that started so long ago has been heard since
GROUP_ODDS = 0.25  # so that a world has about five groups


@dataclass(frozen=True)
class Act:
    """One thing that somebody does."""

    at_s: float
    kind: str
    seed: int


def acts(chance: random.Random, storm_s: float, *, calm: bool) -> list[Act]:
    """What is done in a world, in order of time. In a calm one daemons are restarted, and no other harm is done."""
    names = [name for name in GROUPS if chance.random() < GROUP_ODDS]
    kinds = list(RESTARTS) if calm else [kind for name in names for kind in GROUPS[name]]
    density = chance.choice((0.1, 0.3, 0.6))
    found = [Act(0.0, "submit", chance.getrandbits(32)) for _ in range(chance.choice((1, 2, 4)))]
    at_s = 0.0
    while (at_s := at_s + 2.0 * chance.random() / density) < storm_s:
        of_users = not kinds or chance.random() < 0.4
        found.append(Act(at_s, chance.choice(OF_USERS if of_users else kinds), chance.getrandbits(32)))
    return found


def perform(world: World, act: Act) -> None:
    """Do it."""
    chance = random.Random(act.seed)
    world.count(f"act {act.kind}")
    if act.kind in ("submit", "live"):
        world.users.submit(chance, act.kind if act.kind == "live" else "")
    elif act.kind in OF_JOBS:
        world.users.of_job(act.kind, chance)
    elif act.kind in OF_ENROLMENT:
        world.users.of_enrolment(act.kind, chance)
    elif act.kind in PLOTS:
        world.tell(lambda: act.kind)
        world.users.plots.begin(act.kind, chance)
    elif act.kind in OF_OPERATORS:
        _operate(world, act.kind, chance)
    else:
        world.tell(lambda: f"nemesis: {act.kind}")
        _DEEDS[act.kind](world, chance)


def _operate(world: World, kind: str, chance: random.Random) -> None:
    if kind.endswith("queue"):
        world.users.of_queue(chance.choice(list(Queue)), paused=kind.startswith("hold"))
        return
    name = chance.choice(world.names)
    world.users.of_node(kind, name, chance)


def _host(world: World, chance: random.Random) -> Host:
    return world.hosts[chance.choice(world.names)]


def _weather(world: World, chance: random.Random) -> None:
    lost, doubled = chance.choice((0.0, 0.05, 0.3)), chance.choice((0.0, 0.2, 0.5))
    world.network.weather = Weather(lost, doubled, chance.choice((0.01, 0.5, 3.0)), chance.choice((0.0, 0.0, 0.02)))


def _part(world: World, chance: random.Random) -> None:
    seconds = chance.uniform(0.5, 20.0)
    up_s, down_s = chance.choice(((1, 1), (1, 0), (0, 1)))
    world.network.part(_host(world, chance).key, up_s * seconds, down_s * seconds)


def _half(world: World, chance: random.Random) -> None:
    seconds = chance.uniform(0.5, 20.0)
    for host in world.hosts.values():
        if chance.random() < 0.6:
            world.network.part(host.key, seconds, seconds)


def _stop_agent(world: World, chance: random.Random) -> None:
    host = _host(world, chance)
    host.do(host.stop)
    world.time.after(chance.uniform(0.2, chance.choice((6.0, 15.0))), host.start)


def _kill_agent(world: World, chance: random.Random) -> None:
    host = _host(world, chance)
    host.kill()
    if chance.random() < 0.8:
        world.time.after(chance.uniform(0.2, 10.0), host.start)


def _soon_back(world: World, chance: random.Random, *, orderly: bool) -> None:
    """An agent is restarted or upgraded, or crashes: it is back before its node can be called lost."""
    host = _host(world, chance)
    if host.agent is not None and world.time.now_s - host.agent.since_s > STEADY_S:
        (host.stop if orderly else host.kill)()
        world.time.after(chance.uniform(0.1, 1.2), host.start)


def _power_cut(world: World, chance: random.Random) -> None:
    host = _host(world, chance)
    host.power_cut()
    world.time.after(chance.uniform(1.0, 12.0), host.start)


def _start_agents(world: World, _chance: random.Random) -> None:
    for host in world.hosts.values():
        host.do(host.start)


def _kill_engine(world: World, chance: random.Random) -> None:
    """Something ends an engine, also one that stands still: the system for want of memory, its limits, a fault of its own."""
    running = [d.engine for host in world.hosts.values() for d in host.running() if d.engine is not None]
    if running:
        chance.choice(running).end(chance.choice(("failed", "wrong", "late", "")))


def _doom(world: World, chance: random.Random) -> None:
    where = chance.choice(("commit", "write", "committed", "act"))
    world.master.doomed(where, chance.choice((0, 0, 1, 2, 3, 5, 8, 20)))


def _wall_clock(world: World, chance: random.Random) -> None:
    world.master.wall_from_s += chance.choice((-3600.0, -10.0, 10.0, 3600.0, 86400.0))


def _full(world: World, chance: random.Random) -> None:
    def over() -> None:
        world.master.full = world.master.disk.full = False

    world.master.full = world.master.disk.full = True
    world.time.after(chance.uniform(0.5, 10.0), over)


def _sync_fails(world: World, _chance: random.Random) -> None:
    world.master.disk.fail_sync = True


def _numbers(world: World, chance: random.Random) -> None:
    """The numbers file cannot be written."""

    def over() -> None:
        world.master.numbers.fault = ""

    world.master.numbers.fault = chance.choice(("full", "broken"))
    world.time.after(chance.uniform(1.0, 10.0), over)


def _slow_disk(world: World, chance: random.Random) -> None:
    def over() -> None:
        world.master.slow_s = 0.002

    world.master.slow_s = chance.choice((0.5, 3.0, 12.0))
    world.time.after(chance.uniform(1.0, 15.0), over)


def _trouble(world: World, chance: random.Random) -> None:
    def over() -> None:
        world.trouble = 0.0

    world.trouble = 0.5
    world.time.after(chance.uniform(1.0, 15.0), over)


def _clone(world: World, chance: random.Random) -> None:
    """Somebody copies a state folder to another host, and starts an agent there for a while."""
    name = chance.choice(world.names)
    original = world.hosts[name]
    clone = Host(world, name, original.capacity, rate=1.0, key=original.key)
    clone.boot = 1000
    clone.folder = original.folder.copy()
    world.checks.loose.add(name)
    world.clones.append(clone)
    clone.start()
    world.time.after(chance.uniform(1.0, 12.0), clone.kill)


def _snapshot(world: World, chance: random.Random) -> None:
    host = _host(world, chance)
    world.snapshots[host.name] = host.folder.copy()


def _revert(world: World, chance: random.Random) -> None:
    host = _host(world, chance)
    if host.name in world.snapshots:
        world.checks.loose.add(host.name)
        host.revert(world.snapshots[host.name])
        world.time.after(chance.uniform(0.5, 5.0), host.start)


def _offer(world: World, chance: random.Random) -> None:
    """The owner of a host changes what it offers. Its cores stay: what is under way was measured against them."""
    host = _host(world, chance)
    fresh = capacity(chance, host.name, host.capacity.roots, rare=chance.random() < 0.3)
    host.offer(structs.replace(fresh, cpu_milli=host.capacity.cpu_milli))


def _no_event(world: World, _chance: random.Random) -> None:
    """Something gets into a turn that is no event."""
    master = world.master
    if master.up:
        master.audit(lambda: master.cycle.post(Input(wire.Goodbye(1))))  # type: ignore[arg-type]


def _remove_database(world: World, chance: random.Random) -> None:
    """Somebody removes a file of the store, under a master whose disk is in order otherwise."""
    master = world.master
    if master.up and not master.full and not master.doom[0] and not master.disk.fail_sync:
        world.faults.remove(chance)


_DEEDS: dict[str, Callable[[World, random.Random], None]] = {
    "weather": _weather,
    "part": _part,
    "half": _half,
    "break": lambda world, chance: world.network.break_all(_host(world, chance).key if chance.random() < 0.7 else ""),
    "kill agent": _kill_agent,
    "stop agent": _stop_agent,
    "start agents": _start_agents,
    "freeze agent": lambda world, chance: _host(world, chance).freeze(chance.uniform(0.2, 25.0), all_of_it=False),
    "freeze host": lambda world, chance: _host(world, chance).freeze(chance.uniform(0.2, 25.0), all_of_it=True),
    "power cut": _power_cut,
    "restart agent": lambda world, chance: _soon_back(world, chance, orderly=True),
    "crash agent": lambda world, chance: _soon_back(world, chance, orderly=False),
    "kill engine": _kill_engine,
    "doom": _doom,
    "kill master": lambda world, _chance: world.master.crash(power=False),
    "freeze master": lambda world, chance: world.master.freeze(chance.uniform(3.0, 20.0)),
    "master power cut": lambda world, _chance: world.master.crash(power=True),
    "restart master": lambda world, _chance: world.master.stop(),
    "wall clock": _wall_clock,
    "full": _full,
    "sync fails": _sync_fails,
    "slow disk": _slow_disk,
    "numbers": _numbers,
    "trouble": _trouble,
    "clone": _clone,
    "snapshot": _snapshot,
    "revert": _revert,
    "rule fails": lambda world, chance: world.faults.plant(chance),
    "rows": lambda world, chance: world.faults.spoil(chance),
    "no event": _no_event,
    "remove database": _remove_database,
    "stray": lambda world, chance: strays.stray(world, _host(world, chance), chance),
    "old hello": lambda world, chance: strays.old_hello(world, _host(world, chance), chance),
    "flood": lambda world, chance: strays.flood(world, _host(world, chance)),
    "lie": lambda world, chance: strays.lie(world, _host(world, chance), chance),
    "early end": lambda world, chance: strays.early_end(world, _host(world, chance), chance),
    "why": lambda world, _chance: world.users.why(),
    "unstorable": lambda world, chance: world.users.unstorable(chance),
    "reinstall": lambda world, chance: world.users.reinstall(chance.choice(world.names)),
    "offer": _offer,
    "backup": lambda world, _chance: world.keep_backup(),
    "copy master": lambda world, _chance: world.keep_copy(),
    "revert master": lambda world, _chance: world.put_copy_back(),
    "restore": lambda world, _chance: world.put_backup_back(),
}
