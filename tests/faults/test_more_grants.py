"""Further ways to lose a node that may publish; the others are in tests/whole/test_grants.py (P2, P3)."""

from __future__ import annotations

from pathlib import Path

from whole.scene import decodes, kinds, nothing_left, one_history, replay, short, silence, untouched, voice
from whole.test_grants import KILLED_THEN_NOT_RENAMED, dies, name_root, one_that_publishes

from daemons import Farm, strace, until


def test_p11_an_agent_killed_just_before_the_rename_publishes_when_it_is_back(tmp_path: Path) -> None:
    with one_that_publishes(tmp_path, KILLED_THEN_NOT_RENAMED) as (farm, job):
        dies(farm)
        assert not (farm.media / "out.mp4").exists()
        until("the node to be lost", lambda: farm.nodes()[0]["state"] == "lost")
        assert farm.state(job) == "running", "nobody else may publish, so nobody else encodes"
        farm.start_agent("a")
        assert farm.wait(job, "completed")["attempt"] == 1
        one_history(farm, job)
        assert kinds(farm, job).count("running") == 1, "nothing ran again"
        decodes(farm.media / "out.mp4")
        nothing_left(farm)
        replay(farm)


def test_p2_another_node_takes_over_when_a_node_was_lost_for_good_before_it_published(tmp_path: Path) -> None:
    with one_that_publishes(tmp_path, KILLED_THEN_NOT_RENAMED, helper=True) as (farm, job):
        dies(farm)
        answer = farm.ctl("jobs", "cancel", str(job))
        assert answer.returncode == 4
        assert "publishing" in answer.stderr
        farm.ctl("nodes", "resume", "b", check=True)
        assert farm.wait(job, "completed")["attempt"] == 2
        assert "settling" in kinds(farm, job)
        one_history(farm, job)
        decodes(farm.media / "out.mp4")
        until("the staging folders to be cleared", lambda: not farm.leftovers())
        farm.start_agent("a")  # back after all: what it has kept is of no use
        nothing_left(farm)
        replay(farm)


def test_p3_the_late_rename_of_a_stopped_agent_fails_once_its_grant_was_settled(tmp_path: Path) -> None:
    with one_that_publishes(tmp_path, "renameat2:delay_enter=20000000", helper=True) as (farm, job):
        until("the grant", lambda: "granted" in kinds(farm, job))
        (staged,) = until(
            "the attempt at its rename", lambda: list((farm.folder / "agent-a").glob("attempts/*/intent"))
        )
        assert staged.exists()
        silence(farm, "a")
        farm.ctl("nodes", "resume", "b", check=True)
        assert farm.wait(job, "completed")["attempt"] == 2
        made = (farm.media / "out.mp4").stat()
        voice(farm, "a")
        nothing_left(farm)
        untouched(farm.media / "out.mp4", made)
        assert "ENOENT" in (tmp_path / "a.trace").read_text(), "the rename was tried, late, and failed"
        one_history(farm, job)
        replay(farm)


def test_p2_a_lost_node_with_a_grant_is_removed_and_its_job_starts_elsewhere(tmp_path: Path) -> None:
    """The storage is not shared, so only the operator can say that the node will not publish any more."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    with Farm(tmp_path) as farm:
        farm.start_master()
        name_root(farm)
        farm.start_agent("a", under=strace(tmp_path / "a.trace", KILLED_THEN_NOT_RENAMED))
        job = short(farm, "out")
        dies(farm)
        until("the node to be lost", lambda: farm.nodes()[0]["state"] == "lost")
        farm.start_agent("b", media=elsewhere)
        assert farm.state(job) == "running"
        farm.ctl("nodes", "remove", "a", "--yes", check=True)
        assert farm.state(job) == "queued", "the media root is not on b"
        assert "media" in farm.ctl("jobs", "why", str(job), check=True).stdout
        farm.start_agent("a")  # enrolled anew
        assert farm.wait(job, "completed")["attempt"] == 2
        one_history(farm, job)
        decodes(farm.media / "out.mp4")
        nothing_left(farm)
        replay(farm)
