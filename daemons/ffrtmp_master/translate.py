"""Between the wire and the rules: messages become events, effects become messages. Pure; no decision is taken here."""

from __future__ import annotations

from dataclasses import dataclass

from ffrtmp import wire
from ffrtmp.farm import events as ev
from ffrtmp.farm.effects import SendWelcome
from ffrtmp.farm.job import Failure, Fingerprint, Phase, Reason
from ffrtmp.farm.node import Capacity

WORDS_MOST = 2000  # characters of a line that is kept


@dataclass(frozen=True, slots=True)
class Chance:
    """Fresh randomness for one event."""

    token: int
    lineage: str
    jitter: float


@dataclass(frozen=True, slots=True)
class Sender:
    """Whose message it is: the node by its key, and the connection that it came by."""

    node: str
    connection: bytes
    key: str = ""


def words(text: str) -> str:
    """What somebody else's tool said, as one line that can be kept and shown on a terminal."""
    return "".join(each if each.isprintable() else " " for each in text[:WORDS_MOST]).strip()


def failure(of: wire.Failure | None) -> Failure | None:
    """A failure as the rules have it."""
    return Failure(Reason(of.reason), of.transient, words(of.line), words(of.hint)) if of is not None else None


def fingerprint(of: object) -> Fingerprint | None:
    """A fingerprint as the rules have it."""
    size, digest = getattr(of, "size_bytes", None), getattr(of, "digest", None)
    return Fingerprint(size, digest) if isinstance(size, int) and isinstance(digest, str) else None


def capacity(of: wire.Capacity) -> Capacity:
    """What a node offers, as the rules compare it."""
    roots = {f"{r.identity}:r" for r in of.roots if r.readable} | {f"{r.identity}:w" for r in of.roots if r.writable}
    features = {f"protocol:{p}" for p in of.protocols} | ({"run"} if of.allow_run else set())
    return Capacity(
        cpu_milli=of.cpu_milli,
        memory_bytes=of.memory_bytes,
        scratch_bytes=of.scratch_bytes,
        slots=of.slots,
        encoders=frozenset(of.encoders),
        engines=frozenset(of.engines),
        roots=frozenset(roots),
        labels=frozenset(of.labels),
        features=frozenset(features),
    )


def report(of: wire.AttemptReport) -> ev.Report:
    """An attempt as its node tells it."""
    out_time_s = of.progress.out_time_s if of.progress is not None else 0.0
    return ev.Report(of.uuid, of.job, of.attempt, of.stage, Phase(of.phase), out_time_s, of.request)


def hello(of: wire.Hello, sender: Sender, chance: Chance, strangers: frozenset[str]) -> ev.Hello:
    """A node asks for a session. `strangers`: the reported UUIDs that the store has never heard of."""
    return ev.Hello(
        node=sender.node,
        connection=sender.connection,
        token=chance.token,
        fresh_lineage=chance.lineage,
        incarnation=of.incarnation,
        boot_id=of.boot_id,
        address=of.address,
        capacity=capacity(of.capacity),
        reports=tuple(report(r) for r in of.attempts),
        seen_lineage=of.seen.lineage,
        seen_turn=of.seen.turn,
        seen_job=of.seen.job,
        strangers=strangers,
        key=sender.key,
    )


def heartbeat(of: wire.Heartbeat, sender: Sender) -> ev.Heartbeat:
    """A heartbeat without what only people look at."""
    told = capacity(of.capacity) if of.capacity is not None else None
    reports = tuple(report(r) for r in of.attempts)
    return ev.Heartbeat(sender.node, sender.connection, of.session, of.number, reports, told)


def of_attempt(message: wire.FromAgent, sender: Sender, chance: Chance) -> ev.AgentEvent | None:
    """Any other message of a session; None for what is no event of the farm (log chunks, enrolment)."""
    at = (sender.node, sender.connection)
    match message:
        case wire.Accepted(session=s, uuid=u, attempt=n, number=beat):
            return ev.Accepted(*at, s, u, n, beat)
        case wire.Refused(session=s, uuid=u, attempt=n, detail=detail, failure=f):
            return ev.Refused(*at, s, u, n, words(detail), failure(f))
        case wire.PublishRequest(session=s, uuid=u, attempt=n, request=r, fingerprint=p):
            return ev.PublishRequest(*at, s, u, n, r, fingerprint(p))
        case wire.Published(session=s, item=i, uuid=u, attempt=n, request=r, fingerprint=p):
            return ev.Published(*at, s, i, u, n, r, Fingerprint(p.size_bytes, p.digest))
        case wire.NotPublished(session=s, item=i, uuid=u, attempt=n, request=r, detail=detail, failure=f):
            return ev.NotPublished(*at, s, i, u, n, r, words(detail), failure(f), chance.jitter)
        case wire.Ended(session=s, item=i, uuid=u, attempt=n, how=how, failure=f):
            return ev.Ended(*at, s, i, u, n, how, failure(f), chance.jitter)
        case wire.Settled(session=s, uuid=u, attempt=n, fingerprint=p):
            return ev.Settled(*at, s, u, n, fingerprint(p))
        case wire.Goodbye(session=s):
            return ev.Goodbye(*at, s)
    return None


def welcome(
    of: SendWelcome, *, lineage: str, turn: int, timing: wire.Timing, offsets: dict[tuple[str, int], int], address: str
) -> wire.Welcome:
    """A session is open. `offsets`: how much of each kept attempt's log is stored."""
    directives = tuple(
        wire.Directive(d.uuid, d.number, d.action, offsets.get((d.uuid, d.number), 0)) for d in of.directives
    )
    return wire.Welcome(of.session, lineage, turn, of.node, timing, directives, address)
