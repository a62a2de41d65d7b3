"""Feature 2: who goes first. 300 jobs instead of these 36 are in tests/faults."""

from __future__ import annotations

from pathlib import Path

from whole.pace import lay_clip, paced
from whole.ranked import completed, lay_speck, out_of_rank, shuffled, starts, submit

from daemons import Farm, until

GPU_SCENARIO = """
kind = "file"
container = "mp4"
[video]
codec = "h264"
encoder = "h264_nvenc"
"""


def busy_node(farm: Farm, *words: str) -> int:
    """A node with one slot, and a job that keeps it busy while others are submitted."""
    lay_speck(farm)
    lay_clip(farm, 1.5)
    farm.start_master(*words)
    farm.start_agent("a", "--allow-run", slots=1)
    keeper = paced(farm, "keeper.mp4")
    farm.wait(keeper, "running")
    return keeper


def test_p7_shuffled_jobs_on_a_busy_node_start_by_queue_then_priority_then_arrival(tmp_path: Path) -> None:
    with Farm(tmp_path) as farm:
        busy_node(farm, "--ageing-interval", "0")
        numbers = submit(farm, shuffled(36, seed=1), "out")
        completed(farm, numbers, 120.0)
        found = starts(farm, numbers)
        assert [start.job for start in found] == [s.job for s in sorted(found, key=lambda s: (s.level, s.job))]


def test_p7_with_ageing_a_job_that_waits_rises_a_step_an_interval_and_never_into_live(tmp_path: Path) -> None:
    ageing_s = 1.0
    with Farm(tmp_path) as farm:
        busy_node(farm, "--ageing-interval", f"{ageing_s:g}s")
        old = submit(farm, [{"queue": "batch", "priority": "low"}] * 6, "old")
        young = submit(farm, shuffled(12, seed=2), "young")
        until("the first to be old enough", lambda: farm.job(old[0])["queue_s"] > ageing_s)
        last = submit(farm, shuffled(9, seed=3), "last")
        numbers = [*old, *young, *last]
        completed(farm, numbers, 120.0)
        found = starts(farm, numbers)
        assert out_of_rank(found, ageing_s) == []
        assert out_of_rank(found, 0.0) != [], "without ageing the old would have been the last"
        assert out_of_rank([start for start in found if start.level < 3], 0.0) == [], "nothing rose into live"


def test_p7_jobs_at_the_head_that_no_node_can_run_delay_no_other(tmp_path: Path) -> None:
    with Farm(tmp_path) as farm:
        scenarios = tmp_path / "scenarios"
        scenarios.mkdir()
        (scenarios / "gpu.toml").write_text(GPU_SCENARIO)
        keeper = busy_node(farm, "--scenario-dir", str(scenarios))
        words = ("--queue", "live", "--priority", "high", "--input", "media:in.mkv")
        gpu = [
            farm.submit("--scenario", "gpu", *words, "--output", "media:gpu.mp4"),
            farm.submit("--scenario", "probe", *words, "--label", "gpu", "--output", "media:label.json"),
        ]
        cpu = submit(farm, [{"queue": "batch", "priority": "low"}] * 3, "cpu")
        for job in (keeper, *cpu):
            assert farm.wait(job, "completed")["attempt"] == 1
        assert [farm.state(job) for job in gpu] == ["queued", "queued"]
        why = [farm.ctl("jobs", "why", str(job)).stdout for job in gpu]
        assert "h264_nvenc" in why[0] and "label" in why[1] and "gpu" in why[1], why
        farm.ctl("nodes", "label", "a", "gpu", check=True)
        assert farm.wait(gpu[1], "completed")["node"] == "a"
        strict = farm.ctl("jobs", "submit", "--scenario", "gpu", *words, "--output", "media:no.mp4", "--strict")
        assert strict.returncode == 4 and "rejected" in strict.stdout and "h264_nvenc" in strict.stdout
