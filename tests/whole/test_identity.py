"""Who may take a node's place (P9); that a living node's place is its own is shown in test_features_nodes.py."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from whole.scene import short

from daemons import Farm, until

REFUSED = 4


@pytest.fixture
def farm(tmp_path: Path) -> Iterator[Farm]:
    """A master and an agent `a`."""
    with Farm(tmp_path) as farm:
        farm.start_master()
        farm.start_agent("a")
        yield farm


def test_p9_a_node_from_an_old_snapshot_is_let_in_when_an_operator_says_so(farm: Farm, tmp_path: Path) -> None:
    old = tmp_path / "agent-old"
    shutil.copytree(tmp_path / "agent-a", old, ignore=shutil.ignore_patterns("lock", ".*"))
    for _ in range(2):  # so that the first one's start counter is beyond the snapshot's, which counts one more too
        farm.agents["a"].stop()
        farm.start_agent("a")
    farm.agents["a"].stop()
    farm.agents.pop("a")
    refused = farm.start_agent("a", state=old, wait=False)
    until("the snapshot to be refused", lambda: not refused.alive)
    assert refused.process.returncode == REFUSED
    assert "409" in refused.tail()
    assert "ffrtmpctl nodes accept a" in refused.tail()
    farm.ctl("nodes", "accept", "a", check=True)
    farm.start_agent("a", state=old)
    farm.wait(short(farm, "out"), "completed")


def test_p9_an_address_is_free_when_its_node_is_gone(farm: Farm) -> None:
    farm.agents["a"].kill()
    farm.start_agent("b", address="127.0.0.2")
    states = {node["node"]: node["state"] for node in farm.nodes()}
    assert states == {"a": "lost", "b": "ready"}
    farm.wait(short(farm, "out"), "completed")
