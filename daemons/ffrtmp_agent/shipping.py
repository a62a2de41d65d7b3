"""Shipping logs: which part of which log is sent next. Pure; the caller reads the files.

A log is its own outbox: the file stays until the master has acknowledged its end. So a lost chunk costs a repetition, and
nothing is kept in memory but two offsets a log.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ffrtmp import wire

from .actions import AttemptKey

CHUNKS_UNDER_WAY = 4
PATIENCE_S = 5.0


@dataclass(slots=True)
class Shipment:
    """One log. `end` is its size once no more will come."""

    acked: int = 0
    sent: int = 0
    moved_s: float = 0.0
    end: int | None = None
    last_sent: bool = False
    done: bool = False


class Shipping:
    """All logs of this host that are not wholly at the master yet."""

    def __init__(self) -> None:
        self.logs: dict[AttemptKey, Shipment] = {}

    def add(self, key: AttemptKey) -> None:
        """An attempt is there."""
        self.logs.setdefault(key, Shipment())

    def ended(self, key: AttemptKey, size: int) -> None:
        """No more will be written to this log."""
        self.logs.setdefault(key, Shipment()).end = size

    def forget(self, key: AttemptKey) -> None:
        """The attempt's directory is gone."""
        self.logs.pop(key, None)

    def welcome(self, offsets: dict[AttemptKey, int]) -> None:
        """A new session: go on where the master's store stands."""
        for key, log in self.logs.items():
            log.acked = log.sent = offsets.get(key, 0)
            log.last_sent = log.done = False

    def acked(self, key: AttemptKey, offset: int, now_s: float) -> bool:
        """The log is stored up to `offset`. Says whether all of it is, now and for the first time."""
        log = self.logs.get(key)
        if log is None:
            return False
        log.acked = max(log.acked, offset)
        log.sent = max(log.sent, log.acked)
        log.moved_s = now_s
        if log.done or not log.last_sent or log.end is None or log.acked < log.end:
            return False
        log.done = True
        return True

    def wanted(self, now_s: float) -> Iterable[tuple[AttemptKey, int]]:
        """Which logs are to be read on, and from where. Where nothing was acknowledged for a while it is sent again."""
        for key, log in self.logs.items():
            if log.done:
                continue
            if (log.sent > log.acked or log.last_sent) and now_s - log.moved_s > PATIENCE_S:
                log.sent, log.last_sent, log.moved_s = log.acked, False, now_s
            under_way = log.sent - log.acked
            if not log.last_sent and under_way < CHUNKS_UNDER_WAY * wire.LOG_CHUNK_BYTES:
                yield key, log.sent

    def chunk(self, key: AttemptKey, session: int, read: list[tuple[int, bytes]], now_s: float) -> wire.LogChunk | None:
        """The message for what was read from the wanted place on; None where there is nothing to say."""
        log = self.logs[key]
        offset, data = read[0] if read else (log.sent, b"")
        if not read and log.end is not None:
            offset = max(offset, log.end)  # what was there when it ended cannot be read any more: nobody gets it
        at_end = log.end is not None and offset + len(data) >= log.end
        if not data and not at_end:
            return None
        if log.sent == log.acked:
            log.moved_s = now_s
        after, log.sent = log.sent, offset + len(data)
        log.last_sent = at_end
        return wire.LogChunk(session, key[0], key[1], offset, data, last=at_end, after=after)
