"""Agents and master in one simulated world whose line loses, doubles and delays, and where everybody dies now and then.

Real sessions, switchboard, rules, turns and store; see world.py. `host.py` and `world.py` watch each rename: it is the job's
first, by the attempt whose grant is on the master's disk. When the weather is good again everything ends.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from session.line import Weather
from session.world import World, world

JOBS = 12
STORM_S, CALM_S = 60.0, 300.0


def _storm(there: World, kinds: str) -> None:
    """A minute of trouble of these kinds, and then the time that it takes for everything to end."""
    chance = there.chance
    there.submit(JOBS)
    ends_s = there.line.now_s + STORM_S
    while there.line.now_s < ends_s:
        if "line" in kinds:
            bad = chance.choice((0.0, 0.1, 0.4, 1.0))
            there.line.weather = Weather(bad, chance.choice((0.0, 0.5)), chance.choice((0.01, 0.5, 3.0)))
        there.kill = 0.02 if "master" in kinds else 0.0
        there.refuse = 0.3 if "disk" in kinds and chance.random() < 0.5 else 0.0
        if there.store is None and chance.random() < 0.7:
            there.start()
        for host in there.hosts.values():
            if "agents" not in kinds:
                break
            if host.session is None:
                host.up()
            elif chance.random() < 0.2:
                host.down()
        there.run(chance.uniform(0.5, 8.0))
    _calm(there)


def _calm(there: World) -> None:
    there.line.weather = Weather()
    there.kill = there.refuse = 0.0
    if there.store is None:
        there.start()
    for host in there.hosts.values():
        host.fails = 0.0
    ends_s = there.line.now_s + CALM_S
    while not there.settled:
        for host in there.hosts.values():
            if host.session is None:
                host.up()
        there.run(1.0)
        assert there.line.now_s < ends_s, _stuck(there)


def _stuck(there: World) -> str:
    rules = there.turns.farm.world
    lines = [
        f"{job.number}: {job.state} {rules.attempts_of(job.number)} {rules.grants.get(job.number)}"
        for job in rules.jobs.rows()
    ]
    lines += [
        f"{h.name}: {h.session and h.session.attempts} {list(h.outbox)} {list(h.dirs)}" for h in there.hosts.values()
    ]
    return "\n".join(["this never ends:", *lines])


def _end(there: World) -> None:
    """Each job has its output, published once; nobody was refused; the history gives the state (P10)."""
    rows = [there.reader.job(number) for number in range(1, JOBS + 1)]
    assert [row and row.state.value for row in rows] == ["completed"] * JOBS
    assert len(there.media.outputs) == len(there.published) == JOBS
    assert not there.media.staging
    assert not [host.refused for host in there.hosts.values() if host.refused]
    assert there.store is not None
    assert there.store.verify_history() == []


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("kinds", ["", "line", "agents", "master", "disk", "line agents master disk"])
def test_p1_p2_jobs_end_once_whatever_the_line_and_the_daemons_do(tmp_path: Path, kinds: str, seed: int) -> None:
    with world(tmp_path, seed) as there:
        _storm(there, kinds)
        _end(there)
