"""How a master bears many agents and many waiting jobs: python bench/load.py --agents 2000 --jobs 100000 --seconds 600

One real master, as its own process; agents in a few processes, each of them the real `Session` on a real encrypted
connection, whose jobs take `--job-s` seconds and do nothing; one client that lists, shows and submits meanwhile, so that
as many jobs go on waiting. Prints one line a figure, and ends with status 1 where a bound is broken: memory that grows, a
heartbeat answered later than one interval, calls whose 99th percentile is 200 ms or more. Prints also for how much of the time
the master's loop was ready to go on and no processor was free: what it could not help.

A heartbeat is timed from its sending to the look of the agent that finds the answer. The generators are `nice`, and count
their own late looks: where those are long, the machine was too small for both. `--profile FILE` has the master write where
its time went, for `python -m pstats FILE`; it is slower then.
"""

from __future__ import annotations

import argparse
import contextlib
import heapq
import http.client
import itertools
import json
import multiprocessing as mp
import os
import random
import resource
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

import psutil
import zmq

from ffrtmp import wire
from ffrtmp.keys import KeyPair
from ffrtmp.spec import Fingerprint, Results
from ffrtmp_agent import actions as do
from ffrtmp_agent.local import About
from ffrtmp_agent.session import Session

Place = tuple[str, str, KeyPair]  # hub, its key, the agent's keys
HEARTBEAT_S = 2.0
SPREAD_S = 10.0  # agents come within so many seconds
SAMPLES = 10  # of the memory, printed
CALL_P99_S = 0.2
GROWTH = 1.25  # of the memory between the first and the last quarter of the run
BATCH = 1000
PRINT = Fingerprint(1000, "0" * 64)
ROOT = wire.RootFact("media", "11111111-1111-4111-8111-111111111111", "/media")
CAPACITY = wire.Capacity(1000, 1 << 30, 1, 1 << 40, encoders=("libx264",), protocols=("http",), roots=(ROOT,))


@dataclass
class Asked:
    """What the command line says."""

    agents: int
    jobs: int
    seconds: float
    job_s: float
    generators: int
    profile: Path | None


@dataclass
class Counted:
    """What a generator saw."""

    beats: list[float] = field(default_factory=list)  # seconds until each heartbeat was answered
    unanswered: int = 0
    done: int = 0
    hellos: int = 0
    late_s: float = 0.0  # the longest pause between two looks of its own


# ---- agents --------------------------------------------------------------------------------------------------------


class Agent:
    """One agent: a session, its connection, and jobs that are done when their time has come."""

    def __init__(self, number: int, context: zmq.Context[zmq.Socket[bytes]], where: Place, job_s: float) -> None:
        hub, server_key, keys = where
        self.dealer = context.socket(zmq.DEALER)
        self.dealer.set(zmq.LINGER, 0)
        self.dealer.set(zmq.CURVE_SERVERKEY, server_key.encode())
        self.dealer.set(zmq.CURVE_PUBLICKEY, keys.public.encode())
        self.dealer.set(zmq.CURVE_SECRETKEY, keys.secret.encode())
        self.dealer.connect(hub)
        address = f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"
        about = About(f"n{number}", address, "boot", 1, wire.Facts(hostname=f"n{number}"), CAPACITY)
        self.session = Session(about, wire.Seen(), time.monotonic())
        self.job_s = job_s
        self.begins_s = time.monotonic() + random.uniform(0, SPREAD_S)
        self.ends: list[tuple[float, do.AttemptKey]] = []
        self.sent: dict[int, float] = {}

    def due_s(self) -> float:
        """When it has something to do of itself."""
        ends_s = self.ends[0][0] if self.ends else float("inf")
        return max(self.begins_s, min(self.session.next_s(), ends_s))

    def hear(self, counted: Counted) -> None:
        """Take all that has come."""
        with contextlib.suppress(zmq.Again):
            while True:
                message = wire.decode_from_master(self.dealer.recv(zmq.NOBLOCK))
                now_s = time.monotonic()
                if isinstance(message, wire.HeartbeatAck) and message.number in self.sent:
                    counted.beats.append(now_s - self.sent.pop(message.number))
                self.carry_out(self.session.receive(message, now_s), now_s, counted)

    def look(self, now_s: float, counted: Counted) -> None:
        """Do what is due."""
        while self.ends and self.ends[0][0] <= now_s:
            key = heapq.heappop(self.ends)[1]
            if key in self.session.attempts:
                self.carry_out(self.session.verified(key, PRINT, Results(frames=1), now_s), now_s, counted)
        self.carry_out(self.session.tick(now_s), now_s, counted)

    def carry_out(self, actions: Sequence[do.Action], now_s: float, counted: Counted) -> None:
        """What agent.py does, without disk and processes."""
        for action in actions:
            more: list[do.Action] = []
            match action:
                case do.Send(message):
                    self._say(message, now_s, counted)
                case do.Create(assign):
                    key = (assign.uuid, assign.attempt)
                    heapq.heappush(self.ends, (now_s + random.uniform(0.5, 1.5) * self.job_s, key))
                    more = self.session.created(key, now_s) + self.session.seen_stage(key, "running", now_s)
                case do.Publish(key, _request, _until_s):
                    more = self.session.publish_done(key, PRINT)
                case do.Clean(key):
                    more = self.session.ended(key, "stopped")
                case do.PutItem(item, message):
                    counted.done += isinstance(message, wire.Published)
                    more = self.session.item_kept(item, message)
                    more += self.session.log_shipped((message.uuid, message.attempt))
                case do.GiveUp(status, detail, _hint):
                    raise RuntimeError(f"an agent was refused: {status} {detail}")
            self.carry_out(more, now_s, counted)

    def _say(self, message: wire.Message, now_s: float, counted: Counted) -> None:
        if isinstance(message, wire.Heartbeat):
            self.sent[message.number] = now_s
        counted.hellos += isinstance(message, wire.Hello)
        with contextlib.suppress(zmq.Again):
            self.dealer.send(wire.encode(message), zmq.NOBLOCK)


