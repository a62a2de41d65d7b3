"""Defects that a farm of this kind had: each is a test by its name, and must be impossible here.

Three that take longer are in tests/faults/test_more_defects.py. Alerts on metrics that nobody exports come with the
metrics; private keys in the repository: tests/house.
"""

from __future__ import annotations

import json
import os
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from whole.loud import measure, tenths
from whole.pace import lay_clip, paced
from whole.scene import engines, kinds, nothing_left, one_history, out_time_s

from daemons import Farm, until

LONG = ("--scenario", "480p30-h264", "--generate", "160x90@25:3600", "--cpu", "1")


@pytest.fixture(scope="module")
def farm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Farm]:
    """One agent that takes six jobs at a time."""
    folder = tmp_path_factory.mktemp("farm")
    (folder / "scenarios").mkdir()
    for name, bitrate in (("one-m", "1M"), ("ten-m", "10M")):
        video = f'[video]\ncodec = "h264"\nwidth = 640\nheight = 360\nbitrate = "{bitrate}"\npreset = "ultrafast"\n'
        (folder / "scenarios" / f"{name}.toml").write_text(f'kind = "file"\ncontainer = "mp4"\n{video}')
    with Farm(folder, backoff="0.2s", lost_after="20s") as farm:
        lay_clip(farm, 5.0)
        farm.start_master("--scenario-dir", str(folder / "scenarios"))
        farm.start_agent("a", "--allow-run", slots=6)
        yield farm


@pytest.fixture(autouse=True)
def nothing_runs_afterwards(request: pytest.FixtureRequest) -> Iterator[None]:
    """What a test of the shared farm leaves open is canceled."""
    yield
    if "farm" in request.fixturenames:
        shared: Farm = request.getfixturevalue("farm")
        shared.api("POST", "/v1/jobs/cancel", {"state": "open"})
        until("all jobs to end", lambda: not shared.get("/v1/jobs?state=open")["items"])


def engines_of(farm: Farm, jobs: list[int]) -> dict[int, list[psutil.Process]]:
    """The engines of some jobs."""
    return {job: engines(farm, job) for job in jobs}


