"""A whole farm for one job: starts a master and an agent here, transcodes a video, shows the log and the result.

    tools/demo.py [--input FILE] [--output FILE] [--scenario NAME]

The last line is `demo: completed OUTPUT` with status 0, or `demo: failed: REASON` with another, and perhaps a hint below
it. Jobs outlive an agent by design, so the end, however it comes (Ctrl-C, SIGTERM, a failure half-way), is: cancel what
runs, stop both daemons, then look for whatever still works in the demo's folders and kill it by its pid.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import msgspec
import psutil

from ffrtmp.spec import Results
from ffrtmpctl.render import details
from ffrtmpctl.telling import results_of

HERE = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
READY_S = 120.0  # proving the encoders is what takes longest
CANCELED_S = 10.0
STOPPED_S = 10.0
LOG_LINES = 12
OF_OUTPUT = re.compile(r"^\[out#\S+ @ 0x[0-9a-f]+\] ")  # before the sums of ffmpeg 7
ASIDES = re.compile(r"\[\w+ @ 0x[0-9a-f]+\]| +(Metadata|Side data):| {4}")  # of codecs on themselves, and labels


class Failure(Exception):
    """The demo cannot go on: the reason in one line, `said`, lines that led to it, and what to do, shown below it."""

    def __init__(self, reason: str, *said: str, hint: str = "") -> None:
        super().__init__(reason)
        self.said = said
        self.hint = hint


class Interrupted(BaseException):
    """SIGINT, SIGTERM or SIGHUP; the argument is its number."""


class Farm:
    """A master, an agent and the folders they work in, for as long as the `with` block lasts."""

    def __init__(self, roots: dict[str, str]) -> None:
        """`roots` are the agent's media roots: name and `PATH[:ro]`."""
        self.folder = Path(tempfile.mkdtemp(prefix="ffrtmp-demo-"))
        self.roots = roots
        self.socket = self.folder / "master.sock"
        self.daemons: list[tuple[str, subprocess.Popen[bytes]]] = []
        folders = [Path(path.removesuffix(":ro")) for path in roots.values()]
        self.marks = [folder / ".ffrtmp" for folder in folders if not (folder / ".ffrtmp").exists()]

    def __enter__(self) -> Farm:
        return self

    def __exit__(self, *_: object) -> None:
        on_signals(signal.SIG_IGN)
        try:
            self._cancel_all()
            for _program, daemon in reversed(self.daemons):
                _stop(daemon)
        finally:
            kill_those_in([self.folder, *self.marks])
            for folder in (*self.marks, self.folder):
                shutil.rmtree(folder, ignore_errors=True)

    def start(self) -> None:
        """Start both daemons and wait for the node to be ready; raises Failure."""
        bare = self.folder / "empty.toml"
        bare.touch()  # a farm that is installed here lends the demo no settings
        common: list[str | Path] = ["--config", bare, "--disk-free", "64MiB", "--disk-free-percent", "0.5"]
        master: list[str | Path] = [
            "--state-dir",
            self.folder / "master",
            "--db",
            self.folder / "farm.db",
            "--socket",
            self.socket,
        ]
        self._daemon("ffrtmp-master", [*common, *master, "--hub", "tcp://127.0.0.1:0"])
        self._wait_for("the master", lambda: self._answer("nodes", "list") is not None)
        agent: list[str | Path] = [
            "--state-dir",
            self.folder / "agent",
            "--master",
            f"unix:{self.socket}",
            "--register",
        ]
        media = [word for name, path in self.roots.items() for word in ("--media-root", f"{name}={path}")]
        self._daemon("ffrtmp-agent", [*common, *agent, *media, "--name", "demo", "--runner", "plain"])
        self._wait_for("the agent", self._node_is_ready)

    def ctl(self, *words: str) -> int:
        """Run ffrtmpctl as a user would, its output on our own; returns its exit status."""
        say(f"$ ffrtmpctl {shlex.join(words)}")
        return subprocess.run(self._ctl(*words), env=environment(), check=False).returncode

    def ask(self, *words: str) -> Any:
        """The JSON answer of ffrtmpctl; raises Failure with what it says instead."""
        return json.loads(self._run(*words, "--json"))

    def log(self, job: str) -> list[str]:
        """The job's log, line by line; raises Failure."""
        return self._run("jobs", "logs", job).splitlines()

    def _run(self, *words: str) -> str:
        done = subprocess.run(self._ctl(*words), env=environment(), check=False, capture_output=True)
        if done.returncode:
            raise failure_of(done.stderr.decode(errors="replace").strip() or f"ffrtmpctl {words[0]} failed")
        return done.stdout.decode(errors="replace")

    def _ctl(self, *words: str) -> list[str]:
        return [str(BIN / "ffrtmpctl"), *words[:2], "--master", str(self.socket), *words[2:]]

    def _answer(self, *words: str) -> Any:
        try:
            return self.ask(*words)
        except Failure:
            return None

    def _daemon(self, program: str, words: list[str | Path]) -> None:
        with (self.folder / f"{program}.log").open("wb") as log:
            command = [str(BIN / program), *map(str, words)]
            # A session of its own: Ctrl-C is for the demo, which ends its daemons in order.
            daemon = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment(), start_new_session=True
            )
        self.daemons.append((program, daemon))

    def _wait_for(self, what: str, is_there: Callable[[], bool]) -> None:
        deadline = time.monotonic() + READY_S
        while not is_there():
            for program, daemon in self.daemons:
                if daemon.poll() is not None:
                    raise Failure(f"{program} ended with status {daemon.returncode}", *self._last_words(program))
            if time.monotonic() > deadline:
                raise Failure(f"{what} was not ready within {READY_S:g} s", *self._last_words(self.daemons[-1][0]))
            time.sleep(0.2)

    def _node_is_ready(self) -> bool:
        nodes = self._answer("nodes", "list") or {}
        return any(node["state"] == "ready" for node in nodes.get("items", ()))

    def _last_words(self, program: str) -> list[str]:
        lines = (self.folder / f"{program}.log").read_text(errors="replace").splitlines()
        return [line for line in lines if line][-3:]

    def _cancel_all(self) -> None:
        if not all(daemon.poll() is None for _, daemon in self.daemons) or len(self.daemons) < 2:
            return
        deadline = time.monotonic() + CANCELED_S
        while time.monotonic() < deadline:
            page = self._answer("jobs", "list", "--state", "open") or {}
            if not page.get("items"):
                return
            self._answer("jobs", "cancel", *(str(job["job"]) for job in page["items"]))
            time.sleep(0.2)


