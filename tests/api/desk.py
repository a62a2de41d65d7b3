"""A master without agents and hub, for the API's sake: the real rules, the real store, the real server on a Unix socket.

`Desk.happen` lets events of agents come in, so that tests can be a node. `Client` is plain HTTP as curl speaks it.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ffrtmp import api, scenario, wire
from ffrtmp.farm import events as ev
from ffrtmp.farm.effects import Answer
from ffrtmp.farm.farm import Farm
from ffrtmp.farm.rules import Rules
from ffrtmp.spec import Progress
from ffrtmp_master import translate
from ffrtmp_master.api.access import Caller, UnixPolicy
from ffrtmp_master.api.backend import Idempotency, Outcome
from ffrtmp_master.api.call import Bounds, Service
from ffrtmp_master.api.listening import unix_socket
from ffrtmp_master.api.server import Server
from ffrtmp_master.api.watch import Watchers
from ffrtmp_master.live import LiveFarm, Told
from ffrtmp_master.refusal import Refusal
from ffrtmp_master.rows import AuditRow, StoreRefused
from ffrtmp_master.store import Store
from ffrtmp_master.submit import PreparedJob
from ffrtmp_master.turn import Asked, Input, Turns

ROOT = wire.RootFact(name="srv", identity="11111111-1111-4111-8111-111111111111", path="/srv/ffrtmp")
CAPACITY = wire.Capacity(
    cpu_milli=4000,
    memory_bytes=8 << 30,
    slots=4,
    encoders=("libx264", "libx265"),
    protocols=("file", "http", "https"),
    roots=(ROOT,),
)


class Desk:
    """Fulfils the API's `Backend` by one turn an event."""

    def __init__(self, folder: Path, *, watchers: Watchers) -> None:
        self.store = Store.open(folder / "farm.db", folder / "logs.db")
        self.reader = self.store.reader()
        self.watchers = watchers
        self.recipes = scenario.load((scenario.PACKAGED,))
        self.max_retries = 3
        self.backup_folders = (folder / "backups",)
        self.reason = ""
        self.before_submit: Callable[[], Any] = lambda: None
        loaded = self.store.load(0.0)
        self._farm = Farm(Rules(reconnect_grace_s=0.0), lineage=loaded.lineage, now_s=1000.0)
        self.turns = Turns(self._farm, loaded.turn)
        self.live = LiveFarm(self._farm)
        self.now_s = 1000.0
        self._request = 0
        self._audit: list[AuditRow] = []

    def close(self) -> None:
        self.reader.close()
        self.store.close()

    # ---- what happens --------------------------------------------------------------------------------------------

    def turn(self, *inputs: Input) -> list[Any]:
        """Apply and commit; raises what a rule raised."""
        self.now_s += 0.01
        audit, self._audit = self._audit, []
        decision = self.turns.decide(inputs, self.now_s, self.now_s, taken=self.reader.open_outputs, audit=audit)
        self.outcomes = decision.outcomes
        if decision.failed:
            self.turns.undo()
            raise decision.failed[0][1]
        if not decision.rows.empty:
            self.store.commit(decision.rows)
        self.turns.keep(decision)
        for record in decision.rows.records:
            self.watchers.wake(record.job)
        return decision.effects

    def happen(self, event: ev.Event) -> list[Any]:
        return self.turn(Input(event))

    def node(self, name: str = "a", capacity: wire.Capacity = CAPACITY, address: str = "127.0.0.1") -> None:
        """A node is enrolled and says Hello."""
        self.happen(ev.AddNode(0, name, f"key of {name}", address))
        self.live.told[name] = Told(wire.Facts(hostname=name), capacity)
        self.happen(ev.Hello(name, name.encode(), 7, "l", 1, "boot", address, translate.capacity(capacity)))

    def accepted(self, job: int, number: int = 1, node: str = "a") -> None:
        """The node has taken the attempt and runs it."""
        uuid = self.reader.job(job).uuid  # type: ignore[union-attr]
        self.happen(ev.Accepted(node, node.encode(), 7, uuid, number))
        report = ev.Report(uuid, job, number, "running")
        self.happen(ev.Heartbeat(node, node.encode(), 7, 1, (report,)))

    def progress(self, job: int, progress: Progress, number: int = 1) -> None:
        self.live.seen[job] = (number, progress)
        self.watchers.wake(job)

    def ended(self, job: int, number: int = 1, node: str = "a", *, failure: Any = None) -> None:
        """The node says that the attempt ended, by default canceled."""
        uuid = self.reader.job(job).uuid  # type: ignore[union-attr]
        how = "failed" if failure else "stopped"
        self.happen(ev.Ended(node, node.encode(), 7, f"i{number}", uuid, number, how, failure))

    def log(self, job: int, data: bytes, offset: int = 0, attempt: int = 1) -> None:
        self.store.append_log(job, attempt, offset, data)
        self.watchers.wake(job)

    # ---- Backend -------------------------------------------------------------------------------------------------

    async def submit(self, jobs: Sequence[PreparedJob], caller: Caller, idempotency: Idempotency | None) -> Outcome:
        ready = self.before_submit()
        if ready is not None:
            await ready
        self._request += 1
        event = ev.Submit(self._request, tuple(each.new for each in jobs))
        self.turn(Input(event, asked=Asked(tuple(jobs), caller.label, idempotency, self.live.names())))
        return self.outcomes[self._request]

    async def request(self, make: Callable[[int], ev.UserEvent], caller: Caller) -> Answer:
        await asyncio.sleep(0)
        self._request += 1
        effects = self.happen(make(self._request))
        return next(each for each in effects if isinstance(each, Answer) and each.request == self._request)

    async def invite(self, request: api.InviteRequest, caller: Caller) -> api.Invitation:
        return api.Invitation(ticket="a ticket", expires="2030-01-01T00:00:00.000Z", hub="tcp://127.0.0.1:1")

    async def enroll(self, request: api.EnrollRequest, caller: Caller) -> api.Enrollment:
        if request.name == "taken":
            raise Refusal(409, "that name is taken", hint="choose another --name")
        return api.Enrollment(name=request.name, hub="tcp://127.0.0.1:1", server_key="k")

    async def backup(self, path: Path) -> int:
        made = await asyncio.to_thread(self.store.backup, path)
        return made.size_bytes

    def audit(self, row: AuditRow) -> None:
        self._audit.append(row)

    def version(self) -> api.Version:
        return api.Version(version="0", protocol=wire.PROTOCOL, lineage="l", turn=self.turns.committed)

    def not_ready(self) -> str:
        return self.reason


