"""Rare meetings, aimed at: somebody waits for a moment in the life of a job, and strikes just then.

What is drawn at random meets a job between its grant and its rename once in thousands of worlds. A plot is a coroutine: it
yields how long it waits, in seconds, or the row of history that it waits for, and goes on when that is on disk.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from simulation import plots_of_hosts
from simulation.network import Weather
from simulation.plotting import AWAY, ENDS, ORDERS, Plot, Until, ask, away, end_of, host_of, put_there, strike
from simulation.strays import early_end, lease_of_target

from ffrtmp.farm import effects as fx
from ffrtmp.farm.job import Queue

if TYPE_CHECKING:
    from simulation.world import World

    from ffrtmp.farm.effects import Effect


class Plots:
    """The plots of a world that are under way."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._waiting: dict[int, tuple[Until, Plot]] = {}
        self._count = 0
        self._peace = False
        self.under_way = 0
        self._chance = world.time.chance("plots")

    def begin(self, kind: str, chance: random.Random) -> None:
        """Somebody plots."""
        self.under_way += 1
        self._go_on(PLOTS[kind](self._world, chance), None)

    def over(self) -> None:
        """Peace: nobody plots any more."""
        self._peace = True
        self._waiting.clear()

    def noticed(self, effects: Iterable[Effect]) -> None:
        """A turn is on disk."""
        if not self._waiting:
            return
        for row in effects:
            if isinstance(row, fx.Record):
                self._notice(row)

    def _notice(self, row: fx.Record) -> None:
        for number, (until, plot) in list(self._waiting.items()):
            if row.kind in until.kinds and until.job in (0, row.job):
                del self._waiting[number]
                self._world.time.after(0.0, lambda plot=plot: self._go_on(plot, row))

    def _go_on(self, plot: Plot, given: fx.Record | None) -> None:
        if self._world.over or self._peace:
            return
        if self._chance.random() < 0.3:
            self._world.users.why()
        try:
            wish = plot.send(given)
        except StopIteration:
            self.under_way -= 1
            return
        if not isinstance(wish, Until):
            self._world.time.after(wish, lambda: self._go_on(plot, None))
            return
        self._count += 1
        number = self._count
        self._waiting[number] = (wish, plot)
        self._world.time.after(wish.within_s, lambda: self._tire(number))

    def _tire(self, number: int) -> None:
        if self._waiting.pop(number, None) is not None:
            self.under_way -= 1


# ---- plots -------------------------------------------------------------------------------------------------------


def _publishing(world: World, chance: random.Random) -> Plot:
    """The holder of a grant is struck before, at or after its rename; and whoever settles for it, too."""
    world.users.submit(chance)
    row = yield Until(("granted",))
    host = host_of(world, row) if row is not None else None
    if row is None or host is None:
        return
    yield chance.choice((0.0, 0.1, 0.4)) * chance.random()
    away(world, host, chance.choice(AWAY), chance.uniform(8.0, 40.0))
    if chance.random() < 0.3:
        put_there(world, row.job)
    for what in chance.sample(ORDERS, 2):
        yield chance.choice((2.0, 2.0, 8.0)) * chance.random()
        ask(world, what, row.job)
    helper = yield Until(("settling",), row.job, 40.0)
    if helper is None or chance.random() < 0.5:
        return
    world.network.parted.pop(host.key, None)
    if (other := host_of(world, helper)) is not None and chance.random() < 0.6:
        away(world, other, chance.choice((*AWAY, "part up", "part up")), chance.uniform(2.0, 20.0))
    host.do(host.start)


def _paused(world: World, chance: random.Random) -> Plot:
    """Something befalls an attempt that stands still, or is about to."""
    world.users.submit(chance)
    row = yield Until(("running",))
    if row is None:
        return
    yield chance.random()
    ask(world, "pause", row.job)
    row = yield Until(("paused", "pausing") if chance.random() < 0.2 else ("paused",), row.job)
    if row is None:
        return
    if chance.random() < 0.3:
        yield from _resumed(world, chance, row)
        return
    yield chance.random()
    if chance.random() < 0.25:
        yield from _continued(world, chance, row)
        return
    strike(world, chance, row)
    yield 3.0 * chance.random()
    ask(world, chance.choice(("resume", "cancel", "update")), row.job)


