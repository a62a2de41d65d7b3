"""Energy by RAPL: the counters that Intel and AMD processors keep of what their packages used.

A counter is of the whole package, whoever ran on it, and starts again at its range; so it is sampled more often than it
can wrap (some minutes at full power) and added up. Since 2020 kernels let only root read it; where it cannot be read
there is no energy figure, and none is guessed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Counter:
    """One package's counter at one moment, in microjoules; it goes from 0 to `range_uj` and starts again."""

    value_uj: int
    range_uj: int


def read_counters(root: Path = Path("/")) -> dict[str, Counter]:
    """The packages' counters that can be read, by name; empty where there are none."""
    found: dict[str, Counter] = {}
    # intel-rapl:0 is a package; intel-rapl:0:1 is a part of it and would count twice.
    for folder in sorted((root / "sys/class/powercap").glob("intel-rapl:*")):
        if folder.name.count(":") != 1:
            continue
        try:
            value = int((folder / "energy_uj").read_text())
            wraps_at = int((folder / "max_energy_range_uj").read_text())
        except (OSError, ValueError):
            continue
        found[folder.name] = Counter(value, wraps_at)
    return found


def energy_j(before: Mapping[str, Counter], after: Mapping[str, Counter]) -> float | None:
    """Joules used between two readings, at most one wrap apart; None where no package was read both times."""
    both = before.keys() & after.keys()
    if not both:
        return None
    return sum(_used_uj(before[name], after[name]) for name in both) / 1e6


def _used_uj(before: Counter, after: Counter) -> int:
    used = after.value_uj - before.value_uj
    return used if used >= 0 else used + after.range_uj


class EnergyMeter:
    """Adds up what the host's packages use. `sample` it with each heartbeat; the difference of two is what was used."""

    def __init__(self, root: Path = Path("/")) -> None:
        self._root = root
        self._last = read_counters(root)
        self._total_j = 0.0

    def sample(self) -> float | None:
        """Joules since this meter was made, or None where the host does not tell."""
        if not self._last:
            return None
        now = read_counters(self._root)
        used = energy_j(self._last, now)
        if used is None:
            return None
        self._last = now
        self._total_j += used
        return self._total_j