@dataclass
class Said:
    """An answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Desktop:
    """A desk that is served in a thread of its own, and a client to it."""

    desk: Desk
    path: Path
    loop: asyncio.AbstractEventLoop
    open_connections: list[HTTPConnection] = field(default_factory=list)

    def do(self, work: Callable[[], Any]) -> Any:
        """Have something done on the loop's thread, where the desk lives."""

        async def run() -> Any:
            result = work()
            return await result if asyncio.iscoroutine(result) else result

        return asyncio.run_coroutine_threadsafe(run(), self.loop).result(20)

    def call(self, method: str, target: str, body: Any = None, headers: Mapping[str, str] | None = None) -> Said:
        raw = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        connection = _UnixConnection(self.path)
        try:
            connection.request(method, target, raw, dict(headers or {}))
            answer = connection.getresponse()
            return Said(answer.status, dict(answer.headers), answer.read())
        finally:
            connection.close()

    def get(self, target: str) -> Said:
        return self.call("GET", target)

    def submit(self, **fields: Any) -> Any:
        """The one job of an accepted submission."""
        said = self.call("POST", "/v1/jobs", {"scenario": "720p-h264", **fields})
        assert said.status == 201, said.body
        return said.json["items"][0]

    @contextmanager
    def stream(self, target: str) -> Iterator[HTTPResponse]:
        connection = _UnixConnection(self.path)
        try:
            connection.request("GET", target)
            yield connection.getresponse()
        finally:
            connection.close()

    @contextmanager
    def raw(self) -> Iterator[socket.socket]:
        """A bare connection."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(20)
            connection.connect(str(self.path))
            yield connection


class _UnixConnection(HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=20)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(20)
        self.sock.connect(str(self._path))


@contextmanager
def served(
    *, bounds: Bounds | None = None, followers: int = 256, policy: Any = None, log_grace_s: float = 0.3
) -> Iterator[Desktop]:
    """A served desk with one node `a`, until the block ends."""
    with TemporaryDirectory(prefix="ffrtmp-api-") as name:
        folder, started, box = Path(name), threading.Event(), {}

        async def run() -> None:
            desk = Desk(folder, watchers=Watchers(followers))
            try:
                desk.node()
                service = Service(desk, bounds or Bounds(), now=lambda: desk.now_s, log_grace_s=log_grace_s)
                server = Server(service, policy or UnixPolicy(own_uid=os.getuid()))
                await server.start([unix_socket(folder / "master.sock")])
                box.update(desk=desk, loop=asyncio.get_running_loop(), end=asyncio.Event())
                started.set()
                await box["end"].wait()
                await server.stop()
            finally:
                desk.close()
                started.set()

        thread = threading.Thread(target=lambda: asyncio.run(run()), daemon=True)
        thread.start()
        assert started.wait(20), "the server did not start"
        assert "loop" in box, "the server failed to start"
        try:
            yield Desktop(box["desk"], folder / "master.sock", box["loop"])
        finally:
            box["loop"].call_soon_threadsafe(box["end"].set)
            thread.join(20)
            assert not thread.is_alive(), "the server did not stop"


__all__ = ["CAPACITY", "ROOT", "Desk", "Desktop", "Said", "StoreRefused", "served"]
