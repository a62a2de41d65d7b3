"""`ffrtmpctl jobs list` is there at once."""

from __future__ import annotations

import os
import subprocess
import sys
import time

from ctl.conftest import PROGRAM, a_job
from ctl.peer import Peer, gives

from ffrtmp.api import Page

LIMIT_S = 0.150


def test_a_list_takes_less_than_150_ms_from_the_call_to_the_end(peer: Peer, environment: dict[str, str]):
    """The fastest of some runs counts: what else the machine does is not ours."""
    peer.on("GET /v1/jobs", gives(Page(items=tuple(a_job(job=number) for number in range(1, 51)))))
    fastest_s = min(_timed_s(environment) for _ in range(8))
    assert fastest_s < LIMIT_S


def _timed_s(environment: dict[str, str]) -> float:
    began_s = time.perf_counter()
    subprocess.run([PROGRAM, "jobs", "list"], env=environment, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - began_s


def test_a_list_imports_only_what_it_needs(peer: Peer):
    peer.on("GET /v1/jobs", gives(Page(items=(a_job(),))))
    code = "import sys; from ffrtmpctl.main import main; main(); print(*sorted(sys.modules), file=sys.stderr)"
    done = subprocess.run(
        [sys.executable, "-c", code, "list", "--master", str(peer.path)],
        env={**os.environ},
        capture_output=True,
        text=True,
        check=True,
    )
    loaded = set(done.stderr.split())
    assert "720p-h264" in done.stdout and "ffrtmpctl.commands.jobs" in loaded
    assert not loaded & {"rich", "asyncio", "aiohttp", "psutil", "apsw", "zmq", "pyroute2", "ffrtmp.wire"}
    assert not any(name.startswith("ffrtmpctl.commands.") and not name.endswith(".jobs") for name in loaded)
