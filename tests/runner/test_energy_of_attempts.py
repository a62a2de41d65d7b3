"""Energy, where the host's counters can be read: shares of those that run."""

from __future__ import annotations

from pathlib import Path

from ffrtmp_agent.attempt import AttemptDir
from ffrtmp_agent.watching import Watching


def counter(root: Path, joules: float) -> None:
    """What a processor package has used so far, as the kernel tells it."""
    folder = root / "sys/class/powercap/intel-rapl:0"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "energy_uj").write_text(f"{int(joules * 1e6)}\n")
    (folder / "max_energy_range_uj").write_text("262143328850\n")


def test_two_jobs_share_the_energy_of_the_time_that_both_run(tmp_path: Path) -> None:
    counter(tmp_path, 1000.0)
    watching = Watching(tmp_path)
    first, second = AttemptDir(tmp_path / "1.1"), AttemptDir(tmp_path / "2.1")
    watching.began(first)
    counter(tmp_path, 1010.0)
    watching.share_energy([first])
    watching.began(second)
    counter(tmp_path, 1030.0)
    watching.share_energy([first, second])
    assert (watching.energy_j(first), watching.energy_j(second)) == (20.0, 10.0)
    watching.forget(first)
    counter(tmp_path, 1031.0)
    watching.share_energy([second])
    assert (watching.energy_j(first), watching.energy_j(second)) == (None, 11.0)


def test_without_counters_or_for_a_job_of_an_earlier_agent_no_figure_is_made_up(tmp_path: Path) -> None:
    blind = Watching(tmp_path / "nothing")
    attempt = AttemptDir(tmp_path / "1.1")
    blind.began(attempt)
    blind.share_energy([attempt])
    assert blind.energy_j(attempt) is None
    counter(tmp_path, 5.0)
    watching = Watching(tmp_path)
    counter(tmp_path, 9.0)
    watching.share_energy([attempt])
    assert watching.energy_j(attempt) is None
