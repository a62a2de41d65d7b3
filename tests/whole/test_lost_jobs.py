"""Jobs of lost nodes: canceling them, and the end of one that loses node after node (P5, P8)."""

from __future__ import annotations

from pathlib import Path

from whole.scene import (
    engine,
    kinds,
    nothing_left,
    one_history,
    replay,
    silence,
    successor,
    tapped,
    voice,
)
from whole.tap import Tap

from daemons import Farm, until


def is_lost(farm: Farm, name: str) -> bool:
    return any(node["node"] == name and node["state"] == "lost" for node in farm.nodes())


def test_p5_a_cancel_of_a_job_on_a_lost_node_names_the_node_and_ends_when_that_is_back(tmp_path: Path) -> None:
    with Farm(tmp_path) as farm, Tap() as tap:
        farm.start_master()
        farm.start_agent("a", "--allow-run")
        job = tapped(farm, tap, "out")
        farm.wait(job, "running")
        going = engine(farm, job)
        silence(farm, "a")
        until("the node to be lost", lambda: is_lost(farm, "a"))
        answer = farm.ask("jobs", "cancel", str(job))
        assert answer["nodes"] == ["a"]
        assert "nodes remove" in answer["hint"]
        assert farm.state(job) == "canceling"
        assert going.is_running()
        voice(farm, "a")
        farm.wait(job, "canceled")
        assert not going.is_running(), "canceled means that there is no process"
        nothing_left(farm)
        assert not (farm.media / "out.mp4").exists()
        one_history(farm, job)
        replay(farm)


def test_p8_a_job_that_was_running_on_three_nodes_that_stay_lost_is_failed(tmp_path: Path) -> None:
    with Farm(tmp_path, doubt_patience="2s") as farm, Tap(0.3, 0.3, 0.3) as tap:
        farm.start_master()
        job = 0
        for number, name in enumerate(("a", "b", "c"), 1):
            farm.start_agent(name, "--allow-run")
            job = job or tapped(farm, tap, "out")
            assert successor(farm, job, number)["node"] == name
            farm.kill_host(name)
        failed = farm.wait(job, "failed")
        assert failed["failure"]["reason"] == "platform_error"
        assert "3 nodes" in failed["failure"]["line"]
        assert "poison" in kinds(farm, job)
        one_history(farm, job)
        farm.start_agent("d", "--allow-run")
        farm.start_agent("a", "--allow-run")
        until("what was left on a to be cleared", lambda: not list((tmp_path / "agent-a" / "attempts").iterdir()))
        assert farm.state(job) == "failed"
        assert farm.job(job)["attempt"] == 3
        replay(farm)
