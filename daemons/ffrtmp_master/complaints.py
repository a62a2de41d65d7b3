"""What strangers and broken peers do is counted always, and logged now and then: a flood must not fill the journal."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable

EVERY_S = 10.0
KINDS_MAX = 64


class Complaints:
    """Counts by kind; one log line a kind every `EVERY_S` seconds, which tells how many it stands for."""

    def __init__(self, log: logging.Logger, clock: Callable[[], float]) -> None:
        """`clock` gives monotonic seconds."""
        self.counts: Counter[str] = Counter()
        self._log = log
        self._clock = clock
        self._told: dict[str, tuple[float, int]] = {}  # kind -> when, and the count then

    def note(self, kind: str, detail: str) -> None:
        """Count a `kind` (one of a fixed set of sentences); `detail` says of which peer and why, for the log."""
        self.counts[kind] += 1
        now = self._clock()
        at, before = self._told.get(kind, (now - EVERY_S, 0))
        if now - at < EVERY_S or len(self._told) > KINDS_MAX:
            return
        self._told[kind] = (now, self.counts[kind])
        times = self.counts[kind] - before
        self._log.warning("%s: %.200s%s", kind, detail, f" ({times} times since the last line)" if times > 1 else "")
