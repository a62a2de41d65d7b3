"""What the tests of the runner share. Everything in it is real: directories, processes, ffmpeg."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4, uuid5

from ffrtmp.spec import JobSpec, Limits, MediaPath, Pattern, Recipe, Source
from ffrtmp.wire import Timing
from ffrtmp_agent import joblog, processes
from ffrtmp_agent.attempt import AttemptDir, guard_section
from ffrtmp_agent.claims import Outcome
from ffrtmp_agent.jobfile import JobFile, Paths
from ffrtmp_agent.plain import PlainRunner

LONG_ENCODE = "exec ffmpeg -nostdin -hide_banner -nostats -progress pipe:1 -re -f lavfi -i testsrc2=s=64x64 -f null -"
DEADLINE_S = 20.0


def until(true: Callable[[], Any], what: str, deadline_s: float = DEADLINE_S) -> Any:
    """Wait until `true()` is, and return it; fails in words when it does not become so."""
    end = time.monotonic() + deadline_s
    while not (found := true()):
        assert time.monotonic() < end, f"not within {deadline_s} s: {what}"
        time.sleep(0.02)
    return found


def python(code: str) -> str:
    """A command line that runs a piece of Python."""
    quoted = code.replace("'", "'\\''")
    return f"exec {sys.executable} -I -S -c '{quoted}'"


class Yard:
    """One media root, one folder of attempts, one runner."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.root = base / "root"
        self.folder = base / "attempts"
        (self.root / ".ffrtmp").mkdir(parents=True)
        self.folder.mkdir()
        self.runner = PlainRunner()
        self.world = uuid4()

    def __enter__(self) -> Yard:
        return self

    def __exit__(self, *_: object) -> None:
        """Whatever a test did, no process of its attempts is left, and none waits to be reaped."""
        marks = [f"{self.uuid(one.job)}.{one.attempt}" for one in AttemptDir.scan(self.folder)]
        end = time.monotonic() + DEADLINE_S
        while time.monotonic() < end:
            left = marked(marks)
            for pid in left:
                with_luck(pid, signal.SIGKILL)
            if all(one.stage == "ended" for one in self.runner.poll()) and not left:
                break
            time.sleep(0.01)
        self.runner.close()

    def uuid(self, job: int) -> str:
        return str(uuid5(self.world, str(job)))

    def attempt(
        self,
        command: str,
        *,
        name: str = "1.1",
        live: bool = False,
        limits: Limits | None = None,
        timing: Timing | None = None,
        source: Source | None = None,
        input_path: str = "",
        lease_until_s: float | None = None,
        verify: list[str] | None = None,
        grow: list[str] | None = None,
        **guard: Any,
    ) -> AttemptDir:
        """Make an attempt directory and its staging folder; `guard` overrides what the guard is told."""
        job, number = (int(word) for word in name.split("."))
        staging = self.root / ".ffrtmp" / name
        staging.mkdir()
        section = guard_section(
            limits or Limits(),
            timing or Timing(),
            live=live,
            verify=verify or [],
            grow=grow or [],
            lease=lease_until_s is not None,
        )
        spec = JobSpec(Recipe("test"), source or Source(pattern=Pattern()), output=MediaPath("demo", "id", "out.mp4"))
        paths = Paths(input_path, str(staging), str(self.root / "out.mp4"), str(staging / "out.mp4"))
        made = JobFile(self.uuid(job), job, number, "default", "medium", spec, paths, section | guard)
        return AttemptDir.create(self.folder, made, command, lease_until_s=lease_until_s)

    def start(self, command: str, *, limits: Limits | None = None, **more: Any) -> AttemptDir:
        """Make an attempt and start it."""
        attempt = self.attempt(command, limits=limits, **more)
        self.runner.start(attempt, limits or Limits())
        return attempt

    def run(self, command: str, **more: Any) -> Outcome:
        """Run an attempt to its end."""
        attempt = self.start(command, **more)
        self.ended(attempt)
        outcome = attempt.outcome()
        assert outcome is not None, attempt.complaint()
        return outcome

    def stage(self, attempt: AttemptDir) -> str:
        return next((one.stage for one in self.runner.poll() if one.name == attempt.name), "unknown")

    def ended(self, attempt: AttemptDir, deadline_s: float = DEADLINE_S) -> None:
        until(lambda: self.stage(attempt) == "ended", f"{attempt.name} ends", deadline_s)

    def engine(self, attempt: AttemptDir) -> processes.Process:
        """The engine's process, once it is there."""

        def find() -> processes.Process | None:
            guard = attempt.guard_pid()
            table = processes.everyone().values()
            found = [one for one in table if guard and one.parent == guard.pid and not one.dead]
            return found[0] if found and name_of(found[0].pid) != "python" else None

        return until(find, "the engine is there")

    def processes(self, attempt: AttemptDir) -> list[int]:
        return marked([f"{self.uuid(attempt.job)}.{attempt.attempt}"])


def marked(marks: list[str]) -> list[int]:
    """The living processes of these attempts."""
    return [one.pid for one in processes.everyone().values() if not one.dead and processes.mark_of(one.pid) in marks]


def with_luck(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


def name_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def state_of(pid: int) -> str:
    found = processes.find(pid)
    return found.state if found else ""


def log(attempt: AttemptDir) -> bytes:
    return b"".join(data for _, data in joblog.chunks(attempt.path, 0, 1 << 30))
