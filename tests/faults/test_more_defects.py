"""More defects and features of tests/whole, which take longer."""

from __future__ import annotations

import time
from pathlib import Path

from whole.loud import measure, tenths
from whole.pace import lay_clip, paced
from whole.scene import engines, kinds, nothing_left, one_history, out_time_s, silence, voice

from daemons import Farm, until

NOT_FOUND = 3


def test_defect_poison_job_walking_the_whole_farm(tmp_path: Path) -> None:
    with Farm(tmp_path, lost_after="1s", doubt_patience="1s", self_doubt="0.5s") as farm:
        lay_clip(farm, 60.0)
        farm.start_master()
        for name in ("a", "b", "c", "d"):
            farm.start_agent(name, "--allow-run", slots=1)
        job = paced(farm, "poison.mp4", "--max-retries", "100")
        killed = []
        for attempt in (1, 2, 3):
            until(f"attempt {attempt}", lambda a=attempt: farm.job(job)["attempt"] == a and out_time_s(farm, job) > 0)
            killed.append(farm.job(job)["node"])
            farm.kill_host(killed[-1])
        ended = farm.wait(job, "failed")
        assert ended["failure"]["reason"] == "platform_error" and "3 nodes" in ended["failure"]["line"]
        (spared,) = {"a", "b", "c", "d"} - set(killed)
        assert len(set(killed)) == 3 and ended["attempt"] == 3
        assert {node["node"]: node["state"] for node in farm.nodes()}[spared] == "ready"
        assert "poison" in kinds(farm, job)


def test_defect_results_lost_when_the_master_is_away_for_8_s(tmp_path: Path) -> None:
    with Farm(tmp_path) as farm:
        lay_clip(farm, 3.0)
        farm.start_master()
        farm.start_agent("a", "--allow-run")
        job = paced(farm, "away.mp4")
        until("its engine", lambda: out_time_s(farm, job) > 0)
        assert farm.master is not None
        farm.master.kill()
        back_s = time.monotonic() + 8.0
        until("the job to end without its master", lambda: not farm.job_processes() and time.monotonic() > back_s)
        assert not (farm.media / "away.mp4").exists(), "nothing is published without a grant"
        farm.start_master()
        assert farm.wait(job, "completed")["attempt"] == 1
        assert (farm.media / "away.mp4").exists() and "Stream mapping" in farm.log(job)
        one_history(farm, job)


def test_defect_a_late_result_that_reopens_a_finished_job(tmp_path: Path) -> None:
    with Farm(tmp_path, lost_after="1s") as farm:
        lay_clip(farm, 3.0)
        farm.start_master()
        farm.start_agent("a", "--allow-run")
        canceled, done = paced(farm, "canceled.mp4"), paced(farm, "done.mp4")
        for job in (canceled, done):
            until("its engine", lambda job=job: out_time_s(farm, job) > 0)
        silence(farm, "a")
        until("the node to be lost", lambda: farm.nodes()[0]["state"] == "lost")
        held = farm.ctl("jobs", "cancel", str(canceled), check=True)
        assert "a" in held.stdout and "not in contact" in held.stdout + held.stderr
        farm.start_agent("b", "--allow-run")
        farm.wait(done, "completed")
        made = (farm.media / "done.mp4").stat()
        until("the lost node's engines to end", lambda: not engines(farm, canceled) and not engines(farm, done))
        rows = farm.history(done)
        voice(farm, "a")
        farm.wait(canceled, "canceled")
        nothing_left(farm)
        assert farm.state(done) == "completed" and farm.history(done) == rows
        assert (farm.media / "done.mp4").stat().st_ino == made.st_ino
        assert not (farm.media / "canceled.mp4").exists()


def test_what_a_host_had_said_before_it_died_is_kept_beside_the_next_attempts_log(tmp_path: Path) -> None:
    with Farm(tmp_path) as farm:
        farm.start_master()
        for name in ("a", "b"):
            farm.start_agent(name, "--allow-run")
        job = measure(farm, 4.0, "out.mkv", "-re")
        until("a second of it to be told", lambda: len(tenths(farm.log(job))) >= 10)
        farm.kill_host(farm.job(job)["node"])
        farm.wait(job, "completed")
        until("the last line", lambda: "Summary" in farm.log(job))
        first = tenths(farm.log(job, "--attempt", "1"))
        assert 10 <= len(first) < 40 and first == list(range(1, len(first) + 1))
        assert tenths(farm.log(job)) == tenths(farm.log(job, "--attempt", "2")) == list(range(1, 41))


def test_ended_jobs_and_their_logs_go_when_their_time_is_over(tmp_path: Path) -> None:
    with Farm(tmp_path, retention="2s") as farm:
        farm.start_master()
        farm.start_agent("a")
        words = ("--scenario", "480p30-h264", "--generate", "64x36@5:1", "--output")
        job = farm.submit(*words, "media:a.mp4")
        farm.wait(job, "completed")
        until("the job to be forgotten", lambda: farm.api("GET", f"/v1/jobs/{job}")[0] == 404)
        assert farm.ctl("jobs", "logs", str(job)).returncode == NOT_FOUND
        assert (farm.media / "a.mp4").exists(), "its output stays"
        assert farm.submit(*words, "media:b.mp4") == job + 1, "its number is not used again"
