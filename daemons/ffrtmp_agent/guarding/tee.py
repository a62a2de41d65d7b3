"""The log on disk: bounded, with its head and its tail kept, and every byte at its own place.

An engine that complains about every frame writes gigabytes. What helps a reader is how it began and how it ended. The
first half of the bound goes to `log`. What follows goes to segments, `log.OFFSET`, each named after the place of its
first byte in the whole; when they pass the other half the oldest is removed. So a byte never moves, a reader who knows
an offset can go on from it, and where something was cut is seen from the names alone. Readers: ffrtmp_agent/joblog.py.
"""

from __future__ import annotations

import os

HEAD = "log"
SEGMENTS = 8  # the tail's granularity: between 7/8 and all of its half is kept
FLAGS = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC


class Log:
    """Writes the log of one attempt into the working folder. `offset` counts every byte that came, kept or not."""

    def __init__(self, max_bytes: int, *, echo: int = -1) -> None:
        """`echo` is a descriptor that gets a copy of what it can take at once (the journal); -1 for none."""
        self.offset = 0
        half = max(max_bytes // 2, 1)
        self._segment_bytes = max(half // SEGMENTS, 1)
        self._tail: list[str] = []
        self._file = os.open(HEAD, FLAGS, 0o660)
        self._left = half  # what the present file still takes
        self._echo = echo
        if echo >= 0:
            os.set_blocking(echo, False)

    def write(self, data: bytes) -> None:
        """Append. A disk that is full loses bytes, never the engine."""
        if self._echo >= 0:
            _write(self._echo, data)
        while data:
            if self._left <= 0:
                self._next_segment()
            part, data = data[: self._left], data[self._left :]
            whole = _write(self._file, part)
            self.offset += len(part)
            # After a failure this file ends: the next byte goes to one that is named after its own place.
            self._left = self._left - len(part) if whole else 0

    def sync(self) -> None:
        """Make it durable as far as the disk can."""
        try:
            os.fsync(self._file)
        except OSError:
            return

    def drop_tail(self) -> None:
        """Give up the tail to make room for what matters more."""
        while self._tail:
            _remove(self._tail.pop(0))

    def _next_segment(self) -> None:
        self.sync()
        if self._file >= 0:
            os.close(self._file)
        name = f"{HEAD}.{self.offset}"
        self._tail.append(name)
        if len(self._tail) > SEGMENTS:
            _remove(self._tail.pop(0))
        self._left = self._segment_bytes
        try:
            self._file = os.open(name, FLAGS, 0o660)
        except OSError:
            self._file = -1  # writing to it fails, and the next write tries another segment


def _write(descriptor: int, data: bytes) -> bool:
    """Whether all of it could be written."""
    try:
        while data:
            data = data[os.write(descriptor, data) :]
    except OSError:
        return False
    return True


def _remove(name: str) -> None:
    try:
        os.unlink(name)  # noqa: PTH108 (pathlib is not imported here)
    except OSError:
        return
