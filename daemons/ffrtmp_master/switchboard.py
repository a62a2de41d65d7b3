"""Between the hub and the turn: who is speaking, what goes straight back, what waits for a turn, and what goes out after one.

A heartbeat is answered at once, also while a commit runs: an agent must not take a slow disk for a dead master. The answer
is given only for a session that is live as the rules have decided so far, because it renews the node's leases; and the turn
number in it is the newest *committed* one, because an agent that has heard of a turn holds the master to it.

Log chunks do not wait for a turn either: they go to the log store in batches and are acknowledged when they are on disk.
"""

from __future__ import annotations

import logging
import random
import secrets
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from ffrtmp import wire
from ffrtmp.farm import effects as fx
from ffrtmp.farm import events as ev
from ffrtmp.farm.job import Priority, Queue
from ffrtmp.journal import Event
from ffrtmp.keys import fingerprint
from ffrtmp.spec import Fingerprint

from . import manners, translate
from .api.watch import Watchers
from .complaints import Complaints, Pace
from .hub import Hub, Received, SendResult
from .live import LiveFarm, News, Pulse
from .store.logs import LogAppend
from .store.reader import Reader
from .submit import terms_of
from .translate import Chance, Sender
from .turn import Input, Turns

log = logging.getLogger(__name__)
LOG_BACKLOG_BYTES = 32 << 20  # more than this is not taken; agents send it again
OWNERS_KEPT = 10_000
ASKING_KEPT = 1000
HELLOS_AT_ONCE = 10  # of one node; an agent says it every two seconds until it is answered
HELLO_EVERY_S = 1.0


@dataclass(frozen=True, slots=True)
class HeardLog:
    """A log chunk on its way to the store, and where to acknowledge it."""

    chunk: LogAppend
    connection: bytes
    ack: wire.LogAck
    last: bool


