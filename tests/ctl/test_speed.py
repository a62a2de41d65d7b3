"""`ffrtmpctl jobs list` is there at once."""

from __future__ import annotations

import os
import subprocess
import sys

from ctl.conftest import PROGRAM, a_job
from ctl.peer import Peer, gives
from ctl.timing import soon_enough

from ffrtmp.api import Page


def test_a_list_takes_less_than_150_ms_from_the_call_to_the_end(peer: Peer, environment: dict[str, str]):
    peer.on("GET /v1/jobs", gives(Page(items=tuple(a_job(job=number) for number in range(1, 51)))))
    assert soon_enough([PROGRAM, "jobs", "list"], environment, os.getpid())


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
