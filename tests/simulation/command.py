"""The command line of the simulator."""

from __future__ import annotations

import argparse
import os
import random
import sys
import time
from collections import Counter
from pathlib import Path

from simulation import many, record

from ffrtmp.farm.job import TRANSITIONS

STORY_LINES = 200
MISSED_MOST = 4  # transitions that a run of some hundred worlds may miss; which ones differs from run to run


def main(argv: list[str] | None = None) -> int:
    """Run one world or many; 1 when a promise was broken."""
    parser = argparse.ArgumentParser("python -m tests.simulation", description="simulated worlds of a farm")
    parser.add_argument("--seed", type=int, help="tell the story of this one world")
    parser.add_argument("--shorten", action="store_true", help="with --seed: leave out what the failure does not need")
    parser.add_argument("--seeds", type=int, default=100, metavar="COUNT", help="run so many worlds (100)")
    parser.add_argument("--first", type=int, help="the first seed; else fresh ones")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, metavar="CORES", help="on so many cores (all)")
    parser.add_argument("--record", type=Path, metavar="FILE", help="write down what was done, and go on from there")
    parser.add_argument("--coverage", action="store_true", help="which branches of the rules and the turns were taken")
    parser.add_argument("--bound", action="store_true", help="fail where less is reached than must be")
    parser.add_argument(
        "--tally", type=Path, metavar="FILE", help="what a record comes to, as rows for docs/simulation.md"
    )
    asked = parser.parse_args(argv)
    many.end_on_sigterm()
    if asked.tally is not None:
        print("\n".join(record.tally(record.read(asked.tally))))
        return 0
    if asked.seed is not None:
        return _tell(asked.seed, shorten=asked.shorten)
    first = random.SystemRandom().randrange(1 << 31) if asked.first is None else asked.first
    jobs = 1 if asked.coverage else asked.jobs  # what is watched is this process
    return _run(first, asked.seeds, jobs, asked.record, bound=asked.bound)


def _tell(seed: int, *, shorten: bool) -> int:
    with many.a_place() as (base, made):
        world = many.shortened(seed, base, made) if shorten else many.one(seed, base, made, telling=True)
    print("\n".join(world.story or []))
    return 1 if world.broken else 0


def _run(first: int, count: int, jobs: int, path: Path | None, *, bound: bool) -> int:
    print(f"worlds {first} to {first + count - 1} on {jobs} cores", flush=True)
    began_s = time.monotonic()
    parts: list[record.Part] = []
    failed: dict[str, str] = {}
    for part in many.many(first, count, jobs, path):
        parts.append(part)
        for seed, what in part.failed.items():
            print(f"seed {seed}: {what}", flush=True)
        failed.update(part.failed)
        if sys.stderr.isatty():
            worlds = sum(each.count for each in parts)
            print(f"{worlds} of {count}, {len(failed)} failed", end="\r", file=sys.stderr, flush=True)
    missed = tell_counts(record.summed(parts))
    _tell_rate(parts, time.monotonic() - began_s)
    if not failed:
        print("all promises held")
        return 1 if bound and len(missed) > MISSED_MOST else 0
    seed = int(next(iter(failed)))
    print(f"{len(failed)} failed; the story of seed {seed}, shortened:")
    with many.a_place() as (base, made):
        world = many.shortened(seed, base, made)
    print("\n".join((world.story or [])[-STORY_LINES:]))
    print(f"again: python -m tests.simulation --seed {seed}")
    return 1


def _tell_rate(parts: list[record.Part], took_s: float) -> None:
    """What was done in how much time of a CPU: the clock on the wall tells what else the machine did."""
    worlds, cpu_s = sum(part.count for part in parts), sum(part.cpu_s for part in parts)
    events, faults = sum(part.events for part in parts), sum(part.faults for part in parts)
    print(
        f"{worlds} worlds, {events} events, {faults} faults, {sum(part.steps for part in parts)} steps, {took_s:.0f} s"
    )
    if worlds and cpu_s:
        each = f"{events / worlds:.0f} events and {faults / worlds:.0f} faults in each"
        print(f"{60.0 * worlds / cpu_s:.0f} worlds a minute of a core's time, {each}")


def tell_counts(total: Counter[str]) -> list[str]:
    """How often each thing came to be; and which transitions of the table never did, which is given back too."""
    for what, times in sorted(total.items()):
        print(f"{times:10d}  {what}")
    table = [(b.value if b else "none", a.value) for b, afters in TRANSITIONS.items() for a in afters]
    missed = [f"{b} -> {a}" for b, a in table if not total[f"transition {b} -> {a}"]]
    print(
        f"transitions: {len(table) - len(missed)} of {len(table)}" + (f"; never: {', '.join(missed)}" if missed else "")
    )
    return missed