def generate(asked: Asked, mine: Sequence[tuple[int, Place]], measure: Event, end: Event, out: Any) -> None:
    """A process with many agents; puts what it `Counted` between `measure` and `end` into the queue `out`."""
    os.nice(10)
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    context.set(zmq.MAX_SOCKETS, len(mine) + 10)
    agents = [Agent(number, context, where, asked.job_s) for number, where in mine]
    by_socket = {agent.dealer: agent for agent in agents}
    poller = zmq.Poller()
    for agent in agents:
        poller.register(agent.dealer, zmq.POLLIN)
    counted, measuring, before_s = Counted(), False, time.monotonic()
    while not end.is_set():
        if not measuring and measure.is_set():
            counted, measuring = Counted(), True
        for dealer, _events in poller.poll(20):
            by_socket[dealer].hear(counted)
        now_s = time.monotonic()
        for agent in agents:
            if agent.due_s() <= now_s:
                agent.look(time.monotonic(), counted)
        now_s = time.monotonic()
        counted.late_s = max(counted.late_s, now_s - before_s)
        before_s = now_s
    late_s = time.monotonic() - HEARTBEAT_S
    counted.unanswered = sum(1 for agent in agents for sent_s in agent.sent.values() if sent_s < late_s)
    out.put(counted)
    context.destroy(linger=0)


# ---- the API -------------------------------------------------------------------------------------------------------


class Client:
    """A user of the API; `took` has the seconds of each kind of call."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.took: dict[str, list[float]] = {}

    def call(self, kind: str, method: str, target: str, body: Any = None) -> Any:
        """One call on a connection of its own, as ffrtmpctl makes them."""
        began_s = time.monotonic()
        connection = http.client.HTTPConnection("localhost", timeout=60)
        connection.sock = socket.socket(socket.AF_UNIX)
        try:
            connection.sock.settimeout(60)
            connection.sock.connect(str(self.path))
            connection.request(method, target, None if body is None else json.dumps(body))
            answer = connection.getresponse()
            said = answer.read()
        finally:
            connection.close()
        if answer.status >= 300:
            raise RuntimeError(f"{method} {target}: {answer.status} {said[:300]!r}")
        self.took.setdefault(kind, []).append(time.monotonic() - began_s)
        return json.loads(said)

    def submit(self, count: int, kind: str = "submit") -> int:
        """Submit generated jobs; the last one's number."""
        job = {"scenario": "720p-h264", "cpu_milli": 500, "memory_bytes": 1 << 28}
        answer = self.call(kind, "POST", "/v1/jobs", {"items": [job] * count} if count > 1 else job)
        return int(answer["items"][-1]["job"])


def use(path: Path, newest: int, jobs_a_s: float, end: Event, out: Any) -> None:
    """A process that looks about `LOOKS_A_S` times a second, and submits as many jobs as get done."""
    client, owed, before_s = Client(path), 0.0, time.monotonic()
    for turn in itertools.count():
        if end.wait(1 / LOOKS_A_S):
            break
        now_s = time.monotonic()
        owed, before_s = owed + jobs_a_s * (now_s - before_s), now_s
        kind, target = _LOOKS[turn % len(_LOOKS)]
        client.call(kind, "GET", target.format(any=random.randint(1, newest), newest=newest))
        if owed >= 1:
            newest = client.submit(int(owed))
            owed -= int(owed)
    out.put(client.took)


