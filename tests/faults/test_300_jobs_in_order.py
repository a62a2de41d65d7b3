"""The start order of 300 jobs of mixed rank on one node with one slot: of 100 in a sample (and of 36 in tests/whole)."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from whole.pace import lay_clip, paced
from whole.ranked import completed, lay_speck, out_of_rank, shuffled, starts, submit

from daemons import Farm

COUNT = 300 if os.environ.get("FAULTS") == "full" else 100


@pytest.mark.timeout(1500)
@pytest.mark.parametrize("ageing", ["0", "10s"])
def test_p7_300_shuffled_jobs_start_in_exact_order(tmp_path: Path, ageing: str) -> None:
    with Farm(tmp_path) as farm:
        lay_speck(farm)
        lay_clip(farm, 2.0)
        farm.start_master("--ageing-interval", ageing)
        farm.start_agent("a", "--allow-run", slots=1)
        farm.wait(paced(farm, "keeper.mp4"), "running")
        numbers = submit(farm, shuffled(COUNT, seed=300), "out")
        completed(farm, numbers, 1200.0)
        found = starts(farm, numbers)
        assert len(found) == COUNT
        if ageing == "0":
            assert [start.job for start in found] == [s.job for s in sorted(found, key=lambda s: (s.level, s.job))]
        else:
            assert out_of_rank(found, float(ageing.removesuffix("s"))) == []
