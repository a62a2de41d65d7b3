"""The command line of the simulator."""

from __future__ import annotations

import argparse
import os
import random
import sys
import time
from collections import Counter
from pathlib import Path

from simulation import many

from ffrtmp.farm.job import TRANSITIONS

STORY_LINES = 200


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
    asked = parser.parse_args(argv)
    if asked.seed is not None:
        return _tell(asked.seed, shorten=asked.shorten)
    first = random.SystemRandom().randrange(1 << 31) if asked.first is None else asked.first
    jobs = 1 if asked.coverage else asked.jobs  # what is watched is this process
    return _run(first, asked.seeds, jobs, asked.record)


def _tell(seed: int, *, shorten: bool) -> int:
    with many.a_place() as (base, made):
        world = many.shortened(seed, base, made) if shorten else many.one(seed, base, made, telling=True)
    print("\n".join(world.story or []))
    return 1 if world.broken else 0


def _run(first: int, count: int, jobs: int, record: Path | None) -> int:
    print(f"worlds {first} to {first + count - 1} on {jobs} cores", flush=True)
    began_s = time.monotonic()
    total, failed, steps, worlds, cpu_s = Counter[str](), {}, 0, 0, 0.0
    for part in many.many(first, count, jobs, record):
        worlds += part.count
        steps += part.steps
        cpu_s += part.took_s
        total.update(part.counts)
        for seed, what in part.failed.items():
            print(f"seed {seed}: {what}", flush=True)
        failed.update(part.failed)
        if sys.stderr.isatty():
            print(f"{worlds} of {count}, {len(failed)} failed", end="\r", file=sys.stderr, flush=True)
    tell_counts(total)
    rate = 60.0 * worlds / cpu_s if cpu_s else 0.0
    print(f"{worlds} worlds, {steps} steps, {time.monotonic() - began_s:.0f} s, {rate:.0f} worlds a minute on a core")
    if not failed:
        print("all promises held")
        return 0
    seed = int(next(iter(failed)))
    print(f"{len(failed)} failed; the story of seed {seed}, shortened:")
    with many.a_place() as (base, made):
        world = many.shortened(seed, base, made)
    print("\n".join((world.story or [])[-STORY_LINES:]))
    print(f"again: python -m tests.simulation --seed {seed}")
    return 1


def tell_counts(total: Counter[str]) -> None:
    """How often each thing came to be, and which transitions of the table never did."""
    for what, times in sorted(total.items()):
        print(f"{times:10d}  {what}")
    table = [(b.value if b else "none", a.value) for b, afters in TRANSITIONS.items() for a in afters]
    missed = [f"{b} -> {a}" for b, a in table if not total[f"transition {b} -> {a}"]]
    print(
        f"transitions: {len(table) - len(missed)} of {len(table)}" + (f"; never: {', '.join(missed)}" if missed else "")
    )
