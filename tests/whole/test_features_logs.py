"""Feature 5: what ffmpeg said is there, to the last line, whoever has died since.

The jobs measure loudness (whole/loud.py), so that a line that is missing, doubled or out of place is seen.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from whole.film_server import serving
from whole.loud import measure, tenths
from whole.scene import engines

from daemons import BIN, Farm, until

_CUT = re.compile(r"\[ffrtmp: (\d+) bytes of this log were cut here\]")


@contextmanager
def following(farm: Farm, number: int, *words: str) -> Iterator[subprocess.Popen[str]]:
    """`ffrtmpctl jobs logs --follow` while the block lasts."""
    argv = [BIN / "ffrtmpctl", "--master", farm.socket, "jobs", "logs", str(number), "--follow", *words]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.fixture(scope="module")
def farm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Farm]:
    """One agent, quick retries."""
    with Farm(tmp_path_factory.mktemp("farm"), backoff="0.3s", lost_after="20s") as farm:
        farm.start_master()
        farm.start_agent("a", "--allow-run")
        yield farm


def test_a_log_is_whole_also_after_both_daemons_restarted_and_the_host_is_gone(tmp_path: Path) -> None:
    with Farm(tmp_path) as farm:
        farm.start_master()
        agent = farm.start_agent("a", "--allow-run")
        job = measure(farm, 90.0, "out.mkv")
        farm.wait(job, "completed")
        until("the last line", lambda: "Summary" in farm.log(job))
        whole = farm.log(job)
        assert len(whole) > 1 << 16, "more than one message can carry"
        assert tenths(whole) == list(range(1, 901))
        assert whole.startswith("Input #0, matroska,webm") and "Press [q]" not in whole and "progress=" not in whole

        agent.kill()
        assert farm.log(job) == whole
        farm.start_agent("a", "--allow-run")
        assert farm.master is not None
        farm.master.kill()
        farm.start_master()
        assert farm.log(job) == whole
        farm.kill_host("a")
        shutil.rmtree(tmp_path / "agent-a")
        assert farm.log(job) == whole
        assert farm.log(job, "--tail", "7") == "".join(whole.splitlines(keepends=True)[-7:])


def test_a_followed_log_goes_on_over_a_killed_engine_agent_and_master(farm: Farm) -> None:
    job = measure(farm, 6.0, "followed.mkv", "-re")
    with following(farm, job) as follower:
        until("its engine to work", lambda: len(tenths(farm.log(job))) > 5)
        engines(farm, job)[0].kill()
        until("another attempt", lambda: farm.job(job)["attempt"] == 2 and len(tenths(farm.log(job))) > 5)
        farm.agents["a"].kill()
        farm.start_agent("a", "--allow-run")
        until("it to go on", lambda: len(tenths(farm.log(job))) > 20)
        assert farm.master is not None
        farm.master.kill()
        farm.start_master()
        said, notes = follower.communicate(timeout=60)
    assert follower.returncode == 0, notes
    assert farm.wait(job, "completed")["attempt"] == 2
    assert said == farm.log(job, "--attempt", "1") + farm.log(job, "--attempt", "2")
    assert tenths(farm.log(job)) == list(range(1, 61))
    assert "attempt 2" in notes, "it says that another attempt began"


def test_one_attempt_or_the_last_lines_can_be_followed_alone(farm: Farm) -> None:
    job = measure(farm, 3.0, "alone.mkv", "-re")
    until("its engine to work", lambda: len(tenths(farm.log(job))) > 3)
    with following(farm, job, "--attempt", "1", "--tail", "0") as later:
        engines_of_job = until("its engine", lambda: engines(farm, job))
        assert later.stdout is not None
        later_seen = later.stdout.readline()
        engines_of_job[0].kill()
        rest = later.stdout.read()  # communicate() would pass over what readline has buffered
        later.wait(60)
    first = farm.log(job, "--attempt", "1")
    assert first.endswith(later_seen + rest) and len(later_seen + rest) < len(first)
    farm.wait(job, "completed")


def test_a_log_that_is_too_long_keeps_its_head_and_its_tail_and_tells_what_was_cut(tmp_path: Path) -> None:
    with Farm(tmp_path) as farm:
        farm.start_master("--log-max", "16KiB")
        farm.start_agent("a", "--allow-run")
        job = measure(farm, 90.0, "out.mkv")
        farm.wait(job, "completed")
        until("the last line", lambda: "Summary" in farm.log(job))
        log = farm.log(job)
        cuts = [int(cut) for cut in _CUT.findall(log)]
        assert len(cuts) == 1 and cuts[0] > 60_000
        assert len(log) < (16 << 10) + 100
        head, tail = (tenths(part) for part in log.split("[ffrtmp: ", 1))
        assert head[:20] == list(range(1, 21)) and tail[-20:] == list(range(881, 901))
        assert cuts[0] + len(log) - len(f"\n[ffrtmp: {cuts[0]} bytes of this log were cut here]\n") == _log_bytes(
            farm, job
        )


def _log_bytes(farm: Farm, job: int) -> int:
    return int(farm.job(job)["attempts"][-1]["log_bytes"])


def test_secrets_in_a_url_are_starred_in_the_log(farm: Farm) -> None:
    with serving(404) as server:
        url = server.url.replace("http://", "http://user:hunter2@")
        job = farm.submit("--scenario", "probe", "--input", url, "--output", "media:s.json")
        assert farm.wait(job, "failed")["failure"]["reason"] == "input_error"
    shown = farm.log(job) + str(farm.job(job)) + str(farm.history(job)) + farm.ctl("jobs", "why", str(job)).stdout
    assert "hunter2" not in shown and server.url.removeprefix("http://") in shown
    assert "hunter2" not in (farm.folder / "master.log").read_text() + (farm.folder / "agent-a.log").read_text()


def test_a_job_without_an_attempt_says_that_there_is_no_log_yet(farm: Farm) -> None:
    job = farm.submit("--scenario", "probe", "--generate", "16x16@1:1", "--output", "media:w.json", "--label", "none")
    asked = farm.ctl("jobs", "logs", str(job))
    assert (asked.returncode, asked.stdout) == (0, "") and "no log yet" in asked.stderr
    with following(farm, job) as follower:
        farm.ctl("jobs", "cancel", str(job), check=True)
        said, _ = follower.communicate(timeout=60)
        assert (follower.returncode, said) == (0, "")
    gone = farm.ctl("jobs", "logs", str(job), "--attempt", "3")
    assert gone.returncode == 3 and "attempt 3" in gone.stderr