def _continued(world: World, chance: random.Random, row: fx.Record) -> Plot:
    """Somebody lets its engine go on behind our back, and its output is done while all think that it stands."""
    end_of(world, row, "continue")
    granted = yield Until(("granted",), row.job)
    host = host_of(world, row)
    if granted is None or host is None or chance.random() < 0.3:
        return
    away(world, host, chance.choice(AWAY), chance.uniform(8.0, 30.0))
    if (yield Until(("node_lost",), row.job, 15.0)) is not None:
        ask(world, chance.choice(("resume", "resume", "cancel")), row.job)


def _resumed(world: World, chance: random.Random, row: fx.Record) -> Plot:
    """It is released, where there is room for it or not; and then."""
    if chance.random() < 0.5:
        world.users.crowd(chance, 4, wide=False)
        yield chance.random()
    ask(world, "resume", row.job)
    again = yield Until(("resuming",), row.job)
    if again is not None:
        yield chance.choice((0.0, 0.1, 1.0)) * chance.random()
        if chance.random() < 0.5:
            ask(world, chance.choice(("cancel", "pause", "pause", "update")), row.job)
            yield 0.1 * chance.random()
            ask(world, chance.choice(("resume", "resume", "cancel")), row.job)
        elif chance.random() < 0.3:
            end_of(world, again, chance.choice(ENDS))
        else:
            strike(world, chance, again)


def _comes_back(world: World, chance: random.Random) -> Plot:
    """A node is lost with an attempt, another attempt takes its place, and then the first is back; or never is."""
    world.users.submit(chance)
    row = yield Until(("running",))
    host = host_of(world, row) if row is not None else None
    if row is None or host is None:
        return
    stands = chance.random() < 0.6
    if stands:
        ask(world, "pause", row.job)
        yield Until(("paused",), row.job)
    away(world, host, chance.choice(("part", "part", "freeze agent")), chance.uniform(8.0, 30.0))
    lost = yield Until(("node_lost",), row.job, 15.0)
    if lost is None:
        return
    if stands:
        yield 2.0 * chance.random()
        ask(world, "resume", row.job)
    yield from _successor(world, chance, row)


def _too_late(world: World, chance: random.Random) -> Plot:
    """A node comes to what it was offered when the attempt before has published: it refuses, and nobody waits for that."""
    world.users.submit(chance)
    row = yield Until(("running",))
    host = host_of(world, row) if row is not None else None
    if row is None or host is None:
        return
    away(world, host, "part", 20.0)
    end_of(world, row, "verified")
    second = yield Until(("assigned",), row.job, 15.0)
    other = host_of(world, second) if second is not None else None
    if other is not None:
        away(world, other, "freeze agent", chance.uniform(3.0, 5.0))
        world.network.parted.pop(host.key, None)


def _successor(world: World, chance: random.Random, row: fx.Record) -> Plot:
    """What befalls the attempt that takes the place of one on a lost node."""
    if chance.random() < 0.2:
        ask(world, chance.choice(ORDERS), row.job)
    early = chance.random() < 0.25
    second = yield Until(("assigned",) if early else ("running",), row.job, 15.0)
    if second is None:
        return
    first, host = host_of(world, row), host_of(world, second)
    if early and host is not None:
        away(world, host, "freeze agent", 4.0)  # it takes it in time, or just not any more
    else:
        yield chance.random()
    end = "stay" if early else chance.choice((*ENDS, "failed", "failed", "late", "late", "strike", "stay"))
    if end == "strike":
        strike(world, chance, second)
    elif end != "stay":
        end_of(world, second, end)
    if first is not None and (early or end == "failed"):
        yield 0.5 * chance.random()
        world.network.parted.pop(first.key, None)  # it is back just now
    yield 5.0 * chance.random()
    if chance.random() < 0.2:
        world.users.of_node("remove", row.node, chance)
    elif chance.random() < 0.3 and (host := host_of(world, row)) is not None:
        away(world, host, "power cut", chance.uniform(1.0, 20.0))


