"""A farm in which a test brings jobs into the moments that no kill leads to, and the edges that they took."""

from __future__ import annotations

import contextlib
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil
from clips import generated
from faults.ledger import Ledger
from faults.life import ENDED, Edge, free_port
from faults.warden import Warden

from daemons import BIN, Farm, until

LONG_S = 60.0
SHORT_S = 4.0


class Story:
    """A master, agents that are started by name, and films to be copied at their own pace."""

    def __init__(self, folder: Path, ledger: Ledger, name: str, **times: str) -> None:
        self.farm = Farm(folder, **times)
        self.name = name
        self.edges: set[Edge] = set()
        self._ledger = ledger
        self._outputs = 0
        self._wardens = contextlib.ExitStack()

    def __enter__(self) -> Self:
        for name, seconds in (("long", LONG_S), ("short", SHORT_S)):
            shutil.copyfile(generated(seconds, 160, 90, 10.0, name="clip.mkv"), self.farm.media / f"{name}.mkv")
        self.farm.hub_port = free_port()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        try:
            if kind is None:
                self.end()
        finally:
            self.farm.__exit__(kind, error, at)
            self._wardens.close()

    def end(self) -> None:
        """Cancel what is open, see that nothing is left and that the history gives the state, and write the edges down."""
        for job in self.open_jobs():
            status, answer = self.farm.api("POST", f"/v1/jobs/{job}/cancel")
            assert status in (200, 202), answer
        until("all jobs to end", lambda: not self.open_jobs())
        until("the last process to end", lambda: not self.farm.job_processes())
        self.note()
        assert self.farm.master is not None
        self.farm.master.stop()
        self.offline("--check")
        self._ledger.saw(self.name, self.edges)

    # ---- daemons -------------------------------------------------------------------------------------------------

    def agent(self, name: str, *, slots: int = 9) -> None:
        """Start an agent that takes plain arguments."""
        self.farm.start_agent(name, "--allow-run", slots=slots, cpu=32)

    def watched_agent(self, name: str) -> Warden:
        """The same, with a Warden that can hold its calls."""
        file = self.farm.folder / f"{name}.listener"
        under = [sys.executable, str(Path(__file__).with_name("watched.py")), str(file)]
        daemon = self.farm.start_agent(name, "--allow-run", slots=9, cpu=32, wait=False, under=under)
        warden = Warden("agent", daemon.process.pid, file, None)
        self._wardens.callback(warden.close)
        self.ready(name)
        return warden

    def ready(self, name: str) -> None:
        """Until a node takes work."""
        until(f"node {name}", lambda: any(n["node"] == name and n["state"] == "ready" for n in self.farm.nodes()))

    def silence(self, name: str) -> None:
        """An agent is not heard any more, and its node is lost; its jobs go on."""
        self.farm.agents[name].signal(signal.SIGSTOP)
        until(f"{name} to be lost", lambda: any(n["node"] == name and n["state"] == "lost" for n in self.farm.nodes()))

    def voice(self, name: str) -> None:
        """It is heard again."""
        self.farm.agents[name].signal(signal.SIGCONT)

    def offline(self, *words: str) -> None:
        """Do something to the database of a master that does not run."""
        argv = [str(BIN / "ffrtmp-master"), "--state-dir", str(self.farm.folder / "master"), *words]
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr

    def backup(self) -> Path:
        """A backup of the master's database as it is now."""
        path = self.farm.folder / "master" / "backups" / "then.db"
        path.parent.mkdir(exist_ok=True)
        status, answer = self.farm.api("POST", "/v1/db/backup", {"path": str(path)})
        assert status == 201, answer
        return path

    def put_back(self, backup: Path, while_down: Callable[[], None] = lambda: None) -> None:
        """The master dies and is put back to a backup. What its jobs went through is noted before."""
        self.note()
        assert self.farm.master is not None
        self.farm.master.kill()
        while_down()
        self.offline("--restore", str(backup))
        self.farm.start_master()

    # ---- jobs ----------------------------------------------------------------------------------------------------

    def copy(self, film: str = "long", *words: str) -> int:
        """Submit a job that copies a film at its own pace; its number."""
        self._outputs += 1
        output = f"media:{self._outputs}.mkv"
        plain = ["-re", "-i", "{input}", "-c", "copy", "{output}"]
        return self.farm.run(f"media:{film}.mkv", output, *plain, words=words)

    def running(self, *jobs: int) -> None:
        """Until these jobs run, with their engines at work."""
        for job in jobs:
            self.farm.wait(job, "running")
            until(f"progress of job {job}", lambda job=job: out_time_s(self.farm, job) > 0)

    def ask(self, verb: str, *jobs: int) -> None:
        """What a user asks of jobs: cancel, pause, resume."""
        for job in jobs:
            status, answer = self.farm.api("POST", f"/v1/jobs/{job}/{verb}")
            assert status in (200, 202), f"{verb} {job}: {status} {answer}"

    def paused(self, *jobs: int) -> None:
        """Pause jobs that run, and wait until they stand."""
        self.running(*jobs)
        self.ask("pause", *jobs)
        for job in jobs:
            self.farm.wait(job, "paused")

    def kill_guard(self, job: int) -> None:
        """The guard of a job's current attempt is killed."""
        for process in self.processes(job, "guard.py"):
            process.kill()

    def suspend_engine(self, job: int) -> None:
        """The engine of a job's current attempt stands still, without anybody's order."""
        for process in self.processes(job, "ffmpeg"):
            process.suspend()

    def processes(self, job: int, word: str) -> list[psutil.Process]:
        """The processes of the current attempt of a job that have a word in their command line; there is at least one."""
        name = f"{job}.{self.farm.job(job)['attempt']}"

        def those() -> list[psutil.Process]:
            return [one for one in self.farm.job_processes() if _speaks_of(one, word, name)]

        return list(until(f"{word} of {name}", those))

    def continue_by_hand(self, job: int, *states: str) -> None:
        """Somebody sends SIGCONT to a job's processes, behind the farm's back, until the job has ended."""

        def there() -> bool:
            for process in self.farm.job_processes():
                with contextlib.suppress(psutil.Error):
                    if any(f"/{job}." in each for each in process.cmdline()):
                        process.resume()
            state = self.farm.state(job)
            assert state in ("paused", "resuming", *states), f"job {job} is {state}"
            return state in states

        until(f"job {job} to be {' or '.join(states)}", there)

    def open_jobs(self) -> list[int]:
        """The jobs that have not ended."""
        return [int(job["job"]) for job in self.farm.get("/v1/jobs?limit=1000")["items"] if job["state"] not in ENDED]

    def edges_of(self, job: int) -> list[Edge]:
        """The changes of state of a job, in order."""
        rows = [(row.get("before"), row["after"]) for row in self.farm.history(job)]
        return [(before, after) for before, after in rows if before != after]

    def note(self) -> None:
        """Take down what all jobs went through so far."""
        for job in self.farm.get("/v1/jobs?limit=1000")["items"]:
            self.edges.update(self.edges_of(job["job"]))

    def took(self, job: int, before: str | None, after: str) -> bool:
        """Whether a job has taken an edge."""
        return (before, after) in self.edges_of(job)


def out_time_s(farm: Farm, job: int) -> float:
    """How far the attempt is that the master counts on."""
    return float((farm.job(job).get("progress") or {}).get("out_time_s", 0.0))


def _speaks_of(process: psutil.Process, word: str, name: str) -> bool:
    try:
        words = process.cmdline()
    except psutil.Error:
        return False
    return any(word in each for each in words) and any(f"/{name}" in each for each in words)
