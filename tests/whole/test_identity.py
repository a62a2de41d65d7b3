"""No duplicate nodes (P9): an address has one node, a key has one agent, and a restart is neither."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from whole.scene import engine, engines, kinds, nothing_left, one_history, replay, short, tapped, whole
from whole.tap import Tap

from daemons import Daemon, Farm, until

REFUSED = 4


@pytest.fixture
def tap() -> Iterator[Tap]:
    """Where jobs get their film."""
    with Tap() as tap:
        yield tap


@pytest.fixture
def farm(tmp_path: Path) -> Iterator[Farm]:
    """A master and an agent `a`."""
    with Farm(tmp_path) as farm:
        farm.start_master()
        farm.start_agent("a", "--allow-run")
        yield farm


def _refused(daemon: Daemon) -> str:
    """Wait until an agent gives up; what it said."""
    until("the agent to be refused", lambda: not daemon.alive)
    said = daemon.tail()
    assert daemon.process.returncode == REFUSED, said
    assert "409" in said
    assert "hint: " in said
    return said


def _undisturbed(farm: Farm, job: int, tap: Tap) -> None:
    """The node that was there goes on with its job."""
    tap.open_all()
    assert [node["state"] for node in farm.nodes() if node["node"] == "a"] == ["ready"]
    assert farm.wait(job, "completed")["attempt"] == 1
    assert kinds(farm, job).count("running") == 1
    one_history(farm, job)


def test_p9_a_second_agent_with_the_address_of_the_first_gets_409_and_is_told_what_to_do(farm: Farm, tap: Tap) -> None:
    job = tapped(farm, tap, "out")
    farm.wait(job, "running")
    said = _refused(farm.start_agent("b", address="127.0.0.2", wait=False))
    assert "127.0.0.2 belongs to node a" in said
    assert "ffrtmpctl nodes remove a" in said
    _undisturbed(farm, job, tap)


def test_p9_a_copied_agent_key_gets_409_while_the_first_agent_lives(farm: Farm, tap: Tap, tmp_path: Path) -> None:
    job = tapped(farm, tap, "out")
    farm.wait(job, "running")
    copy = tmp_path / "agent-copy"
    shutil.copytree(tmp_path / "agent-a", copy, ignore=shutil.ignore_patterns("lock", "attempts"))
    daemon = _start_copy(farm, copy)
    assert "is alive with this same key" in _refused(daemon)
    _undisturbed(farm, job, tap)


def _start_copy(farm: Farm, state: Path) -> Daemon:
    """The copy calls itself `a` as the first does; its log is its own."""
    first = farm.agents["a"]
    copy = farm.start_agent("a", address="127.0.0.9", state=state, wait=False)
    farm.agents["copy of a"], farm.agents["a"] = copy, first
    return copy


def test_p9_a_node_from_an_old_snapshot_is_let_in_when_an_operator_says_so(farm: Farm, tmp_path: Path) -> None:
    old = tmp_path / "agent-old"
    shutil.copytree(tmp_path / "agent-a", old, ignore=shutil.ignore_patterns("lock"))
    for _ in range(2):  # so that the first one's start counter is beyond the snapshot's, which counts one more too
        farm.agents["a"].stop()
        farm.start_agent("a")
    farm.agents["a"].stop()
    farm.agents.pop("a")
    assert "ffrtmpctl nodes accept a" in _refused(farm.start_agent("a", state=old, wait=False))
    farm.ctl("nodes", "accept", "a", check=True)
    farm.start_agent("a", state=old)
    farm.wait(short(farm, "out"), "completed")


@pytest.mark.parametrize("how", ["stop", "kill"])
def test_p11_a_restarted_agent_is_no_duplicate_and_finds_its_jobs(farm: Farm, tap: Tap, how: str) -> None:
    job = tapped(farm, tap, "out")
    farm.wait(job, "running")
    going = engine(farm, job)
    if how == "stop":
        assert farm.agents["a"].stop() == 0
    else:
        farm.agents["a"].kill()
    farm.start_agent("a", "--allow-run")
    assert going.is_running()
    assert [one.pid for one in engines(farm, job)] == [going.pid], "the very engine that was there goes on"
    _undisturbed(farm, job, tap)
    whole(farm, "out")
    nothing_left(farm)
    replay(farm)


def test_p9_two_agents_cannot_use_one_state_folder(farm: Farm) -> None:
    second = _start_copy(farm, farm.folder / "agent-a")
    until("it to end", lambda: not second.alive)
    assert second.process.returncode == REFUSED
    assert "another agent uses the state folder" in second.tail()
    assert farm.agents["a"].alive
