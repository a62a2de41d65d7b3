"""A whole farm for tests: real ffrtmp-master and ffrtmp-agent processes on a folder, driven by ffrtmpctl and its API.

    with Farm(tmp_path) as farm:
        farm.start_master()
        farm.start_agent("a")
        number = farm.submit("--scenario", "720p-h264", "--output", "media:out.mp4")
        farm.wait(number, "completed")

All that was started is ended when the block ends, the jobs' processes too, which by design outlive their agent. Times are
short, so that lost nodes are noticed in a second or two.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil
from clips import cache_folder

from ffrtmp_agent.about import cache_of

BIN = Path(sys.executable).parent
DEADLINE_S = 60.0
QUICK = {
    "heartbeat": "0.2s",
    "heartbeat-live": "0.2s",
    "lost-after": "2s",
    "lost-after-live": "1s",
    "self-doubt": "2s",
    "reconnect-grace": "3s",
    "grant-ttl": "2s",
    "accept-timeout": "2s",
}


def until(what: str, seen: Callable[[], Any], deadline_s: float = DEADLINE_S) -> Any:
    """Wait until `seen` gives something true, and give it; says `what` was waited for when it does not come."""
    ends = time.monotonic() + deadline_s
    while True:
        found = seen()
        if found:
            return found
        assert time.monotonic() < ends, f"waited {deadline_s:g} s for {what}"
        time.sleep(0.02)


def strace(log: Path, *inject: str) -> list[str]:
    """What a daemon is started by so that its system calls go wrong: strace(1)'s -e inject=, e.g. "renameat2:signal=KILL".

    Only these calls are traced. The tracer is a process apart (-D), so the daemon keeps the number that it was started with.
    """
    calls = ",".join(sorted({rule.split(":", 1)[0] for rule in inject}))
    rules = [word for rule in inject for word in ("-e", f"inject={rule}")]
    return ["strace", "-D", "-f", "-qq", "--seccomp-bpf", "-o", str(log), "-e", f"trace={calls}", *rules]


class Daemon:
    """One program, its log, and its end."""

    def __init__(
        self,
        program: str,
        words: list[str],
        log: Path,
        environment: dict[str, str] | None = None,
        under: Sequence[str] = (),
    ) -> None:
        """`under` is what the program is started by: see `strace`."""
        self.log = log
        self._began = log.stat().st_size if log.exists() else 0
        with log.open("ab") as out:
            self.process = subprocess.Popen(
                [*under, str(BIN / program), *words],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                env={**os.environ, **(environment or {})},
            )

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self.process.poll() is None

    def kill(self) -> None:
        """As a crash does."""
        self.process.kill()
        self.process.wait()

    def stop(self, wait_s: float = 20.0) -> int:
        """As systemctl stop does; gives the exit status."""
        self.process.terminate()
        try:
            return self.process.wait(wait_s)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"did not stop in {wait_s:g} s:\n{self.tail()}") from None

    def signal(self, number: int) -> None:
        """Send it a signal."""
        self.process.send_signal(number)

    def said(self, text: str) -> bool:
        """Whether this process, not one before it, has logged this."""
        return text.encode() in self.log.read_bytes()[self._began :]

    def tail(self, lines: int = 40) -> str:
        """The end of its log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])


