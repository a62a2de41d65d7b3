"""A stage for the rules: the real `Farm`, nodes that behave as agents do, and time that tests move.

`Stage.turn` is the master's turn without a disk. What it sends is heard by the `Host`s that are up, and what they say to that
comes with the next turn. After each turn everything in `invariants` is checked, so each test of the rules is
also a test of the promises.

    stage = Stage()
    a = stage.node("a")
    job = stage.submit()
    a.verified(job)                     # asks for the grant, gets it, publishes
    assert stage.state(job) is State.COMPLETED
"""

from __future__ import annotations

import itertools
import pickle
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeVar

from ffrtmp.farm import effects as fx
from ffrtmp.farm import events as ev
from ffrtmp.farm.farm import Farm
from ffrtmp.farm.job import Attempt, Failure, Fingerprint, Grant, Job, Phase, Reason, Requirements, State, Terms, Want
from ffrtmp.farm.node import Capacity
from ffrtmp.farm.rules import Rules
from ffrtmp.farm.why import why

from .invariants import History, answered, check

GIB = 1 << 30
START_S = 7.0
MOMENT_S = 0.01
BROKEN = Failure(Reason.RUNTIME_ERROR, True, "Conversion failed!", "look at the log")
WRONG = Failure(Reason.INPUT_ERROR, False, "moov atom not found", "is it a video?")
LATE = Failure(Reason.TIMEOUT, False, "used 60 of 60 s", "give it more time")
PRINT = Fingerprint(1000, "abc")
ROOM = Capacity(4000, 8 * GIB, 100 * GIB, 4, engines=frozenset({"ffmpeg"}), roots=frozenset({"r1:r", "r1:w"}))
T = TypeVar("T")


def fresh(value: T) -> T:
    """The same as other objects: what comes from the wire or the disk is none that the rules know already."""
    copy: T = pickle.loads(pickle.dumps(value))
    return copy


def terms(cpu: int = 1000, **fields) -> Terms:
    """Terms of a job of so many thousandths of a core, which writes to media root r1."""
    need = {k: fields.pop(k) for k in list(fields) if k in Requirements.__dataclass_fields__}
    return Terms(requirements=Requirements(cpu_milli=cpu, **{"roots": frozenset({"r1:r", "r1:w"}), **need}), **fields)


@dataclass
class Local:
    """An attempt on a host."""

    job: int
    uuid: str
    number: int
    stage: str = "running"
    phase: Phase = Phase.ENCODING
    out_time_s: float = 0.0
    request: int = 0

    def report(self) -> ev.Report:
        return ev.Report(self.uuid, self.job, self.number, self.stage, self.phase, self.out_time_s, self.request)


