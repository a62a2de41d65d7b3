"""What strangers and broken peers do is counted always, and logged now and then: a flood must not fill the journal.

Nor may it fill the turns: `Pace` says who has asked too often to be heard just now.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Mapping

EVERY_S = 10.0
KINDS_MAX = 1000  # the one that was told longest ago is forgotten


class Complaints:
    """Counts by kind; one log line a kind every `EVERY_S` seconds, which tells how many it stands for."""

    def __init__(self, log: logging.Logger, clock: Callable[[], float]) -> None:
        """`clock` gives monotonic seconds."""
        self.counts: Counter[str] = Counter()
        self._log = log
        self._clock = clock
        self._told: dict[str, tuple[float, int]] = {}  # kind -> when, and the count then

    def note(self, kind: str, detail: str, extra: Mapping[str, object] | None = None) -> None:
        """Count a `kind` (one of few sentences, if need be one a node); `detail` says of which peer and why, for the log.

        `extra` are the fields of the line.
        """
        self.counts[kind] += 1
        now = self._clock()
        at, before = self._told.get(kind, (now - EVERY_S, 0))
        if now - at < EVERY_S:
            return
        self._told.pop(kind, None)
        self._told[kind] = (now, self.counts[kind])
        while len(self._told) > KINDS_MAX:
            gone = next(iter(self._told))
            del self._told[gone], self.counts[gone]
        times = self.counts[kind] - before
        more = f" ({times} times since the last line)" if times > 1 else ""
        self._log.warning("%s: %.200s%s", kind, detail, more, extra=extra)


class Pace:
    """How often each may ask: `burst` times at once, and once more for each `every_s` that has passed."""

    def __init__(self, burst: int, every_s: float, clock: Callable[[], float], *, known_most: int = 10_000) -> None:
        """`clock` gives monotonic seconds; of more than `known_most` askers those of longest ago are forgotten."""
        self._ahead_s = burst * every_s
        self._every_s = every_s
        self._clock = clock
        self._known_most = known_most
        self._paid_s: dict[str, float] = {}  # until when each has used up its turns

    def allows(self, who: str) -> bool:
        """Whether this one may ask now; if so, it has."""
        now = self._clock()
        paid_s = max(now, self._paid_s.get(who, now)) + self._every_s
        if paid_s - now > self._ahead_s:
            return False
        self._paid_s.pop(who, None)
        self._paid_s[who] = paid_s
        while len(self._paid_s) > self._known_most:
            del self._paid_s[next(iter(self._paid_s))]
        return True
