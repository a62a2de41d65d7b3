"""A full disk at the master, and at a node: said, survived, and over by itself when there is room (P1, P3)."""

from __future__ import annotations

import http.client
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest
from store.disks import can_mount, small_disk
from whole.scene import kinds, nothing_left, one_history, replay, short, tapped, whole
from whole.tap import Tap

from daemons import Farm, until

UNGUARDED = ("--disk-free", "0", "--disk-free-percent", "0")
KINDS = ["disk", "quota"] if can_mount() else ["quota"]
SMALL = {"width": 160, "height": 90, "fps": 10, "duration_s": 1}
Act = Callable[[], None]


@contextmanager
def a_master_on_a_small_disk(folder: Path, kind: str) -> Iterator[tuple[Farm, Act, Act]]:
    """A farm, and how its master runs out of room and gets some again: on a disk, or by a limit as quotas set one."""
    if kind == "quota":
        with Farm(folder) as farm:
            farm.start_master(*UNGUARDED)
            yield farm, lambda: _limit(farm, _smallest_wal(farm)), lambda: _limit(farm, -1)
        return
    with small_disk(folder) as (disk, fill, room):
        (folder / "master").symlink_to(disk)
        with Farm(folder) as farm:
            farm.start_master(*UNGUARDED)
            yield farm, fill, room


def _limit(farm: Farm, size_bytes: int) -> None:
    assert farm.master is not None
    psutil.Process(farm.master.process.pid).rlimit(psutil.RLIMIT_FSIZE, (size_bytes, -1))


def _smallest_wal(farm: Farm) -> int:
    return min(path.stat().st_size for path in (farm.folder / "master").glob("*-wal"))


def test_p1_a_master_without_room_answers_503_loses_nothing_and_goes_on_by_itself(tmp_path: Path) -> None:
    the_master_has_no_room(tmp_path, KINDS[0])


def the_master_has_no_room(folder: Path, kind: str) -> None:
    """Let a job end while the master can keep nothing, and give it room again."""
    with a_master_on_a_small_disk(folder, kind) as (farm, fill, room), Tap() as tap:
        farm.start_agent("a", "--allow-run")
        job = tapped(farm, tap, "out")
        farm.wait(job, "running")
        fill()
        status, problem = farm.api("POST", "/v1/jobs", {"scenario": "480p30-h264", "output": "media:no.mp4"})
        assert status == 503, problem
        assert problem["hint"]
        refused = farm.ctl("jobs", "submit", "--scenario", "480p30-h264", "--output", "media:no.mp4")
        assert refused.returncode != 0
        assert refused.stderr.count("\n") <= 2, "one line and a hint"
        tap.open_all()
        until("the job to end on its node", lambda: not farm.job_processes())
        assert farm.state(job) == "running", "reading goes on; what cannot be kept has not happened"
        assert not (farm.media / "out.mp4").exists(), "no grant without its commit"
        assert farm.api("GET", "/v1/live")[0] == 200
        assert farm.api("GET", "/v1/ready")[0] == 503
        room()
        assert farm.wait(job, "completed")["attempt"] == 1
        assert kinds(farm, job).count("running") == 1
        assert len(farm.get("/v1/jobs")["items"]) == 1, "what was refused is not there"
        farm.wait(short(farm, "no"), "completed")
        whole(farm, "out")
        until("the whole log", lambda: "muxing overhead" in farm.log(job))
        one_history(farm, job)
        nothing_left(farm)
        replay(farm)


def test_p1_a_database_that_is_removed_costs_a_restart_and_no_job(tmp_path: Path) -> None:
    with Farm(tmp_path) as farm:
        farm.start_master()
        farm.start_agent("a")
        farm.wait(short(farm, "before"), "completed")
        assert farm.master is not None
        for name in ("farm.db", "farm.db-wal", "farm.db.logs", "farm.db.logs-wal"):
            (tmp_path / "master" / name).unlink()
        removed_s = time.monotonic()
        body = {"scenario": "480p30-h264", "generate": SMALL, "output": "media:meanwhile.mp4"}
        with pytest.raises(http.client.RemoteDisconnected):
            farm.api("POST", "/v1/jobs", body, {"Idempotency-Key": "k"})
        until("the master to end", lambda: farm.master is not None and not farm.master.alive)
        assert time.monotonic() - removed_s < 3.0, "it waits for no caller"
        farm.start_master()
        status, answer = farm.api("POST", "/v1/jobs", body, {"Idempotency-Key": "k"})
        assert status == 201
        farm.wait(answer["items"][0]["job"], "completed")
        assert [item["state"] for item in farm.get("/v1/jobs")["items"]] == ["completed", "completed"]
        assert farm.log(1)
        replay(farm)


@contextmanager
def a_small_media_root(folder: Path, *guard: str, **times: str) -> Iterator[tuple[Farm, Path, Act]]:
    """A farm whose media root is a disk of 8 MiB, by default without the disk guard; the disk, and how it gets room."""
    with small_disk(folder) as (disk, _fill, room):
        (folder / "media").symlink_to(disk)
        with Farm(folder, **times) as farm:
            farm.start_master()
            farm.start_agent("a", "--allow-run", *UNGUARDED, *guard)
            yield farm, disk, room


def leave(disk: Path, room_bytes: int) -> None:
    """Fill a disk but for so much."""
    found = os.statvfs(disk)
    with (disk / "filler").open("wb") as file, suppress(OSError):
        file.write(bytes(max(0, found.f_bavail * found.f_frsize - room_bytes)))


@pytest.mark.skipif(not can_mount(), reason="needs the right to mount a small disk")
def test_p3_an_output_that_does_not_fit_is_a_resource_error_and_is_made_when_there_is_room(tmp_path: Path) -> None:
    with a_small_media_root(tmp_path, backoff="1s") as (farm, disk, room), Tap(1.0) as tap:
        leave(disk, 300_000)
        job = tapped(farm, tap, "out")
        until("the first failure", lambda: "failed" in kinds(farm, job))
        (failure,) = [row["failure"] for row in farm.history(job) if row["kind"] == "failed"][:1]
        assert failure["reason"] == "resource_error"
        assert "No space left on device" in failure["line"]
        assert not (disk / "out.mp4").exists()
        room()
        farm.wait(job, "completed")
        whole(farm, "out")
        one_history(farm, job)
        nothing_left(farm)
