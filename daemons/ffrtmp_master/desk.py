"""The API's side of the master: takes requests into the next turn and hands out their answers after its commit."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from ffrtmp import __version__, api, wire
from ffrtmp.errors import FarmError
from ffrtmp.farm import events as ev
from ffrtmp.farm.effects import Answer
from ffrtmp.journal import Event
from ffrtmp.keys import KeyPair, Ticket, check_key
from ffrtmp.spec import Recipe

from . import bounds
from .api.access import Caller
from .api.backend import Idempotency, Outcome
from .api.watch import Watchers
from .callers import Callers
from .doorway import Doorway, beyond_loopback, is_loopback
from .hub import Hub
from .live import LiveFarm
from .manners import is_address
from .refusal import Refusal
from .rows import AuditRow, TicketRow
from .store.backup import logs_beside
from .store.reader import Reader
from .store.store import Store
from .submit import PreparedJob
from .tickets import Tickets
from .turn import Asked, Input, Turns

log = logging.getLogger(__name__)

ANSWER_S = 120.0  # longer than any disk should take; the caller is told that it may have been taken


@dataclass(slots=True)
class Desk:
    """Implements the API's `Backend`. `post` puts an input into the next turn, `room` says why none is taken."""

    store: Store
    reader: Reader
    turns: Turns
    live: LiveFarm
    watchers: Watchers
    tickets: Tickets
    keys: KeyPair
    doorway: Doorway
    post: Callable[[Input], None]
    room: Callable[[], str]
    wall_s: Callable[[], float]
    recipes: Mapping[str, Recipe]
    max_retries: int
    backup_folders: Sequence[Path]
    callers: Callers
    hub: Hub | None = None
    _full: bool = False  # the disk guard lets no job in, as the journal has been told
    _backing_up: asyncio.Lock = field(default_factory=asyncio.Lock)
    _opening: asyncio.Lock = field(default_factory=asyncio.Lock)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)  # asyncio itself keeps only weak references

    # ---- requests ------------------------------------------------------------------------------------------------

    async def submit(self, jobs: Sequence[PreparedJob], caller: Caller, idempotency: Idempotency | None) -> Outcome:
        """Accept a batch, durably before this returns."""
        full = self.room()
        if bool(full) != self._full:
            self._full = bool(full)
            log.warning("no job is taken: %s" if full else "jobs are taken again%s", full, extra=Event.DISK_GUARD.field)
        if full:
            raise Refusal(503, full, hint="make room where the database is, or wait for old jobs to be retired")
        asked = Asked(tuple(jobs), caller.label, idempotency, self.live.names())
        return await self._ask(lambda n: Input(ev.Submit(n, tuple(job.new for job in jobs)), asked=asked))

    async def request(self, make: Callable[[int], ev.UserEvent], caller: Caller) -> Answer:
        """Put a user's event into the next turn."""
        return (await self._ask(lambda n: Input(make(n)))).answer

    async def _ask(self, make: Callable[[int], Input]) -> Outcome:
        future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        number, given = self.callers.ask(make, future)
        self.post(given)
        try:
            async with asyncio.timeout(ANSWER_S):
                return await future
        except TimeoutError:
            raise Refusal(
                503, "the store does not answer", hint="it may have been taken: look before you repeat it"
            ) from None
        finally:
            self.callers.left(number)

    # ---- nodes ---------------------------------------------------------------------------------------------------

    async def invite(self, request: api.InviteRequest, caller: Caller) -> api.Invitation:
        """Print a ticket. The first one opens the hub beyond loopback, where it listens on loopback."""
        if self.hub is None:
            raise Refusal(503, "the hub does not listen yet")
        for given in filter(None, (request.name, request.replace)):
            bounds.check_node_name(given)
        keys = KeyPair.generate()
        expires_s = self.wall_s() + request.expires_s
        row = TicketRow(keys.public, expires_s, request.name, request.replace)
        asked = await self._ask(lambda n: Input(ev.Invite(n, request.name, request.replace), ticket=row))
        if asked.answer.status >= 300:
            raise Refusal(asked.answer.status, asked.answer.detail, hint=asked.answer.hint)
        try:
            self.tickets.add(row)
        except FarmError as error:
            raise Refusal(503, error.what, hint=error.hint) from error
        async with self._opening:  # whoever comes second finds it open
            opened = await self._open(request.address)
        # Name servers may take their time, and the loop has none.
        host = request.address or await asyncio.get_running_loop().run_in_executor(None, _own_name)
        port = self.hub.endpoint.rpartition(":")[2]
        hub = f"tcp://[{host}]:{port}" if ":" in host else f"tcp://{host}:{port}"
        ticket = Ticket(hub, self.keys.public, keys, int(expires_s), request.name)
        expires = datetime.fromtimestamp(int(expires_s), UTC).isoformat().replace("+00:00", "Z")
        return api.Invitation(ticket.text, expires, hub, opened)

    async def _open(self, address: str) -> bool:
        assert self.hub is not None
        if not is_loopback(self.hub.endpoint) or is_loopback(address):
            return False
        loop = asyncio.get_running_loop()
        try:
            await loop.run_in_executor(None, self.doorway.keep_open)
        except OSError as error:
            what = f"the state folder cannot keep that the hub is open: {error.strerror}"
            raise Refusal(503, what, hint="mend what the journal says of the disk, then ask again") from error
        try:
            await self.hub.open(beyond_loopback(self.hub.endpoint))
        except FarmError as error:
            self.doorway.forget()
            raise Refusal(503, error.what, hint=error.hint) from error
        return True

    async def enroll(self, request: api.EnrollRequest, caller: Caller) -> api.Enrollment:
        """Admit a key as a node: the agent beside its master."""
        if self.hub is None:
            raise Refusal(503, "the hub does not listen yet")
        name = request.name or request.replace
        bounds.check_node_name(name)
        if not is_address(request.address):
            raise Refusal(422, "this cannot be a node's address", hint="give --address a host name or an IP address")
        try:
            check_key(request.public_key)
        except FarmError as error:
            raise Refusal(422, error.what, hint=error.hint) from None
        answer = await self.request(
            lambda n: ev.AddNode(n, name, request.public_key, request.address, bool(request.replace)), caller
        )
        if answer.status >= 300:
            raise Refusal(answer.status, answer.detail, hint=answer.hint)
        return api.Enrollment(name, self._hub_here(), self.keys.public)

    def _hub_here(self) -> str:
        """The hub as this host reaches it."""
        assert self.hub is not None
        host, port = self.hub.endpoint.removeprefix("tcp://").rsplit(":", 1)
        return f"tcp://127.0.0.1:{port}" if host in ("*", "0.0.0.0", "[::]") else self.hub.endpoint

    def enroll_by_ticket(self, connection: bytes, key: str, message: wire.Enroll) -> None:
        """A host knocks with a ticket's one-time key; it is answered after the commit."""
        task = asyncio.get_running_loop().create_task(self._by_ticket(connection, key, message))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _by_ticket(self, connection: bytes, key: str, message: wire.Enroll) -> None:
        judged = self.tickets.judge(key, message, self.wall_s())
        if isinstance(judged, wire.Sorry):
            self._send(connection, judged)
            return
        try:
            bounds.check_node_name(judged.name)
        except Refusal as refusal:
            self._send(connection, wire.Sorry(refusal.status, refusal.detail, refusal.hint))
            return
        ticket = self.tickets.use(key, message.public_key)
        event = ev.AddNode(0, judged.name, message.public_key, message.address, bool(judged.replace))
        try:
            outcome = await self._ask(
                lambda n: Input(ev.AddNode(n, event.name, event.key, event.address, event.replace), ticket=ticket)
            )
        except Refusal as refusal:
            self._send(connection, wire.Sorry(refusal.status, refusal.detail, refusal.hint, retry=True))
            return
        answer = outcome.answer
        if answer.status < 300:
            self._send(connection, wire.Enrolled(judged.name))
        else:
            self._send(connection, wire.Sorry(answer.status, answer.detail, answer.hint))

    def _send(self, connection: bytes, message: wire.Message) -> None:
        if self.hub is not None:
            self.hub.send(connection, message)

    # ---- the rest ------------------------------------------------------------------------------------------------

    async def backup(self, path: Path) -> int:
        """Copy the store while it works; its size in bytes. One at a time, and never over another one."""
        async with self._backing_up:
            taken = next((each for each in (path, logs_beside(path)) if each.exists()), None)
            if taken is not None:
                raise Refusal(
                    409, f"{taken} is there already, and a backup overwrites nothing", hint="choose another name"
                )
            made = await asyncio.get_running_loop().run_in_executor(None, self.store.backup, path)
        return made.size_bytes

    def audit(self, row: AuditRow) -> None:
        """Keep who did what, in the next turn."""
        self.callers.audit(row)

    def version(self) -> api.Version:
        """Version, lineage and turn."""
        return api.Version(__version__, wire.PROTOCOL, self.turns.farm.world.lineage, self.turns.committed)

    def not_ready(self) -> str:
        """Why the master does not serve; empty when it does."""
        return self.callers.refusing


def _own_name() -> str:
    """What other hosts may call this one: its full name, else the address by which it reaches others."""
    name = socket.getfqdn()
    if name.split(".")[0] != "localhost":
        return name
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # nothing is sent: only the route is looked up
        except OSError:
            return "localhost"
        return str(probe.getsockname()[0])
