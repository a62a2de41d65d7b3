"""The logs of attempts: what an engine writes, what its guard keeps of it, and whether the master has it, byte by byte.

What stands at a place of a log follows from the attempt and the place, so that a byte at a wrong place, or of another
attempt, is seen. The bound is small in some worlds: there most of a log is cut, at the host and at the master.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ffrtmp.farm.job import State

if TYPE_CHECKING:
    from collections.abc import Iterator

    from simulation.attempt import Directory
    from simulation.host import Host
    from simulation.world import World

BYTES_PER_S = 100
CHUNK_BYTES = 700  # an agent reads so much at a time
LINE_BYTES = 16


def text(node: str, uuid: str, attempt: int, start: int, end: int) -> bytes:
    """What stands from `start` to `end` in the log of an attempt on a node."""
    mark = zlib.crc32(f"{node}/{uuid}.{attempt}".encode())
    first = start // LINE_BYTES
    lines = b"".join(b"%08x%07x\n" % (mark, number) for number in range(first, -(-end // LINE_BYTES)))
    return lines[start - first * LINE_BYTES : end - first * LINE_BYTES]


def windows(size: int, most: int) -> Iterator[tuple[int, int]]:
    """What is kept of a log of this size: its head and its tail, (start, end) of each."""
    head = most // 2
    yield 0, min(head, size)
    start = max(head, size - (most - head))
    if start < size:
        yield start, size


def read(directory: Directory, node: str, most: int, offset: int) -> list[tuple[int, bytes]]:
    """As joblog.chunks: bytes from `offset` on, or from behind what was cut there."""
    for start, end in windows(directory.log_bytes, most):
        first, last = max(start, offset), min(end, max(start, offset) + CHUNK_BYTES)
        if first < last:
            return [(first, text(node, *directory.key, first, last))]
    return []


@dataclass(frozen=True)
class Written:
    """A log that its host is done with: how much stood there, and how much did before its power went."""

    node: str
    size: int
    most: int
    epoch: int  # how often the master had been put back when it began


class Logs:
    """Compares what hosts had with what the master has."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.written: dict[tuple[str, int], Written] = {}

    def gone(self, host: Host, directory: Directory) -> None:
        """An attempt's directory is about to be removed by its agent: its log is at the master, whole."""
        written = Written(host.name, directory.log_bytes, max(directory.log_bytes, directory.log_most), directory.epoch)
        self.written[directory.key] = written

    def at_the_end(self) -> None:
        """All that the master keeps is what engines wrote, each byte at its place; and nothing is missing."""
        reader, checks = self.world.master.reader, self.world.checks
        for number, uuid in checks.numbers.items():
            row = reader.job(number)
            if row is None or row.uuid != uuid or row.state is State.REJECTED:
                continue  # it was retired, or its master was put back to before it
            for attempt in reader.log_attempts(number):
                self._same(number, uuid, attempt)
            self._whole(number, uuid)

    def _same(self, number: int, uuid: str, attempt: int) -> None:
        node = self.world.checks.attempts.get((uuid, attempt), "")
        # A name may have gone from one host to another, and what it stands for with it.
        nodes = self.world.names if node in self.world.checks.loose else (node,)
        for piece in self.world.master.reader.read_log(number, attempt):
            if all(piece.data != text(name, uuid, attempt, piece.offset, piece.end) for name in nodes):
                self.world.checks.fail(f"P4: the log of {number}.{attempt} has foreign bytes at {piece.offset}")

    def _whole(self, number: int, uuid: str) -> None:
        reader, most = self.world.master.reader, self.world.log_max_bytes
        for (known, attempt), written in self.written.items():
            checks = self.world.checks
            if (
                known != uuid
                or self.world.master.retention_s
                or written.node in checks.loose
                or written.epoch < checks.restored
            ):
                continue
            size = reader.log_size(number, attempt)
            pieces = [(piece.offset, piece.end) for piece in reader.read_log(number, attempt)]
            if not written.size <= size <= written.most or not all_of(pieces, size, written.most, most):
                what = f"{written.size} bytes on {written.node}; the master has {size}: {pieces}"
                self.world.checks.fail(f"P1: the log of {number}.{attempt} is not whole: {what}")
            self.world.count("log compared")


def all_of(pieces: list[tuple[int, int]], size: int, longest: int, most: int) -> bool:
    """Whether these are what is kept of a log of this size, but for what its host had cut by when it was so long."""
    head = most // 2
    first = max(head, longest - (most - head))
    needed = [(start, end) for start, end in ((0, min(head, size)), (first, size)) if start < end]
    kept = _joined([window for window in windows(size, most) if window[0] < window[1]])
    return _within(_joined(needed), _joined(pieces)) and _within(pieces, kept)


def _within(inner: list[tuple[int, int]], outer: list[tuple[int, int]]) -> bool:
    return all(any(left <= start and end <= right for left, right in outer) for start, end in inner)


def _joined(ranges: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Those that touch as one."""
    found: list[tuple[int, int]] = []
    for start, end in ranges:
        if found and found[-1][1] == start:
            found[-1] = (found[-1][0], end)
        else:
            found.append((start, end))
    return found
