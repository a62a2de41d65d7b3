"""How fast the store commits turns, and how long a page of the job list takes: python bench/store.py [JOBS ...]

Prints one line a figure. The disk decides about the first: each turn is one fsync.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
import uuid
from collections.abc import Callable
from pathlib import Path

from ffrtmp.farm.effects import Changes, Record
from ffrtmp.farm.job import Job, State, Terms
from ffrtmp.spec import JobSpec, MediaPath, Recipe, Source, Video
from ffrtmp_master.rows import JobFilter, NewSpec, TurnRows
from ffrtmp_master.store import LogAppend, Reader, Store

SPEC = JobSpec(
    recipe=Recipe(scenario="1080p30-h264", video=Video(width=1920, height=1080, fps=30.0, bitrate_bps=5_000_000)),
    source=Source(path=MediaPath("media", "0e1c0000-0000-0000-0000-000000000000", "in/clip.mov")),
    output=MediaPath("media", "0e1c0000-0000-0000-0000-000000000000", "out/clip.mp4"),
)


def submission(turn: int, first: int, count: int) -> TurnRows:
    """A turn that takes `count` jobs in, numbered from `first`."""
    rows = TurnRows(turn, time.time(), 0.0, Changes(), next_job=first + count)
    for number in range(first, first + count):
        rows.changes.jobs[number] = Job(number, str(uuid.UUID(int=number)), Terms(), float(number), State.QUEUED)
        rows.specs.append(NewSpec(number, SPEC, "uid 0 (root)", f"media:out/{number}.mp4"))
        rows.records.append(Record(number, 0, None, State.QUEUED, "submitted", "accepted"))
    return rows


def median_ms(what: Callable[[], object], rounds: int = 50) -> float:
    """The median time of a call in milliseconds."""
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        what()
        times.append(1000 * (time.perf_counter() - start))
    return statistics.median(times)


def commits(store: Store, turn: int, first: int) -> tuple[int, int]:
    """Turns of several sizes, for a second each; returns the next turn and job number."""
    for size in (1, 10, 100, 1000):
        start = time.perf_counter()
        turns = 0
        while (spent := time.perf_counter() - start) < 1.0:
            store.commit(submission(turn, first, size))
            turn, first, turns = turn + 1, first + size, turns + 1
        print(f"turns of {size:4} jobs: {turns / spent:8.0f} turns/s {turns * size / spent:9.0f} jobs/s")
    return turn, first


def questions(reader: Reader, jobs: int) -> None:
    """What the API asks all the time."""
    for name, ask in (
        ("page of 100", lambda: reader.jobs(limit=100)),
        ("page of 100 queued", lambda: reader.jobs(JobFilter(states=("queued",)), limit=100, after=jobs // 2)),
        ("page of a rare kind", lambda: reader.jobs(JobFilter(priority="high", classification="debug"))),
        ("one job", lambda: reader.job(jobs // 2)),
        ("counts", reader.counts),
        ("sla", lambda: reader.sla(0.0)),
    ):
        print(f"{jobs:9} jobs: {name:20} {median_ms(ask):8.2f} ms")


def main(sizes: list[int]) -> None:
    """Measure in a temporary folder."""
    with tempfile.TemporaryDirectory(prefix="ffrtmp-bench-") as name:
        folder = Path(name)
        with Store.open(folder / "farm.db", folder / "logs.db") as store, store.reader() as reader:
            turn, first = commits(store, 1, 1)
            line = b"frame= 1000 fps=25 q=28.0 size= 512KiB time=00:00:40.00 bitrate= 104.9kbits/s\n"
            chunks = [LogAppend(1, 1, n * len(line), line) for n in range(1000)]
            print(f"1000 log lines: {median_ms(lambda: store.append_logs(chunks), 1):8.1f} ms")
            for size in sizes:
                while first <= size:
                    count = min(10_000, size - first + 1)
                    store.commit(submission(turn, first, count))
                    turn, first = turn + 1, first + count
                questions(reader, first - 1)
            start = time.perf_counter()
            made = store.backup(folder / "backup")
            print(f"backup of {made.size_bytes >> 20} MiB: {time.perf_counter() - start:.2f} s")
            start = time.perf_counter()
            jobs = len(store.load(0.0).jobs)
            print(f"load of {jobs} open jobs: {time.perf_counter() - start:.2f} s")


if __name__ == "__main__":
    main([int(word) for word in sys.argv[1:]] or [10_000, 100_000])
