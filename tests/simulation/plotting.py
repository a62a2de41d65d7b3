"""What plots are made of: what they wait for, and what they may do to hosts, engines and jobs."""

from __future__ import annotations

import random
from collections.abc import Generator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from simulation.media import FOREIGN

from ffrtmp.farm import effects as fx
from ffrtmp_master.submit import complete

if TYPE_CHECKING:
    from simulation.host import Host
    from simulation.world import World


@dataclass(frozen=True)
class Until:
    """Go on at the next row of one of these kinds, of this job where one is named; or for good without one."""

    kinds: tuple[str, ...]
    job: int = 0
    within_s: float = 20.0


Plot = Generator[float | Until, fx.Record | None, None]


def ask(world: World, what: str, job: int) -> None:
    world.users.of_number(what, job)


def host_of(world: World, row: fx.Record) -> Host | None:
    return world.hosts.get(row.node)


def away(world: World, host: Host, how: str, seconds: float) -> None:
    """A host is out of reach for a while."""
    world.tell(lambda: f"a plot: {host.name}: {how} for {seconds:.1f} s")
    if how == "part":
        world.network.part(host.key, seconds, seconds)
    elif how == "part up":
        world.network.part(host.key, seconds, 0.0)
    elif how == "part down":
        world.network.part(host.key, 0.0, seconds)
    elif how in ("freeze host", "freeze agent"):
        host.freeze(seconds, all_of_it=how == "freeze host")
    else:
        (host.power_cut if how == "power cut" else host.kill)()
        world.time.after(seconds, host.start)


AWAY = ("part", "part", "part up", "part down", "freeze host", "freeze agent", "power cut", "kill agent")
ENDS = ("failed", "wrong", "late", "")
ORDERS = ("cancel", "pause", "resume", "update", "stop")


def end_of(world: World, row: fx.Record, how: str) -> None:
    """The engine of an attempt ends; or (`continue`) somebody lets it go on who is none of ours, and it comes to its end."""
    host = host_of(world, row)
    for directory in host.running() if host is not None else ():
        engine = directory.engine
        if (directory.assign.job, directory.assign.attempt) != (row.job, row.attempt) or engine is None:
            continue
        world.tell(lambda: f"a plot: the engine of {row.job}.{row.attempt} ends: {how or 'without a word'}")
        if how != "continue":
            engine.end(how)
        elif engine.state == "paused":
            engine.needs_s = engine.done_s
            engine.start()


def strike(world: World, chance: random.Random, row: fx.Record) -> None:
    """One of all the things that can befall an attempt."""
    host = host_of(world, row)
    how = chance.choice((*AWAY, *ENDS, *ENDS, *ORDERS, "continue", "continue", "kill master", "remove"))
    seconds = chance.choice((1.0, 10.0, 20.0)) * chance.uniform(0.5, 1.5)
    if how in AWAY:
        if host is not None:
            away(world, host, how, seconds)
    elif how in ORDERS:
        ask(world, how, row.job)
    elif how == "kill master":
        world.master.crash(power=chance.random() < 0.3)
    elif how == "remove":
        if host is not None:
            world.users.of_node("remove", host.name, chance)
    else:
        end_of(world, row, how)


def put_there(world: World, number: int) -> None:
    """Somebody puts a file of his own at the place of a job's output, where nothing stands yet."""
    job = next((job for job in world.users.accepted.values() if job.number == number), None)
    output = complete(job.spec, number).output if job is not None else None
    if output is not None and output.relative not in world.media.root(output.root_id).outputs:
        world.tell(lambda: f"a plot: somebody puts a file at {output.relative}")
        world.count("foreign file")
        world.media.root(output.root_id).outputs[output.relative] = FOREIGN
