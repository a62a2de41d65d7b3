"""The master is away while jobs end: what became of them arrives when it is back, and nothing runs twice (P1, P11)."""

from __future__ import annotations

import time
from pathlib import Path

from whole.scene import engine, engines, kinds, nothing_left, one_history, replay, tapped, whole
from whole.tap import Tap

from daemons import Farm, until

AWAY_S = 8.0


def master_is_away(folder: Path, away_s: float) -> None:
    """Stop the master while three jobs run: one ends well, one badly, one goes on; start it after `away_s` seconds."""
    with Farm(folder) as farm, Tap() as tap:
        farm.start_master()
        farm.start_agent("a", "--allow-run", slots=3)
        ends_well, ends_badly, goes_on = (tapped(farm, tap, name) for name in ("well", "badly", "on"))
        running = {job: engine(farm, job) for job in (ends_well, ends_badly, goes_on)}
        assert farm.master is not None
        farm.master.stop()
        gone_s = time.monotonic()
        running[ends_badly].kill()
        tap.open("well")
        until("two jobs to end", lambda: not engines(farm, ends_well) and not engines(farm, ends_badly))
        until("the master to have been away", lambda: time.monotonic() - gone_s >= away_s, away_s + 30)
        assert not (farm.media / "well.mp4").exists(), "nobody publishes without a grant"
        farm.start_master()
        assert farm.wait(ends_well, "completed")["attempt"] == 1
        assert running[goes_on].is_running()
        tap.open_all()
        assert farm.wait(goes_on, "completed")["attempt"] == 1
        for job in (ends_well, goes_on):
            assert kinds(farm, job).count("running") == kinds(farm, job).count("granted") == 1, "nothing ran twice"
        assert farm.wait(ends_badly, "completed")["attempt"] == 2
        assert kinds(farm, ends_badly).count("failed") == 1, "its end arrived, once"
        for name in ("well", "badly", "on"):
            whole(farm, name)
        for job in running:
            one_history(farm, job)
        nothing_left(farm)
        replay(farm)


def test_p1_results_of_jobs_that_end_while_the_master_is_away_arrive_when_it_is_back(tmp_path: Path) -> None:
    master_is_away(tmp_path, AWAY_S)
