"""Short jobs over four agents that are killed at random: each is completed and published once (P1 to P4)."""

from __future__ import annotations

from pathlib import Path

from whole.many import many


def test_p1_jobs_on_agents_that_are_killed_at_random_are_each_published_once(tmp_path: Path) -> None:
    print(many(tmp_path, 12, seed=1, deadline_s=60, pause_s=2.0).line())
