"""Logs on their way to the master: nothing is lost where messages are, and a log is done only when all of it is there."""

from __future__ import annotations

import random

import apsw
import pytest

from ffrtmp import wire
from ffrtmp_agent.shipping import PATIENCE_S, Shipping
from ffrtmp_master.store import LogAppend, logs, schema

KEY = ("uuid", 1)


class Store:
    """The master's store of logs, in memory."""

    def __init__(self) -> None:
        self._connection = apsw.Connection(":memory:")
        for migration in schema.LOGS_MIGRATIONS:
            self._connection.execute(migration)

    def hear(self, chunk: wire.LogChunk) -> int | None:
        """Take a chunk; the offset that is acknowledged."""
        row = LogAppend(1, chunk.attempt, chunk.offset, chunk.data, chunk.after)
        (taken,) = logs.append(self._connection, [row], 1 << 20)
        return chunk.offset + len(chunk.data) if taken else None

    @property
    def text(self) -> bytes:
        """All that is there."""
        pieces = logs.read(self._connection, 1, 1, 0, 1 << 20)
        assert all(piece.cut == 0 for piece in pieces)
        return b"".join(piece.data for piece in pieces)


def _send(shipping: Shipping, log: bytes, now_s: float) -> list[wire.LogChunk]:
    sent = []
    for key, offset in list(shipping.wanted(now_s)):
        data = log[offset : offset + 100]
        chunk = shipping.chunk(key, 7, [(offset, data)] if data else [], now_s)
        if chunk is not None:
            sent.append(chunk)
    return sent


@pytest.mark.parametrize("seed", range(40))
def test_a_log_arrives_whole_over_a_line_that_loses_doubles_and_delays_messages(seed: int) -> None:
    chance = random.Random(seed)
    truth = chance.randbytes(chance.randrange(3000))
    shipping, master = Shipping(), Store()
    shipping.add(KEY)
    written, late = b"", list[wire.LogChunk]()
    now_s, done = 0.0, False
    while not done:
        now_s += 1.0
        assert now_s < 5000, "it is never done"
        written = truth[: len(written) + chance.randrange(300)]
        if written == truth:
            shipping.ended(KEY, len(truth))
        if chance.random() < 0.02:
            shipping.welcome({KEY: len(master.text)})  # a new session
        arriving = [c for c in _send(shipping, written, now_s) for _ in range(chance.choice((0, 1, 1, 2)))] + late
        chance.shuffle(arriving)
        late = [arriving.pop() for _ in range(min(len(arriving), chance.randrange(2)))]
        for chunk in arriving:
            end = master.hear(chunk)
            if end is not None and chance.random() < 0.7:
                done = shipping.acked(KEY, end, now_s) or done
    assert master.text == truth


def test_a_log_whose_beginning_was_lost_is_not_done_when_its_end_is_acknowledged() -> None:
    shipping, master = Shipping(), Store()
    shipping.add(KEY)
    (first,) = _send(shipping, b"a beginning ", 0.0)
    shipping.ended(KEY, 18)
    (second,) = _send(shipping, b"a beginning an end", 0.1)
    assert master.hear(second) is None, "its forerunner is not there"
    assert not list(shipping.wanted(PATIENCE_S - 0.1))
    again = _send(shipping, b"a beginning an end", PATIENCE_S + 0.1)
    assert [chunk.offset for chunk in again] == [first.offset]


def test_an_empty_log_is_done_too() -> None:
    shipping = Shipping()
    shipping.add(KEY)
    assert not _send(shipping, b"", 0.0)
    shipping.ended(KEY, 0)
    (chunk,) = _send(shipping, b"", 0.1)
    assert chunk.last
    assert shipping.acked(KEY, 0, 0.2)
    assert not shipping.acked(KEY, 0, 0.3), "that is said once"
    assert not list(shipping.wanted(100.0))


def test_not_more_than_some_chunks_are_on_their_way() -> None:
    shipping = Shipping()
    shipping.add(KEY)
    sent = 0
    for _ in range(100):
        for key, offset in list(shipping.wanted(0.0)):
            chunk = shipping.chunk(key, 7, [(offset, bytes(wire.LOG_CHUNK_BYTES))], 0.0)
            assert chunk is not None
            sent += 1
    assert sent == 4


def test_what_was_cut_out_of_a_log_is_told_with_the_next_chunk() -> None:
    shipping = Shipping()
    shipping.add(KEY)
    shipping.chunk(KEY, 7, [(0, b"head")], 0.0)
    chunk = shipping.chunk(KEY, 7, [(900, b"tail")], 0.0)
    assert chunk is not None
    assert (chunk.after, chunk.offset) == (4, 900)
