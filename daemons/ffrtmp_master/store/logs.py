"""The logs of attempts: bounded, in chunks, put in at any offset any number of times.

An attempt's log is a row of bytes with positions. The master hears it in chunks that may repeat or overlap, and that may
leave gaps where the agent itself has cut. Of the positions two windows are kept: the *head*, the first half of
`max_bytes`, and the *tail*, the last half before the end as far as it was heard. What lies between them is cut. Both
windows are exact when read; on disk a chunk that is half out stays until it is wholly out, so an attempt holds at most one
chunk more than `max_bytes`.

Bytes that are there are never changed: a chunk is put only where nothing stands yet. That makes repetition harmless, and
an attempt that was copied cannot rewrite what was read.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import apsw

from .database import rows

CHUNK_BYTES = 64 << 10  # longer ones are split
TAIL_BYTES_MAX = 4 << 20  # `tail` looks no further back


@dataclass(frozen=True, slots=True)
class LogAppend:
    """Bytes of an attempt's log, from `offset` since its start; `after` is where the chunk before them ended."""

    job: int
    attempt: int
    offset: int
    data: bytes
    after: int = 0


@dataclass(frozen=True, slots=True)
class Piece:
    """Consecutive bytes of a log. `cut` bytes are missing just before; `mark` is the line that says so, else empty."""

    attempt: int
    offset: int
    data: bytes
    cut: int = 0
    mark: bytes = b""

    @property
    def end(self) -> int:
        """Where to read on."""
        return self.offset + len(self.data)

    @property
    def text(self) -> bytes:
        """The bytes, after the line that marks a cut."""
        return self.mark + self.data


