"""A master that stands still for ten seconds, by a signal or by its disk, calls no node lost for it."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from chaos.nemesis import slow_syncs
from whole.scene import kinds, short

from daemons import Farm, until

STALL_S = 10.0
LOST_AFTER = "5s"  # of silence; an agent that hears nothing for as long says Hello over a new connection
AGENTS = ("a", "b")


@pytest.fixture(scope="module")
def farm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Farm]:
    """Two agents, which are lost after half as long as the master stands still."""
    with Farm(tmp_path_factory.mktemp("farm"), lost_after=LOST_AFTER) as farm:
        farm.start_master()
        for name in AGENTS:
            farm.start_agent(name)
        yield farm


def no_node_was_lost(farm: Farm) -> None:
    """All are in contact again, and the master has never said that one was lost."""
    until("all nodes to be ready", lambda: [node["state"] for node in farm.nodes()] == ["ready"] * len(AGENTS))
    assert farm.master is not None
    assert not farm.master.said(" is lost"), farm.master.tail()


def test_a_master_that_is_stopped_for_ten_seconds_calls_no_node_lost(farm: Farm) -> None:
    assert farm.master is not None
    farm.master.signal(signal.SIGSTOP)
    stopped_s = time.monotonic()
    until("the stall to be over", lambda: time.monotonic() - stopped_s >= STALL_S)
    farm.master.signal(signal.SIGCONT)
    job = short(farm, "after")
    farm.wait(job, "completed")
    no_node_was_lost(farm)
    assert kinds(farm, job).count("running") == 1


def test_a_master_whose_disk_takes_ten_seconds_for_a_sync_calls_no_node_lost(farm: Farm, tmp_path: Path) -> None:
    assert farm.master is not None
    with slow_syncs(farm.master.process.pid, STALL_S, tmp_path / "strace"):
        asked_s = time.monotonic()
        job = short(farm, "slow")  # is answered when it is on disk
        assert time.monotonic() - asked_s >= STALL_S * 0.9
    farm.wait(job, "completed")
    no_node_was_lost(farm)
    assert kinds(farm, job).count("running") == 1
