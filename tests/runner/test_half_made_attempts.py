"""An agent that dies, or a disk that fails, while an attempt is being made leaves nothing that nobody knows of."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import pytest

from ffrtmp import wire
from ffrtmp.config_agent import MediaRoot
from ffrtmp.host.disk import DiskGuard
from ffrtmp.spec import JobSpec, MediaPath, Pattern, Recipe, Source, Video
from ffrtmp_agent.attempt import AttemptDir
from ffrtmp_agent.staging import Place
from ffrtmp_agent.workshop import Refusal, Workshop


@pytest.fixture
def workshop(tmp_path: Path) -> Workshop:
    (tmp_path / "attempts").mkdir()
    (tmp_path / "root" / ".ffrtmp").mkdir(parents=True)
    roots = {"id": MediaRoot(tmp_path / "root")}
    return Workshop(tmp_path / "attempts", roots, DiskGuard(0, 0), frozenset(), allow_run=False, confined=True)


def _assign() -> wire.Assign:
    spec = JobSpec(
        Recipe("test", video=Video()), Source(pattern=Pattern()), output=MediaPath("media", "id", "a/out.mp4")
    )
    return wire.Assign(1, "lineage", 1, str(uuid4()), 1, 1, "default", "medium", spec)


def _dies(work: Callable[[], object]) -> None:
    """Do it in a process that a fault in there is the end of."""
    pid = os.fork()
    if pid == 0:
        try:
            work()
        finally:
            os._exit(0)
    os.waitpid(pid, 0)


def _in_root(workshop: Workshop) -> list[str]:
    return sorted(path.name for path in (workshop.roots["id"].path / ".ffrtmp").iterdir())


@pytest.mark.parametrize("step", ["before_staging", "after_staging"])
def test_p5_an_agent_that_died_while_it_made_an_attempt_leaves_no_staging_folder(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch, step: str
):
    rename = Path.rename

    def dying(path: Path, target: Path) -> Path:
        last = target.name == "1.1" if step == "after_staging" else target.name == "job.json"
        if last:
            os._exit(9)
        return rename(path, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", dying)
        _dies(lambda: workshop.make(_assign(), wire.Timing()))
    assert _in_root(workshop) == (["1.1"] if step == "after_staging" else [])
    workshop.sweep()
    assert _in_root(workshop) == []
    assert AttemptDir.scan(workshop.folder) == []
    assert list(workshop.folder.iterdir()) == []


def test_p5_a_disk_that_does_not_take_an_attempt_keeps_no_staging_folder(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
):
    rename = Path.rename

    def failing(path: Path, target: Path) -> Path:
        if target.name == "1.1":
            raise OSError(28, "No space left on device")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", failing)
    with pytest.raises(Refusal, match="No space left"):
        workshop.make(_assign(), wire.Timing())
    assert _in_root(workshop) == []
    assert list(workshop.folder.iterdir()) == []


def test_p11_an_attempt_that_is_there_keeps_its_staging_folder_when_its_number_comes_again(workshop: Workshop):
    workshop.make(_assign(), wire.Timing())
    (workshop.roots["id"].path / ".ffrtmp" / "1.1" / "out.mp4").write_text("half an output")
    with pytest.raises(Refusal, match="there already"):
        workshop.make(_assign(), wire.Timing())
    workshop.sweep()
    assert _in_root(workshop) == ["1.1"]
    assert (workshop.roots["id"].path / ".ffrtmp" / "1.1" / "out.mp4").exists()


def test_p11_an_attempt_that_a_dead_agent_never_began_is_no_failure_of_the_job(workshop: Workshop):
    attempt = workshop.make(_assign(), wire.Timing())
    assert workshop.judge(attempt, found=True).how == "node_lost"
    assert workshop.judge(attempt).how == "failed"  # its start was tried, and came to nothing
    (attempt.path / "guard.err").write_text("launch: no such kernel feature\n")
    assert workshop.judge(attempt, found=True).how == "failed"
    assert _in_root(workshop) == []


def test_p5_an_agent_that_died_while_it_settled_anothers_grant_leaves_no_folder(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
):
    assign = _assign()
    workshop.make(assign, wire.Timing())
    with monkeypatch.context() as patch:
        patch.setattr(Place, "look", lambda _place: os._exit(9))
        _dies(lambda: workshop.look(wire.Settle(1, assign.uuid, 1, 1, assign.spec)))
    assert _in_root(workshop) == [".settled-1.1"]
    workshop.sweep()
    assert _in_root(workshop) == []
