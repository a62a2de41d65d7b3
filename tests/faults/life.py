"""One job's life on a real farm, with a kill somewhere in it, and everything that must be true afterwards.

Whatever dies is started again, as a service manager does. The submission is repeated under one idempotency key until it
is answered, as a user does. Then the job has to complete once, with its output whole and its log too, and nothing of it
may be left but these.
"""

from __future__ import annotations

import contextlib
import http.client
import itertools
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from faults.warden import Point, Warden

from daemons import BIN, Daemon, Farm

DURATION_S = 1.0
DEADLINE_S = 60.0
TICK_S = 0.1
STARTS_MAX = 20
TIMES = {
    "heartbeat": "0.5s",
    "lost_after": "2s",
    "reconnect_grace": "2500ms",
    "grant_ttl": "2s",
    "accept_timeout": "2s",
    "backoff": "200ms",
}
SCENARIO = """
kind = "file"
container = "mp4"
[video]
codec = "h264"
preset = "ultrafast"
width = 160
height = 120
[audio]
codec = "aac"
[needs]
cpu = 1
memory = "64MiB"
"""
ENDED = ("completed", "failed", "timed_out", "canceled", "rejected")
T = TypeVar("T")
Edge = tuple[str | None, str]


@dataclass(slots=True)
class Life:
    """What was seen of one job's life."""

    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    hit: str = ""  # the call before which it was killed; "" when the life had no such point
    edges: set[Edge] = field(default_factory=set)
    seconds: float = 0.0


def live(folder: Path, point: Point | None) -> Life:
    """Let a job live, kill at `point`, and check all that is promised. Raises AssertionError for what is not so."""
    began_s = time.monotonic()
    life = Life()
    folder.mkdir(parents=True)
    with Farm(folder, **TIMES) as farm, contextlib.ExitStack() as wardens:
        village = _Village(farm, point, wardens)
        village.serve()
        number = village.submit()
        job = village.follow(number)
        assert job["state"] == "completed", f"job {number} is {job['state']}: {job.get('failure')}"
        village.settle()
        life.edges = _check_history(farm, number)
        if point is None or point.program != "guard":
            assert farm.job(number).get("failures", 0) == 0, "the death of a daemon was taken for a failure of the job"
        _check_logs(farm, number, village.logs)
        _check_output(farm)
        village.stop()
        _check_store(farm)
        life.counts = sum((warden.counts for warden in village.wardens), Counter())
        life.hit = next((warden.hit for warden in village.wardens if warden.hit), "")
    shutil.rmtree(folder)
    life.seconds = time.monotonic() - began_s
    return life


class _Village:
    """A farm whose master and agent are watched in their first life, and started again when they die."""

    def __init__(self, farm: Farm, point: Point | None, end: contextlib.ExitStack) -> None:
        self.farm = farm
        self.point = point
        self.wardens: list[Warden] = []
        self.logs = farm.folder / "logs"
        self._end = end
        self._starts: Counter[str] = Counter()
        self._attempts = farm.folder / "agent-a" / "attempts"
        self._outbox = farm.folder / "agent-a" / "outbox"
        self._deadline_s = time.monotonic() + DEADLINE_S
        self.logs.mkdir()
        recipes = farm.folder / "recipes"
        recipes.mkdir()
        (recipes / "quick.toml").write_text(SCENARIO)
        farm.hub_port = free_port()

    # ---- keeping it going ----

    def tend(self) -> None:
        """Start what is not running, and keep a name for each log before its directory is cleared."""
        if self.farm.master is None or not self.farm.master.alive:
            self._start("master", lambda under: self.farm.start_master(*self._words(), wait=False, under=under))
        elif self.farm.socket.exists() and ("a" not in self.farm.agents or not self.farm.agents["a"].alive):
            self._start("agent", lambda under: self.farm.start_agent("a", wait=False, under=under))
        with contextlib.suppress(FileNotFoundError):
            for log in self._attempts.glob("[0-9]*.[0-9]*/log"):
                kept = self.logs / log.parent.name
                if not kept.exists():
                    os.link(log, kept)

    def _words(self) -> list[str]:
        return ["--scenario-dir", str(self.farm.folder / "recipes")]

    def _start(self, program: str, start: Callable[[Sequence[str]], Daemon]) -> None:
        self._starts[program] += 1
        assert self._starts[program] < STARTS_MAX, f"the {program} does not stay up"
        watched = self._starts[program] == 1 and (self.point is None or program == _root_of(self.point))
        if not watched:
            start(())
            return
        file = self.farm.folder / f"{program}.listener"
        daemon = start([sys.executable, str(Path(__file__).with_name("watched.py")), str(file)])
        warden = Warden(program, daemon.process.pid, file, self.point)
        self._end.callback(warden.close)
        self._end.callback(self._end_all)  # before its warden goes: nobody could answer its calls
        self.wardens.append(warden)

    def _end_all(self) -> None:
        self.farm.__exit__(None, None, None)

    def _ask(self, method: str, path: str, body: Any = None, key: str = "") -> tuple[int, Any]:
        """One call; (0, None) where nobody answers."""
        try:
            return self.farm.api(method, path, body, {"Idempotency-Key": key} if key else {})
        except (OSError, http.client.HTTPException, json.JSONDecodeError):
            return 0, None

    def _until(self, what: str, seen: Callable[[], T]) -> T:
        """Wait for something, tending the farm meanwhile; says what was waited for in vain, and how the farm is."""
        while not (found := seen()):
            if time.monotonic() > self._deadline_s:
                raise AssertionError(f"waited in vain for {what}; {self._told()}")
            self.tend()
            time.sleep(TICK_S)
        return found

    def _told(self) -> str:
        rows = self._ask("GET", "/v1/jobs/1/history")[1]
        nodes = self._ask("GET", "/v1/nodes")[1]
        left = [str(path) for path in (*self.farm.leftovers(), *_names(self._attempts), *_names(self._outbox))]
        killed = [f"{warden.hit} at {warden.point}" for warden in self.wardens]
        return f"killed: {killed}; left: {left}; nodes: {nodes}; history: {json.dumps(rows, indent=1)}"

    # ---- the life ----

    def serve(self) -> None:
        """Until the node is ready."""

        def ready() -> bool:
            status, nodes = self._ask("GET", "/v1/nodes")
            return status == 200 and any(node["state"] == "ready" and node.get("slots") for node in nodes["items"])

        self._until("the node to be ready", ready)

    def submit(self) -> int:
        """Until the submission is answered; the job's number."""
        pattern = {"width": 160, "height": 120, "fps": 25.0, "duration_s": DURATION_S}
        body = {"scenario": "quick", "generate": pattern, "output": "media:out.mp4"}

        def taken() -> int:
            status, answer = self._ask("POST", "/v1/jobs", body, "once")
            assert status in (0, 201, 503), f"the submission was answered {status}: {answer}"
            return int(answer["items"][0]["job"]) if status == 201 else 0

        return self._until("the submission to be taken", taken)

    def follow(self, number: int) -> dict[str, Any]:
        """Until the job has ended."""

        def ended() -> dict[str, Any] | None:
            status, job = self._ask("GET", f"/v1/jobs/{number}")
            assert status in (0, 200), f"an accepted job is answered {status}: {job}"
            return job if status == 200 and job["state"] in ENDED else None

        return dict(self._until("the job to end", ended) or {})

    def settle(self) -> None:
        """Until nothing is left of the job but its output and its log."""

        def clear() -> bool:
            left = [*self.farm.leftovers(), *_names(self._attempts), *_names(self._outbox)]
            if left or self.farm.job_processes():
                return False
            status, nodes = self._ask("GET", "/v1/nodes")
            return status == 200 and [node["jobs"] for node in nodes["items"]] == [[]] and self._up()

        self._until("everything to be cleared", clear)

    def _up(self) -> bool:
        agent, master = self.farm.agents["a"], self.farm.master
        return agent.alive and master is not None and master.alive

    def stop(self) -> None:
        """As systemctl stop does; what is killed while it stops has stopped too."""
        for daemon in (self.farm.agents["a"], self.farm.master):
            assert daemon is not None
            status = daemon.stop()
            watched = next((warden for warden in self.wardens if warden.process == daemon.process.pid), None)
            # One that has only just been started again may not hear SIGTERM yet, and ends by it.
            fine = status == 0 or (status == -9 and watched.hit if watched else status == -15)
            assert fine, f"ended with {status}:\n{daemon.tail()}"