@dataclass(slots=True)
class Switchboard:
    """One for each master. `post` puts an input into the next turn; `enroll` is asked for tickets' holders."""

    turns: Turns
    reader: Reader
    live: LiveFarm
    watchers: Watchers
    timing: wire.Timing
    max_retries: int
    post: Callable[[Input], None]
    enroll: Callable[[bytes, str, wire.Enroll], None]
    labels_max: int = 32
    hub: Hub | None = None
    logs: list[HeardLog] = field(default_factory=list)
    log_bytes: int = 0
    complaints: Complaints = field(default_factory=lambda: Complaints(log, time.monotonic))
    hellos: Pace = field(default_factory=lambda: Pace(HELLOS_AT_ONCE, HELLO_EVERY_S, time.monotonic))
    chance: Callable[[], Chance] = field(default_factory=lambda: _chance)
    _names: dict[str, str] = field(default_factory=dict)  # key -> node
    _there: frozenset[str] = frozenset()  # nodes in contact, as the journal has been told
    _asking: dict[bytes, str] = field(default_factory=dict)  # connection -> the node that said Hello there, the newest
    _owners: dict[tuple[str, int], tuple[int, str]] = field(default_factory=dict)  # (UUID, attempt) -> (job, node)

    # ---- who is who ----------------------------------------------------------------------------------------------

    def know_nodes(self) -> None:
        """The nodes have changed: whose keys are admitted from now on."""
        self._names = {node.key: node.name for node in self.turns.farm.world.nodes.rows()}
        self.live.keep_nodes(self._names.values())

    def tell_enrolled(self) -> None:
        """A line in the journal for each node whose key is new. To be called before `know_nodes`."""
        for node in self.turns.farm.world.nodes.rows():
            if node.key not in self._names:
                extra = {"FFRTMP_NODE": node.name, **Event.NODE_ENROLLED.field}
                log.info("node %s is enrolled, with the key %s", node.name, fingerprint(node.key), extra=extra)

    def admits(self, key: str) -> bool:
        """Whether a key is a node's."""
        return key in self._names

    def hold(self, held: bool) -> None:
        """Hear no more from agents, or go on. Idempotent."""
        if self.hub is not None:
            self.hub.hold(held)

    def tell_lost(self) -> None:
        """A line in the journal for each node that has been lost or removed since the last call."""
        world = self.turns.farm.world
        if self._there == world.there.keys():
            return
        for name in sorted(self._there - world.there.keys()):
            extra = {"FFRTMP_NODE": name, **Event.NODE_LOST.field}
            log.warning("node %s is %s", name, "lost" if name in world.nodes else "removed", extra=extra)
        self._there = frozenset(world.there)

    # ---- in ------------------------------------------------------------------------------------------------------

    def hear(self, received: Received) -> None:
        """A message has come. Never raises: what is wrong with it concerns its sender alone."""
        try:
            name = self._names.get(received.key)
            if not self._in_order(name or "a stranger", received):
                return
            if isinstance(received.message, wire.Enroll):
                self.enroll(received.connection, received.key, received.message)
            elif name is not None:
                self._of_node(Sender(name, received.connection, received.key), received.message)
        except Exception as error:
            what = type(received.message).__name__
            self.complaints.note("a message could not be taken", f"a {what}: {error!r}")
            log.debug("a %s could not be taken", what, exc_info=True)

    def _in_order(self, name: str, received: Received) -> bool:
        """Whether what a node says makes sense; a Hello that does not is answered, so that its owner learns of it."""
        why = manners.offence(received.message, self.labels_max)
        if not why:
            return True
        what = type(received.message).__name__
        self.complaints.note("a message that makes no sense was dropped", f"a {what} of {name} with {why}")
        if isinstance(received.message, wire.Hello | wire.Enroll):
            self.send(received.connection, wire.Sorry(400, f"the agent announces {why}", "look at its configuration"))
        return False

    def _of_node(self, sender: Sender, message: wire.FromAgent) -> None:
        if isinstance(message, wire.Heartbeat):
            self._heartbeat(sender, message)
        elif isinstance(message, wire.Hello):
            self._hello(sender, message)
        elif isinstance(message, wire.LogChunk):
            self._log_chunk(sender, message)
        elif isinstance(message, wire.AdoptionOffer):
            self._offer(sender, message)
        else:
            event = translate.of_attempt(message, sender, self.chance())
            if event is not None:
                self.post(_with_results(event, message))

    def _session_live(self, sender: Sender, session: int) -> bool:
        contact = self.turns.farm.world.in_contact(sender.node)
        return contact is not None and contact.session == session and contact.connection == sender.connection

    def _heartbeat(self, sender: Sender, message: wire.Heartbeat) -> None:
        if self._session_live(sender, message.session):
            lineage, turn = self.turns.farm.world.lineage, self.turns.committed
            self.send(sender.connection, wire.HeartbeatAck(message.session, message.number, lineage, turn))
            self.live.pulse[sender.node] = Pulse(message.load, message.free_memory_bytes)
            self._progress(sender.node, message.attempts)
        told = message.facts is not None or message.capacity is not None
        news = News(message.facts, message.capacity) if told else None
        self.post(Input(translate.heartbeat(message, sender), news=news))

    def _progress(self, node: str, reports: Iterable[wire.AttemptReport]) -> None:
        world = self.turns.farm.world
        for report in reports:
            attempt = world.attempts.get(world.by_identity.get((report.uuid, report.attempt), (0, 0)))
            if (
                attempt is not None
                and attempt.node == node
                and report.progress is not None
                and attempt.job in world.jobs
            ):
                self.live.seen[attempt.job] = (report.attempt, report.progress)
                self.watchers.wake(attempt.job)

    def _hello(self, sender: Sender, message: wire.Hello) -> None:
        if not self.hellos.allows(sender.node):
            self.complaints.note("a node says Hello without end", f"node {sender.node}; most of it is not heard")
            return
        if not wire.OLDEST_PROTOCOL <= message.protocol <= wire.PROTOCOL + 1:
            detail = f"this agent speaks protocol {message.protocol}, this master {wire.PROTOCOL}"
            self.send(sender.connection, wire.Sorry(426, detail, "upgrade the older of the two"))
            return
        self._asking.pop(sender.connection, None)
        self._asking[sender.connection] = sender.node
        while len(self._asking) > ASKING_KEPT:
            del self._asking[next(iter(self._asking))]
        world = self.turns.farm.world
        unknown = {r.uuid for r in message.attempts if r.uuid not in world.by_uuid}
        strangers = frozenset(unknown - self.reader.known(unknown)) if unknown else frozenset()
        news = News(message.facts, message.capacity)
        self.post(Input(translate.hello(message, sender, self.chance(), strangers), news=news))

    def _offer(self, sender: Sender, message: wire.AdoptionOffer) -> None:
        if self.reader.job(message.uuid) is not None and message.uuid not in self.turns.farm.world.by_uuid:
            # It has ended here, by another attempt that was adopted: its next Hello is answered accordingly.
            self.send(sender.connection, wire.NoSession(message.session))
            return
        free = self.reader.job(message.job) is None and message.job not in self.turns.farm.world.jobs
        queue, priority = Queue[message.queue.upper()], Priority[message.priority.upper()]
        event = ev.Adopt(
            sender.node,
            sender.connection,
            message.session,
            message.uuid,
            message.job if free else 0,
            message.attempt,
            terms_of(message.spec, queue, priority, self.max_retries),
            message.paused,
        )
        self.post(Input(event, spec=message.spec))

    # ---- logs ----------------------------------------------------------------------------------------------------

    def _log_chunk(self, sender: Sender, message: wire.LogChunk) -> None:
        if not self._session_live(sender, message.session) or self.log_bytes > LOG_BACKLOG_BYTES:
            return
        job = self._owned(sender.node, message.uuid, message.attempt)
        if job is None and self._offered(sender.node, message.uuid, message.attempt):
            return  # it will have a place once its attempt is adopted
        end = message.offset + len(message.data)
        ack = wire.LogAck(message.session, message.uuid, message.attempt, end)
        if job is None:
            self.send(sender.connection, ack)  # nobody wants it any more: let the agent be done with it
            return
        self.logs.append(
            HeardLog(
                LogAppend(job, message.attempt, message.offset, message.data, message.after),
                sender.connection,
                ack,
                message.last,
            )
        )
        self.log_bytes += len(message.data)

    def _offered(self, node: str, uuid: str, attempt: int) -> bool:
        """Whether a restored master waits for the node to tell what this attempt is."""
        contact = self.turns.farm.world.in_contact(node)
        return contact is not None and (uuid, attempt) in contact.offered

    def _owned(self, node: str, uuid: str, attempt: int) -> int | None:
        """The job whose attempt this is, if it is or was on this node: a node writes nobody else's log (P4, P12)."""
        owner = self._owners.get((uuid, attempt))
        if owner is None:
            owner = self._look_up(uuid, attempt)
            if owner is None:
                return None
            self._owners[(uuid, attempt)] = owner
            while len(self._owners) > OWNERS_KEPT:
                del self._owners[next(iter(self._owners))]
        return owner[0] if owner[1] == node else None

    def forget_owners(self) -> None:
        """Jobs were retired: what comes of their logs has no place any more, and its sender is to be done with it."""
        self._owners.clear()

    def _look_up(self, uuid: str, attempt: int) -> tuple[int, str] | None:
        world = self.turns.farm.world
        key = world.by_identity.get((uuid, attempt))
        if key is not None:
            return key[0], world.attempts[key].node
        job = self.reader.job(uuid)
        if job is None:
            return None
        row = next(
            (a for a in self.reader.attempts(job.number, after=attempt - 1, limit=1) if a.number == attempt), None
        )
        return (job.number, row.node) if row is not None else None

    def take_logs(self) -> list[HeardLog]:
        """The chunks that have come since the last call."""
        taken, self.logs, self.log_bytes = self.logs, [], 0
        return taken

    def logs_stored(self, heard: Iterable[HeardLog]) -> None:
        """These chunks are on disk."""
        for each in heard:
            self.send(each.connection, each.ack)
            if each.last:
                self.live.log_ended(each.chunk.job, each.chunk.attempt)
            self.watchers.wake(each.chunk.job)

    # ---- out -----------------------------------------------------------------------------------------------------

    def send(self, connection: bytes, message: wire.Message) -> None:
        """Send without waiting; a closed connection is told to the rules."""
        if self.hub is not None and self.hub.send(connection, message) is SendResult.UNREACHABLE:
            self.post(Input(ev.Unreachable(connection)))

    def act(self, effects: Iterable[fx.Effect]) -> None:
        """Carry out what a committed turn decided for the agents."""
        for effect in effects:
            try:
                self._act(effect)
            except Exception:
                log.exception("%s could not be carried out; it is repeated where it matters", type(effect).__name__)

    def _act(self, effect: fx.Effect) -> None:
        match effect:
            case fx.SendWelcome():
                self._welcome(effect)
            case fx.SendSorry(connection=connection, status=status, detail=detail, hint=hint, retry=retry):
                name = self._asking.get(connection, "")
                extra = {"FFRTMP_NODE": name, **Event.NODE_REFUSED.field}
                self.complaints.note(f"node {name} is refused", f"{status} {detail}", extra)
                self.send(connection, wire.Sorry(status, detail, hint, retry))
            case fx.SendNoSession(connection=connection, session=session):
                self.send(connection, wire.NoSession(session))
            case fx.SendSign(connection=connection, session=session):
                self.send(connection, wire.GiveSign(session))
            case _:
                self._act_in_session(effect)

    def _act_in_session(self, effect: fx.Effect) -> None:
        world = self.turns.farm.world
        node = getattr(effect, "node", "")
        contact = world.in_contact(node) if isinstance(node, str) and node else None
        if contact is None or isinstance(effect, fx.Record):
            return
        lineage, turn, session = world.lineage, self.turns.committed, contact.session
        message: wire.Message | None = None
        match effect:
            case fx.SendAssign(attempt=key):
                message = self._assign(key, session)
            case fx.SendSettle(attempt=key):
                message = self._settle(key, session)
            case fx.SendOrder(uuid=uuid, number=number, want=want):
                message = wire.Order(session, uuid, number, want.value)
            case fx.SendGrant(uuid=uuid, number=number, request=request) if self._granted(uuid, number):
                message = wire.Grant(session, uuid, number, request, self.timing.grant_ttl_s)
            case fx.SendDeny(uuid=uuid, number=number, request=request, detail=detail):
                message = wire.Deny(session, uuid, number, request, detail)
            case fx.SendAck(item=item):
                message = wire.Ack(session, item, lineage, turn)
        if message is not None:
            self.send(contact.connection, message)

    def _granted(self, uuid: str, number: int) -> bool:
        """Whether the grant still stands at the end of its turn: nobody is told of one that the store does not hold (P2)."""
        world = self.turns.farm.world
        held = world.grants.get(world.by_uuid.get(uuid, 0))
        return held is not None and held.attempt == number

    def _welcome(self, effect: fx.SendWelcome) -> None:
        world = self.turns.farm.world
        offsets: dict[tuple[str, int], int] = {}
        for directive in effect.directives:
            job = self._owned(effect.node, directive.uuid, directive.number)
            if job is not None:
                offsets[(directive.uuid, directive.number)] = self.reader.log_size(job, directive.number)
        node = world.nodes.get(effect.node)
        message = translate.welcome(
            effect,
            lineage=world.lineage,
            turn=self.turns.committed,
            timing=self.timing,
            offsets=offsets,
            address=node.address if node is not None else "",
        )
        self.send(effect.connection, message)
        extra = {"FFRTMP_NODE": effect.node, **Event.NODE_READY.field}
        log.info("node %s is in contact with %d attempts", effect.node, len(effect.directives), extra=extra)

    def _assign(self, key: tuple[int, int], session: int) -> wire.Assign | None:
        world = self.turns.farm.world
        job, attempt = world.jobs.get(key[0]), world.attempts.get(key)
        spec = self.reader.spec(key[0])
        if job is None or attempt is None or spec is None or attempt.given_up:
            return None
        terms = job.terms
        granted = tuple(
            Fingerprint(row.fingerprint.size_bytes, row.fingerprint.digest)
            for row in self.reader.attempts(key[0])
            if row.fingerprint is not None
        )
        return wire.Assign(
            session,
            world.lineage,
            self.turns.committed,
            job.uuid,
            key[0],
            key[1],
            terms.queue.label,
            terms.priority.label,
            spec,
            granted,
        )

    def _settle(self, key: tuple[int, int], session: int) -> wire.Settle | None:
        attempt, spec = self.turns.farm.world.attempts.get(key), self.reader.spec(key[0])
        if attempt is None or spec is None:
            return None
        return wire.Settle(session, attempt.uuid, key[0], key[1], spec)


def _with_results(event: ev.AgentEvent, message: wire.FromAgent) -> Input:
    match message:
        case wire.Published(fingerprint=fingerprint, results=results):
            return Input(event, results=results, fingerprint=fingerprint)
        case wire.Ended(results=results):
            return Input(event, results=results)
    return Input(event)


def _chance() -> Chance:
    return Chance(secrets.randbits(62) + 1, secrets.token_hex(8), random.random())
