"""What `make` installs: only what is missing, and nothing at all where everything is there."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

HERE = Path(__file__).resolve().parent.parent.parent


def need(tmp_path: Path, works: str, *pairs: str) -> tuple[subprocess.CompletedProcess[str], list[str]]:
    """Runs tools/need.sh with an apt-get of our own that notes its arguments; `works` is its last command."""
    for name in ("apt-get", "sudo"):
        program = tmp_path / name
        note = f'echo "$*" >> {tmp_path}/called\necho noise\n{works}\n'
        program.write_text("#!/bin/sh\n" + (note if name == "apt-get" else 'exec "$@"\n'))
        program.chmod(0o755)
    environ = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run(
        [HERE / "tools" / "need.sh", *pairs], env=environ, capture_output=True, text=True, check=False, timeout=60
    )
    called = tmp_path / "called"
    return done, called.read_text().splitlines() if called.exists() else []


def test_what_is_there_is_not_installed_and_apt_is_not_touched(tmp_path: Path):
    done, called = need(tmp_path, "true", "sh=dash", "python:json=python3-json")
    assert (done.returncode, done.stdout, called) == (0, "", [])


def test_only_what_is_missing_is_installed_and_each_package_once(tmp_path: Path):
    done, called = need(tmp_path, "true", "sh=dash", "no-such-a=pack", "no-such-b=pack", "python:no_such_module=other")
    assert done.returncode == 0
    assert done.stdout == "installing pack other\n"
    assert called == ["install -y -qq --no-install-recommends pack other"]


def test_the_lists_are_fetched_only_when_the_package_is_not_found_in_them(tmp_path: Path):
    works = f'case "$1" in update) touch {tmp_path}/fresh ;; *) test -e {tmp_path}/fresh ;; esac'
    done, called = need(tmp_path, works, "no-such-a=pack")
    assert done.returncode == 0
    assert [words.split()[0] for words in called] == ["install", "update", "install"]


def test_what_cannot_be_installed_is_said_with_apt_s_own_words(tmp_path: Path):
    done, _ = need(tmp_path, "echo no network >&2; false", "no-such-a=pack")
    assert done.returncode == 1
    assert "no network" in done.stderr
    assert "could not install pack" in done.stderr
