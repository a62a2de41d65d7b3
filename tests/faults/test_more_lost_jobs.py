"""Jobs of lost nodes, continued from tests/whole/test_lost_jobs.py (P5, P8)."""

from __future__ import annotations

from pathlib import Path

from whole.scene import kinds, nothing_left, one_history, replay, silence, successor, tapped, voice, whole
from whole.tap import Tap
from whole.test_lost_jobs import is_lost

from daemons import Farm, until


def test_p5_a_cancel_of_a_job_on_a_lost_node_ends_when_the_node_is_removed(tmp_path: Path) -> None:
    with Farm(tmp_path) as farm, Tap() as tap:
        farm.start_master()
        farm.start_agent("a", "--allow-run")
        job = tapped(farm, tap, "out")
        farm.wait(job, "running")
        farm.kill_host("a")
        until("the node to be lost", lambda: is_lost(farm, "a"))
        farm.ctl("jobs", "cancel", str(job), check=True)
        assert farm.state(job) == "canceling"
        farm.ctl("nodes", "remove", "a", "--yes", check=True)
        assert farm.state(job) == "canceled"
        one_history(farm, job)
        farm.start_agent("a")  # what is left of the attempt is cleared
        nothing_left(farm)
        replay(farm)


def test_p8_a_node_that_comes_back_with_its_attempt_was_not_lost(tmp_path: Path) -> None:
    with Farm(tmp_path) as farm, Tap(0.3, 0.3, 0.3) as tap:
        farm.start_master()
        job = 0
        for number, name in enumerate(("a", "b", "c"), 1):
            farm.start_agent(name, "--allow-run")
            job = job or tapped(farm, tap, "out")
            assert successor(farm, job, number)["node"] == name
            silence(farm, name)
        until("the third loss", lambda: "poison" in kinds(farm, job))
        assert farm.state(job) == "retrying", "it waits for one of the three to come back"
        voice(farm, "b")
        until("the attempt on b to be taken back", lambda: farm.state(job) == "running")
        tap.open("out", 2)
        assert farm.wait(job, "completed")["node"] == "b"
        for name in ("a", "c"):
            voice(farm, name)
        whole(farm, "out")
        one_history(farm, job)
        nothing_left(farm)
        replay(farm)
