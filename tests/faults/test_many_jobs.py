"""The long forms of tests/whole: many jobs over four agents that are killed at random, and a master that is away for long.

FAULTS=full runs 1,000 jobs and a minute of absence; a sample 100 and some seconds. FAULTS_SEED repeats a run: who is killed
when is chosen by it, while what each kill meets is the machine's.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from whole.many import many
from whole.test_away import master_is_away


@pytest.mark.timeout(5400)
def test_p1_many_jobs_on_agents_that_are_killed_at_random_are_each_published_once(
    tmp_path: Path, full: bool, seed: int
) -> None:
    jobs = 1000 if full else 100
    run = many(tmp_path, jobs, seed, deadline_s=jobs * 5.0)
    print(run.line())


@pytest.mark.timeout(300)
def test_p1_results_arrive_after_a_master_was_away_for_long(tmp_path: Path, full: bool) -> None:
    master_is_away(tmp_path, 60.0 if full else 15.0)