@dataclass(frozen=True, slots=True)
class _Windows:
    """The two windows of positions that are kept."""

    head_end: int
    tail_start: int
    size: int

    @classmethod
    def of(cls, size: int, max_bytes: int) -> _Windows:
        head = max_bytes // 2
        return cls(head, max(head, size - (max_bytes - head)), size)

    def parts(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        """What of [start, end) is kept."""
        if start < min(end, self.head_end):
            yield start, min(end, self.head_end)
        start = max(start, self.tail_start)
        if start < end:
            yield start, end


def append(connection: apsw.Connection, chunks: Iterable[LogAppend], max_bytes: int) -> tuple[bool, ...]:
    """Put chunks into the logs, in an open transaction. `max_bytes` holds for logs that begin now.

    Says of each whether it was taken. One whose forerunner was lost on the way is not: an acknowledgement says that all
    before it is here, and what is missing would never be sent again.
    """
    return tuple(_append(connection, chunk, max_bytes) for chunk in chunks)


def _append(connection: apsw.Connection, chunk: LogAppend, max_bytes: int) -> bool:
    key = (chunk.job, chunk.attempt)
    end = chunk.offset + len(chunk.data)
    size, max_bytes = _known(connection, *key) or (0, max_bytes)
    if chunk.after > size or not chunk.data:
        return chunk.after <= size
    windows = _Windows.of(max(size, end), max_bytes)
    for start, stop in windows.parts(chunk.offset, end):
        for first, last in _missing(connection, *key, start, stop):
            _insert(connection, chunk, first, last)
    if end > size:
        connection.execute(
            "INSERT INTO logs (job, attempt, size, max_bytes) VALUES (?, ?, ?, ?)"
            " ON CONFLICT (job, attempt) DO UPDATE SET size = excluded.size",
            (*key, end, max_bytes),
        )
        connection.execute(
            "DELETE FROM chunks WHERE job = ? AND attempt = ? AND offset >= ? AND offset < ? AND offset + length <= ?",
            (*key, windows.head_end, windows.tail_start, windows.tail_start),
        )
    return True


def _insert(connection: apsw.Connection, chunk: LogAppend, first: int, last: int) -> None:
    for start in range(first, last, CHUNK_BYTES):
        data = chunk.data[start - chunk.offset : min(last, start + CHUNK_BYTES) - chunk.offset]
        connection.execute(
            "INSERT INTO chunks (job, attempt, offset, length, data) VALUES (?, ?, ?, ?, ?)",
            (chunk.job, chunk.attempt, start, len(data), data),
        )


def _known(connection: apsw.Connection, job: int, attempt: int) -> tuple[int, int] | None:
    found = rows(connection, "SELECT size, max_bytes FROM logs WHERE job = ? AND attempt = ?", (job, attempt))
    return (int(found[0][0]), int(found[0][1])) if found else None


def _missing(connection: apsw.Connection, job: int, attempt: int, start: int, end: int) -> list[tuple[int, int]]:
    """The parts of [start, end) where nothing stands."""
    taken = rows(
        connection,
        f"SELECT offset, offset + length FROM chunks WHERE {_FROM} AND offset < :end ORDER BY offset",
        {"job": job, "attempt": attempt, "start": start, "end": end},
    )
    missing = []
    for first, last in taken:
        if start < first:
            missing.append((start, first))
        start = max(start, last)
    if start < end:
        missing.append((start, end))
    return missing


# From the chunk in which :start lies, or the first one after it.
_FROM = (
    "job = :job AND attempt = :attempt AND offset >= coalesce((SELECT max(offset) FROM chunks"
    " WHERE job = :job AND attempt = :attempt AND offset <= :start), 0)"
)


def size(connection: apsw.Connection, job: int, attempt: int) -> int:
    """The end of an attempt's log as far as it was heard: where the agent goes on. 0 for none."""
    known = _known(connection, job, attempt)
    return known[0] if known else 0


def sizes(connection: apsw.Connection, job: int) -> dict[int, int]:
    """The sizes of all logs of a job by attempt, in the attempts' order."""
    return dict(rows(connection, "SELECT attempt, size FROM logs WHERE job = ? ORDER BY attempt", (job,)))


def read(connection: apsw.Connection, job: int, attempt: int, offset: int, limit_bytes: int) -> tuple[Piece, ...]:
    """Pieces from `offset` on, together not more than `limit_bytes` (at least one byte is given where there is any)."""
    known = _known(connection, job, attempt)
    if known is None or offset >= known[0]:
        return ()
    windows = _Windows.of(*known)
    pieces: list[Piece] = []
    position, room = offset, max(1, limit_bytes)
    for start, data in _chunks(connection, job, attempt, offset, room):
        for first, last in windows.parts(max(start, position), start + len(data)):
            part = data[first - start : min(last - start, first - start + room)]
            mark = _mark(connection, job, attempt, position, first, pieces)
            pieces.append(Piece(attempt, first, part, first - position, mark))
            position, room = first + len(part), room - len(part)
            if room == 0:
                return tuple(pieces)
    return tuple(pieces)


def _chunks(
    connection: apsw.Connection, job: int, attempt: int, offset: int, limit_bytes: int
) -> Iterator[tuple[int, bytes]]:
    """Chunks from the one in which `offset` lies, few at a time, so that no statement stays open."""
    while True:
        some = rows(
            connection,
            f"SELECT offset, data FROM chunks WHERE {_FROM} ORDER BY offset LIMIT :count",
            {"job": job, "attempt": attempt, "start": offset, "count": 16 if limit_bytes > CHUNK_BYTES else 4},
        )
        fresh = [(start, bytes(data)) for start, data in some if start + len(data) > offset]
        if not fresh:
            return
        yield from fresh
        offset = fresh[-1][0] + len(fresh[-1][1])


def _mark(connection: apsw.Connection, job: int, attempt: int, position: int, first: int, pieces: list[Piece]) -> bytes:
    """The line that tells of missing bytes, on a line of its own."""
    if first == position:
        return b""
    last = pieces[-1].data[-1:] if pieces else _byte_before(connection, job, attempt, position)
    return (b"" if last in {b"", b"\n"} else b"\n") + b"[... %d bytes cut ...]\n" % (first - position)


def _byte_before(connection: apsw.Connection, job: int, attempt: int, position: int) -> bytes:
    found = rows(
        connection,
        "SELECT substr(data, ? - offset, 1) FROM chunks WHERE job = ? AND attempt = ? AND offset < ?"
        " ORDER BY offset DESC LIMIT 1",
        (position, job, attempt, position),
    )
    return bytes(found[0][0]) if found else b""


def tail_start(connection: apsw.Connection, job: int, attempt: int, lines: int) -> int:
    """The position from which the last `lines` lines stand, at most TAIL_BYTES_MAX before the end."""
    known = _known(connection, job, attempt)
    if known is None or lines <= 0:
        return known[0] if known else 0
    position = known[0]
    floor = max(0, position - TAIL_BYTES_MAX)
    for first, data in _backwards(connection, job, attempt, _Windows.of(*known)):
        end = len(data) - data.endswith(b"\n") if first + len(data) == known[0] else len(data)
        while (end := data.rfind(b"\n", 0, end)) >= 0:
            lines -= 1
            if lines == 0:
                return max(floor, first + end + 1)
        position = first
        if position <= floor:
            break
    return max(floor, position)


def _backwards(connection: apsw.Connection, job: int, attempt: int, windows: _Windows) -> Iterator[tuple[int, bytes]]:
    """What is kept of a log, from its end to its start, as (position, bytes)."""
    position = windows.size
    while found := rows(
        connection,
        "SELECT offset, data FROM chunks WHERE job = ? AND attempt = ? AND offset < ? ORDER BY offset DESC LIMIT 1",
        (job, attempt, position),
    ):
        position, data = int(found[0][0]), bytes(found[0][1])
        for first, last in reversed(list(windows.parts(position, position + len(data)))):
            yield first, data[first - position : last - position]


def forget(connection: apsw.Connection, job: int, limit: int) -> int:
    """Delete at most `limit` rows of a job's logs, in an open transaction; returns how many."""
    connection.execute(
        "DELETE FROM chunks WHERE id IN (SELECT id FROM chunks WHERE job = ? LIMIT ?)",
        (job, limit),
    )
    gone = connection.changes()
    if gone < limit:
        connection.execute("DELETE FROM logs WHERE job = ?", (job,))
        gone += connection.changes()
    return gone