def main() -> int:
    """Run the demo; returns the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--input", default="", help="a video; by default a clip is made")
    parser.add_argument("--output", default="", help="the result, replaced where it exists; by default in build/demo/")
    parser.add_argument("--scenario", default="720p-h264", help="see `ffrtmpctl scenarios list`")
    options = parser.parse_args()
    on_signals(_interrupt)
    try:
        output = run(options.input, options.output, options.scenario)
    except Failure as failure:
        for line in failure.said:
            say(line)
        say(f"demo: failed: {failure}")
        if failure.hint:
            say(f"hint: {failure.hint}")
        return 1
    except OSError as error:
        say(f"demo: failed: {error}")
        return 1
    except Interrupted as interruption:
        number = interruption.args[0]
        say(f"demo: failed: interrupted by {signal.Signals(number).name}; nothing is left running")
        return 128 + int(number)
    say(f"demo: completed {output}")
    return 0


def run(given_input: str, given_output: str, scenario: str) -> Path:
    """One job on a farm of its own; returns where the result stands; raises Failure, Interrupted or OSError."""
    with tempfile.TemporaryDirectory(prefix="ffrtmp-clip-") as clips:
        source = Path(given_input).expanduser().resolve() if given_input else make_clip(Path(clips))
        if not source.is_file():
            raise Failure(f"there is no file {source}")
        target = Path(given_output).expanduser().absolute() if given_output else None
        folder = (target.parent if target else HERE / "build" / "demo").resolve()
        folder.mkdir(parents=True, exist_ok=True)
        roots, source_root, target_root = media_roots(source.parent, folder)
        with Farm(roots) as farm:
            say("demo: starting a master and an agent")
            farm.start()
            name = target.name if target else default_name(farm, scenario)
            from_path = f"{source_root[0]}:{source.relative_to(source_root[1])}"
            to_path = f"{target_root[0]}:{(folder / name).relative_to(target_root[1])}"
            transcode(farm, scenario, from_path, to_path)
        return folder / name


def transcode(farm: Farm, scenario: str, source: str, target: str) -> None:
    """Submit, follow, show the log and the figures; raises Failure with the job's own reason."""
    words = ["jobs", "submit", "--scenario", scenario, "--input", source, "--output", target, "--overwrite"]
    say(f"$ ffrtmpctl {shlex.join(words)}")
    number = str(farm.ask(*words)["items"][0]["job"])
    farm.ctl("jobs", "status", number, "--follow")
    job = farm.ask("jobs", "status", number)
    completed = job["state"] == "completed"
    say(f"the end of ffmpeg's own log of job {number}:")
    for line in log_end(farm.log(number), of_success=completed):
        say(f"  {line}")
    if not completed:
        failure = job.get("failure") or {}
        said = [failure.get("reason"), failure.get("line")]
        raise Failure(f"job {number} {job['state']}: " + ": ".join(word for word in said if word))
    say("the result:")
    details(sys.stdout, results_of(msgspec.convert(job.get("results") or {}, Results)))