class Host:
    """A node with a small honest agent. Switches say what it does of itself:

    `up` hears and beats; `accepts` takes work; `obeys` follows orders; `publishes` uses a grant at once.
    """

    def __init__(self, stage: Stage, name: str, capacity: Capacity, address: str) -> None:
        self.stage = stage
        self.name = name
        self.capacity = capacity
        self.address = address
        self.connection = f"{name}/1".encode()
        self.incarnation = 1
        self.boot = "boot"
        self.session = 0
        self.beat_number = 0
        self.next_beat_s = 0.0
        self.up = self.accepts = self.obeys = self.publishes = True
        self.locals: dict[tuple[str, int], Local] = {}
        self.heard: list[fx.Effect] = []
        self.outbox: dict[str, ev.Published | ev.NotPublished | ev.Ended] = {}
        self.seen = ("", 0, 0)

    # ---- what it says --------------------------------------------------------------------------------------------

    def _at(self) -> tuple[str, bytes, int]:
        return self.name, self.connection, self.session

    def hello_event(self, **fields) -> ev.Hello:
        lineage, turn, job = self.seen
        hello = ev.Hello(
            self.name,
            self.connection,
            next(self.stage.tokens),
            f"L{next(self.stage.tokens)}",
            self.incarnation,
            self.boot,
            self.address,
            self.capacity,
            tuple(local.report() for local in self.locals.values()),
            lineage,
            turn,
            job,
            frozenset(u for u, _ in self.locals if u not in self.stage.known),
        )
        return replace(hello, **fields)

    def hello(self, **fields) -> list[fx.Effect]:
        """Say Hello; what is heard in answer."""
        return self._answers(self.hello_event(**fields))

    def say(self, event: ev.Event) -> list[fx.Effect]:
        """Say one thing; what is heard in answer."""
        return self._answers(event)

    def _answers(self, event: ev.Event) -> list[fx.Effect]:
        already = len(self.heard)
        self.stage.turn(event)
        answers = self.heard[already:]
        self.stage.settle()
        return answers

    def beat_event(self) -> ev.Heartbeat:
        self.beat_number += 1
        return ev.Heartbeat(*self._at(), self.beat_number, tuple(x.report() for x in self.locals.values()))

    def beat(self) -> list[fx.Effect]:
        return self._answers(self.beat_event())

    def leave(self) -> None:
        """Fall silent; whatever runs here runs on."""
        self.up = False

    def back(self, *, rebooted: bool = False) -> list[fx.Effect]:
        """Be there again with all attempts, or with none of them; says Hello."""
        self.up = True
        self.session = 0
        self.incarnation += 1
        self.connection = f"{self.name}/{self.incarnation}".encode()
        if rebooted:
            self.locals.clear()
            self.boot += "."
        return self.hello()

    # ---- what becomes of attempts --------------------------------------------------------------------------------

    def local(self, job: int) -> Local:
        """The newest attempt of a job here."""
        return max((x for x in self.locals.values() if x.job == job), key=lambda x: x.number)

    def has(self, job: int) -> bool:
        return any(x.job == job for x in self.locals.values())

    def progress(self, job: int, out_time_s: float, phase: Phase = Phase.ENCODING) -> None:
        local = self.local(job)
        local.out_time_s, local.phase = out_time_s, phase
        self.beat()

    def accept(self, job: int) -> list[fx.Effect]:
        """Take an attempt that was left lying (`accepts` off)."""
        return self.say(self._accepted(self.stage.attempt(job)))

    def _accepted(self, attempt: Attempt) -> ev.Accepted:
        local = Local(attempt.job, attempt.uuid, attempt.number)
        self.locals[(attempt.uuid, attempt.number)] = local
        return ev.Accepted(*self._at(), attempt.uuid, attempt.number, self.beat_number)

    def refuse(self, job: int, failure: Failure | None = None) -> list[fx.Effect]:
        attempt = self.stage.attempt(job)
        return self.say(ev.Refused(*self._at(), attempt.uuid, attempt.number, "no room", failure))

    def request(self, job: int, request: int = 0) -> list[fx.Effect]:
        """Ask for the grant."""
        return self.say(self.request_event(self.local(job), request))

    def request_event(self, local: Local, request: int = 0) -> ev.PublishRequest:
        local.phase = Phase.PUBLISHING
        local.request = request or next(self.stage.tokens)
        return ev.PublishRequest(*self._at(), local.uuid, local.number, local.request, self.stage.print_of(local.uuid))

    def verified(self, job: int) -> list[fx.Effect]:
        """The output is right: ask for the grant (and, where `publishes` is on, use it)."""
        return self.request(job)

    def published_event(self, local: Local) -> ev.Published:
        self.locals.pop((local.uuid, local.number), None)
        item = f"{local.uuid}.{local.number}.published"
        return self.keep(
            item,
            ev.Published(*self._at(), item, local.uuid, local.number, local.request, self.stage.print_of(local.uuid)),
        )

    def publish(self, job: int) -> list[fx.Effect]:
        return self.say(self.published_event(self.local(job)))

    def ended_event(self, local: Local, how: str = "failed", failure: Failure | None = None) -> ev.Ended:
        self.locals.pop((local.uuid, local.number), None)
        item = f"{local.uuid}.{local.number}.ended"
        return self.keep(item, ev.Ended(*self._at(), item, local.uuid, local.number, how, failure, 0.0))

    def fail(self, job: int, failure: Failure = BROKEN) -> list[fx.Effect]:
        return self.say(self.ended_event(self.local(job), "failed", failure))

    def end(self, job: int, how: str) -> list[fx.Effect]:
        return self.say(self.ended_event(self.local(job), how))

    def keep(self, item: str, event):
        """Put an item into the outbox, where it stays until it is acknowledged."""
        self.outbox[item] = event
        return event

    def unsaid(self) -> list[ev.Event]:
        """What is in the outbox, as it is said in the present session."""
        return [replace(item, connection=self.connection, session=self.session) for item in self.outbox.values()]

    # ---- what it hears -------------------------------------------------------------------------------------------

    def hear(self, effect: fx.Effect) -> list[ev.Event]:
        """Take what the master says; what is said to that."""
        self.heard.append(effect)
        match effect:
            case fx.SendWelcome():
                return self._welcome(effect)
            case fx.SendNoSession(session=session) if session == self.session and session:
                self.session = 0
                return [self.hello_event()]
            case fx.SendSign(session=session) if session == self.session:
                return [self.beat_event()]
            case fx.SendAck(item=item):
                self.outbox.pop(item, None)
            case fx.SendAssign(attempt=key):
                return self._assigned(key)
            case fx.SendOrder() if self.obeys:
                return self._order(effect)
            case fx.SendGrant() if self.publishes:
                local = self.locals.get((effect.uuid, effect.number))
                if local is not None and local.request == effect.request:
                    return [self.published_event(local)]
            case fx.SendSettle(attempt=key) if self.obeys:
                attempt = self.stage.farm.world.attempts[key]
                at_target = self.stage.at_target.get(attempt.uuid)
                return [ev.Settled(*self._at(), attempt.uuid, attempt.number, at_target)]
        return []

    def _welcome(self, welcome: fx.SendWelcome) -> list[ev.Event]:
        if self.session == welcome.session:
            return []
        self.session = welcome.session
        self.next_beat_s = self.stage.now_s + 1.0
        said = self.unsaid()
        for directive in welcome.directives:
            local = self.locals.get((directive.uuid, directive.number))
            if local is not None and directive.action == "stop" and self.obeys:
                said.append(self.ended_event(local, "stopped"))
            elif local is not None and directive.action == "offer":
                paused = local.stage == "paused"
                offer = ev.Adopt(*self._at(), local.uuid, local.job, local.number, terms(), paused)
                said.append(offer)
        return said

    def _assigned(self, key: tuple[int, int]) -> list[ev.Event]:
        attempt = self.stage.farm.world.attempts.get(key)
        if not self.accepts or attempt is None or attempt.given_up:
            return []
        if (attempt.uuid, attempt.number) in self.locals:
            return [ev.Accepted(*self._at(), attempt.uuid, attempt.number, self.beat_number)]
        return [self._accepted(attempt), self.beat_event()]

    def _order(self, order: fx.SendOrder) -> list[ev.Event]:
        local = self.locals.get((order.uuid, order.number))
        if order.want is Want.DISCARD:
            if local is not None:
                return [self.ended_event(local, "stopped")]
            item = f"absent.{order.uuid}.{order.number}"
            return [ev.Ended(*self._at(), item, order.uuid, order.number, "absent")]
        if local is None:
            return []
        if order.want is Want.STOP:
            return [self.ended_event(local, "completed")]
        local.stage = "paused" if order.want is Want.PAUSE else "running"
        return [self.beat_event()]