def _handed_out(world: World, chance: random.Random) -> Plot:
    """Something befalls an attempt that was handed out a moment ago."""
    world.users.submit(chance, chance.choice(("", "live")))
    row = yield Until(("assigned",))
    if row is None:
        return
    yield chance.choice((0.0, 0.0, 0.2)) * chance.random()
    strike(world, chance, row)
    ask(world, chance.choice(ORDERS), row.job)


def _early(world: World, chance: random.Random) -> Plot:
    """An attempt is said to have ended by an agent that never said that it began it."""
    world.users.submit(chance)
    row = yield Until(("assigned",))
    host = host_of(world, row) if row is not None else None
    if host is not None:
        early_end(world, host, chance)


def _planned_end(world: World, chance: random.Random) -> Plot:
    """A live job, which holds a lease on its target, is to end; its node goes before, or never takes it."""
    world.users.submit(chance, "live")
    row = yield Until(("assigned",) if chance.random() < 0.4 else ("running",))
    host = host_of(world, row) if row is not None else None
    if row is None or host is None:
        return
    if chance.random() < 0.5:
        yield chance.random()
        lease_of_target(world, host, row.job)
        yield chance.random()
    how, seconds = chance.choice(AWAY), chance.uniform(2.0, 25.0)
    if chance.random() < 0.5:
        away(world, host, how, seconds)
        ask(world, chance.choice(("stop", "stop", "pause", "cancel")), row.job)
    else:
        ask(world, "stop", row.job)
        yield chance.random()
        away(world, host, how, seconds)
    if chance.random() < 0.3 and (yield Until(("node_lost",), row.job, 15.0)) is not None:
        ask(world, chance.choice(ORDERS), row.job)
    elif chance.random() < 0.6:
        second = yield Until(("running",), row.job, 15.0)
        if second is not None and (other := host_of(world, second)) is not None:
            lease_of_target(world, other, row.job)
            yield 5.0 * chance.random()
            end_of(world, second, chance.choice(("wrong", "failed", "completed")))
    yield 10.0 * chance.random()
    ask(world, chance.choice(ORDERS), row.job)


def _target(world: World, chance: random.Random) -> Plot:
    """A node is lost with a live job's lease on its target; the next attempt asks for that, or ends, before it is over."""
    world.users.submit(chance, "live")
    row = yield Until(("running",))
    host = host_of(world, row) if row is not None else None
    if row is None or host is None:
        return
    lease_of_target(world, host, row.job)
    yield Until(("granted",), row.job, 5.0)
    away(world, host, "part", chance.uniform(8.0, 20.0))
    second = yield Until(("running",), row.job, 15.0)
    other = host_of(world, second) if second is not None else None
    if second is not None and other is not None:
        lease_of_target(world, other, row.job)
        end_of(world, second, chance.choice(("completed", "completed", "continue")))


def _between(world: World, chance: random.Random) -> Plot:
    """A user has a word while a job waits for its next try."""
    world.users.submit(chance)
    row = yield Until(("running",))
    if row is None:
        return
    yield chance.random()
    if chance.random() < 0.3:
        ask(world, "pause", row.job)
    end_of(world, row, "failed")
    row = yield Until(("failed",), row.job)
    for _ in range(3):
        if row is not None:
            ask(world, chance.choice(("pause", "pause", "cancel", "update", "resume", "resume")), row.job)
            yield chance.random()


def _waiting(world: World, chance: random.Random) -> Plot:
    """A user has many words while a job waits for room."""
    queue = chance.choice(list(Queue))
    world.users.of_queue(queue, paused=True)
    world.users.crowd(chance, 3, wide=True)
    row = yield Until(("queued",))
    for _ in range(4):
        yield 0.5 * chance.random()
        if row is not None:
            ask(world, chance.choice(("pause", "pause", "resume", "update", "cancel")), row.job)
    world.users.of_queue(queue, paused=False)


