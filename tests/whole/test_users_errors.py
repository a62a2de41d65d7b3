"""What people are told when something is wrong: one line, a hint, and an exit code, from a whole farm."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from daemons import Farm

DONE, FAILED, USAGE, NOT_FOUND, REFUSED, NO_MASTER = range(6)


@pytest.fixture(scope="module")
def farm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Farm]:
    """One agent that takes no plain arguments."""
    with Farm(tmp_path_factory.mktemp("farm")) as farm:
        (farm.media / "text.mp4").write_text("no film")
        farm.start_master()
        farm.start_agent("a")
        yield farm


def told(farm: Farm, code: int, *words: str) -> str:
    """Run a command that goes wrong: one line and a hint, and this exit code; what the two say."""
    run = farm.ctl(*words)
    assert run.returncode == code, (words, run)
    lines = run.stderr.splitlines()
    assert len(lines) == 2 and lines[0].startswith("ffrtmpctl: ") and lines[1].startswith("hint: "), run.stderr
    assert "Traceback" not in run.stderr
    traced = farm.ctl(*words, "--debug") if code != FAILED else None
    assert traced is None or "Traceback (most recent call last)" in traced.stderr
    return run.stderr


def test_each_kind_of_error_is_one_line_with_a_hint_and_has_its_exit_code_and_debug_shows_the_trace(farm: Farm) -> None:
    submit = ("jobs", "submit", "--scenario", "480p30-h264", "--input")
    assert "input_error" in told(farm, FAILED, *submit, "media:text.mp4", "--output", "media:a.mp4", "--wait")
    assert "/etc" in told(farm, REFUSED, *submit, "/etc/hostname", "--output", "media:b.mp4")
    assert '".."' in told(farm, REFUSED, *submit, "media:../x.mp4", "--output", "media:b.mp4")
    assert ".mp4" in told(farm, REFUSED, *submit, "media:text.mp4", "--output", "media:b.webm")
    assert "same file" in told(farm, REFUSED, *submit, "media:text.mp4", "--output", "media:text.mp4")
    assert "did you mean" in told(farm, REFUSED, "jobs", "submit", "--scenario", "480p30-h246")
    assert "4711" in told(farm, NOT_FOUND, "jobs", "status", "4711")
    assert "nobody" in told(farm, NOT_FOUND, "nodes", "drain", "nobody")
    assert "queued" in told(farm, USAGE, "jobs", "list", "--state", "sleeping")
    assert "--priority" in told(farm, USAGE, "jobs", "list", "--priority", "highest")
    assert farm.ctl("jobs", "list").returncode == DONE


def test_an_absolute_path_that_is_not_there_is_told_before_anything_is_submitted(farm: Farm) -> None:
    words = ("jobs", "submit", "--scenario", "480p30-h264", "--output", "media:absent.mp4", "--input")
    before = farm.ctl("jobs", "list").stdout
    assert f"there is no file {farm.media}/absent.mov" in told(farm, NOT_FOUND, *words, f"{farm.media}/absent.mov")
    told(farm, NOT_FOUND, *words, f"{farm.media}/folder/absent.mov")
    identity = farm.media / ".ffrtmp" / "root-id"
    own = identity.read_text()
    try:
        identity.write_text("11111111-1111-4111-8111-111111111111\n")
        assert farm.ctl("jobs", "list").stdout == before, "nothing was submitted"
        other = farm.ctl(*words, f"{farm.media}/absent.mov", "--label", "nobody")
        assert other.returncode == DONE, "this host's folder is another storage: who knows what is in the node's"
    finally:
        identity.write_text(own)
    farm.ctl("jobs", "cancel", other.stdout.split()[1], check=True)


def test_plain_arguments_are_refused_where_no_node_takes_them_and_where_they_open_other_files(farm: Farm) -> None:
    run = ("jobs", "run", "--input", "media:text.mp4", "--output", "media:r.mkv")
    strict = farm.ctl(*run, "--strict", "--", "-i", "{input}", "{output}")
    assert strict.returncode == REFUSED and "rejected" in strict.stdout and "setting allow_run is off" in strict.stdout
    number = strict.stdout.split()[1]
    assert farm.ctl("jobs", "history", number).stdout.count("allow_run") == 1, "said once"
    waiting = str(farm.run("media:text.mp4", "media:r.mkv", "-i", "{input}", "{output}"))
    assert "the setting allow_run is off on all nodes" in farm.ctl("jobs", "why", waiting).stdout
    farm.ctl("jobs", "cancel", waiting, check=True)
    waits = farm.submit("--scenario", "probe", "--input", "media:text.mp4", "--output", "media:p.json")
    farm.wait(waits, "failed", "completed")
    for engine in (("-i", "{input}", "-i", "/etc/passwd"), ("-i", "{input}", "-vf", "movie=/etc/passwd")):
        refused = farm.ctl(*run, "--", *engine, "{output}")
        assert refused.returncode == REFUSED and "hint: " in refused.stderr, refused


def test_without_a_master_the_code_is_5(farm: Farm, tmp_path: Path) -> None:
    nobody = farm.ctl("--master", str(tmp_path / "nobody.sock"), "jobs", "list")
    assert nobody.returncode == NO_MASTER and len(nobody.stderr.splitlines()) == 2


def test_a_call_that_meets_a_master_between_two_lives_waits_for_the_next(farm: Farm) -> None:
    assert farm.master is not None
    farm.master.kill()
    with ThreadPoolExecutor(1) as user:
        asked = user.submit(farm.ctl, "jobs", "submit", "--scenario", "probe", "--input", "media:text.mp4", "--json")
        farm.start_master(wait=False)
        done = asked.result()
    assert done.returncode == 0, done.stderr
    farm.wait_for_master()