LOOKS_A_S = 20.0
_LOOKS = (
    ("list", "/v1/jobs?limit=50"),
    ("show", "/v1/jobs/{any}"),
    ("list running", "/v1/jobs?state=running&limit=50"),
    ("show", "/v1/jobs/{any}"),
    ("list nodes", "/v1/nodes?limit=50"),
    ("queues", "/v1/queues"),
    ("why", "/v1/jobs/{newest}/why"),
)


# ---- the run -------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def a_master(folder: Path, agents: int, profile: Path | None) -> Iterator[psutil.Process]:
    """A master that serves, as the programs start it."""
    program: list[str | Path] = [Path(sys.executable).with_name("ffrtmp-master")]
    if profile is not None:
        program = [sys.executable, "-m", "cProfile", "-o", profile, *program]
    argv = [*program, "--state-dir", folder, "--socket", folder / "s"]
    argv += ["--hub", "tcp://127.0.0.1:0", "--sessions-max", str(agents + 100), "--disk-free", "0"]
    argv += ["--disk-free-percent", "0", "--log-level", "warning"]
    with (folder / "log").open("wb") as log, subprocess.Popen([str(a) for a in argv], stderr=log) as process:
        try:
            until(lambda: _ready(folder / "s"), 60)
            yield psutil.Process(process.pid)
            assert process.poll() is None, "the master ended"
        finally:
            process.terminate()
            process.wait(60)
            sys.stderr.write((folder / "log").read_text()[-3000:])


def _ready(path: Path) -> bool:
    try:
        Client(path).call("ready", "GET", "/v1/ready")
    except (OSError, RuntimeError):
        return False
    return True


def until(happens: Callable[[], Any], within_s: float) -> None:
    """Wait for something."""
    ends_s = time.monotonic() + within_s
    while not happens():
        if time.monotonic() > ends_s:
            raise TimeoutError(f"it did not happen in {within_s:g} s")
        time.sleep(1.0)


def enrol(client: Client, agents: int) -> list[tuple[int, Place]]:
    """Have the agents' keys admitted: number, hub, the hub's key, own keys of each."""
    there = []
    for number in range(1, agents + 1):
        keys = KeyPair.generate()
        body = {"public_key": keys.public, "name": f"n{number}"}
        said = client.call("enroll", "POST", "/v1/nodes/enroll", body)
        there.append((number, (said["hub"], said["server_key"], keys)))
    return there


