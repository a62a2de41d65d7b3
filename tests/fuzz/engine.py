"""Running a target: so many examples or so many seconds, each from a seed that is told, counted by how far they got.

A *target* makes examples (a hypothesis strategy) and tries them. Trying says how far an example got: REFUSED by the
decoder, or DEEP, past it and into the rules behind. Whatever it raises is a finding; hypothesis shortens it.
"""

from __future__ import annotations

import time
from collections import Counter
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import seed as seeded
from hypothesis import strategies as st

REFUSED, DEEP = "refused", "deep"
ROUND = 300  # examples from one seed
DEEP_LEAST = 0.3


class Target(Protocol):
    """What is fuzzed. `examples` may be asked for once it is entered."""

    name: str

    def open(self) -> AbstractContextManager[None]:
        """Whatever it needs, for as long as it runs."""
        ...

    def examples(self) -> st.SearchStrategy[Any]:
        """What to try."""
        ...

    def attempt(self, example: Any) -> str:
        """Try one: REFUSED or DEEP. Raises where something broke."""
        ...


@dataclass
class Tally:
    """What came of a run. `broke` are findings: the seed, and what was raised."""

    name: str
    first_seed: int
    rounds: int = 0
    seconds: float = 0.0
    reached: Counter[str] = field(default_factory=Counter)
    broke: list[tuple[int, BaseException]] = field(default_factory=list)

    @property
    def examples(self) -> int:
        """How many were tried."""
        return sum(self.reached.values())

    @property
    def deep(self) -> float:
        """The share that got past the decoder."""
        return self.reached[DEEP] / max(1, self.examples)

    def __add__(self, later: Tally) -> Tally:
        """Both together, the later one having gone on with the next seed."""
        return Tally(
            self.name,
            self.first_seed,
            self.rounds + later.rounds,
            self.seconds + later.seconds,
            self.reached + later.reached,
            self.broke + later.broke,
        )

    def __str__(self) -> str:
        seeds = f"seeds {self.first_seed} to {self.first_seed + max(0, self.rounds - 1)}"
        return (
            f"{self.name}: {self.examples} examples in {self.seconds:.0f} s, {self.deep:.0%} past the decoder, "
            f"{len(self.broke)} broke ({seeds})"
        )


def run(target: Target, seed: int, *, seconds: float = 0.0, examples: int = ROUND) -> Tally:
    """Try at least one round of `examples`, and go on with the next seed until `seconds` are over or something broke."""
    tally = Tally(target.name, seed)
    began_s = time.monotonic()
    with target.open():
        while not tally.rounds or (time.monotonic() - began_s < seconds and not tally.broke):
            _round(target, seed + tally.rounds, examples, tally)
            tally.rounds += 1
    tally.seconds = time.monotonic() - began_s
    return tally


def _round(target: Target, seed: int, examples: int, tally: Tally) -> None:
    @seeded(seed)
    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=(Phase.generate, Phase.shrink),
        print_blob=False,
    )
    @given(target.examples())
    def tried(example: Any) -> None:
        tally.reached[target.attempt(example)] += 1

    try:
        tried()
    except Exception as error:
        tally.broke.append((seed, error))