def test_defect_cancel_that_deadlocks_the_server(farm: Farm) -> None:
    jobs = [paced(farm, f"deadlock{number}.mp4") for number in range(6)]
    for job in jobs:
        farm.wait(job, "running")
    answers: list[tuple[int, float]] = []

    def call(method: str, path: str) -> None:
        began_s = time.monotonic()
        status, _ = farm.api(method, path)
        answers.append((status, time.monotonic() - began_s))

    calls = [("POST", f"/v1/jobs/{job}/cancel") for job in jobs] * 4 + [("GET", "/v1/jobs"), ("GET", "/v1/nodes")] * 8
    threads = [threading.Thread(target=call, args=each) for each in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(answers) == len(calls), "every call was answered"
    assert {status for status, _ in answers} <= {200, 202, 409}
    assert max(took_s for _, took_s in answers) < 10.0
    for job in jobs:
        farm.wait(job, "canceled")
    assert farm.ctl("version").returncode == 0


def test_defect_cancel_that_never_reaches_ffmpeg(farm: Farm) -> None:
    job = farm.submit(*LONG, "--output", "media:reached.mp4")
    (process,) = until("its engine", lambda: out_time_s(farm, job) > 0 and engines(farm, job))
    farm.ctl("jobs", "cancel", str(job), check=True)
    process.wait(10)
    farm.wait(job, "canceled")
    nothing_left(farm)


def test_defect_pause_that_changes_only_a_row(farm: Farm) -> None:
    job = farm.submit(*LONG, "--output", "media:stands.mp4")
    (process,) = until("its engine", lambda: out_time_s(farm, job) > 0 and engines(farm, job))
    farm.ctl("jobs", "pause", str(job), check=True)
    farm.wait(job, "paused")
    assert process.status() == psutil.STATUS_STOPPED
    used_s = process.cpu_times().user
    heard = farm.get("/v1/nodes/a")["free_memory_bytes"]
    until("some heartbeats", lambda: farm.get("/v1/nodes/a")["free_memory_bytes"] != heard)
    assert process.cpu_times().user == used_s
    farm.ctl("jobs", "resume", str(job), check=True)
    until("it to work again", lambda: process.cpu_times().user > used_s)


def test_defect_a_lookup_that_returns_another_job(farm: Farm) -> None:
    words = (*LONG, "--label", "nobody", "--output")
    jobs = [farm.job(farm.submit(*words, f"media:lookup{number}.mp4")) for number in range(11)]
    for job in jobs:
        for name in (str(job["job"]), job["uuid"], job["uuid"].upper()):
            found = farm.get(f"/v1/jobs/{name}")
            assert (found["job"], found["uuid"], found["output"]) == (job["job"], job["uuid"], job["output"])
        for part in (job["uuid"][:-1], job["uuid"][:8], f"{job['job']}00", f"0{job['job']}", f"{job['job']}.1"):
            assert farm.api("GET", f"/v1/jobs/{part}")[0] in (400, 404), part
            assert farm.api("POST", f"/v1/jobs/{part}/cancel")[0] in (400, 404), part
    assert all(farm.state(job["job"]) == "queued" for job in jobs)


def test_defect_logs_dropped(farm: Farm) -> None:
    jobs = [measure(farm, 60.0, f"logs{number}.mkv") for number in range(4)]
    for job in jobs:
        farm.wait(job, "completed")
        until("its last line", lambda job=job: "Summary" in farm.log(job))
        assert tenths(farm.log(job)) == list(range(1, 601))


def test_defect_progress_always_0(farm: Farm) -> None:
    job = paced(farm, "progress.mp4")
    seen: list[float] = []

    def rises() -> bool:
        seen.append(float(farm.job(job).get("percent", 0.0)))
        return len({percent for percent in seen if 0 < percent < 100}) >= 4

    until("four different percents", rises)
    assert seen == sorted(seen)
    progress = farm.job(job)["progress"]
    assert progress["out_time_s"] > 0 and progress["frames"] > 0 and progress["speed"] > 0
    assert farm.wait(job, "completed")["percent"] == 100


def test_defect_exit_status_always_0(farm: Farm) -> None:
    words = ("jobs", "run", "--input", "media:in.mkv", "--output")
    good = farm.ctl(*words, "media:good.mkv", "--wait", "--", "-i", "{input}", "-c", "copy", "{output}")
    bad = farm.ctl(*words, "media:bad.mkv", "--wait", "--", "-i", "{input}", "-vf", "scale=wide:high", "{output}")
    assert (good.returncode, bad.returncode) == (0, 1)
    assert "failed: user_error: " in bad.stderr
    crashes = paced(farm, "crash.mkv", "--max-retries", "0")
    until("its engine", lambda: engines(farm, crashes))[0].send_signal(11)
    assert "SIGSEGV" in farm.wait(crashes, "failed")["failure"]["line"]


def test_defect_healthy_long_job_declared_stale_and_run_twice(tmp_path: Path) -> None:
    times = {"lost_after": "1s", "accept_timeout": "1s", "grant_ttl": "1s", "stall_after_file": "2s"}
    with Farm(
        tmp_path, **times, reconnect_grace="1s", self_doubt="1s", doubt_patience="1s", reserve_after="1s"
    ) as farm:
        lay_clip(farm, 6.0)
        farm.start_master()
        for name in ("a", "b"):
            farm.start_agent(name, "--allow-run")
        job = paced(farm, "long.mp4")
        until("its engine", lambda: out_time_s(farm, job) > 0)
        first = engines(farm, job)
        assert farm.wait(job, "completed")["attempt"] == 1, "a job that is longer than every limit"
        assert len(first) == 1 and kinds(farm, job).count("running") == 1


def test_defect_all_running_jobs_given_out_again_after_a_master_restart(tmp_path: Path) -> None:
    with Farm(tmp_path) as farm:
        lay_clip(farm, 8.0)
        farm.start_master()
        farm.start_agent("a", "--allow-run", slots=4)
        jobs = [paced(farm, f"restart{number}.mp4") for number in range(3)]
        for job in jobs:
            until("its engine", lambda job=job: out_time_s(farm, job) > 0)
        before = engines_of(farm, jobs)
        assert farm.master is not None
        farm.master.kill()
        farm.start_master()
        after = until(
            "them to get on", lambda: all(out_time_s(farm, job) > 2 for job in jobs) and engines_of(farm, jobs)
        )
        assert after == before
        for job in jobs:
            assert farm.wait(job, "completed")["attempt"] == 1
            assert kinds(farm, job).count("assigned") == 1
            one_history(farm, job)


def test_defect_a_node_that_vanishes_from_the_list_after_a_retry(farm: Farm) -> None:
    job = paced(farm, "vanish.mp4")
    before = farm.get("/v1/nodes/a")
    until("its engine", lambda: out_time_s(farm, job) > 0 and engines(farm, job))[0].kill()
    until("another attempt", lambda: farm.job(job)["attempt"] == 2 and farm.state(job) == "running")
    (after,) = farm.nodes()
    assert [after[k] for k in ("node", "state", "address", "key")] == [
        before[k] for k in ("node", "state", "address", "key")
    ]
    assert after["jobs"] == [f"{job}.2"]
    farm.wait(job, "completed")
    assert [node["node"] for node in farm.nodes()] == ["a"]


def test_defect_one_gpu_job_blocking_every_cpu_node(farm: Farm) -> None:
    gpu = farm.submit(*LONG, "--label", "gpu", "--queue", "live", "--priority", "high", "--output", "media:gpu.mp4")
    words = ("--scenario", "probe", "--input", "media:in.mkv", "--queue", "batch", "--priority", "low")
    farm.wait(farm.submit(*words, "--output", "media:cpu.json"), "completed")
    assert farm.state(gpu) == "queued"
    assert "gpu" in farm.ctl("jobs", "why", str(gpu)).stdout


def test_defect_output_files_piling_up_in_tmp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scratch = tmp_path / "tmp"
    scratch.mkdir()
    monkeypatch.setenv("TMPDIR", str(scratch))
    with Farm(tmp_path) as farm:
        lay_clip(farm, 2.0)
        farm.start_master()
        farm.start_agent("a", "--allow-run")
        (farm.media / "text.mp4").write_text("no film")
        words = ("--scenario", "480p30-h264", "--input")
        farm.wait(farm.submit(*words, "media:in.mkv", "--quality", "psnr", "--output", "media:good.mp4"), "completed")
        farm.wait(farm.submit(*words, "media:text.mp4", "--output", "media:bad.mp4"), "failed")
        job = farm.submit(*LONG, "--output", "media:canceled.mp4")
        until("it to write", lambda: out_time_s(farm, job) > 0)
        farm.ctl("jobs", "cancel", str(job), check=True)
        farm.wait(job, "canceled")
        thumbnails = farm.submit("--scenario", "thumbnails", "--input", "media:in.mkv", "--output", "media:pictures")
        farm.wait(thumbnails, "completed")
        nothing_left(farm)
        made = {str(path.relative_to(farm.media)) for path in farm.media.rglob("*") if path.is_file()}
        assert made - {"pictures/00001.jpg"} == {".ffrtmp/root-id", "in.mkv", "text.mp4", "good.mp4"}
        assert list(scratch.iterdir()) == []
        for agent in (farm.agents["a"], farm.master):
            assert agent is not None
            agent.stop()
        assert list(scratch.iterdir()) == []


def test_defect_10m_read_as_10_kbit_per_second(farm: Farm) -> None:
    asked = {name: farm.get(f"/v1/scenarios/{name}")["video"]["bitrate_bps"] for name in ("one-m", "ten-m")}
    assert asked == {"one-m": 1_000_000, "ten-m": 10_000_000}
    assert "10 Mbit/s" in farm.ctl("scenarios", "show", "ten-m").stdout
    noise = farm.media / "noise.mkv"
    picture = "testsrc2=size=640x360:rate=25:duration=2,noise=alls=60:allf=t"
    engine = ("-c:v", "mjpeg", "-q:v", "3", "-pix_fmt", "yuvj420p")
    subprocess.run(["ffmpeg", "-v", "error", "-f", "lavfi", "-i", picture, *engine, str(noise)], check=True)
    for name, low, high in (("one-m", 500_000, 4_000_000), ("ten-m", 5_000_000, 20_000_000)):
        job = farm.submit("--scenario", name, "--input", "media:noise.mkv", "--output", f"media:{name}.mp4")
        assert low < farm.wait(job, "completed")["results"]["output_bps"] < high


def test_defect_limits_that_are_written_and_not_applied(farm: Farm) -> None:
    big = farm.submit(*LONG, "--file-size", "200kB", "--output", "media:big.mp4")
    slow = farm.submit(*LONG, "--time", "1s", "--output", "media:slow.mp4")
    wide = farm.submit(*LONG, "--memory", "64MiB", "--max-retries", "0", "--output", "media:wide.mp4")
    kind = farm.submit(*LONG, "--nice", "7", "--output", "media:kind.mp4")
    (process,) = until("its engine", lambda: out_time_s(farm, kind) > 0 and engines(farm, kind))
    assert process.nice() == 7
    if (os.cpu_count() or 1) > 1:
        assert len(process.cpu_affinity()) == 1
    farm.wait(slow, "timed_out")
    for job, word in ((big, "size"), (wide, "memory")):
        failure = farm.wait(job, "failed")["failure"]
        assert failure["reason"] == "resource_error" and word in failure["line"] + failure["hint"], failure
    told = json.dumps(farm.get("/v1/nodes/a")["facts"]["unenforced"])
    assert "memory" in told and "io_weight" in told, "what a plain process cannot enforce is said"
    assert not [path for path in ("big", "slow", "wide") if (farm.media / f"{path}.mp4").exists()]


def test_defect_private_keys_in_the_state_folders_can_be_read_by_others(farm: Farm) -> None:
    for folder in (farm.folder / "master", farm.folder / "agent-a"):
        keys = [path for path in folder.iterdir() if "key" in path.name and path.is_file()]
        assert keys, folder
        assert all(path.stat().st_mode & 0o077 == 0 for path in keys), keys