def run(asked: Asked, folder: Path) -> bool:
    """The whole run; whether all bounds were kept."""
    spawn = mp.get_context("spawn")
    began, end, out, calls = spawn.Event(), spawn.Event(), spawn.Queue(), spawn.Queue()
    with a_master(folder, asked.agents, asked.profile) as master:
        client = Client(folder / "s")
        enrolled, took_s = timed(lambda: enrol(client, asked.agents))
        print(f"enrolled: {asked.agents} agents in {took_s:.1f} s")
        shares = [enrolled[first :: asked.generators] for first in range(asked.generators)]
        workers = [spawn.Process(target=generate, args=(asked, share, began, end, out)) for share in shares]
        try:
            for worker in workers:
                worker.start()
            _, took_s = timed(lambda: until(lambda: _in_contact(client) == asked.agents, 300))
            print(f"in contact: {asked.agents} agents in {took_s:.1f} s")
            newest, took_s = timed(lambda: max(client.submit(BATCH, "batch") for _ in range(asked.jobs // BATCH)))
            print(f"submitted: {newest} jobs in {took_s:.1f} s")
            jobs_a_s = asked.agents / asked.job_s
            workers.append(spawn.Process(target=use, args=(folder / "s", newest, jobs_a_s, end, calls)))
            workers[-1].start()
            began.set()
            memory, cpu, kept_waiting = watch(master, asked.seconds)
            waiting = _waiting(client)
            end.set()
            counted = [out.get(timeout=60) for _ in shares]
            return report(asked, counted, calls.get(timeout=60), memory, (cpu, kept_waiting), waiting)
        finally:
            end.set()
            for worker in workers:
                worker.join(30)
                worker.kill()


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    """What comes of it, and the seconds it took."""
    began_s = time.monotonic()
    return work(), time.monotonic() - began_s


def _in_contact(client: Client) -> int:
    ready, after = 0, "-"
    while after:
        page = client.call("nodes", "GET", f"/v1/nodes?limit=1000&after={after}")
        ready += sum(1 for node in page["items"] if node["state"] == "ready")
        after = str(page.get("next") or "")
    return ready


def _waiting(client: Client) -> int:
    return sum(int(queue["waiting"]) for queue in client.call("queues", "GET", "/v1/queues")["items"])


def watch(master: psutil.Process, seconds: float) -> tuple[list[int], float, float]:
    """The master's memory, once a second; the share of one core that it used; the share of time its loop waited for one."""
    memory, began_s = [], time.monotonic()
    before, waited_s = master.cpu_times(), _waited_s(master)
    while time.monotonic() - began_s < seconds:
        memory.append(master.memory_info().rss)
        time.sleep(1.0)
    after = master.cpu_times()
    used_s = after.user + after.system - before.user - before.system
    took_s = time.monotonic() - began_s
    return memory, used_s / took_s, (_waited_s(master) - waited_s) / took_s


def _waited_s(master: psutil.Process) -> float:
    """How long the main thread has been ready to run while no processor was free; not a number where no kernel says it."""
    account = Path(f"/proc/{master.pid}/task/{master.pid}/schedstat")
    return int(account.read_text().split()[1]) / 1e9 if account.exists() else float("nan")


def report(
    asked: Asked,
    counted: Sequence[Counted],
    calls: dict[str, list[float]],
    memory: Sequence[int],
    shares: tuple[float, float],
    waiting: int,
) -> bool:
    """Print the figures; whether all bounds were kept."""
    beats = sorted(each for one in counted for each in one.beats)
    unanswered = sum(one.unanswered for one in counted)
    done = sum(one.done for one in counted)
    quarter = max(1, len(memory) // 4)
    first, last = max(memory[:quarter]), max(memory[-quarter:])
    samples = [memory[int(n * (len(memory) - 1) / (SAMPLES - 1))] >> 20 for n in range(SAMPLES)]
    print(f"jobs: {done} done, {done / asked.seconds:.0f} a second, {waiting} waiting at the end")
    print(
        f"master: {shares[0]:.0%} of a core, its loop waited for one {shares[1]:.0%} of the time;"
        f" load average of the machine {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"
    )
    print(f"memory: {first >> 20} MiB at most in the first quarter, {last >> 20} MiB in the last; {samples}")
    print(
        f"heartbeats: {len(beats)} answered, {_spread(beats)}; {unanswered} not answered in {HEARTBEAT_S:g} s at the end"
    )
    print(
        f"generator: looked every {max(one.late_s for one in counted):.2f} s at worst; {_hellos(counted)} Hellos again"
    )
    for kind, took in sorted(calls.items()):
        print(f"call {kind}: {len(took)}, {_spread(sorted(took))}")
    everything = sorted(each for took in calls.values() for each in took)
    print(f"calls together: {len(everything)}, {_spread(everything)}")
    kept = {
        "memory": last <= first * GROWTH,
        "heartbeats": not unanswered and bool(beats) and beats[-1] <= HEARTBEAT_S,
        "calls": quantile(everything, 0.99) < CALL_P99_S,
    }
    print("bounds: " + ", ".join(f"{name} {'kept' if good else 'BROKEN'}" for name, good in kept.items()))
    return all(kept.values())


def _hellos(counted: Sequence[Counted]) -> int:
    return sum(one.hellos for one in counted)


def quantile(values: Sequence[float], share: float) -> float:
    """Of sorted values; infinite where there are none."""
    return values[min(len(values) - 1, int(share * len(values)))] if values else float("inf")


def _spread(values: Sequence[float]) -> str:
    return ", ".join(f"{name} {quantile(values, share) * 1e3:.0f} ms" for name, share in _QUANTILES)


_QUANTILES = (("half below", 0.5), ("p99", 0.99), ("longest", 1.0))


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status 0: all bounds were kept."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--agents", type=int, default=200)
    parser.add_argument("--jobs", type=int, default=5000)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument(
        "--job-s", type=float, default=30.0, help="how long a job takes, from half of it to one and a half"
    )
    parser.add_argument("--generators", type=int, default=2, help="processes that the agents are spread over")
    parser.add_argument("--profile", type=Path, metavar="FILE")
    asked = Asked(**vars(parser.parse_args(arguments)))
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    with tempfile.TemporaryDirectory(prefix="ffrtmp-load-") as folder:
        return 0 if run(asked, Path(folder)) else 1


if __name__ == "__main__":
    sys.exit(main())
