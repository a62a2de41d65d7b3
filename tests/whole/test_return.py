"""A lost node's attempt comes back: while its successor encodes, publishes, or is done (P2, P4, P8)."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from whole.scene import (
    CLIP_S,
    decodes,
    engine,
    engines,
    kinds,
    lay_clip,
    nothing_left,
    one_history,
    other,
    out_time_s,
    paced,
    replay,
    silence,
    successor,
    voice,
)

from daemons import Farm, strace, until


@contextmanager
def two_agents(folder: Path, *, slow_rename_s: float = 0.0) -> Iterator[Farm]:
    """A farm of two agents; with `slow_rename_s` both take so long over the rename that publishes an output."""
    with Farm(folder) as farm:
        lay_clip(farm)
        farm.start_master()
        for name in ("a", "b"):
            rule = f"renameat2:delay_enter={int(slow_rename_s * 1e6)}"
            farm.start_agent(name, "--allow-run", under=strace(folder / f"{name}.trace", rule) if slow_rename_s else ())
        yield farm


def _whole(farm: Farm, output: str) -> None:
    assert abs(decodes(farm.media / output) - CLIP_S) < 0.5


def test_p4_the_attempt_of_a_lost_node_comes_back_further_and_its_successor_is_given_up(tmp_path: Path) -> None:
    with two_agents(tmp_path) as farm:
        job = paced(farm, "out.mp4")
        first = farm.wait(job, "running")["node"]
        silence(farm, first)
        assert successor(farm, job)["node"] == other(farm, first)
        until("both engines to run: a lost node's goes on", lambda: len(engines(farm, job)) == 2)
        voice(farm, first)
        until("attempt 1 to be taken back", lambda: "returned" in kinds(farm, job))
        until("the successor's engine to end", lambda: len(engines(farm, job)) == 1)
        assert farm.wait(job, "completed")["node"] == first
        rows = one_history(farm, job)
        assert rows[-1]["attempt"] == 1
        assert kinds(farm, job).count("granted") == 1
        _whole(farm, "out.mp4")
        nothing_left(farm)
        replay(farm)


def test_p4_the_attempt_of_a_lost_node_comes_back_behind_and_is_given_up(tmp_path: Path) -> None:
    with two_agents(tmp_path) as farm:
        job = paced(farm, "out.mp4")
        first = farm.wait(job, "running")["node"]
        slow = engine(farm, job)
        silence(farm, first)
        slow.suspend()
        successor(farm, job)
        until("the successor to be further", lambda: out_time_s(farm, job) > 3.0)
        slow.resume()
        voice(farm, first)
        until("attempt 1 to be given up", lambda: "given_up" in kinds(farm, job))
        until("its engine to end", lambda: not slow.is_running())
        assert farm.wait(job, "completed")["node"] == other(farm, first)
        assert one_history(farm, job)[-1]["attempt"] == 2
        _whole(farm, "out.mp4")
        nothing_left(farm)
        replay(farm)


def test_p2_the_attempt_of_a_lost_node_comes_back_while_its_successor_publishes(tmp_path: Path) -> None:
    with two_agents(tmp_path, slow_rename_s=1.5) as farm:
        job = paced(farm, "out.mp4")
        first = farm.wait(job, "running")["node"]
        slow = engine(farm, job)
        silence(farm, first)
        slow.suspend()
        until("the successor to hold the grant", lambda: "granted" in kinds(farm, job))
        assert farm.state(job) == "running"
        slow.resume()
        voice(farm, first)
        assert farm.wait(job, "completed")["node"] == other(farm, first)
        assert one_history(farm, job)[-1]["attempt"] == 2
        assert kinds(farm, job).count("granted") == 1
        _whole(farm, "out.mp4")
        nothing_left(farm)
        replay(farm)


def test_p4_the_attempt_of_a_lost_node_comes_back_when_its_successor_is_done(tmp_path: Path) -> None:
    with two_agents(tmp_path) as farm:
        job = paced(farm, "out.mp4")
        first = farm.wait(job, "running")["node"]
        slow = engine(farm, job)
        silence(farm, first)
        slow.suspend()
        farm.wait(job, "completed")
        made = (farm.media / "out.mp4").stat()
        slow.resume()
        voice(farm, first)
        nothing_left(farm)
        now = (farm.media / "out.mp4").stat()
        assert (now.st_ino, now.st_mtime_ns) == (made.st_ino, made.st_mtime_ns), "the output was touched again"
        rows = one_history(farm, job)
        assert rows[-1]["after"] == "completed"
        assert farm.job(job)["attempt"] == 2
        _whole(farm, "out.mp4")
        replay(farm)


def test_p4_a_finished_attempt_of_a_lost_node_publishes_nothing_when_its_successor_is_done(tmp_path: Path) -> None:
    with two_agents(tmp_path) as farm:
        job = paced(farm, "out.mp4")
        first = farm.wait(job, "running")["node"]
        silence(farm, first)
        farm.wait(job, "completed")
        made = (farm.media / "out.mp4").stat()
        until("attempt 1 to have ended too", lambda: not farm.job_processes())
        voice(farm, first)
        nothing_left(farm)
        now = (farm.media / "out.mp4").stat()
        assert (now.st_ino, now.st_mtime_ns) == (made.st_ino, made.st_mtime_ns), "the output was touched again"
        assert one_history(farm, job)[-1]["attempt"] == 2
        replay(farm)


def test_p11_a_node_that_was_lost_and_alone_goes_on_with_its_attempt(tmp_path: Path) -> None:
    with Farm(tmp_path) as farm:
        lay_clip(farm)
        farm.start_master()
        farm.start_agent("a", "--allow-run")
        job = paced(farm, "out.mp4")
        farm.wait(job, "running")
        going = engine(farm, job)
        silence(farm, "a")
        until("the node to be lost", lambda: farm.nodes()[0]["state"] == "lost")
        assert farm.state(job) == "queued"
        farm.agents["a"].signal(signal.SIGCONT)
        assert farm.wait(job, "running")["attempt"] == 1
        assert going.is_running()
        assert farm.wait(job, "completed")["attempt"] == 1
        one_history(farm, job)
        nothing_left(farm)
        replay(farm)
