"""Plots against hosts: their addresses, their leases, their agents' last words, and operators who remove them."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from simulation.network import Weather
from simulation.plotting import AWAY, Plot, Until, away, host_of

from ffrtmp.farm import events as ev
from ffrtmp_master.turn import Input

if TYPE_CHECKING:
    from simulation.world import World


def address(world: World, chance: random.Random) -> Plot:
    """A host is given the address of another, which may be well, silent, or on its way back; and gets its own again."""
    names = chance.sample(world.names, 2)
    mover, holder = (world.hosts[name] for name in names)
    silent = chance.random() < 0.3
    if silent or chance.random() < 0.4:
        how, seconds = ("part", 25.0) if silent else (chance.choice(AWAY), chance.uniform(1.0, 20.0))
        away(world, holder, how, seconds)
        yield 2.0 * chance.random()
    world.tell(lambda: f"a plot: {mover.name} gets the address of {holder.name}")
    if chance.random() < 0.3:
        holder.stop()
        world.time.after(chance.uniform(10.0, 20.0), holder.start)
    mover.move(holder.address)
    if silent:
        yield 0.5
        away(world, mover, "freeze agent", 12.0)  # it asks once and not again
    if chance.random() < 0.5:
        yield 0.5 + chance.random()
        world.network.break_all(holder.key)
    yield 3.0 * chance.random()
    if chance.random() < 0.5:
        away(world, mover, chance.choice(AWAY), chance.uniform(0.5, 5.0))
    if chance.random() < 0.4:
        away(world, holder, "kill agent", chance.uniform(0.1, 2.0))
    yield 10.0 * chance.random()
    mover.move("")
    mover.do(mover.start)


def lease(world: World, chance: random.Random) -> Plot:
    """A host with a strict job is out of reach in two ways at once: its agent stands still with answers on their way, and
    goes on behind a wire that is parted."""
    kind = chance.choice(("strict", "strict live", "strict live"))
    world.users.submit(chance, kind)
    row = yield Until(("running",))
    host = host_of(world, row) if row is not None else None
    if row is None or host is None:
        return
    world.network.weather = Weather(delay_s=chance.choice((0.01, 1.0, 3.0)))
    yield 3.0 * chance.random()
    lost_s = world.rules.lost_after_s if kind == "strict" else world.rules.lost_after_live_s
    if chance.random() < 0.7:
        away(world, host, "freeze agent", lost_s * chance.uniform(0.1, 1.0))
    away(world, host, chance.choice(("part", "part", "part up", "part down")), lost_s * chance.uniform(1.5, 4.0))
    yield 2.0 * lost_s
    world.network.weather = Weather()


def last_word(world: World, chance: random.Random) -> Plot:
    """An agent dies and is there again at once, while what it said last is on its way and the master writes."""
    host = world.hosts[chance.choice(world.names)]
    world.network.weather, world.master.slow_s = Weather(delay_s=1.0), 1.0
    for _ in range(3):
        yield 0.5 + chance.random()
        world.users.submit(chance)
        host.kill()
        yield 0.1 * chance.random()
        host.do(host.start)
    yield 2.0
    world.network.weather, world.master.slow_s = Weather(), 0.002


def removed(world: World, chance: random.Random) -> Plot:
    """An operator removes a node at the moment at which its agent says Hello, or has been called lost."""
    host = world.hosts[chance.choice(world.names)]
    world.master.slow_s = 0.3
    if chance.random() < 0.5:
        host.stop()
        if chance.random() < 0.4:
            yield 0.5 + chance.random()
            _remove_if_gone(world, host.name)  # it has said goodbye and may come back
    else:
        host.kill()
    if chance.random() < 0.3:
        yield 8.0 * chance.random()
    host.start()
    yield 0.02 * chance.random()
    if chance.random() < 0.5:
        world.users.of_node("remove", host.name, chance)
    else:
        _remove_if_gone(world, host.name)
    yield 1.0
    world.master.slow_s = 0.002


def _remove_if_gone(world: World, name: str) -> None:
    world.checks.loose.add(name)
    world.users.ask(f"remove {name} if it is gone", lambda n: Input(ev.RemoveNode(n, name)))


def nobody(world: World, chance: random.Random) -> Plot:
    """All nodes are removed under work that waits, and come again."""
    world.users.submit(chance)
    world.users.alike(chance, 2)
    yield Until(("queued",))
    for name in world.names:
        world.users.of_node("remove", name, chance)
    yield 1.0
    world.users.why()
    yield 3.0 * chance.random()
    for name in world.names:
        world.users.of_node("add", name, chance)
        world.time.after(1.0, world.hosts[name].start)