def log_end(lines: list[str], *, of_success: bool) -> list[str]:
    """The last lines of an engine's log; where all went well, without what tells nobody anything."""
    plain = [OF_OUTPUT.sub("", line.rstrip()) for line in lines if line.strip()]
    shown = [line for line in plain if not (of_success and ASIDES.match(line))]
    return shown[-LOG_LINES:]


def failure_of(said: str) -> Failure:
    """What ffrtmpctl says of an error: a sentence and a hint in lines of their own, or both as a problem document."""
    try:
        problem = json.loads(said)
        return Failure(problem["detail"], hint=problem.get("hint", ""))
    except (ValueError, KeyError, TypeError):
        what, *rest = said.splitlines()
    hint = " ".join(line.removeprefix("hint: ") for line in rest)
    return Failure(what.removeprefix("ffrtmpctl: "), hint=hint)


def media_roots(source: Path, target: Path) -> tuple[dict[str, str], tuple[str, Path], tuple[str, Path]]:
    """The roots for two folders, and which of them each is in: one root where the one folder lies in the other."""
    for outer, inner in ((source, target), (target, source)):
        if inner.is_relative_to(outer):
            return {"demo": str(outer)}, ("demo", outer), ("demo", outer)
    return {"in": f"{source}:ro", "out": str(target)}, ("in", source), ("out", target)


def default_name(farm: Farm, scenario: str) -> str:
    """A name for the result that suits the scenario: a file with its ending, or a folder for pictures."""
    recipe = farm.ask("scenarios", "show", scenario)
    ending = "" if recipe.get("kind") == "thumbnails" else f".{recipe.get('container', 'mp4')}"
    return f"{recipe['scenario']}{ending}"


def make_clip(folder: Path) -> Path:
    """A generated clip of 10 s with picture and sound."""
    clip = folder / "clip.mp4"
    say(f"demo: no INPUT given, making a clip of 10 s in {folder}")
    picture = ["-f", "lavfi", "-i", "testsrc2=size=1280x720:rate=30", "-f", "lavfi", "-i", "sine=frequency=440"]
    coding = ["-t", "10", "-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p", "-c:a", "aac"]
    command = ["ffmpeg", "-nostdin", "-hide_banner", "-loglevel", "error", *picture, *coding, str(clip)]
    made = subprocess.run(command, check=False, capture_output=True)
    if made.returncode:
        raise Failure(f"ffmpeg could not make a clip: {made.stderr.decode(errors='replace').strip()}")
    return clip


def environment() -> dict[str, str]:
    """Ours without any setting of another farm."""
    return {name: value for name, value in os.environ.items() if not name.startswith("FFRTMP_")}


def kill_those_in(folders: list[Path]) -> None:
    """Kill each process whose arguments or working directory are in one of the folders, and what it started."""
    deadline = time.monotonic() + STOPPED_S
    while (found := [p for p in psutil.process_iter() if p.pid != os.getpid() and _is_in(p, folders)]) and (
        time.monotonic() < deadline
    ):
        for process in found:
            _kill(process)
        psutil.wait_procs(found, timeout=1)


def _is_in(process: psutil.Process, folders: list[Path]) -> bool:
    try:
        words = [*process.cmdline(), process.cwd()]
        return process.status() != psutil.STATUS_ZOMBIE and any(
            f"{folder}" in word for word in words for folder in folders
        )
    except psutil.Error:
        return False


def _kill(process: psutil.Process) -> None:
    try:
        for child in process.children(recursive=True):
            child.kill()
        process.kill()
    except psutil.Error:
        return


def _stop(daemon: subprocess.Popen[bytes]) -> None:
    daemon.terminate()
    try:
        daemon.wait(STOPPED_S)
    except subprocess.TimeoutExpired:
        daemon.kill()
        daemon.wait()


def on_signals(handler: Callable[[int, FrameType | None], None] | signal.Handlers) -> None:
    """What is to happen when somebody wants the demo to end."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, handler)


def _interrupt(number: int, _: FrameType | None) -> None:
    on_signals(signal.SIG_IGN)  # once is enough; the way out takes its time
    raise Interrupted(number)


def say(line: str) -> None:
    """Print, at once."""
    print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main())
