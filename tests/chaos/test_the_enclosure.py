"""What a chaos run makes goes with it, whatever becomes of it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from daemons import until

RUN = """
import pathlib, subprocess, sys, time
from chaos.enclosure import HOME, run_enclosed

folder = sys.argv[1]
mark = folder.replace("/", "_")

def work():
    HOME.mkdir()
    (HOME.parent / mark).touch()
    pathlib.Path("/dev/shm", mark).touch()
    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)", folder], start_new_session=True)
    print("made", flush=True)
    time.sleep(600)

sys.exit(run_enclosed(work))
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
def test_a_run_that_is_ended_leaves_no_file_and_no_process(number: signal.Signals, tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    run = subprocess.Popen(
        [sys.executable, "-c", RUN, str(tmp_path)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    assert run.stdout is not None
    with run, run.stdout:
        assert run.stdout.readline() == b"made\n"
        assert len(those_with(tmp_path)) > 1
        os.killpg(run.pid, number) if number == signal.SIGINT else run.send_signal(number)
        run.wait()
    until("its processes to end", lambda: not those_with(tmp_path))
    mark = str(tmp_path).replace("/", "_")
    assert not [path for path in (Path("/run", mark), Path("/dev/shm", mark)) if path.exists()]


def those_with(folder: Path) -> list[psutil.Process]:
    """The processes that have this folder in their command line."""
    return [p for p in psutil.process_iter(["cmdline"]) if str(folder) in (p.info["cmdline"] or [])]
