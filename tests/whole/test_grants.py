"""A node is lost with the right to publish in its hands, at every point round the one rename that publishes (P2, P3)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

from whole.scene import decodes, kinds, nothing_left, one_history, replay, short, untouched

from daemons import Farm, strace, until
from ffrtmp_agent.roots import root_identity

RENAMED_THEN_KILLED = (
    "renameat2:signal=USR1"  # it is delivered when the call returns, and ends whoever has not asked for it
)
KILLED_THEN_NOT_RENAMED = "renameat2:signal=KILL"  # it needs no delivery: the call is never made


@contextmanager
def one_that_publishes(folder: Path, rule: str, *, helper: bool = False) -> Iterator[tuple[Farm, int]]:
    """A farm whose agent `a` meets `rule` at its rename, with a job on its way there; `helper`: b is there, drained."""
    with Farm(folder) as farm:
        farm.start_master()
        name_root(farm)
        farm.start_agent("a", under=strace(folder / "a.trace", rule))
        if helper:
            farm.start_agent("b")
            farm.ctl("nodes", "drain", "b", check=True)
        yield farm, short(farm, "out")


def name_root(farm: Farm) -> None:
    """Give the media root its identity beforehand: an agent does that with a rename too."""
    root_identity(farm.media, uuid4())


def dies(farm: Farm, name: str = "a") -> None:
    until(f"agent {name} to be killed", lambda: not farm.agents[name].alive)


def test_p3_an_agent_killed_between_rename_and_word_of_it_completes_its_job_when_it_is_back(tmp_path: Path) -> None:
    with one_that_publishes(tmp_path, RENAMED_THEN_KILLED) as (farm, job):
        dies(farm)
        made = (farm.media / "out.mp4").stat()
        decodes(farm.media / "out.mp4")
        assert farm.state(job) == "running"
        farm.start_agent("a")
        assert farm.wait(job, "completed")["attempt"] == 1
        untouched(farm.media / "out.mp4", made)
        one_history(farm, job)
        assert kinds(farm, job).count("granted") == kinds(farm, job).count("running") == 1
        nothing_left(farm)
        replay(farm)


def test_p2_another_node_sees_that_a_node_lost_for_good_had_published(tmp_path: Path) -> None:
    with one_that_publishes(tmp_path, RENAMED_THEN_KILLED, helper=True) as (farm, job):
        dies(farm)
        made = (farm.media / "out.mp4").stat()
        farm.ctl("nodes", "resume", "b", check=True)
        assert farm.wait(job, "completed")["attempt"] == 1
        assert "settling" in kinds(farm, job)
        one_history(farm, job)
        untouched(farm.media / "out.mp4", made)
        decodes(farm.media / "out.mp4")
        until("the staging folder to be cleared", lambda: not farm.leftovers())
        assert not farm.job_processes()
        replay(farm)


def test_p3_an_output_that_a_removed_node_had_published_is_the_jobs_own(tmp_path: Path) -> None:
    with one_that_publishes(tmp_path, RENAMED_THEN_KILLED) as (farm, job):
        dies(farm)
        made = (farm.media / "out.mp4").stat()
        until("the node to be lost", lambda: farm.nodes()[0]["state"] == "lost")
        farm.ctl("nodes", "remove", "a", "--yes", check=True)
        assert farm.state(job) == "queued"
        farm.start_agent("b")
        assert farm.wait(job, "completed")["attempt"] == 2
        untouched(farm.media / "out.mp4", made)
        one_history(farm, job)
        replay(farm)
