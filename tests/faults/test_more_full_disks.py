"""Full disks, continued from tests/whole/test_full_disk.py (P1, P3)."""

from __future__ import annotations

from pathlib import Path

import pytest
from store.disks import can_mount
from whole.scene import kinds, nothing_left, tapped, whole
from whole.tap import Tap
from whole.test_full_disk import KINDS, a_small_media_root, leave, the_master_has_no_room

from daemons import until


@pytest.mark.parametrize("kind", KINDS)
def test_p1_a_master_without_room_loses_nothing_whether_the_disk_or_a_quota_is_full(tmp_path: Path, kind: str) -> None:
    the_master_has_no_room(tmp_path, kind)


@pytest.mark.skipif(not can_mount(), reason="needs the right to mount a small disk")
def test_p3_an_output_that_never_fits_fails_with_the_reason_and_leaves_nothing(tmp_path: Path) -> None:
    with a_small_media_root(tmp_path) as (farm, disk, _room), Tap(1.0) as tap:
        leave(disk, 300_000)
        job = tapped(farm, tap, "out", "--max-retries", "0")
        failed = farm.wait(job, "failed")
        assert failed["failure"]["reason"] == "resource_error"
        assert failed["failure"]["hint"]
        nothing_left(farm)
        assert sorted(path.name for path in disk.iterdir()) == [".ffrtmp", "filler"]


@pytest.mark.skipif(not can_mount(), reason="needs the right to mount a small disk")
def test_a_node_whose_disk_is_guarded_takes_no_job_while_it_is_full_and_says_why(tmp_path: Path) -> None:
    with a_small_media_root(tmp_path, "--disk-free", "4MiB") as (farm, disk, room), Tap(1.0) as tap:
        leave(disk, 3 << 20)
        job = tapped(farm, tap, "out")
        until("the refusal", lambda: "refused" in kinds(farm, job))
        (text,) = [row["text"] for row in farm.history(job) if row["kind"] == "refused"][:1]
        assert "free" in text
        assert farm.state(job) in ("queued", "assigned")
        room()
        farm.wait(job, "completed")
        whole(farm, "out")
        nothing_left(farm)
