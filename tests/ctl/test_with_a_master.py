"""ffrtmpctl and a real master."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from ctl.conftest import PROGRAM, Ctl
from ctl.farm import RunningMaster, a_farm, a_master
from ctl.timing import soon_enough


@pytest.fixture
def farm(socket: Path) -> Iterator[RunningMaster]:
    with a_farm(socket.parent) as master:
        yield master


def submitted(ctl: Ctl, *words: object) -> int:
    run = ctl("submit", "--scenario", "720p-h264", "--generate", "64x64@5:1", "--json", *words)
    assert run.code == 0, run.err
    return int(json.loads(run.out)["items"][0]["job"])


def test_a_job_is_submitted_listed_explained_changed_canceled_and_tried_again(ctl: Ctl, farm: RunningMaster):
    job = submitted(ctl, "--output", "media:a.mp4", "--note", "mine", "--memory", "1GiB", "--nice", "5")
    listed = ctl("jobs", "list", "--state", "pending").out.splitlines()
    assert listed[1].split()[:5] == [str(job), "queued", "default", "medium", "720p-h264"]
    status = ctl("status", job)
    assert status.out.startswith(f"job {job} is queued") and "media:a.mp4" in status.out and "mine" in status.out
    why = ctl("jobs", "why", job)
    assert why.code == 0 and "one" in why.out
    assert ctl("jobs", "update", job, "--priority", "high", "--queue", "batch").code == 0
    assert ctl("jobs", "list", "--queue", "batch", "--priority", "high").out.count("media:a.mp4") == 1
    assert ctl("jobs", "pause", job).code == ctl("jobs", "resume", job).code == 0
    assert ctl("jobs", "cancel", job).code == 0
    again = ctl("jobs", "cancel", job)
    assert again.code == 4 and "has ended" in again.err
    assert "canceled" in ctl("jobs", "history", job).out
    retried = ctl("jobs", "retry", job)
    assert retried.code == 0 and f"is job {job} again" in retried.out


def test_every_field_that_a_flag_sets_is_taken_by_the_master(ctl: Ctl, farm: RunningMaster):
    flags = """--queue batch --priority low --engine ffmpeg --overwrite --max-retries 1 --classification test
      --on-disconnect stop --quality psnr,ssim --cpu 1.5 --memory 2G --scratch 10MiB --file-size 500MB --time 1h
      --nice 5 --io-weight 200 --label fast --note hello --idempotency-key k1"""
    job = submitted(ctl, "--output", "media:b.mp4", *flags.split())
    view = json.loads(ctl("status", job, "--json").out)
    limits = view["spec"]["recipe"]["limits"]
    assert (limits["cpu_milli"], limits["memory_bytes"], limits["time_s"]) == (1500, 2 << 30, 3600)
    assert view["classification"] == "test" and view["max_retries"] == 1


def test_a_batch_of_which_one_job_is_refused_leaves_nothing_behind(ctl: Ctl, farm: RunningMaster, tmp_path: Path):
    submitted(ctl, "--output", "media:taken.mp4")
    rows = [{"generate": {"width": 64, "height": 64}, "output": f"media:{name}.mp4"} for name in ("x", "taken", "y")]
    (tmp_path / "jobs").write_text("\n".join(json.dumps(row) for row in rows))
    run = ctl("submit", "--scenario", "720p-h264", "--from", tmp_path / "jobs")
    assert run.code == 4 and "same output" in run.err
    assert len(json.loads(ctl("list", "--json").out)["items"]) == 1


def test_the_same_key_makes_no_second_job(ctl: Ctl, farm: RunningMaster):
    words = ("--output", "media:once.mp4", "--idempotency-key", "once")
    assert submitted(ctl, *words) == submitted(ctl, *words)


def test_jobs_are_canceled_by_filter(ctl: Ctl, farm: RunningMaster):
    for number in range(3):
        submitted(ctl, "--output", f"media:{number}.mp4", "--queue", "batch" if number else "default")
    assert ctl("jobs", "cancel", "--queue", "batch", "--yes").out == "2 jobs canceled\n"
    assert len(json.loads(ctl("list", "--state", "open", "--json").out)["items"]) == 1
    assert ctl("jobs", "retry", "--state", "canceled", "--yes").out == "2 jobs submitted again\n"


def test_what_is_wrong_is_said_by_the_master_and_told_in_two_lines(ctl: Ctl, farm: RunningMaster):
    cases = (
        (("status", 99), 3),
        (("scenarios", "show", "nope"), 3),
        (("nodes", "drain", "nobody"), 3),
        (("list", "--state", "sleeping"), 2),
        (("submit", "--scenario", "720p-h264", "--generate", "64x64", "--output", "elsewhere:x.mp4"), 4),
    )
    for words, code in cases:
        run = ctl(*words)
        assert (run.code, len(run.err.splitlines())) == (code, 2), run
        assert run.err.startswith("ffrtmpctl: ") and "\nhint: " in run.err


def test_nodes_and_queues_are_looked_after(ctl: Ctl, farm: RunningMaster):
    assert ctl("nodes", "list").out.splitlines()[1].split()[:3] == ["one", "ready", "127.0.0.1"]
    assert ctl("nodes", "label", "one", "fast", "eu").code == 0
    assert ctl("nodes", "drain", "one").code == 0
    described = ctl("nodes", "describe", "one").out
    assert "drained" in described and "eu" in described and "media: " in described
    assert ctl("nodes", "resume", "one").code == 0
    assert ctl("queues", "pause", "batch").code == 0
    assert ctl("queues", "list").out.splitlines()[3].split()[:2] == ["batch", "paused"]
    assert ctl("queues", "resume", "batch").code == 0
    assert ctl("nodes", "remove", "one", "--yes").code == 4
    assert ctl("nodes", "remove", "one", "--force", "--yes").code == 0
    assert len(ctl("nodes", "list").out.splitlines()) == 1


def test_a_followed_job_is_followed_over_a_killed_master(ctl: Ctl, farm: RunningMaster, environment: dict[str, str]):
    job = submitted(ctl, "--output", "media:a.mp4")
    following = subprocess.Popen(
        [PROGRAM, "status", str(job), "--follow"],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert following.stdout is not None
        assert following.stdout.readline() == f"job {job} is queued (default, medium)\n"
        farm.kill()
        farm.start()
        assert ctl("jobs", "cancel", job).code == 0
        out, err = following.communicate(timeout=20)
    finally:
        following.kill()
        following.wait()
    assert (following.returncode, out) == (1, "")
    assert "the master is back" in err and f"ffrtmpctl: job {job} was canceled\nhint: " in err


def test_a_backup_is_restored_when_the_master_is_stopped_and_not_before(ctl: Ctl, farm: RunningMaster, socket: Path):
    kept = submitted(ctl, "--output", "media:kept.mp4")
    backup = socket.parent / "backups" / "monday.db"
    made = ctl("db", "backup", backup)
    assert made.code == 0 and f"backed up to {backup} and {backup}.logs (" in made.out
    submitted(ctl, "--output", "media:forgotten.mp4")
    refused = ctl("db", "restore", backup)
    assert refused.code == 4 and "stopped" in refused.err
    farm.stop()
    nowhere = ctl("db", "restore", backup, "--state-dir", socket.parent / "elsewhere")
    assert nowhere.code == 3 and "--state-dir DIR or --db PATH" in nowhere.err, nowhere
    restored = ctl("db", "restore", backup, "--state-dir", socket.parent)
    assert restored.code == 0, restored.err
    farm.start()
    jobs = json.loads(ctl("list", "--json").out)["items"]
    assert [job["job"] for job in jobs] == [kept]


def test_a_list_of_10000_jobs_takes_less_than_150_ms(
    ctl: Ctl, farm: RunningMaster, tmp_path: Path, environment: dict[str, str]
):
    (tmp_path / "many").write_text("".join(f"media:in/{number}.mov\n" for number in range(10_000)))
    made = ctl("submit", "--scenario", "720p-h264", "--from", tmp_path / "many", "--output", "media:out/{stem}.mp4")
    assert made.code == 0 and len(made.out.splitlines()) == 10_000

    assert soon_enough([PROGRAM, "jobs", "list"], environment, farm.pid)
    assert len(ctl("list", "--all").out.splitlines()) == 10_001


def test_a_ticket_is_given_by_a_master_without_nodes(ctl: Ctl, socket: Path):
    with a_master(socket.parent):
        run = ctl("nodes", "invite", "--name", "two", "--expires", "10min")
        assert run.code == 0 and run.out.startswith("ffrtmp-agent join ")
        assert "no node yet" in ctl("nodes", "list").err
        waited = ctl("nodes", "list", "--wait", "--timeout", "0.5s")
        assert waited.code == 1 and "1 should be ready, and after 0.5 s no node is" in waited.err
        assert "--timeout waits longer" in waited.err
        assert "1080p-h264" in ctl("scenarios", "list").out
        assert "protocol 1" in ctl("version").out
