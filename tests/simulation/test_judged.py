"""What is judged in simulated worlds beside the rules themselves: whose word counts, and what users are told."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from simulation import many
from simulation.logs import all_of

from ffrtmp.farm import why
from ffrtmp.farm.job import Attempt
from ffrtmp.farm.world import World

WORLDS = 120


@pytest.fixture(scope="module")
def place() -> Iterator[tuple[Path, Path]]:
    with many.a_place() as place:
        yield place


def _until_broken(place: tuple[Path, Path]) -> str:
    return next((world.broken for seed in range(WORLDS) if (world := many.one(seed, *place)).broken), "")


def test_p4_a_master_that_believes_what_a_node_says_of_attempts_of_others_is_found_out(
    place: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def anybodys(world: World, _node: str, uuid: str, number: int) -> Attempt | None:
        key = world.by_identity.get((uuid, number))
        return world.attempts.get(key) if key is not None else None

    monkeypatch.setattr(World, "on", anybodys)
    assert _until_broken(place)


def test_a_sentence_of_why_that_is_not_so_is_found_out(
    place: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(why, "obstacle", lambda _world, _job, _node: None)
    assert _until_broken(place).startswith("why: ")


@pytest.mark.parametrize(
    ("pieces", "size", "longest", "whole"),
    [
        ([(0, 150), (150, 800)], 800, 800, True),
        ([(0, 150), (200, 800)], 800, 800, False),
        ([(0, 500), (1500, 2000)], 2000, 2000, True),
        ([(0, 500), (1600, 2000)], 2000, 2000, False),
        ([(0, 500), (1600, 2000)], 2000, 2100, True),
        ([(0, 500), (1500, 1550), (1600, 2000)], 2000, 2100, True),
        ([(0, 500), (1700, 2000)], 2000, 2100, False),
        ([(0, 400), (1600, 2000)], 2000, 2100, False),
        ([(0, 500), (1400, 2000)], 2000, 2100, False),
        ([(0, 500)], 2000, 3000, True),
    ],
)
def test_of_a_log_whose_end_went_with_the_power_nothing_is_missing_but_what_had_been_cut(
    pieces: list[tuple[int, int]], size: int, longest: int, whole: bool
) -> None:
    assert all_of(pieces, size, longest, most=1000) is whole
