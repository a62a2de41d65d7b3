"""An agent without a host: the real session and shipping of logs, over a table of attempts that end when their time has come.

What a job is to do stands in the name of its output: `long.mp4` runs until it is told to stop, `flaky.mp4` fails at the first
try, all others take `JOB_S` and are published. An attempt writes its log as it goes.
"""

from __future__ import annotations

from dataclasses import dataclass

from store.little_master import CAPACITY, key_of

from ffrtmp import wire
from ffrtmp.spec import Fingerprint, Results
from ffrtmp_agent import actions as do
from ffrtmp_agent.local import About, Step
from ffrtmp_agent.session import Session
from ffrtmp_agent.shipping import Shipping

JOB_S = 2.0
LOG_BYTES_A_S = 700
FLAW = wire.Failure("network_error", True, "the connection was reset")


@dataclass
class Work:
    """One attempt, as the host has it."""

    assign: wire.Assign
    since_s: float
    log: bytes = b""
    over: bool = False


def log_of(job: int, attempt: int, size: int) -> bytes:
    """What an attempt has written when its log is so long."""
    line = f"job {job} attempt {attempt}: frame after frame\n".encode()
    return (line * (size // len(line) + 1))[:size]


class LittleAgent:
    """`hear` and `tick` give the messages that it sends."""

    def __init__(self, name: str, now_s: float) -> None:
        self.name = name
        self.key = key_of(name)
        about = About(name, f"10.0.0.{name}", "boot", 1, wire.Facts(hostname=name), CAPACITY)
        self.session = Session(about, wire.Seen(), now_s)
        self.shipping = Shipping()
        self.work: dict[do.AttemptKey, Work] = {}
        self.published: list[tuple[str, int]] = []
        self._out: list[wire.Message] = []

    def hear(self, message: wire.FromMaster, now_s: float) -> list[wire.Message]:
        """A message of the master."""
        if isinstance(message, wire.LogAck):
            key = (message.uuid, message.attempt)
            if self.shipping.acked(key, message.offset, now_s):
                self._carry_out(self.session.log_shipped(key), now_s)
            return self._said()
        actions = self.session.receive(message, now_s)
        if isinstance(message, wire.Welcome):
            self.shipping.welcome({(d.uuid, d.attempt): d.log_offset for d in message.directives})
        self._carry_out(actions, now_s)
        return self._said()

    def tick(self, now_s: float) -> list[wire.Message]:
        """What time brings: to its attempts, its logs and its session."""
        for key, work in list(self.work.items()):
            self._get_on(key, work, now_s)
        self._carry_out(self.session.tick(now_s), now_s)
        if self.session.live:
            for key, offset in list(self.shipping.wanted(now_s)):
                log = self.work[key].log
                read = [(offset, log[offset:])] if len(log) > offset else []
                chunk = self.shipping.chunk(key, self.session.number, read, now_s)
                if chunk is not None:
                    self._out.append(chunk)
        return self._said()

    def _said(self) -> list[wire.Message]:
        out, self._out = self._out, []
        return out

    def _get_on(self, key: do.AttemptKey, work: Work, now_s: float) -> None:
        if work.over:
            return
        there_s = now_s - work.since_s
        work.log = log_of(work.assign.job, key[1], int(there_s * LOG_BYTES_A_S))
        self._carry_out(self.session.seen_stage(key, "running", now_s), now_s)
        output = work.assign.spec.output
        name = "" if output is None else output.relative
        if there_s < JOB_S or "long" in name or self.session.attempts[key].step is not Step.RUNNING:
            return
        if "flaky" in name and key[1] == 1:
            self._end(key)
            self._carry_out(self.session.ended(key, "failed", FLAW), now_s)
        else:
            self._carry_out(self.session.verified(key, print_of(key), Results(frames=1), now_s), now_s)

    def _end(self, key: do.AttemptKey) -> None:
        self.work[key].over = True
        self.shipping.ended(key, len(self.work[key].log))

    def _carry_out(self, actions: list[do.Action], now_s: float) -> None:
        """What agent.py does, on a disk that never fails."""
        for action in actions:
            self._carry_out(self._done(action, now_s), now_s)

    def _done(self, action: do.Action, now_s: float) -> list[do.Action]:
        match action:
            case do.Send(message):
                self._out.append(message)
            case do.Create(assign):
                key = (assign.uuid, assign.attempt)
                self.work[key] = Work(assign, now_s)
                self.shipping.add(key)
                return self.session.created(key, now_s)
            case do.Publish(key, _request, _until_s):
                self._end(key)
                self.published.append(key)
                return self.session.publish_done(key, print_of(key))
            case do.Clean(key):
                self._end(key)
                return self.session.ended(key, "stopped")
            case do.PutItem(item, message):
                return self.session.item_kept(item, message)
            case do.Remove(key, _item):
                self.work.pop(key, None)
                self.shipping.forget(key)
            case do.Offer(key):
                job = self.work[key].assign
                number = self.session.number
                self._out.append(
                    wire.AdoptionOffer(number, job.uuid, job.job, job.attempt, job.spec, job.queue, job.priority)
                )
            case do.Look(settle):
                there = (
                    print_of((settle.uuid, settle.attempt)) if (settle.uuid, settle.attempt) in self.published else None
                )
                return self.session.looked(settle, there)
            case do.GiveUp(status, detail, _hint):
                raise AssertionError(f"{self.name} was refused: {status} {detail}")
            case _:
                pass
        return []


def print_of(key: do.AttemptKey) -> Fingerprint:
    """What an attempt's output is known by."""
    return Fingerprint(1000 + key[1], f"{key[0].replace('-', '')}{key[1]:032x}")
