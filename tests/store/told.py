"""What a master has answered and what it has committed, written down apart from its store; and what a start lacks of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from store.little_agent import log_of
from store.little_master import Answered, LittleMaster
from store.mirror import Mirror

from ffrtmp import wire
from ffrtmp.farm.job import State
from ffrtmp_master.api.backend import Outcome
from ffrtmp_master.rows import Loaded, TurnRows


@dataclass
class Told:
    """What somebody was answered, and may rely on."""

    accepted: set[int] = field(default_factory=set)
    canceled: set[int] = field(default_factory=set)
    over: set[tuple[str, int]] = field(default_factory=set)  # attempts whose end was acknowledged
    logs: dict[tuple[str, int], int] = field(default_factory=dict)  # acknowledged up to
    turns: dict[str, int] = field(default_factory=dict)  # lineage -> the newest that was heard of
    retired_s: float = 0.0  # what ended before may be gone

    def hear(self, message: wire.Message) -> None:
        """The master says this to an agent."""
        if isinstance(message, wire.Ack):
            uuid, number, _kind = message.item.rsplit(".", 2)
            self.over.add((uuid, int(number)))
        if isinstance(message, wire.LogAck):
            key = (message.uuid, message.attempt)
            self.logs[key] = max(self.logs.get(key, 0), message.offset)
        if isinstance(message, wire.Ack | wire.Assign | wire.Welcome | wire.HeartbeatAck):
            self.turns[message.lineage] = max(self.turns.get(message.lineage, 0), message.turn)


@dataclass
class Past:
    """All that a start must find: what was answered, and what was committed."""

    told: Told = field(default_factory=Told)
    mirror: Mirror = field(default_factory=Mirror)
    ended: dict[int, tuple[State, float]] = field(default_factory=dict)  # and when


class Noted(Answered):
    """Writes down an answer as it comes."""

    def __init__(self, note: Callable[[Outcome], None]) -> None:
        super().__init__()
        self.note = note

    def set_result(self, result: Outcome, /) -> None:
        super().set_result(result)
        self.note(result)


def taken(past: Past, turn: TurnRows) -> None:
    """A turn is on disk."""
    past.mirror.take(turn)
    past.ended.update({number: (job.state, turn.at_s) for number, job in turn.ended.items()})


def differences(past: Past, loaded: Loaded, master: LittleMaster) -> str:
    """What a start lacks, or has too much, in a sentence; empty: it is as it must be."""
    return _rows_of(past.mirror, loaded) or _told_of(past, loaded, master) or "; ".join(master.store.verify_history())


def _rows_of(mirror: Mirror, loaded: Loaded) -> str:
    if loaded.turn != mirror.turn:
        return f"the store has turn {loaded.turn}, committed was {mirror.turn}"
    jobs = {job.number: (job.uuid, job.state, job.current, job.failures, job.lost, job.verdict) for job in loaded.jobs}
    known = mirror.jobs.values()
    wanted = {job.number: (job.uuid, job.state, job.current, job.failures, job.lost, job.verdict) for job in known}
    if jobs != wanted:
        return f"the store has the jobs {jobs}, committed were {wanted}"
    attempts = {(a.id, a.node, a.want, a.accepted, a.doubted, a.paused) for a in loaded.attempts}
    there = {(a.id, a.node, a.want, a.accepted, a.doubted, a.paused) for a in mirror.attempts.values()}
    if attempts != there:
        return f"the store has the attempts {attempts}, committed were {there}"
    grants = {(g.job, g.attempt, g.request, g.fingerprint, g.settling) for g in loaded.grants}
    if grants != {(g.job, g.attempt, g.request, g.fingerprint, g.settling) for g in mirror.grants.values()}:
        return f"the store has the grants {grants}, committed were {mirror.grants}"
    if {node.name: node for node in loaded.nodes} != mirror.nodes:
        return f"the store has the nodes {loaded.nodes}, committed were {mirror.nodes}"
    return ""


def _told_of(past: Past, loaded: Loaded, master: LittleMaster) -> str:
    """P1: durable before answered."""
    told, reader = past.told, master.reader
    for number in sorted(told.accepted | set(past.ended)):
        row = reader.job(number)
        state, at_s = past.ended.get(number, (None, 0.0))
        if row is None and (state is None or at_s >= told.retired_s):
            return f"job {number} was accepted, and is lost"
        if row is not None and state is not None and row.state is not state:
            return f"job {number} is {row.state}, and ended as {state}"
        if row is not None and number in told.canceled and row.state not in (State.CANCELING, State.CANCELED):
            return f"job {number} is {row.state}, and its cancellation was answered"
    there = {(attempt.uuid, attempt.number) for attempt in loaded.attempts}
    if there & told.over:
        return f"of {there & told.over} the end was acknowledged, and it is not known"
    newest = told.turns.get(loaded.lineage, 0)
    if newest > loaded.turn:
        return f"agents have heard of turn {newest} of {loaded.lineage}, the store has {loaded.turn}"
    return _logs_of(told, master)


def _logs_of(told: Told, master: LittleMaster) -> str:
    for (uuid, attempt), size in told.logs.items():
        job = master.reader.job(uuid)
        if job is None or (job.ended_s is not None and job.ended_s < told.retired_s):
            continue  # it is retired, its log first
        pieces = master.reader.read_log(job.number, attempt)
        kept = b"".join(piece.data for piece in pieces)
        if len(kept) < size or kept != log_of(job.number, attempt, len(kept)):
            return f"of the log of {job.number}.{attempt} {size} bytes were acknowledged, {len(kept)} are there"
    return ""