def _crowded(world: World, chance: random.Random) -> Plot:
    """Many small jobs, one that needs much, and one that is released into the crowd: they starve, and a node is reserved."""
    world.users.crowd(chance, 6, wide=True)
    row = yield Until(("running",))
    if row is not None and chance.random() < 0.5:
        ask(world, "pause", row.job)
        row = yield Until(("paused",), row.job)
    for _ in range(6):
        yield 2.0 * chance.random()
        world.users.crowd(chance, 3, wide=False)
        if row is not None and chance.random() < 0.3:
            ask(world, "resume", row.job)
    kept = yield Until(("reserved",))
    if kept is not None:
        yield 2.0 * chance.random()
        strike(world, chance, kept)


def _fidget(world: World, chance: random.Random) -> Plot:
    """A user holds a job that waits and lets it go, many times over: what waits must not grow by it."""
    world.users.alike(chance, 3)
    row = yield Until(("queued",))
    if row is None:
        return
    yield 0.5
    for _ in range(70):
        ask(world, "pause", row.job + 1)
        ask(world, "resume", row.job + 1)
    yield 1.0
    ask(world, "cancel", row.job)


def _put_back(world: World, chance: random.Random) -> Plot:
    """A backup of one moment of a job is put back at another; a user cancels what the new past knows of it."""
    world.users.submit(chance)
    early = yield Until(chance.choice((("queued",), ("assigned",), ("running",))))
    if early is None:
        return
    world.keep_backup()
    job = early.job if chance.random() < 0.7 else 0
    if chance.random() < 0.3:
        world.users.submit(chance)
    row = yield Until(chance.choice((("granted",), ("granted",), ("running",), ("completed",), ("node_lost",))), job)
    if row is None:
        return
    host = host_of(world, row)
    yield chance.choice((0.0, 0.1, 0.8)) * chance.random()
    if host is not None and chance.random() < 0.6:
        away(world, host, chance.choice(("freeze agent", "freeze host", "part")), chance.uniform(2.0, 12.0))
    world.put_backup_back()
    for _ in range(2):
        yield 1.0 + 2.0 * chance.random()
        ask(world, chance.choice(("cancel", "cancel", "pause", "update")), row.job)


def _twice_adopted(world: World, chance: random.Random) -> Plot:
    """Two attempts of a job are at work, and the master is put back to before its submission."""
    world.keep_backup()
    yield 0.5
    world.users.submit(chance)
    row = yield Until(("running",))
    host = host_of(world, row) if row is not None else None
    if row is None or host is None:
        return
    if chance.random() < 0.25:
        ask(world, "pause", row.job)
        moment = Until(("paused",), row.job)
    elif chance.random() < 0.3:
        moment = Until((chance.choice(("granted", "granted", "completed", "failed")),), row.job)
    else:
        away(world, host, "part", chance.uniform(8.0, 16.0))
        moment = Until(("running",), row.job)
    second = yield moment
    other = host_of(world, second) if second is not None else None
    if other is None:
        return
    if other is not host and chance.random() < 0.6:
        world.network.parted.pop(host.key, None)  # the older attempt is offered first
        away(world, other, "part", 4.0)
    yield chance.choice((0.1, 1.0)) * chance.random()
    if chance.random() < 0.5:
        world.network.weather = Weather(lost=0.3, delay_s=0.5)
    world.put_backup_back()


PLOTS: dict[str, Callable[[World, random.Random], Plot]] = {
    "plot publishing": _publishing,
    "plot paused": _paused,
    "plot comes back": _comes_back,
    "plot too late": _too_late,
    "plot handed out": _handed_out,
    "plot early": _early,
    "plot planned end": _planned_end,
    "plot target": _target,
    "plot between": _between,
    "plot waiting": _waiting,
    "plot crowded": _crowded,
    "plot fidget": _fidget,
    "plot put back": _put_back,
    "plot twice adopted": _twice_adopted,
    "plot address": plots_of_hosts.address,
    "plot removed": plots_of_hosts.removed,
    "plot last word": plots_of_hosts.last_word,
    "plot lease": plots_of_hosts.lease,
    "plot nobody": plots_of_hosts.nobody,
}
