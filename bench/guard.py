"""What the guard costs: from its start to the engine's exec, and its memory while the engine runs.

It is there once for each running job. Its bounds are 15 ms and 12 MB (ffrtmp_agent/guard.py says what they decide).
The time is that of a guard whose engine tells the clock, less that of the same engine started without a guard; so the
start of the shell and of `date` are not counted, and Python's own start is.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

from ffrtmp_agent import guard
from ffrtmp_agent.guarding import loop  # imported so that it is compiled, as an agent does

ROUNDS = 40
GUARD = [sys.executable, "-I", "-S", "-B", str(Path(guard.__file__))]
TELL = "exec date +%s.%N > began"


def make(folder: Path, command: str) -> Path:
    """An attempt directory as far as the guard needs one."""
    folder.mkdir()
    (folder / "command").write_text(command)
    (folder / "job.json").write_text(json.dumps({"guard": {}}))
    return folder


def until_engine_s(argv: list[str], folder: Path) -> float:
    """Seconds from the start of `argv` to the moment that the engine tells."""
    os.chdir(folder)
    began_s = time.time()
    os.waitpid(os.posix_spawn(argv[0], argv, os.environ), 0)
    return float((folder / "began").read_text()) - began_s


def memory_bytes(folder: Path) -> int:
    """The most that a guard had resident, with its engine at work and its log open."""
    make(folder, "echo out_time=1; echo at work >&2; exec sleep 0.8")
    pid = os.posix_spawn(GUARD[0], [*GUARD, str(folder)], os.environ)
    most = 0
    while os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
        words = Path(f"/proc/{pid}/status").read_text().split()
        most = max(most, int(words[words.index("VmHWM:") + 1]) << 10) if "VmHWM:" in words else most
        time.sleep(0.1)
    os.waitpid(pid, 0)
    return most


def main() -> None:
    """Measure and print."""
    guarded, bare = [], []
    with tempfile.TemporaryDirectory() as name:
        base = Path(name)
        for number in range(ROUNDS):
            folder = make(base / str(number), TELL)
            bare.append(until_engine_s(["/bin/sh", "command"], folder))
            guarded.append(until_engine_s([*GUARD, str(folder)], folder))
        most = memory_bytes(base / "memory")
        os.chdir("/")
    cost_s = [with_s - without_s for with_s, without_s in zip(guarded, bare, strict=True)]
    print(f"guard: to the engine's exec, median of {ROUNDS}: {statistics.median(cost_s) * 1000:.1f} ms (bound 15 ms)")
    print(f"guard: nine of ten within: {statistics.quantiles(cost_s, n=10)[-1] * 1000:.1f} ms")
    print(f"guard: memory: {most / 1e6:.1f} MB (bound 12 MB), looks every {loop.LOOK_S:g} s")


if __name__ == "__main__":
    main()
