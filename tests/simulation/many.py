"""Many worlds over many cores, a part at a time; what was done is recorded, so that a long run may take more than one go."""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import shutil
import signal
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType

from simulation import record
from simulation.disk import simulated
from simulation.faults import small_bounds
from simulation.nemesis import Act
from simulation.record import Part, stamped
from simulation.world import World, story, template

SHORTEN_S = 20.0
_places: list[Path] = []  # folders of this process that are to be removed


@contextlib.contextmanager
def a_place() -> Iterator[tuple[Path, Path]]:
    """A folder for worlds and the template of their stores; in memory where the system has such a place."""
    logging.disable(logging.CRITICAL)
    memory = Path("/dev/shm")
    prefix = f"ffrtmp-simulation-{os.getpid()}-"
    base = Path(tempfile.mkdtemp(prefix=prefix, dir=memory if memory.is_dir() else None))
    _places.append(base)
    try:
        with simulated(base), small_bounds():
            made = base / "template"
            made.mkdir()
            template(made)
            yield base, made
    finally:
        shutil.rmtree(base)
        _places.remove(base)
        logging.disable(logging.NOTSET)


def end_on_sigterm() -> None:
    """From now on SIGTERM ends this process with its folders removed.

    Not by an exception where a world runs: what is simulated would take that for its own.
    """

    def end(number: int, _frame: FrameType | None) -> None:
        signal.signal(number, signal.SIG_IGN)
        if not _places:
            raise SystemExit(128 + number)
        for base in _places:
            shutil.rmtree(base, ignore_errors=True)
        os._exit(128 + number)

    signal.signal(signal.SIGTERM, end)


def one(seed: int, base: Path, made: Path, acts: Sequence[Act] | None = None, *, telling: bool = False) -> World:
    """One world; an exception that nobody caught in it is a fault too."""
    folder = base / f"world-{seed}"
    try:
        return story(seed, folder, made, acts, telling=telling)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def part(first: int, count: int, commit: str = "") -> Part:
    """The worlds of these seeds, one after the other."""
    done = stamped(Part(first, count, commit=commit))
    counts: Counter[str] = Counter()
    began_s = time.process_time()
    with a_place() as (base, made):
        for seed in range(first, first + count):
            try:
                world = one(seed, base, made)
            except Exception:
                done.failed[str(seed)] = traceback.format_exc()
                continue
            done.steps += world.time.steps
            done.events += world.time.events
            counts.update(world.counts)
            if world.broken:
                done.failed[str(seed)] = world.broken
    done.cpu_s = round(time.process_time() - began_s, 3)
    done.counts = dict(counts)
    return done


def _part(row: tuple[int, int, str]) -> Part:
    return part(*row)


def many(first: int, count: int, jobs: int, path: Path | None) -> Iterator[Part]:
    """All worlds from `first` on; those that the record at `path` has, of whatever commit, are not run again."""
    known = record.within(record.read(path), first, count) if path is not None else []
    yield from known
    commit = record.commit()
    rows = [(*row, commit) for row in record.left(first, count, known, jobs)]
    if jobs == 1:
        fresh: Iterator[Part] = map(_part, rows)
        yield from _recorded(fresh, path)
        return
    with multiprocessing.get_context("spawn").Pool(jobs, end_on_sigterm) as pool:
        yield from _recorded(pool.imap_unordered(_part, rows), path)


def _recorded(parts: Iterator[Part], path: Path | None) -> Iterator[Part]:
    for each in parts:
        if path is not None:
            record.append(path, each)
        yield each


def shortened(seed: int, base: Path, made: Path, within_s: float = SHORTEN_S) -> World:
    """The world of a failure with as few acts as were found in this time to lead to a failure still."""
    until_s = time.monotonic() + within_s
    best = one(seed, base, made, telling=True)
    acts, size = list(best.acts), max(1, len(best.acts) // 2)
    while time.monotonic() < until_s:
        start, before = 0, len(acts)
        while start < len(acts) and time.monotonic() < until_s:
            fewer = acts[:start] + acts[start + size :]
            world = one(seed, base, made, fewer, telling=True)
            if world.broken:
                best, acts = world, fewer
            else:
                start += size
        if size == 1 and len(acts) == before:
            break
        size = max(1, size // 2)
    return best
