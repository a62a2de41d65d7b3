"""The master's database is put back to an earlier backup, by the book and by hand (P1, P4, P11)."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
from whole.scene import (
    decodes,
    engine,
    engines,
    kinds,
    nothing_left,
    one_history,
    replay,
    short,
    tapped,
    whole,
)
from whole.tap import Tap

from daemons import BIN, Farm, until


@dataclass
class Story:
    """Jobs of before and after the backup, by what became of them until the restore."""

    farm: Farm
    tap: Tap
    backup: Path
    done: int  # known, and done
    runs: int  # known, and runs
    waits: int  # known, and waits for a node with a label
    new_runs: int  # unknown to the backup, and runs
    new_ends: int  # unknown to the backup, and ends while the master is stopped
    new_fails: int  # unknown to the backup, and its attempt fails while the master is stopped
    new_done: int  # unknown to the backup, and done
    engines: dict[int, psutil.Process]
    uuids: dict[int, str]


def _until_the_restore(farm: Farm, tap: Tap) -> Story:
    """Live through a backup and what comes after it; the master is stopped at the end."""
    farm.start_master()
    farm.start_agent("a", "--allow-run", slots=4)
    farm.start_agent("b", "--allow-run", slots=4)
    done, waits = short(farm, "done"), short(farm, "waits", "--label", "later")
    farm.wait(done, "completed")
    runs = tapped(farm, tap, "runs")
    farm.wait(runs, "running")
    backup = farm.folder / "master" / "backup.db"
    farm.ctl("db", "backup", str(backup), check=True)
    new_done = short(farm, "new-done")
    new_runs, new_ends, new_fails = (tapped(farm, tap, f"new-{name}") for name in ("runs", "ends", "fails"))
    for job in (new_runs, new_ends, new_fails):
        farm.wait(job, "running")
    farm.wait(new_done, "completed")
    uuids = {job: str(farm.job(job)["uuid"]) for job in (done, runs, waits, new_runs, new_ends, new_fails, new_done)}
    running = {job: engine(farm, job) for job in (runs, new_runs, new_ends, new_fails)}
    assert farm.master is not None
    farm.master.stop()
    tap.open("new-ends")
    running[new_fails].kill()
    until("two jobs to end while the master is away", lambda: not engines(farm, new_ends) + engines(farm, new_fails))
    until("the failure to wait in the outbox", lambda: list(farm.folder.glob("agent-*/outbox/*.ended")))
    return Story(farm, tap, backup, done, runs, waits, new_runs, new_ends, new_fails, new_done, running, uuids)


def _by_ffrtmpctl(story: Story) -> None:
    story.farm.ctl(
        "db", "restore", str(story.backup), "--db", str(story.farm.folder / "master" / "farm.db"), check=True
    )


def _by_the_master(story: Story) -> None:
    state = str(story.farm.folder / "master")
    asked = [str(BIN / "ffrtmp-master"), "--state-dir", state, "--restore", str(story.backup)]
    subprocess.run(asked, check=True, capture_output=True)


def _by_hand(story: Story) -> None:
    """Copy the files back, and tell nobody."""
    state = story.farm.folder / "master"
    for path in (*state.glob("farm.db-*"), *state.glob("farm.db.logs-*")):
        path.unlink()
    shutil.copyfile(story.backup, state / "farm.db")
    shutil.copyfile(f"{story.backup}.logs", state / "farm.db.logs")


def _by_hand_without_the_numbers(story: Story) -> None:
    """Copy the files back, and lose the file that knows which numbers are used: only the agents know better now."""
    _by_hand(story)
    (numbers,) = (story.farm.folder / "master").glob("*.numbers.json")
    numbers.unlink()


WAYS: dict[str, Callable[[Story], None]] = {
    "ffrtmpctl": _by_ffrtmpctl,
    "ffrtmp-master": _by_the_master,
    "hand": _by_hand,
    "hand, numbers lost": _by_hand_without_the_numbers,
}


def _find(farm: Farm, uuid: str) -> dict[str, Any]:
    """A job by its UUID; one that the backup did not know must be adopted first."""

    def there() -> dict[str, Any] | None:
        status, answer = farm.api("GET", f"/v1/jobs/{uuid}")
        return answer if status == 200 else None

    return dict(until(f"job {uuid} to be known", there))


def put_back(folder: Path, way: str) -> None:
    """Live through a backup, a future that is lost, and what follows the restore."""
    # A busy machine that makes a node lost for a moment would have its jobs start anew.
    with Farm(folder, lost_after="6s") as farm, Tap() as tap:
        story = _until_the_restore(farm, tap)
        WAYS[way](story)
        farm.start_master()
        _what_the_backup_knew(story)
        _what_it_did_not_know(story)
        _no_number_twice(story)
        nothing_left(farm)
        replay(farm)


@pytest.mark.timeout(300)
def test_p1_a_farm_goes_on_after_its_database_was_put_back_to_a_backup(tmp_path: Path) -> None:
    put_back(tmp_path, "ffrtmpctl")


def _what_the_backup_knew(story: Story) -> None:
    farm = story.farm
    assert farm.state(story.done) == "completed"
    assert farm.job(story.waits)["uuid"] == story.uuids[story.waits]
    assert farm.state(story.waits) == "queued"
    until("the job that ran to be taken back", lambda: farm.state(story.runs) == "running")
    assert story.engines[story.runs].is_running(), "it was adopted, not killed"
    story.tap.open("runs")
    farm.wait(story.runs, "completed")
    assert kinds(farm, story.runs).count("granted") == 1
    assert one_history(farm, story.runs)[-1]["attempt"] == 1
    whole(farm, "runs")


def _what_it_did_not_know(story: Story) -> None:
    farm = story.farm
    adopted = _find(farm, story.uuids[story.new_runs])
    assert adopted["spec"]["arguments"][-1] == "{output}", "with all that was asked"
    number = int(adopted["job"])
    assert story.engines[story.new_runs].is_running()
    story.tap.open("new-runs")
    farm.wait(number, "completed")
    assert "adopted" in kinds(farm, number)
    assert one_history(farm, number)[-1]["attempt"] == 1
    whole(farm, "new-runs")
    ended = int(_find(farm, story.uuids[story.new_ends])["job"])
    farm.wait(ended, "completed")
    assert one_history(farm, ended)[-1]["attempt"] == 1
    whole(farm, "new-ends")
    failed = int(_find(farm, story.uuids[story.new_fails])["job"])
    farm.wait(failed, "completed")
    (failure,) = [row["failure"]["line"] for row in farm.history(failed) if row["kind"] == "failed"]
    assert "vanished" not in failure, "what became of its attempt was taken"
    assert one_history(farm, failed)[-1]["attempt"] > 2, "numbers that may have been used are skipped"
    whole(farm, "new-fails")
    decodes(farm.media / "new-done.mp4")


def _no_number_twice(story: Story) -> None:
    farm = story.farm
    later = short(farm, "later")
    assert later > max(story.uuids), "its number was never used"
    farm.wait(later, "completed")
    farm.ctl("nodes", "label", "a", "later", check=True)
    assert farm.wait(story.waits, "completed")["attempt"] > 1, "numbers of attempts were skipped too"
    for name in ("later", "waits"):
        decodes(farm.media / f"{name}.mp4")
    for job, uuid in story.uuids.items():
        status, answer = farm.api("GET", f"/v1/jobs/{job}")
        assert status == 404 or answer["uuid"] == uuid, f"number {job} was given to another job"