class Stage:
    """The farm, its nodes, its users and its clock."""

    def __init__(self, farm: Farm | None = None, now_s: float = START_S, **rules) -> None:
        self.rules = Rules(**{"ageing_interval_s": 0.0, **rules})
        self.now_s = now_s
        self.farm = farm or Farm(self.rules, lineage="L0", now_s=now_s)
        self.turns = int(self.farm.world.value("turn"))
        self.tokens = itertools.count(1)
        self.requests = itertools.count(1)
        self.uuids = itertools.count(1)
        self.hosts: dict[str, Host] = {}
        self.mail: list[ev.Event] = []
        self.known: set[str] = set()  # UUIDs that the store has
        self.restores = 0
        self.uuid_of: dict[int, str] = {}
        self.ended: dict[int, Job] = {}
        self.at_target: dict[str, Fingerprint] = {}  # what stands at the outputs, by job UUID
        self.history = History()
        self.effects: list[fx.Effect] = []
        self.look: Callable[[], None] = lambda: check(self.farm, self.history)
        if farm is None:
            self.turn(ev.GraceOver())

    @property
    def world(self):
        return self.farm.world

    # ---- time ----------------------------------------------------------------------------------------------------

    def turn(self, *given: ev.Event) -> list[fx.Effect]:
        """One turn of the master at the present time; its effects, which have been heard."""
        effects: list[fx.Effect] = []
        for event in given:
            effects += self._apply(event)
        for event in self.farm.due(self.now_s):
            effects += self._apply(event)
        self._keep_ended()
        self.turns += 1
        self.farm.keep_turn(self.turns)
        self.effects = effects
        self.look()
        for effect in effects:
            self._deliver(effect)
        for host in self.hosts.values():
            if host.up and host.session:  # heartbeats are answered with the turn's number
                host.seen = (self.world.lineage, self.turns, int(self.world.value("next_job")) - 1)
        return effects

    def _keep_ended(self) -> None:
        """Jobs that have ended are not in memory any more; here their last state is kept for a look."""
        for number, job in self.farm.changes()[1].items():
            assert number not in self.ended, f"P1: job {number} ends twice"
            assert job.failures <= job.terms.max_retries + 1, "P8"
            self.ended[number] = job

    def _apply(self, event: ev.Event) -> list[fx.Effect]:
        effects = self.farm.apply(fresh(event), self.now_s)
        self.history.add(effects)
        answered(effects)
        for effect in effects:
            if isinstance(effect, fx.Record) and effect.before is None:
                self.uuid_of[effect.job] = self._uuid(event, effect.job)
                self.known.add(self.uuid_of[effect.job])
        if isinstance(event, ev.Published):
            self.at_target[event.uuid] = event.fingerprint
        return effects

    def _uuid(self, event: ev.Event, number: int) -> str:
        job = self.world.jobs.get(number) or self.world.ended.get(number)
        assert job is not None, event
        return job.uuid

    def _deliver(self, effect: fx.Effect) -> None:
        for host in self.hosts.values():
            mine = getattr(effect, "connection", None) == host.connection
            if isinstance(getattr(effect, "node", None), str) and not isinstance(effect, fx.Record):
                contact = self.world.in_contact(effect.node)
                mine = mine or (contact is not None and contact.connection == host.connection)
            if mine and host.up:
                self.mail += host.hear(effect)

    def settle(self) -> None:
        """Let everything be heard and answered that is on its way."""
        for _ in range(50):
            if not self.mail:
                return
            self.now_s += MOMENT_S
            said, self.mail = self.mail, []
            self.turn(*said)
        raise AssertionError(f"master and nodes never come to rest: {self.mail}")

    def pass_s(self, seconds: float, step_s: float = 0.5) -> None:
        """Let time pass; hosts that are up beat, and repeat what is in their outboxes."""
        end_s = self.now_s + seconds
        while self.now_s < end_s - 1e-9:
            self.now_s = min(end_s, self.now_s + step_s)
            self.turn(*self._beats())
            self.settle()

    def _beats(self) -> list[ev.Event]:
        said: list[ev.Event] = []
        for host in self.hosts.values():
            if host.up and self.now_s >= host.next_beat_s:
                host.next_beat_s = self.now_s + 1.0
                said.append(host.beat_event() if host.session else host.hello_event())
                said += host.unsaid() if host.session else []
        return said

    def until(self, what: Callable[[], bool], within_s: float = 120.0) -> float:
        """Let time pass until something is so; the seconds it took. Fails after `within_s`."""
        start_s = self.now_s
        while not what():
            assert self.now_s - start_s < within_s, "it did not come to that"
            self.pass_s(0.5)
        return self.now_s - start_s

    # ---- users ---------------------------------------------------------------------------------------------------

    def ask(self, event: ev.UserEvent) -> fx.Answer:
        """A user asks for something; the answer."""
        event = replace(event, request=next(self.requests))
        effects = self.turn(event)
        answers = [e for e in effects if isinstance(e, fx.Answer) and e.request == event.request]
        assert len(answers) == 1, "each request is answered once"
        self.settle()
        return answers[0]

    def new(self, of: Terms | None = None, **fields) -> ev.NewJob:
        return ev.NewJob(f"u{next(self.uuids)}", of or terms(), **fields)

    def submit(self, of: Terms | None = None, **fields) -> int:
        """Submit one job; its number."""
        given = ev.Submit(0, (self.new(of, **fields),))
        answer = self.ask(given)
        assert answer.status == 201, answer
        return answer.jobs[0]

    def cancel(self, job: int) -> fx.Answer:
        return self.ask(ev.Cancel(0, job))

    def stop(self, job: int) -> fx.Answer:
        return self.ask(ev.Stop(0, job))

    def pause(self, job: int) -> fx.Answer:
        return self.ask(ev.Pause(0, job))

    def resume(self, job: int) -> fx.Answer:
        return self.ask(ev.Resume(0, job))

    def node(self, name: str, capacity: Capacity = ROOM, *, hello: bool = True, address: str = "") -> Host:
        """Admit a node and let it say Hello."""
        answer = self.ask(ev.AddNode(0, name, f"key-{name}"))
        assert answer.status < 300, answer
        host = self.hosts[name] = Host(self, name, capacity, address or f"10.0.0.{len(self.hosts) + 1}")
        if hello:
            host.hello()
        return host

    def lose(self, *hosts: Host) -> None:
        """Let hosts be silent for as long as it takes to be called lost."""
        for host in hosts:
            host.leave()
        self.until(lambda: all(self.world.in_contact(h.name) is None for h in hosts))

    # ---- questions -----------------------------------------------------------------------------------------------

    def print_of(self, uuid: str) -> Fingerprint:
        """What the output of a job looks like; it is the same whoever makes it."""
        return replace(PRINT, digest=f"of {uuid}")

    def state(self, job: int) -> State:
        return self.history.states[job]

    def job(self, number: int) -> Job:
        found = self.world.jobs.get(number)
        assert found is not None, f"job {number} is {self.state(number).value}"
        return found

    def attempt(self, job: int) -> Attempt:
        """The attempt that the farm counts on."""
        found = self.world.current(self.job(job))
        assert found is not None, f"job {job} has no attempt"
        return found

    def grant(self, job: int) -> Grant | None:
        return self.world.grants.get(job)

    def where(self, job: int) -> str:
        return self.attempt(job).node

    def path(self, job: int) -> list[str]:
        """The states that a job has been in, in order."""
        return [r.after.value for r in self.history.rows if r.job == job and r.before is not r.after]

    def said(self, job: int) -> str:
        """All that the history says of a job, for a look."""
        return "; ".join(r.text for r in self.history.rows if r.job == job)

    def why(self, job: int) -> str:
        told = why(self.world, job)
        assert told is not None
        return f"{told.sentence} ({told.hint})" if told.hint else told.sentence

    # ---- the master's own life -----------------------------------------------------------------------------------

    def restart(self, away_s: float = 1.0, *, backup: Stored | None = None) -> None:
        """End this master and start another from what is on disk, or from a backup of it."""
        stored = backup or self.stored()
        self.mail.clear()
        self.now_s += away_s
        self.farm = Farm(self.rules, lineage=stored.lineage, now_s=self.now_s)
        self.restores += backup is not None
        self.farm.restore(**stored.fields, restores=self.restores)
        self.turns = stored.fields["turn"]
        if backup is not None:
            self.history = History(dict(backup.states))
            self.known = set(backup.known)
            self.ended = {n: job for n, job in self.ended.items() if self.history.states.get(n) is job.state}
        for host in self.hosts.values():
            host.session = 0
            host.connection += b"+"

    def stored(self) -> Stored:
        """What the store has at this moment."""
        world = self.world
        fields = {
            "turn": self.turns,
            "next_job": int(world.value("next_job")),
            "ancestors": {name: world.ancestors[name] for name in world.ancestors},
            "paused_queues": world.paused_queues,
            "jobs": fresh(world.jobs.rows()),
            "attempts": fresh(world.attempts.rows()),
            "grants": fresh(world.grants.rows()),
            "nodes": fresh(world.nodes.rows()),
        }
        return Stored(world.lineage, fields, dict(self.history.states), set(self.known))


@dataclass(frozen=True)
class Stored:
    """What is on disk."""

    lineage: str
    fields: dict
    states: dict[int, State]
    known: set[str]
