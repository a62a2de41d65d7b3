"""P1, P10: a day of a master on a disk that fails at any of its writes and syncs.

DISK=full tries every one of them (`make test-disk`); otherwise every k-th is tried, from a place that a seed chooses. What is
found names its case: DISK_SEED=N repeats a sample, DISK_ONLY=N tries the n-th step alone.
"""

from __future__ import annotations

import logging
import os
import random
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import mkdtemp

import pytest
from store.day import Day
from store.memory_disk import CUTS, Fault, Step

FULL = os.environ.get("DISK") == "full"
SHARES = 8 if FULL else 1  # for several processes
EVERY = {"run": 1 if FULL else 200, "image": 1 if FULL else 80}
MEMORY = Path("/dev/shm")


@pytest.fixture(scope="module")
def seed() -> int:
    """Chooses the sample."""
    return int(os.environ.get("DISK_SEED") or random.SystemRandom().randrange(1_000_000))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """In memory where that can be had: the real syncs are not wanted."""
    made = Path(mkdtemp(dir=MEMORY)) if MEMORY.is_dir() else tmp_path_factory.mktemp("disk")
    logging.disable(logging.CRITICAL)  # the master says a line for each fault
    yield made
    logging.disable(logging.NOTSET)
    shutil.rmtree(made)


@pytest.fixture(scope="module")
def steps(folder: Path) -> list[Step]:
    """All writes and syncs of a day on which nothing fails."""
    found: list[Step] = []
    with _place(folder) as place:
        Day(place, lambda _day, step: found.append(step)).run()
    assert len(found) == found[-1].number > 1000
    assert {step.what for step in found} == {"write", "sync", "truncate", "remove", "rename"}
    return found


@contextmanager
def _place(folder: Path) -> Iterator[Path]:
    place = Path(mkdtemp(dir=folder))
    try:
        yield place
    finally:
        shutil.rmtree(place)


def _chosen(steps: list[Step], share: int, seed: int, every: int) -> list[Step]:
    if only := os.environ.get("DISK_ONLY"):
        return [step for step in steps if step.number == int(only)]
    return steps[(seed + share) % (SHARES * every) :: SHARES * every] if not FULL else steps[share::SHARES]


def _go_through(folder: Path, wanted: Step, strikes: Callable[[Day], None]) -> Day:
    """A day on which one step is struck."""
    with _place(folder) as place:

        def before(day: Day, step: Step) -> None:
            if step.number == wanted.number:
                assert step == wanted, "the day is not the same any more"
                strikes(day)

        day = Day(place, before, seed=wanted.number)
        try:
            day.run()
        except Exception as error:
            error.add_note(f"{wanted}\n" + "\n".join(day.story[-30:]))
            raise
        return day


shares = pytest.mark.parametrize("share", range(SHARES))


@shares
def test_p1_whatever_a_crash_leaves_at_a_write_has_all_that_was_answered(folder: Path, steps, share, seed):
    chosen = {step.number for step in _chosen(steps, share, seed, EVERY["image"])}

    def before(day: Day, step: Step) -> None:
        if step.number in chosen:
            for how in CUTS:
                with _place(folder) as place:
                    day.check_image(how, place / "found")

    with _place(folder) as place:
        Day(place, before, seed).run()


@shares
def test_p1_the_power_goes_at_a_write_and_the_day_goes_on(folder: Path, steps, share, seed):
    for step in _chosen(steps, share, seed, EVERY["run"]):
        day = _go_through(folder, step, lambda day: day.cut(day.chance.choice(CUTS)))
        assert day.cuts >= 3  # the day has two of its own


@shares
@pytest.mark.parametrize("lasting", [False, True], ids=["once", "for a while"])
def test_p1_a_write_that_fails_ends_the_master_at_most_and_loses_nothing(folder: Path, steps, share, lasting, seed):
    for step in _chosen(steps, share, seed, EVERY["run"]):
        day = _go_through(folder, step, lambda day: day.fail("io", lasting=lasting))
        assert day.struck


@shares
@pytest.mark.parametrize("lasting", [False, True], ids=["once", "for a while"])
def test_p1_a_write_without_room_is_answered_503_changes_nothing_and_the_master_stays(
    folder: Path, steps, share, lasting, seed
):
    faults: tuple[Fault, Fault] = ("full", "quota")
    needing = [step for step in steps if lasting or step.what in ("write", "rename")]
    for step in _chosen(needing, share, seed, EVERY["run"]):
        fault = faults[step.number // SHARES % 2]
        day = _go_through(folder, step, partial(Day.fail, fault=fault, lasting=lasting))
        assert day.struck
        assert not day.broke, f"the master ended at {step}: {day.story}"
