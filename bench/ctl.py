"""How long `ffrtmpctl jobs list` takes with 10,000 jobs in the store: python bench/ctl.py [JOBS]

A real master on a store that was filled beforehand, and the program as a process of its own: its start is the larger
part. The bound is 150 ms of wall time on an idle machine; the processor time of both ends is told too, because on a
busy one that is what counts.
"""

from __future__ import annotations

import contextlib
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from store import submission

from ffrtmp_master.store import Store

ROUNDS = 30
BOUND_MS = 150
PROGRAMS = Path(sys.executable).parent
READY_S = 60.0


@contextlib.contextmanager
def served(folder: Path, jobs: int) -> Iterator[Path]:
    """A master that knows so many waiting jobs; the path of its socket."""
    with Store.open(folder / "farm.db", folder / "farm.db.logs") as store:
        store.commit(submission(1, 1, jobs))
    socket = folder / "master.sock"
    words = ["--state-dir", str(folder), "--socket", str(socket), "--hub", "tcp://127.0.0.1:0"]
    with (folder / "log").open("wb") as log:
        master = subprocess.Popen([PROGRAMS / "ffrtmp-master", *words], stdin=subprocess.DEVNULL, stderr=log)
    try:
        ends_s = time.monotonic() + READY_S
        while taken(socket, ["jobs", "list", "--limit", "1"])[0] != 0:
            if master.poll() is not None or time.monotonic() > ends_s:
                raise SystemExit((folder / "log").read_text())
            time.sleep(0.1)
        yield socket
    finally:
        master.terminate()
        master.wait()


def taken(socket: Path, words: Sequence[str]) -> tuple[int, float, float]:
    """Run ffrtmpctl: its exit code, and the wall and processor time that it took, in milliseconds."""
    began_s = time.perf_counter()
    with open(os.devnull, "wb") as nowhere:  # noqa: PTH123 - a descriptor for the child
        pid = os.posix_spawn(
            PROGRAMS / "ffrtmpctl",
            ["ffrtmpctl", *words],
            {**os.environ, "FFRTMP_MASTER": str(socket)},
            file_actions=[(os.POSIX_SPAWN_DUP2, nowhere.fileno(), stream) for stream in (1, 2)],
        )
    _, status, used = os.wait4(pid, 0)
    wall_ms = 1000 * (time.perf_counter() - began_s)
    return os.waitstatus_to_exitcode(status), wall_ms, 1000 * (used.ru_utime + used.ru_stime)


def main(jobs: int) -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory(prefix="ffrtmp-bench-") as name, served(Path(name), jobs) as socket:
        for words in (["version"], ["jobs", "list"], ["jobs", "list", "--limit", "1000"], ["jobs", "list", "--json"]):
            times = [taken(socket, words) for _ in range(ROUNDS)]
            wall, cpu = (statistics.median(each[column] for each in times) for column in (1, 2))
            told = f"wall {wall:6.1f} ms (bound {BOUND_MS} ms), processor {cpu:6.1f} ms, best wall"
            print(f"{jobs} jobs: ffrtmpctl {' '.join(words):24} {told} {min(each[1] for each in times):.1f} ms")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 10_000)