def _root_of(point: Point) -> str:
    return "master" if point.program == "master" else "agent"


def _names(folder: Path) -> Iterator[Path]:
    yield from folder.iterdir() if folder.is_dir() else ()


def free_port() -> int:
    """A port of this host that nobody has."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


# ---- what must be true -------------------------------------------------------------------------------------------


def _check_history(farm: Farm, number: int) -> set[Edge]:
    """One job, which completed once."""
    jobs = farm.get("/v1/jobs")["items"]
    assert [job["job"] for job in jobs] == [number], "the submission made more than one job"
    edges: list[Edge] = [(row.get("before"), row["after"]) for row in farm.history(number)]
    moves = [(before, after) for before, after in edges if before != after]
    assert moves[0] == (None, "queued")
    assert [after for _before, after in moves if after in ENDED] == ["completed"], f"ended more than once: {moves}"
    assert all(one[1] == two[0] for one, two in itertools.pairwise(moves)), f"a row is missing: {moves}"
    return set(moves)


def _check_logs(farm: Farm, number: int, kept: Path) -> None:
    """Every attempt's log at the master is what its guard had written, byte for byte, the winner's whole."""
    job = farm.job(number)
    for attempt in job["attempts"]:
        name = f"{number}.{attempt['attempt']}"
        stored = str(farm.api("GET", f"/v1/jobs/{number}/logs?attempt={attempt['attempt']}")[1])
        there = kept / name
        written = there.read_text() if there.exists() else ""
        if attempt.get("how") == "published":
            assert "Lavf" in written, f"the log of {name} was not seen: {written!r}"
            assert stored == written, f"the log of {name} has {len(stored)} of {len(written)} bytes"
        else:
            assert written.startswith(stored), f"the log of {name} is not what was written"


def _check_output(farm: Farm) -> None:
    """Exactly one file, of the right length, that decodes to its end."""
    made = [str(path.relative_to(farm.media)) for path in sorted(farm.media.rglob("*")) if path.is_file()]
    assert made == [".ffrtmp/root-id", "out.mp4"], f"in the media root: {made}"
    output = str(farm.media / "out.mp4")
    words = ["ffprobe", "-v", "error", "-show_entries", "format=duration", "-of", "csv=p=0", output]
    duration_s = float(subprocess.run(words, check=True, capture_output=True, text=True).stdout)
    assert abs(duration_s - DURATION_S) < 0.15, f"the output is {duration_s} s long"
    decode = ["ffmpeg", "-nostdin", "-v", "error", "-xerror", "-i", output, "-f", "null", "-"]
    done = subprocess.run(decode, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr


def _check_store(farm: Farm) -> None:
    """The history gives the state (P10)."""
    words = [str(BIN / "ffrtmp-master"), "--state-dir", str(farm.folder / "master"), "--check"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
