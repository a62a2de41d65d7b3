"""What the README tells to paste works when it is pasted, all at once."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from daemons import BIN, lend_survey

README = Path(__file__).resolve().parent.parent.parent / "README.md"
INSTALLS = "make venv && . .venv/bin/activate"
PATTERN = "--generate 1280x720@30:10"
DONE_S = 100.0


@pytest.fixture
def folder() -> Iterator[Path]:
    """Where it is pasted: pytest's own folders are too long for the path of a socket. What was started there is ended."""
    with tempfile.TemporaryDirectory(prefix="ffrtmp-r-") as name:
        try:
            yield Path(name)
        finally:
            started = [process for process in psutil.process_iter() if _works_in(process, name)]
            for process in started:
                with suppress(psutil.Error):
                    process.send_signal(signal.SIGTERM)
            for process in psutil.wait_procs(started, timeout=20)[1]:
                process.kill()


def _works_in(process: psutil.Process, folder: str) -> bool:
    with suppress(psutil.Error):
        return process.pid != os.getpid() and process.cwd() == folder
    return False


def pasted(heading: str) -> str:
    """The lines of the first block below a heading of the README, as somebody would copy them."""
    text = README.read_text().partition(f"\n## {heading}\n")[2]
    (block,) = re.findall(r"(?:^(?:    .*)?\n)+", text, re.MULTILINE)[:1]
    return "\n".join(line.removeprefix("    ") for line in block.splitlines())


def test_the_two_minutes_of_the_readme_work_when_they_are_pasted_at_once(folder: Path) -> None:
    block = pasted("Two minutes with it")
    assert INSTALLS in block and PATTERN in block, "what is left out or made shorter here"
    block = block.replace(INSTALLS, "").replace(PATTERN, f"{PATTERN.removesuffix(':10')}:1")
    (folder / "farm").mkdir()
    lend_survey(folder / "farm" / "agent")
    environment = {
        **os.environ,
        "PATH": f"{BIN}:{os.environ['PATH']}",
        "FFRTMP_MASTER_HUB": "tcp://127.0.0.1:0",
        **{f"FFRTMP_{who}_DISK_FREE": "16MiB" for who in ("MASTER", "AGENT")},
        **{f"FFRTMP_{who}_DISK_FREE_PERCENT": "0.1" for who in ("MASTER", "AGENT")},
    }
    with (folder / "said").open("w+") as said:
        shell = ["bash", "-c", f"set -e\n{block}"]
        done = subprocess.run(
            shell,
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
            check=False,
            timeout=DONE_S,
        )
        said.seek(0)
        text = said.read()
    assert done.returncode == 0, text
    assert re.search(r"^\S+ +ready ", text, re.MULTILINE), text
    assert "job 1 completed" in text or "job 1 is completed" in text, text
    assert (folder / "farm" / "media" / "test.mp4").stat().st_size > 10_000