class Farm:
    """One master, agents by name, one shared media root `media`."""

    def __init__(self, folder: Path, **times: str) -> None:
        """`times` override QUICK: lost_after="5s"."""
        self.folder = folder
        self.media = folder / "media"
        self.media.mkdir(exist_ok=True)
        self.socket = folder / "s"
        self.times = {**QUICK, **{name.replace("_", "-"): value for name, value in times.items()}}
        self.master: Daemon | None = None
        self.agents: dict[str, Daemon] = {}
        self.hub_port = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for daemon in (*self.agents.values(), self.master):
            if daemon is not None and daemon.alive:
                with contextlib.suppress(ProcessLookupError):
                    daemon.signal(signal.SIGCONT)
                daemon.kill()
        self._end_jobs()

    def _end_jobs(self) -> None:
        """Kill what is left of jobs until there is nothing: a guard may have been about to start its engine."""
        ends = time.monotonic() + 10.0
        while (left := self.job_processes()) and time.monotonic() < ends:
            for process in left:
                with contextlib.suppress(psutil.Error):
                    process.kill()
            psutil.wait_procs(left, timeout=0.2)

    # ---- daemons -------------------------------------------------------------------------------------------------

    def start_master(
        self, *words: str, wait: bool = True, environment: dict[str, str] | None = None, under: Sequence[str] = ()
    ) -> Daemon:
        """Start ffrtmp-master; a second start finds the same database and the same hub port."""
        times = [word for name, value in self.times.items() for word in (f"--{name}", value)]
        hub = f"tcp://127.0.0.1:{self.hub_port}"
        state = str(self.folder / "master")
        common = ["--state-dir", state, "--socket", str(self.socket), "--hub", hub, *_NO_GUARD]
        log = self.folder / "master.log"
        self.master = Daemon("ffrtmp-master", [*common, *times, *words], log, environment, under)
        if wait:
            self.wait_for_master()
        return self.master

    def wait_for_master(self) -> None:
        """Until it serves; learns its hub port."""

        def serves() -> bool:
            assert self.master is not None
            assert self.master.alive, f"the master ended:\n{self.master.tail()}"
            return self.ctl("queues", "list").returncode == 0 and self._find_port()

        until("the master", serves)

    def _find_port(self) -> bool:
        for line in reversed((self.folder / "master.log").read_text().splitlines()):
            if "listening for agents at tcp://" in line:
                self.hub_port = int(line.split("tcp://", 1)[1].split(",")[0].rsplit(":", 1)[1])
                return True
        return False

    def start_agent(
        self,
        name: str,
        *words: str,
        address: str = "",
        slots: int = 2,
        cpu: float = 8,
        wait: bool = True,
        media: Path | None = None,
        state: Path | None = None,
        under: Sequence[str] = (),
    ) -> Daemon:
        """Start ffrtmp-agent beside its master; each has an address of its own unless one is given.

        With `under` it is started by another program, which becomes it (`strace`).
        """
        own = address or f"127.0.0.{2 + len(self.agents) if name not in self.agents else self._number(name)}"
        common = [
            "--state-dir",
            str(state or self.folder / f"agent-{name}"),
            "--master",
            f"unix:{self.socket}",
            "--register",
            "--name",
            name,
            "--address",
            own,
            "--media-root",
            f"media={media or self.media}",
            "--max-concurrent-jobs",
            str(slots),
            "--cpu",
            str(cpu),
            "--runner",
            "plain",
            *_NO_GUARD,
        ]
        folder = state or self.folder / f"agent-{name}"
        lend_survey(folder)
        log = self.folder / f"agent-{name}.log"
        self.agents[name] = Daemon("ffrtmp-agent", [*common, *words], log, under=under)
        if wait:
            until(f"agent {name}", lambda: self._ready(name))
            _keep_survey(folder)
        return self.agents[name]

    def kill_host(self, name: str) -> None:
        """As when its power fails: the agent and every process of its jobs are gone at once."""
        agent = self.agents[name]
        agent.signal(signal.SIGSTOP)  # so that it sees nothing of its jobs' end
        for process in self.host_processes(name):
            with contextlib.suppress(psutil.Error):
                process.kill()
        agent.kill()

    def host_processes(self, name: str) -> list[psutil.Process]:
        """The processes of the jobs of one agent: its guards and all below them."""
        home = f"{self.folder / f'agent-{name}'}/"
        found: dict[int, psutil.Process] = {}
        for process in self.job_processes():
            with contextlib.suppress(psutil.Error):
                if any(home in word for word in process.cmdline()):
                    found.update({p.pid: p for p in (process, *process.children(recursive=True))})
        return list(found.values())

    def _number(self, name: str) -> int:
        return 2 + list(self.agents).index(name)

    def _ready(self, name: str) -> bool:
        daemon = self.agents[name]
        assert daemon.alive, f"agent {name} ended:\n{daemon.tail()}"
        heard = daemon.said("in contact with the master")
        return heard and any(n["node"] == name and n["state"] == "ready" and n["slots"] for n in self.nodes())

    # ---- people --------------------------------------------------------------------------------------------------

    def ctl(self, *words: str, check: bool = False, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        """Run ffrtmpctl."""
        environment = {**os.environ, "FFRTMP_MASTER": f"unix://{self.socket}"}
        done = subprocess.run(
            [str(BIN / "ffrtmpctl"), *words],
            input=stdin,
            env=environment,
            text=True,
            capture_output=True,
            check=False,
            timeout=DEADLINE_S * 2,
        )
        assert not check or done.returncode == 0, f"ffrtmpctl {' '.join(words)}: {done.returncode}\n{done.stderr}"
        return done

    def ask(self, *words: str) -> Any:
        """The JSON answer of ffrtmpctl."""
        return json.loads(self.ctl(*words, "--format", "json", check=True).stdout)

    def api(
        self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None
    ) -> tuple[int, Any]:
        """One call of the API, without ffrtmpctl in between: the status, and the answer's JSON (or text)."""
        given = {"Content-Type": "application/json", **(headers or {})}
        with contextlib.closing(_Http(self.socket)) as http:
            http.request(method, path, None if body is None else json.dumps(body), given)
            answer = http.getresponse()
            text = answer.read()
            is_json = "json" in answer.getheader("Content-Type", "")
            return answer.status, json.loads(text) if is_json else text.decode(errors="replace")

    def get(self, path: str) -> Any:
        """The answer to a GET that is taken."""
        status, answer = self.api("GET", path)
        assert status == 200, f"GET {path}: {status} {answer}"
        return answer

    def nodes(self) -> list[dict[str, Any]]:
        """The nodes as the API tells them."""
        return list(_items(self.get("/v1/nodes")))

    def run(self, source: str, output: str, *arguments: str, words: Sequence[str] = ()) -> int:
        """Submit plain ffmpeg arguments (`jobs run`; the agents need --allow-run); the job's number."""
        given = ["--input", source, "--output", output, *words, "--format", "json", "--", *arguments]
        return int(json.loads(self.ctl("jobs", "run", *given, check=True).stdout)["items"][0]["job"])

    def submit(self, *words: str) -> int:
        """Submit one job; its number."""
        answer = self.ask("jobs", "submit", *words)
        return int(answer["items"][0]["job"])

    def job(self, number: int) -> dict[str, Any]:
        """A job as the API tells it."""
        return dict(self.get(f"/v1/jobs/{number}"))

    def state(self, number: int) -> str:
        """The state of a job."""
        return str(self.job(number)["state"])

    def wait(self, number: int, *states: str, deadline_s: float = DEADLINE_S) -> dict[str, Any]:
        """Wait until a job is in one of these states."""

        def there() -> dict[str, Any] | None:
            job = self.job(number)
            ended = job["state"] in ("completed", "failed", "timed_out", "canceled", "rejected")
            assert not ended or job["state"] in states, f"job {number} is {job['state']}: {job.get('failure')}"
            return job if job["state"] in states else None

        return dict(until(f"job {number} to be {' or '.join(states)}", there, deadline_s))

    def history(self, number: int) -> list[dict[str, Any]]:
        """The rows of a job's history."""
        return list(_items(self.get(f"/v1/jobs/{number}/history?limit=1000")))

    def log(self, number: int, *words: str) -> str:
        """What `ffrtmpctl jobs logs` shows of a job."""
        return self.ctl("jobs", "logs", str(number), *words, check=True).stdout

    # ---- processes -----------------------------------------------------------------------------------------------

    def job_processes(self, name: str = "") -> list[psutil.Process]:
        """Processes of jobs of this farm, by what they have in their command line; `name` is "ffmpeg" or the like."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                words = process.cmdline()
                ours = any(str(self.folder) in word for word in words) and process.status() != psutil.STATUS_ZOMBIE
                daemon = any(word.endswith(("/ffrtmp-master", "/ffrtmp-agent")) for word in words[:2])
                daemon = daemon or process.name() == "strace"
                if ours and not daemon and process.pid != os.getpid() and (not name or process.name() == name):
                    found.append(process)
        return found

    def leftovers(self) -> list[Path]:
        """What attempts have left in the media root's own folder."""
        return [p for p in (self.media / ".ffrtmp").glob("*") if p.name != "root-id"]


class _Http(http.client.HTTPConnection):
    """HTTP over the master's Unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=DEADLINE_S)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(DEADLINE_S)
        self.sock.connect(str(self._path))


def lend_survey(state: Path) -> None:
    """What an earlier agent proved of this host's ffmpeg: proving takes seconds, and tests/host is about that."""
    kept = cache_folder() / "survey"
    place = cache_of(state)
    if kept.exists() and not place.exists():
        state.mkdir(mode=0o711, exist_ok=True)
        shutil.copyfile(kept, place)


def _keep_survey(state: Path) -> None:
    kept = cache_folder() / "survey"
    aged = not kept.exists() or time.time() - kept.stat().st_mtime > _SURVEY_S
    if aged and cache_of(state).exists():
        fresh = kept.with_suffix(f".{os.getpid()}")
        shutil.copyfile(cache_of(state), fresh)
        fresh.rename(kept)


_SURVEY_S = 300.0
_NO_GUARD = ["--disk-free", "16MiB", "--disk-free-percent", "0.1"]


def _items(answer: Any) -> Iterator[dict[str, Any]]:
    yield from answer["items"] if isinstance(answer, dict) and "items" in answer else answer
