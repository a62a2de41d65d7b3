"""What is remembered of attempts between two looks: how long their input is and what energy they used; and what the
network link carried.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from ffrtmp.host.energy import EnergyMeter
from ffrtmp.host.network import Counters, read_counters

from .attempt import AttemptDir

_DURATION = re.compile(rb"^\s*Duration: (\d+):(\d\d):(\d\d(?:\.\d+)?)", re.MULTILINE)
_HEAD_BYTES = 64 << 10
_MOST_S = 1e9


class Watching:
    """Lengths and energy by attempt.

    ffmpeg says the length of its input in its log, so that nobody has to open it beforehand. The energy is that of the
    whole host, in equal shares for those that run at the time; an attempt that an earlier agent started has no figure.
    """

    def __init__(self, root: Path = Path("/")) -> None:
        """`root` is where the counters of energy are looked for."""
        self.interface = ""
        self._totals: dict[str, float] = {}
        self._meter = EnergyMeter(root)
        self._told_j = 0.0
        self._used_j: dict[str, float] = {}

    def began(self, directory: AttemptDir) -> None:
        """The attempt has been started just now."""
        self._used_j[directory.name] = 0.0

    def share_energy(self, running: Sequence[AttemptDir]) -> None:
        """Put what was used since the last call down to those that run."""
        total_j = self._meter.sample()
        if total_j is None:
            return
        share_j, self._told_j = (total_j - self._told_j) / max(1, len(running)), total_j
        for directory in running:
            if directory.name in self._used_j:
                self._used_j[directory.name] += share_j

    def energy_j(self, directory: AttemptDir) -> float | None:
        """What an attempt has used, in joules; None where that is not known."""
        return self._used_j.get(directory.name) or None

    def total_s(self, directory: AttemptDir) -> float:
        """The length of the input in seconds; 0: not known (yet)."""
        known = self._totals.get(directory.name)
        if known is None:
            known = _asked_s(directory) or duration_s(directory.read("log", _HEAD_BYTES))
            if known:
                self._totals[directory.name] = known
        return known

    def forget(self, directory: AttemptDir) -> None:
        """The attempt has ended."""
        self._totals.pop(directory.name, None)
        self._used_j.pop(directory.name, None)

    def link_bytes(self) -> tuple[int, int]:
        """What the interface to the master received and sent."""
        counters = read_counters(self.interface) if self.interface else Counters()
        return counters.rx_bytes, counters.tx_bytes


def _asked_s(directory: AttemptDir) -> float:
    job = directory.job_file()
    pattern = job.spec.source.pattern if job is not None else None
    return pattern.duration_s if pattern is not None else 0.0


def duration_s(log: bytes) -> float:
    """The length that ffmpeg says its input has; 0 where it says none. The longest of several inputs."""
    found = [min(float(h) * 3600 + int(m) * 60 + float(s), _MOST_S) for h, m, s in _DURATION.findall(log)]
    return max(found, default=0.0)
