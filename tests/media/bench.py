"""An attempt without daemons: makes the command, runs it for real and verifies what it staged, as a runner would."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from ffrtmp import scenario
from ffrtmp.spec import JobSpec, MediaPath, Pattern, Recipe, Source
from ffrtmp.wire import Failure
from ffrtmp_agent import jobfile
from ffrtmp_agent.attempt import AttemptDir
from ffrtmp_agent.claims import Verdict
from ffrtmp_agent.jobfile import JobFile, Paths
from ffrtmp_agent.media import commands
from ffrtmp_agent.media.probe import Media, probe
from ffrtmp_agent.media.reasons import End, classify
from ffrtmp_agent.media.verify import judge

RECIPES = scenario.load([scenario.PACKAGED])


def recipe(name: str, **parts: dict[str, Any]) -> Recipe:
    """A packaged scenario, quicker to encode, with fields of its tables replaced: recipe("batch", video={"crf": 30})."""
    found = scenario.find(RECIPES, name)
    for part, changes in parts.items():
        found = msgspec.structs.replace(found, **{part: msgspec.structs.replace(getattr(found, part), **changes)})
    return found


def spec_of(asked: Recipe, source: Path | str | Pattern, **more: Any) -> JobSpec:
    """A job with this source: a file, a URL or a pattern."""
    if isinstance(source, Pattern):
        origin = Source(pattern=source)
    elif isinstance(source, Path):
        origin = Source(path=MediaPath("media", "id", source.name))
    else:
        origin = Source(url=source)
    return JobSpec(recipe=asked, source=origin, **more)


@dataclass(frozen=True)
class Attempt:
    """An attempt directory and a staging folder below `folder`."""

    folder: Path
    spec: JobSpec
    paths: Paths

    @property
    def staged(self) -> Path:
        """The output, where it is staged."""
        return Path(self.paths.staged)

    def run(self, **limits: Any) -> subprocess.CompletedProcess[bytes]:
        """Run the `command` file as the guard does; `limits` go to subprocess.run."""
        self.folder.joinpath("command").write_text(commands.command_file(self.spec, self.paths))
        with (self.folder / "progress").open("wb") as progress, (self.folder / "log").open("wb") as log:
            return subprocess.run(
                ["/bin/sh", "command"],
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=progress,
                stderr=log,
                timeout=60,
                check=False,
                **limits,
            )

    def verdict(self) -> Verdict:
        """What the verification finds, without a process of its own."""
        return judge(self.folder, Path(self.paths.staging))

    def verify(self) -> Verdict:
        """Run the verification as the guard does, and read what it left."""
        argv = [sys.executable, "-m", "ffrtmp_agent.media.verify", str(self.folder), self.paths.staging]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
        verdict = AttemptDir(self.folder).verdict()
        assert verdict is not None
        return verdict

    def output(self) -> Media:
        """What was staged."""
        return probe(self.paths.staged)

    def failure(self, done: subprocess.CompletedProcess[bytes]) -> Failure:
        """Why the engine failed, as the agent tells it."""
        code = done.returncode
        end = End(signal=-code) if code < 0 else End(status=code)
        return classify(end, (self.folder / "log").read_text(errors="replace"), staged=self.paths.staged)


def attempt(folder: Path, spec: JobSpec, source: Path | str | Pattern, name: str = "") -> Attempt:
    """Make the folders of an attempt at `spec` below `folder`."""
    ending = scenario.extension(spec.recipe)
    name = name or (f"out.{ending}" if ending else "pictures")
    staging = folder / "root" / ".ffrtmp" / "1.1"
    staging.mkdir(parents=True)
    directory = folder / "1.1"
    directory.mkdir()
    origin = "" if isinstance(source, Pattern) else str(source)
    paths = Paths(origin, str(staging), str(folder / "root" / name), str(staging / name))
    uuid = "00000000-0000-4000-8000-000000000001"
    jobfile.write(directory / "job.json", JobFile(uuid, 1, 1, "default", "medium", spec, paths))
    return Attempt(directory, spec, paths)


def encoded(folder: Path, asked: Recipe, source: Path | Pattern) -> Attempt:
    """An attempt whose engine ended well."""
    made = attempt(folder, spec_of(asked, source), source)
    done = made.run()
    assert done.returncode == 0, (made.folder / "log").read_text(errors="replace")
    return made
