"""A lost node's attempt comes back: while its successor encodes, publishes, or is done (P2, P4, P8)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from whole.scene import (
    engines,
    kinds,
    nothing_left,
    one_history,
    other,
    out_time_s,
    replay,
    silence,
    successor,
    tapped,
    untouched,
    voice,
    whole,
)
from whole.tap import Tap

from daemons import Farm, strace, until


@contextmanager
def two_agents(folder: Path, tap: Tap, *, slow_rename_s: float = 0.0) -> Iterator[tuple[Farm, int, str]]:
    """A farm of two agents, and a job that gets its first drops on one of them: the farm, the job, that one's name.

    With `slow_rename_s` both take so long over the rename that publishes an output.
    """
    with Farm(folder) as farm, tap:
        farm.start_master()
        for name in ("a", "b"):
            rule = f"renameat2:delay_enter={int(slow_rename_s * 1e6)}"
            farm.start_agent(name, "--allow-run", under=strace(folder / f"{name}.trace", rule) if slow_rename_s else ())
        job = tapped(farm, tap, "out")
        first = farm.wait(job, "running")["node"]
        until("the first pictures", lambda: out_time_s(farm, job) > 0)
        yield farm, job, first


def ended_by(farm: Farm, job: int, attempt: int) -> None:
    """One output by that attempt, one history, nothing left."""
    rows = one_history(farm, job)
    assert rows[-1]["attempt"] == attempt
    assert [row["kind"] for row in rows].count("granted") == 1
    whole(farm, "out")
    nothing_left(farm)
    replay(farm)


def test_p4_the_attempt_of_a_lost_node_comes_back_further_and_its_successor_is_given_up(tmp_path: Path) -> None:
    tap = Tap(0.6, 0.2)
    with two_agents(tmp_path, tap) as (farm, job, first):
        silence(farm, first)
        assert successor(farm, job)["node"] == other(farm, first)
        assert len(engines(farm, job)) == 2, "the lost node's engine goes on"
        voice(farm, first)
        until("attempt 1 to be taken back", lambda: "returned" in kinds(farm, job))
        until("the successor's engine to end", lambda: len(engines(farm, job)) == 1)
        tap.open("out", 1)
        assert farm.wait(job, "completed")["node"] == first
        ended_by(farm, job, 1)


def test_p2_the_attempt_of_a_lost_node_comes_back_while_its_successor_publishes(tmp_path: Path) -> None:
    tap = Tap(0.6, 0.2)
    with two_agents(tmp_path, tap, slow_rename_s=3.0) as (farm, job, first):
        silence(farm, first)
        successor(farm, job)
        tap.open("out", 2)
        until("the successor to hold the grant", lambda: "granted" in kinds(farm, job))
        assert farm.state(job) == "running"
        voice(farm, first)
        until("the first node to be heard", lambda: all(node["state"] == "ready" for node in farm.nodes()))
        assert farm.state(job) == "running", "the rename takes its time, and the one who came back changes nothing"
        assert farm.wait(job, "completed")["node"] == other(farm, first)
        ended_by(farm, job, 2)


def test_p4_the_attempt_of_a_lost_node_comes_back_when_its_successor_is_done(tmp_path: Path) -> None:
    tap = Tap(0.6, 0.2)
    with two_agents(tmp_path, tap) as (farm, job, first):
        silence(farm, first)
        successor(farm, job)
        tap.open("out", 2)
        farm.wait(job, "completed")
        made = (farm.media / "out.mp4").stat()
        assert len(engines(farm, job)) == 1
        voice(farm, first)
        nothing_left(farm)
        untouched(farm.media / "out.mp4", made)
        ended_by(farm, job, 2)
