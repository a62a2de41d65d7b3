"""What people do with jobs: one at a time, in batches, by filter, and what they are told of them."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from typing import Any

import pytest
from clips import generated
from whole.film_server import serving
from whole.pace import paced
from whole.scene import decodes, kinds, nothing_left

from daemons import Farm, until

SHORT = ("--scenario", "480p30-h264")


@pytest.fixture(scope="module")
def farm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Farm]:
    """One agent, a film of two seconds at media:in.mkv."""
    with Farm(tmp_path_factory.mktemp("farm"), backoff="0.2s", ageing_interval="0") as farm:
        shutil.copyfile(generated(2.0, 160, 90, 10.0, name="two.mkv"), farm.media / "in.mkv")
        farm.start_master()
        farm.start_agent("a", "--allow-run")
        yield farm


def listed(farm: Farm, query: str) -> list[int]:
    """The numbers of the jobs that a filter finds."""
    return [job["job"] for job in farm.get(f"/v1/jobs?{query}")["items"]]


def broken(farm: Farm, output: str, *words: str) -> dict[str, Any]:
    """A job that fails for good."""
    (farm.media / "broken.mp4").write_text("no film")
    job = farm.submit(*SHORT, "--input", "media:broken.mp4", "--output", f"media:{output}", *words)
    return farm.wait(job, "failed")


def test_a_film_is_transcoded_watched_and_told_in_figures(farm: Farm) -> None:
    words = ("--input", "media:in.mkv", "--output", "media:out.mp4", "--quality", "psnr,ssim")
    run = farm.ctl("jobs", "submit", *SHORT, *words, "--wait", check=True)
    first, *_, last = run.stdout.splitlines()
    number = int(first.split()[1])
    assert first == f"job {number} queued  media:in.mkv -> media:out.mp4"
    assert last.startswith(f"job {number} completed: media:out.mp4 (")
    results = farm.job(number)["results"]
    size = (farm.media / "out.mp4").stat().st_size
    assert (results["frames"], results["output_bytes"]) == (20, size)
    assert results["input_bytes"] == (farm.media / "in.mkv").stat().st_size
    assert abs(results["media_s"] - 2.0) < 0.1 and abs(results["output_bps"] - size * 4) < size * 0.4
    assert results["fps"] > 0 and results["encode_s"] > 0 and results["cpu_s"] > 0
    assert results["peak_memory_bytes"] > 1 << 20
    assert 25 < results["psnr_db"] < 100 and 0.8 < results["ssim"] <= 1
    assert abs(decodes(farm.media / "out.mp4") - 2.0) < 0.1
    status = farm.ctl("jobs", "status", str(number)).stdout
    for word in ("PSNR", "SSIM", "frames", "peak memory", "CPU time", "1 on a: published"):
        assert word in status


def test_what_was_left_out_is_chosen_and_told(farm: Farm) -> None:
    run = farm.ctl("jobs", "submit", *SHORT, "--generate", "64x36@5:1", "--wait", check=True)
    number = int(run.stdout.split()[1])
    assert f"job {number} queued  pattern 64x36@5 1 s -> media:jobs/{number}.mp4" in run.stdout
    assert abs(decodes(farm.media / "jobs" / f"{number}.mp4") - 1.0) < 0.3
    job = farm.submit(*SHORT, "--label", "nobody")
    assert farm.job(job)["input"].endswith(" 60 s"), "the scenario's own pattern"
    farm.ctl("jobs", "cancel", str(job), check=True)


def test_a_url_is_fetched(farm: Farm) -> None:
    with serving() as server:
        job = farm.submit(*SHORT, "--input", server.url, "--output", "media:fetched.mp4")
        farm.wait(job, "completed")
    assert abs(decodes(farm.media / "fetched.mp4") - 4.0) < 0.2


def test_plain_arguments_are_run_as_they_are_given(farm: Farm) -> None:
    words = ("--input", "media:in.mkv", "--output", "media:plain.mkv", "--wait", "--")
    engine = ("-ss", "0.5", "-i", "{input}", "-c:v", "libx264", "-preset", "ultrafast", "-an", "{output}")
    farm.ctl("jobs", "run", *words, *engine, check=True)
    assert abs(decodes(farm.media / "plain.mkv") - 1.5) < 0.2
    assert farm.get("/v1/jobs?scenario=run&limit=1")["items"][0]["state"] == "completed"


def test_a_batch_of_inputs_is_taken_whole_or_not_at_all(farm: Farm) -> None:
    for name in ("x", "y", "z"):
        shutil.copyfile(farm.media / "in.mkv", farm.media / f"{name}.mkv")
    names = "media:x.mkv\nmedia:y.mkv\nmedia:z.mkv\n"
    words = ("jobs", "submit", "--scenario", "probe", "--from", "-", "--output", "media:batch/{stem}.json")
    before = listed(farm, "limit=1000")
    refused = farm.ctl(*words, stdin=names + "media:../secret.mkv\n")
    assert refused.returncode == 4 and ".." in refused.stderr
    assert listed(farm, "limit=1000") == before, "not one of the four was taken"
    run = farm.ctl(*words, "--wait", stdin=names)
    assert run.returncode == 0, run.stderr
    assert sorted(path.name for path in (farm.media / "batch").iterdir()) == ["x.json", "y.json", "z.json"]
    assert json.loads((farm.media / "batch" / "x.json").read_text())["format"]["format_name"] == "matroska,webm"
    lines = [json.dumps({"output": f"media:batch/{n}.json", "input": "media:x.mkv"}) for n in range(2)]
    again = farm.ctl("jobs", "submit", "--scenario", "probe", "--from", "-", "--wait", stdin="\n".join(lines))
    assert again.returncode == 0 and len(listed(farm, "limit=1000")) == len(before) + 5


def test_wait_tells_by_its_exit_code_how_the_jobs_ended(farm: Farm) -> None:
    (farm.media / "text.mp4").write_text("no film")
    words = ("jobs", "submit", *SHORT, "--from", "-", "--output", "media:{stem}-waited.mp4", "--wait")
    both = farm.ctl(*words, stdin="media:in.mkv\nmedia:text.mp4\n")
    assert both.returncode == 1 and "input_error" in both.stderr
    assert (farm.media / "in-waited.mp4").exists() and not (farm.media / "text-waited.mp4").exists()
    followed = farm.ctl("jobs", "status", both.stdout.split()[1], "--follow")
    assert followed.returncode == 0
    as_json = farm.ctl("jobs", "status", both.stdout.split()[1], "--follow", "--json")
    assert json.loads(as_json.stdout.splitlines()[-1])["state"] == "completed"


def test_progress_is_shown_in_percent_with_speed_and_time_left(farm: Farm) -> None:
    shutil.copyfile(generated(4.0, 160, 90, 10.0, name="clip.mkv"), farm.media / "four.mkv")
    words = ("--input", "media:four.mkv", "--output", "media:p.mkv", "--wait", "--json")
    run = farm.ctl("jobs", "run", *words, "--", "-re", "-i", "{input}", "-c", "copy", "{output}", check=True)
    views = [json.loads(line) for line in run.stdout.splitlines()]
    percents = [view["percent"] for view in views if "percent" in view]
    assert percents == sorted(percents) and any(0 < percent < 100 for percent in percents)
    told = [view for view in views if view["state"] == "running" and view.get("progress", {}).get("speed")]
    assert all(0.5 < view["progress"]["speed"] < 3 and 0 <= view["eta_s"] <= 4 for view in told) and told
    shown = farm.ctl("jobs", "status", str(views[0]["job"])).stdout
    assert re.search(r"^ +length +4\.0 s$", shown, re.MULTILINE)


def test_states_have_the_old_names_as_aliases_and_filters_hold_together(farm: Farm) -> None:
    waits = farm.submit(*SHORT, "--label", "nobody", "--queue", "batch", "--output", "media:f.mp4")
    runs = farm.submit(*SHORT, "--generate", "320x180@25:600", "--output", "media:r.mp4", "--classification", "test")
    farm.wait(runs, "running")
    try:
        assert (
            listed(farm, "state=pending") == [waits] == listed(farm, "state=waiting&queue=batch&scenario=480p30-h264")
        )
        assert listed(farm, "state=processing") == [runs] == listed(farm, "state=running&node=a&classification=test")
        assert listed(farm, "state=open&order=oldest") == [waits, runs]
        assert listed(farm, "state=pending&queue=live") == []
        first = farm.get("/v1/jobs?limit=2")
        assert listed(farm, f"limit=2&after={first['next']}")[0] == first["items"][-1]["job"] - 1
    finally:
        farm.ctl("jobs", "cancel", str(waits), str(runs), check=True)
    farm.wait(runs, "canceled")


def test_a_retry_is_a_new_job_that_names_the_old_by_number_or_by_filter(farm: Farm) -> None:
    old = broken(farm, "again.mp4", "--queue", "batch", "--priority", "low", "--note", "mine")
    shutil.copyfile(generated(2.0, 160, 90, 10.0, name="two.mp4"), farm.media / "broken.mp4")
    run = farm.ctl("jobs", "retry", str(old["job"]), check=True)
    new = int(run.stdout.split()[1])
    assert run.stdout == f"job {new} is job {old['job']} again, queued\n"
    again = farm.wait(new, "completed")
    (farm.media / "again.mp4").unlink()
    assert (again["retry_of"], again["queue"], again["priority"], again["note"]) == (old["job"], "batch", "low", "mine")
    assert farm.job(old["job"]) == old, "the old one has not moved"
    refused = farm.ctl("jobs", "retry", str(new))
    assert refused.returncode == 4 and "completed" in refused.stderr

    failed = [broken(farm, f"many{number}.mp4", "--queue", "batch")["job"] for number in range(2)]
    shutil.copyfile(generated(2.0, 160, 90, 10.0, name="two.mp4"), farm.media / "broken.mp4")
    many = farm.ctl("jobs", "retry", "--state", "failed", "--queue", "batch", "--yes", "--json", check=True)
    assert sorted(json.loads(many.stdout)["done"]) == sorted([*failed, old["job"]])
    made = {job["retry_of"]: job["job"] for job in farm.get("/v1/jobs?queue=batch")["items"] if "retry_of" in job}
    for job in failed:
        farm.wait(made[job], "completed")


def test_a_paused_queue_starts_nothing_and_a_resumed_one_goes_on(farm: Farm) -> None:
    farm.ctl("queues", "pause", "batch", check=True)
    try:
        held = farm.submit(
            "--scenario", "probe", "--input", "media:in.mkv", "--output", "media:h.json", "--queue", "batch"
        )
        other = farm.submit("--scenario", "probe", "--input", "media:in.mkv", "--output", "media:o.json")
        farm.wait(other, "completed")
        assert farm.state(held) == "queued"
        why = farm.ctl("jobs", "why", str(held)).stdout
        assert "queue batch is paused" in why and "ffrtmpctl queues resume batch" in why
        assert re.search(r"^batch +paused +[1-9] ", farm.ctl("queues", "list").stdout, re.MULTILINE)
    finally:
        farm.ctl("queues", "resume", "batch", check=True)
    farm.wait(held, "completed")


def test_a_job_that_waits_can_be_moved_to_another_place_in_the_order(farm: Farm) -> None:
    farm.ctl("nodes", "drain", "a", check=True)
    words = ("--scenario", "probe", "--input", "media:in.mkv", "--queue", "batch", "--cpu", "8")
    jobs = [farm.submit(*words, "--output", f"media:u{number}.json") for number in range(3)]
    farm.ctl("jobs", "update", str(jobs[1]), "--priority", "high", check=True)
    farm.ctl("jobs", "update", str(jobs[2]), "--queue", "default", check=True)
    assert farm.job(jobs[2])["queue"] == "default" and "updated" in kinds(farm, jobs[2])
    farm.ctl("nodes", "resume", "a", check=True)
    for job in jobs:
        farm.wait(job, "completed")
    began = {job: next(r["seq"] for r in farm.history(job) if r["after"] == "assigned") for job in jobs}
    assert sorted(jobs, key=lambda job: began[job]) == [jobs[2], jobs[1], jobs[0]]
    late = farm.ctl("jobs", "update", str(jobs[0]), "--priority", "high")
    assert late.returncode == 4


def test_a_hint_of_a_job_that_was_given_up_promises_no_further_try(farm: Farm) -> None:
    before = farm.get("/v1/sla")
    with serving(429, 429) as server:
        words = ("--input", server.url, "--output", "media:refused.mp4", "--max-retries", "1", "--wait")
        waited = farm.ctl("jobs", "submit", *SHORT, *words)
    assert (waited.returncode, server.asked) == (1, 2)
    number = waited.stdout.split()[1]
    told = waited.stderr, farm.ctl("jobs", "status", number).stdout, farm.ctl("jobs", "why", number).stdout
    for text in told:
        assert "network_error" in text and f"given up after 2 tries: `ffrtmpctl jobs retry {number}`" in text
        assert "tried again" not in text
    assert farm.get("/v1/sla") == before, "the source's server is not the farm's"


def test_the_sla_view_counts_production_jobs_and_platform_faults_but_not_users_faults(farm: Farm) -> None:
    def sla() -> dict[str, int]:
        return dict(farm.get("/v1/sla"))

    before = sla()
    (farm.media / "empty.mp4").touch()
    probe = ("--scenario", "probe", "--output")
    for number, kind in enumerate(("production", "test", "benchmark", "debug")):
        words = ("--input", "media:in.mkv", "--classification", kind)
        farm.wait(farm.submit(*probe, f"media:sla{number}.json", *words), "completed")
    assert sla()["jobs"] == before["jobs"] + 1 and sla()["met"] == before["met"] + 1
    farm.wait(farm.submit(*SHORT, "--input", "media:empty.mp4", "--output", "media:sla.mp4"), "failed")
    assert sla()["jobs"] == before["jobs"] + 1, "a user's fault counts for nothing"
    killed = paced(farm, "sla.mkv", "--max-retries", "0")
    until("its engine", lambda: farm.job_processes("ffmpeg"))[0].kill()
    assert farm.wait(killed, "failed")["failure"]["reason"] == "platform_error"
    assert (sla()["jobs"], sla()["platform_failed"]) == (before["jobs"] + 2, before["platform_failed"] + 1)
    assert "production jobs" in farm.ctl("jobs", "sla").stdout


def test_p3_what_stands_at_the_output_is_kept_unless_it_is_to_be_replaced(farm: Farm) -> None:
    target = farm.media / "precious.mp4"
    target.write_text("precious")
    words = (*SHORT, "--input", "media:in.mkv", "--output", "media:precious.mp4")
    refused = farm.ctl("jobs", "submit", *words, "--wait")
    told = "user_error: media:precious.mp4 already exists\nhint: --overwrite replaces it"
    assert refused.returncode == 1 and told in refused.stderr
    assert target.read_text() == "precious"
    _told_before_the_work(farm, int(refused.stdout.split()[1]))
    farm.ctl("jobs", "submit", *words, "--wait", "--overwrite", check=True)
    assert abs(decodes(target) - 2.0) < 0.1
    nothing_left(farm)


def _told_before_the_work(farm: Farm, number: int) -> None:
    """A job failed at its first hand-out, without an engine and without another try; whoever follows it gets code 1."""
    job = farm.job(number)
    assert (job["state"], job["attempt"]) == ("failed", 1) and not job.get("started"), job
    assert "retrying" not in [row["after"] for row in farm.history(number)]
    followed = farm.ctl("jobs", "status", str(number), "--follow")
    assert followed.returncode == 1 and str(job["failure"]["line"]) in followed.stderr


@pytest.mark.parametrize(
    ("name", "told"), [("nothing.mov", "does not exist"), ("in.mkv/x", "does not exist"), ("folder", "is a folder")]
)
def test_an_input_that_is_not_there_is_told_at_once_and_tried_no_more(farm: Farm, name: str, told: str) -> None:
    (farm.media / "folder").mkdir(exist_ok=True)
    words = ("--input", f"media:{name}", "--output", "media:of-nothing.mp4", "--follow")
    run = farm.ctl("jobs", "submit", *SHORT, *words)
    assert run.returncode == 1 and f"input_error: media:{name} {told}\nhint: " in run.stderr
    _told_before_the_work(farm, int(run.stdout.split()[1]))
    nothing_left(farm)


def test_p3_two_open_jobs_cannot_have_one_output(farm: Farm) -> None:
    words = (*SHORT, "--generate", "64x36@5:600", "--output", "media:one.mp4", "--label", "nobody")
    first = farm.submit(*words)
    second = farm.ctl("jobs", "submit", *words)
    assert second.returncode == 4 and f"job {first} is open and has this same output" in second.stderr
    farm.ctl("jobs", "cancel", str(first), check=True)
    third = farm.submit(*words)
    farm.ctl("jobs", "cancel", str(third), check=True)
