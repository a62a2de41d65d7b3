"""Feature 1: hosts die, inputs are no media, servers have a bad day."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from clips import generated
from whole.film_server import serving
from whole.pace import lay_clip, paced
from whole.scene import decodes, engines, nothing_left, one_history, other, out_time_s

from daemons import Farm, until

LOST_AFTER_S = 4.0


def at_s(row: dict[str, Any]) -> float:
    """When a row of history was written, in seconds since the epoch."""
    return datetime.fromisoformat(row["at"]).timestamp()


def test_p8_a_job_runs_elsewhere_within_lost_after_and_two_seconds_when_its_host_dies(tmp_path: Path) -> None:
    with Farm(tmp_path, lost_after=f"{LOST_AFTER_S:g}s") as farm:
        lay_clip(farm, 6.0)
        farm.start_master()
        for name in ("a", "b"):
            farm.start_agent(name, "--allow-run")
        job = paced(farm, "out.mp4")
        until("the job to get on", lambda: out_time_s(farm, job) > 0)
        dead = farm.job(job)["node"]
        assert engines(farm, job)
        died_s = time.time()
        farm.kill_host(dead)
        until("its engine to die with its host", lambda: not engines(farm, job))
        ended = farm.wait(job, "completed")
        assert (ended["node"], ended["attempt"]) == (other(farm, dead), 2)
        rows = one_history(farm, job)
        again_s = next(at_s(row) for row in rows if row["attempt"] == 2 and row["after"] == "running")
        assert LOST_AFTER_S - 1.0 < again_s - died_s < LOST_AFTER_S + 2.0
        assert [row["kind"] for row in rows].count("granted") == 1
        assert abs(decodes(farm.media / "out.mp4") - 6.0) < 0.5
        states = {node["node"]: node["state"] for node in farm.nodes()}
        assert states == {dead: "lost", other(farm, dead): "ready"}


@pytest.fixture(scope="module")
def farm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Farm]:
    """One agent, quick retries."""
    with Farm(tmp_path_factory.mktemp("farm"), backoff="0.3s") as farm:
        farm.start_master()
        farm.start_agent("a", "--allow-run")
        yield farm


def _text(path: Path) -> None:
    path.write_text("Dear diary, this is no film.\n" * 40)


def _empty(path: Path) -> None:
    path.touch()


def _truncated(path: Path) -> None:
    whole = generated(2.0, 160, 90, 10.0, name="cut.mp4").read_bytes()
    path.write_bytes(whole[: len(whole) // 2])


def _cut_off(path: Path) -> None:
    """Its index comes first, so that ffmpeg begins well, and finds only half of what the index promises."""
    extra = ("-movflags", "+faststart")
    whole = generated(4.0, 160, 90, 10.0, name="fast.mp4", extra=extra).read_bytes()
    path.write_bytes(whole[: len(whole) // 2])


@pytest.mark.parametrize("spoil", [_text, _empty, _truncated, _cut_off])
def test_what_is_no_media_file_fails_at_once_with_input_error_and_ffmpegs_own_line(farm: Farm, spoil: Any) -> None:
    name = spoil.__name__.strip("_")
    spoil(farm.media / f"{name}.mp4")
    words = ("--scenario", "480p30-h264", "--input", f"media:{name}.mp4", "--output", f"media:{name}-out.mp4")
    run = farm.ctl("jobs", "submit", *words, "--wait")
    assert run.returncode == 1
    told, hint = run.stderr.splitlines()[-2:]
    assert "failed: input_error: " in told and hint.startswith("hint: ")
    job = farm.job(int(run.stdout.split()[1]))
    assert (job["state"], job["attempt"], job["failures"]) == ("failed", 1, 1)
    assert job["failure"]["reason"] == "input_error"
    line = job["failure"]["line"].split("] ")[-1].split(" (the output is")[0]
    log = farm.log(job["job"])
    assert line and line in log, "it is quoted from what ffmpeg said"
    assert not (farm.media / f"{name}-out.mp4").exists()
    assert "input_error" in farm.ctl("jobs", "why", str(job["job"])).stdout
    nothing_left(farm)


def waits_s(rows: list[dict[str, Any]]) -> list[float]:
    """How long each back-off of a job was."""
    began = [at_s(row) for row in rows if row["after"] == "retrying" and row.get("before") != "retrying"]
    over = [at_s(row) for row in rows if row.get("before") == "retrying" and row["after"] == "queued"]
    return [b - a for a, b in zip(began, over, strict=False)]


def test_a_server_that_has_a_bad_day_is_asked_again_until_the_film_is_there_as_a_whole(farm: Farm) -> None:
    with serving(429, "half", 503) as server:
        job = farm.submit("--scenario", "480p30-h264", "--input", server.url, "--output", "media:film.mp4")
        assert farm.wait(job, "completed")["failures"] == 2
        assert not server.bad, "ffmpeg itself asks again after a 503"
    reasons = [attempt.get("failure", {}).get("reason") for attempt in farm.job(job)["attempts"]]
    assert reasons == ["network_error", "network_error", None]
    assert abs(decodes(farm.media / "film.mp4") - 4.0) < 0.2
    one_history(farm, job)


def test_p8_a_server_that_stays_bad_is_given_up_after_max_retries_with_growing_waits(farm: Farm) -> None:
    with serving(*[429] * 20) as server:
        words = ("--scenario", "480p30-h264", "--input", server.url, "--output", "media:never.mp4")
        job = farm.submit(*words, "--max-retries", "2")
        ended = farm.wait(job, "failed")
        assert server.asked == 3
    assert (ended["failures"], len(ended["attempts"])) == (3, 3)
    assert (ended["failure"]["reason"], "429" in ended["failure"]["line"]) == ("network_error", True)
    first_s, second_s = waits_s(one_history(farm, job))
    assert first_s > 0.2 and second_s > 0.4, "0.3 s, then 0.6 s, each up to a quarter less"
    assert not (farm.media / "never.mp4").exists()
    nothing_left(farm)


def test_an_engine_that_is_killed_from_outside_is_started_again_and_the_master_says_how_often(farm: Farm) -> None:
    lay_clip(farm, 4.0)
    job = paced(farm, "killed.mp4")
    until("its engine to run", lambda: engines(farm, job))[0].kill()
    farm.wait(job, "retrying", "queued", "assigned", "running", deadline_s=10.0)
    ended = farm.wait(job, "completed")
    assert (ended["attempt"], ended["failures"]) == (2, 1)
    assert ended["attempts"][0]["failure"]["reason"] == "platform_error"
    assert "failure" not in ended, "a job that completed has not failed"
    assert "hint" not in farm.ctl("jobs", "why", str(job)).stdout


def test_an_engine_that_gets_no_further_is_a_failed_attempt_and_a_slow_one_is_not(tmp_path: Path) -> None:
    with Farm(tmp_path, backoff="0.2s", stall_after_file="1.5s") as farm:
        lay_clip(farm, 5.0)
        farm.start_master()
        farm.start_agent("a", "--allow-run")
        slow = paced(farm, "slow.mp4")
        with serving("silent") as server:
            words = ("--scenario", "480p30-h264", "--input", server.url, "--output", "media:stalled.mp4")
            ended = farm.wait(farm.submit(*words), "completed")
        stalled = ended["attempts"][0]["failure"]
        assert (ended["attempt"], stalled["reason"]) == (2, "timeout") and "no progress" in stalled["line"]
        assert farm.wait(slow, "completed")["attempt"] == 1
        nothing_left(farm)
