"""Further moments at which a lost node may come back; the others are in tests/whole/test_return.py (P4, P11)."""

from __future__ import annotations

from pathlib import Path

from whole.scene import engine, kinds, nothing_left, other, out_time_s, silence, successor, tapped, untouched, voice
from whole.tap import Tap
from whole.test_return import ended_by, two_agents

from daemons import Farm, until


def test_p4_the_attempt_of_a_lost_node_comes_back_behind_and_is_given_up(tmp_path: Path) -> None:
    tap = Tap(0.2, 0.6)
    with two_agents(tmp_path, tap) as (farm, job, first):
        slow = engine(farm, job)
        silence(farm, first)
        assert successor(farm, job)["node"] == other(farm, first)
        until("the successor to be further", lambda: out_time_s(farm, job) > 20.0)
        voice(farm, first)
        until("attempt 1 to be given up", lambda: "given_up" in kinds(farm, job))
        until("its engine to end", lambda: not slow.is_running())
        tap.open("out", 2)
        assert farm.wait(job, "completed")["node"] == other(farm, first)
        ended_by(farm, job, 2)


def test_p4_a_finished_attempt_of_a_lost_node_publishes_nothing_when_its_successor_is_done(tmp_path: Path) -> None:
    tap = Tap(0.6, 0.2)
    with two_agents(tmp_path, tap) as (farm, job, first):
        silence(farm, first)
        successor(farm, job)
        tap.open_all()
        farm.wait(job, "completed")
        made = (farm.media / "out.mp4").stat()
        until("attempt 1 to have ended too", lambda: not farm.job_processes())
        voice(farm, first)
        nothing_left(farm)
        untouched(farm.media / "out.mp4", made)
        ended_by(farm, job, 2)


def test_p11_a_node_that_was_lost_and_alone_goes_on_with_its_attempt(tmp_path: Path) -> None:
    with Farm(tmp_path) as farm, Tap() as tap:
        farm.start_master()
        farm.start_agent("a", "--allow-run")
        job = tapped(farm, tap, "out")
        farm.wait(job, "running")
        going = engine(farm, job)
        silence(farm, "a")
        farm.wait(job, "queued")
        voice(farm, "a")
        assert farm.wait(job, "running")["attempt"] == 1
        assert going.is_running()
        tap.open_all()
        assert farm.wait(job, "completed")["attempt"] == 1
        ended_by(farm, job, 1)
