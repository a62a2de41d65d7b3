"""Job logs: in their place whatever arrives in what order, bounded, and the cut marked."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st
from store.book import Book, open_reader, open_store

from ffrtmp.farm.job import State
from ffrtmp_master.store import LogAppend

# Every position has its own byte, line ends among them, so that a byte at a wrong place is seen.
TRUTH = bytes((n * 131 + n // 251) % 256 if n % 9 else 10 for n in range(4000))

chunks = st.lists(st.tuples(st.integers(0, 3000), st.integers(0, 400)), min_size=1, max_size=12)


def test_a_log_keeps_head_and_tail_exactly_whatever_arrives_in_what_order(tmp_path: Path):
    with open_store(tmp_path) as store, open_reader(tmp_path) as reader:
        job = 0

        @settings(max_examples=100)
        @given(chunks, st.integers(2, 3000), st.integers(1, 500), st.integers(0, 3000))
        def check_one(parts, max_bytes, limit, offset):
            nonlocal job
            job += 1
            store._log_max_bytes = max_bytes
            store.append_logs([LogAppend(job, 1, start, TRUTH[start : start + length]) for start, length in parts])
            heard = {p for start, length in parts for p in range(start, start + length)}
            size = max((start + length for start, length in parts if length), default=0)
            head = max_bytes // 2
            tail = max(head, size - (max_bytes - head))
            kept = sorted(p for p in heard if p < head or p >= tail)
            assert reader.log_size(job, 1) == size
            assert _positions(_read_all(reader, job, limit)) == kept
            assert _positions(_read_all(reader, job, limit, offset)) == [p for p in kept if p >= offset]
            stored = sum(len(p.data) for p in _read_all(reader, job, 1 << 20))
            assert stored <= max_bytes

        check_one()


def _read_all(reader, job, limit, offset=0):
    found, position = [], offset
    while pieces := reader.read_log(job, 1, position, limit):
        assert sum(len(piece.data) for piece in pieces) <= limit
        for piece in pieces:
            assert piece.offset - position == piece.cut
            assert bool(piece.mark) == bool(piece.cut)
            assert piece.data == TRUTH[piece.offset : piece.end]
            position = piece.end
        found += pieces
    return found


def _positions(pieces) -> list[int]:
    return [p for piece in pieces for p in range(piece.offset, piece.end)]


def test_the_bound_holds_on_disk_too(tmp_path: Path):
    with open_store(tmp_path, log_max_bytes=100_000) as store, open_reader(tmp_path) as reader:
        line = b"frame= 1000 fps=25 q=28.0 size= 512KiB time=00:00:40.00 bitrate= 104.9kbits/s\n"
        for start in range(0, 1_000_000, 50 * len(line)):
            store.append_log(1, 1, start, line * 50)
        stored = reader._logs.execute("SELECT sum(length) FROM chunks").fetchall()[0][0]
        assert 100_000 <= stored <= 100_000 + 50 * len(line)
        while store.retire(0.0):
            pass
        assert (tmp_path / "logs.db").stat().st_size < 400_000
        text = b"".join(piece.text for piece in reader.read_log(1, 1, 0, 1 << 20))
        assert text.count(b" bytes cut ...]\n") == 1
        cut = reader.log_size(1, 1) - 100_000
        assert b"\n[... %d bytes cut ...]\n" % cut in text


def test_a_cut_stands_on_a_line_of_its_own(tmp_path: Path):
    with open_store(tmp_path) as store, open_reader(tmp_path) as reader:
        store.append_log(1, 1, 0, b"one\n")
        store.append_log(1, 1, 10, b"two")
        store.append_log(1, 1, 20, b"three")
        assert b"".join(piece.text for piece in reader.read_log(1, 1)) == (
            b"one\n[... 6 bytes cut ...]\ntwo\n[... 7 bytes cut ...]\nthree"
        )
        assert reader.read_log(1, 1, 13)[0].text == b"\n[... 7 bytes cut ...]\nthree"
        assert reader.read_log(1, 1, 4)[0].text == b"[... 6 bytes cut ...]\ntwo"


def test_bytes_that_are_there_are_never_rewritten(tmp_path: Path):
    with open_store(tmp_path) as store, open_reader(tmp_path) as reader:
        store.append_log(1, 1, 2, b"CD")
        store.append_logs([LogAppend(1, 1, 0, b"abcdef"), LogAppend(1, 1, 0, b"xxxxxx"), LogAppend(1, 2, 0, b"else")])
        assert b"".join(piece.text for piece in reader.read_log(1, 1)) == b"abCDef"


def test_the_tail_is_the_last_lines(tmp_path: Path):
    with open_store(tmp_path) as store, open_reader(tmp_path) as reader:
        job = 0

        @settings(max_examples=100)
        @given(
            st.lists(st.sampled_from([b"a", b"bc", b"\n", b"\r"])).map(b"".join), st.integers(1, 8), st.integers(1, 9)
        )
        def check_one(data: bytes, lines: int, step: int):
            nonlocal job
            job += 1
            store.append_logs([LogAppend(job, 1, n, data[n : n + step]) for n in range(0, len(data), step)])
            expected = b"".join(_lines(data)[-lines:])
            assert b"".join(piece.text for piece in reader.tail(job, 1, lines)) == expected

        check_one()


def _lines(data: bytes) -> list[bytes]:
    parts = data.split(b"\n")
    return [part + b"\n" for part in parts[:-1]] + ([parts[-1]] if parts[-1] else [])


def test_the_log_of_a_job_with_several_attempts_names_each(tmp_path: Path):
    with open_store(tmp_path) as store, open_reader(tmp_path) as reader:
        book = Book()
        job = book.submit()
        book.run(job, "anna")
        book.commit(store)
        store.append_log(job, 1, 0, b"broken pipe")
        assert b"".join(reader.job_log(job)) == b"broken pipe"
        book.rows.changes.attempts[(job, 1)] = None
        book.move(job, State.RETRYING, State.QUEUED, current=0)
        book.run(job, "bert", 2)
        book.commit(store)
        store.append_log(job, 2, 0, b"done\n")
        assert b"".join(reader.job_log(job)) == (
            b"==> attempt 1 on anna <==\nbroken pipe\n==> attempt 2 on bert <==\ndone\n"
        )
        assert reader.log_attempts(job) == (1, 2)
        assert [row.log_bytes for row in reader.attempts(job)] == [11, 5]


def test_a_reader_follows_a_log_that_grows_and_is_cut_meanwhile(tmp_path: Path):
    with open_store(tmp_path, log_max_bytes=200) as store, open_reader(tmp_path) as reader:
        seen, position = b"", 0
        for start in range(0, 4000, 50):
            store.append_log(1, 1, start, TRUTH[start : start + 50])
            if start % 200 == 150:  # slower than the log grows
                for piece in reader.read_log(1, 1, position):
                    seen += bytes(piece.cut) + piece.data
                    position = piece.end
        for piece in reader.read_log(1, 1, position):
            seen += bytes(piece.cut) + piece.data
        assert len(seen) == 4000
        assert all(a in (0, b) for a, b in zip(seen, TRUTH, strict=True))


def test_a_million_bytes_go_in_one_chunk(tmp_path: Path):
    data = bytes(1_000_000)
    with open_store(tmp_path) as store, open_reader(tmp_path) as reader:
        store.append_log(1, 1, 0, data)
        assert b"".join(reader.job_log(1)) == data
        assert sum(len(piece.data) for piece in reader.read_log(1, 1, 0, 1000)) == 1000


def test_what_comes_before_its_forerunner_is_not_taken_so_that_both_are_sent_again(tmp_path: Path):
    with open_store(tmp_path) as store, open_reader(tmp_path) as reader:
        assert store.append_logs([LogAppend(1, 1, 0, b"one "), LogAppend(1, 1, 8, b"three", after=8)]) == (True, False)
        assert store.append_logs([LogAppend(1, 1, 13, b"", after=13)]) == (False,)
        assert reader.log_size(1, 1) == 4
        late = [
            LogAppend(1, 1, 4, b"two ", after=4),
            LogAppend(1, 1, 8, b"three", after=8),
            LogAppend(1, 1, 13, b"", after=13),
        ]
        assert store.append_logs(late) == (True, True, True)
        assert store.append_logs([LogAppend(1, 1, 50, b"after a cut", after=13)]) == (True,)
        assert reader.log_size(1, 1) == 61
        assert b"".join(piece.data for piece in reader.read_log(1, 1)) == b"one two threeafter a cut"
