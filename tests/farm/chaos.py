"""A stage on which everything goes wrong: messages are lost, doubled, late and out of order; nodes die, lie and come back.

What happens is a list of `Deed`s, small tuples of numbers that hypothesis draws and shrinks. Whatever the deeds are, the
promises hold after every event (`watched`, and `invariants`), and when all nodes behave again everything ends
(`finale`).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ffrtmp.farm import effects as fx
from ffrtmp.farm import events as ev
from ffrtmp.farm.job import OPEN, Fingerprint, OnDisconnect, Phase, Priority, Queue, State, Terms, Want

from .invariants import History
from .stage import BROKEN, GIB, LATE, ROOM, WRONG, Host, Local, Stage, Stored, terms
from .watched import Watched

Deed = tuple[str, int, int, int]

KINDS: tuple[Terms, ...] = (
    terms(1000, max_retries=1),
    terms(1000, queue=Queue.BATCH, priority=Priority.LOW, max_retries=0),
    terms(2000, priority=Priority.HIGH),
    terms(4000),
    terms(3000, memory_bytes=4 * GIB, on_disconnect=OnDisconnect.STOP),
    terms(1000, queue=Queue.LIVE, live=True, max_retries=2),
    terms(2000, queue=Queue.LIVE, priority=Priority.HIGH, live=True, on_disconnect=OnDisconnect.STOP),
    terms(1000, labels=frozenset({"rare"})),
)
NODES = ("a", "b", "c", "d")
ROOMS = (
    ROOM,
    replace(ROOM, cpu_milli=2000, slots=2),
    replace(ROOM, labels=frozenset({"rare"})),
    replace(ROOM, slots=1),
)
OF_USERS = ("submit", "batch", "cancel", "pause", "resume", "stop", "update", "queue", "fill")
OF_OPERATORS = ("drain", "remove", "add", "replace", "accept", "label", "shrink")
OF_NODES = (
    "lose",
    "return",
    "down",
    "up",
    "reboot",
    "reconnect",
    "bye",
    "switch",
    "copy",
    "same_address",
    "repeat_hello",
)
OF_ATTEMPTS = ("work", "beat", "progress", "verify", "publish", "fail", "end", "refuse", "expire")
OF_MESSAGES = ("drop", "double", "reverse", "deliver", "deafen", "nonsense", "rogue", "unreachable")
OF_THE_MASTER = ("pass", "jump", "moment", "undo", "raise", "restart", "restore")
DEEDS = (*OF_USERS, *OF_OPERATORS, *OF_NODES, *OF_ATTEMPTS, *OF_MESSAGES, *OF_THE_MASTER)
FAILURES = (BROKEN, WRONG, LATE, replace(BROKEN, transient=True))


class Chaos(Watched):
    """A stage that is worked by deeds."""

    def __init__(self, **rules) -> None:
        self.lost_messages: dict[str, int] = {}
        self.backup: Stored | None = None
        super().__init__(**{"backoff_max_s": 20.0, "reserve_after_s": 60.0, **rules})
        for name, room in zip(NODES[:3], ROOMS, strict=False):
            self.node(name, room)
        self.backup = self.stored()

    def _deliver(self, effect: fx.Effect) -> None:
        name = getattr(effect, "node", None)
        if isinstance(name, str) and self.lost_messages.get(name, 0) > 0 and not isinstance(effect, fx.Record):
            self.lost_messages[name] -= 1
            return
        super()._deliver(effect)

    # ---- deeds ---------------------------------------------------------------------------------------------------

    def do(self, deed: Deed) -> None:
        """Let one thing happen."""
        name, one, two, three = deed
        getattr(self, f"do_{name}")(one, two, three)

    def _job(self, pick: int) -> int:
        numbers = sorted(self.world.jobs)
        return numbers[pick % len(numbers)] if numbers else pick

    def _job_in(self, pick: int, *states: State) -> int:
        """A job in one of these states, if there is one."""
        numbers = sorted(n for n in self.world.jobs if self.world.jobs[n].state in states)
        return numbers[pick % len(numbers)] if numbers else self._job(pick)

    def _host(self, pick: int) -> Host:
        hosts = sorted(self.hosts)
        if hosts:
            return self.hosts[hosts[pick % len(hosts)]]
        super().ask(ev.RemoveNode(0, "a", force=True))
        return self.node("a")

    def _local(self, host: Host, pick: int) -> Local | None:
        keys = sorted(host.locals)
        return host.locals[keys[pick % len(keys)]] if keys else None

    def ask(self, event: ev.UserEvent) -> fx.Answer:
        answer = super().ask(event)
        assert 200 <= answer.status < 300 or answer.detail
        return answer

    def do_submit(self, kind: int, strict: int, _three: int) -> None:
        self.ask(ev.Submit(0, (self.new(KINDS[kind % len(KINDS)], strict=strict % 4 == 1),)))

    def do_batch(self, kind: int, size: int, clash: int) -> None:
        jobs = [self.new(KINDS[(kind + n) % len(KINDS)], output=f"r1:{n}") for n in range(size % 4 + 1)]
        if clash % 4 == 0:
            jobs.append(self.new(output="r1:0"))
        before = int(self.world.value("next_job"))
        answer = self.ask(ev.Submit(0, tuple(jobs)))
        assert (answer.status == 201) == (clash % 4 != 0)
        assert len(answer.jobs) == int(self.world.value("next_job")) - before == (len(jobs) if clash % 4 else 0)

    def do_cancel(self, job: int, _two: int, _three: int) -> None:
        number = self._job(job)
        publishing = number in self.world.grants and not self.world.jobs[number].terms.live
        answer = self.cancel(number)
        assert not publishing or answer.status == 409

    def do_pause(self, job: int, any_state: int, crowd: int) -> None:
        self.pause(self._job(job) if any_state % 3 == 0 else self._job_in(job, State.RUNNING, State.RESUMING))
        if crowd % 2:
            self.do_fill(crowd, 0, 0)

    def do_resume(self, job: int, any_state: int, _three: int) -> None:
        self.resume(self._job(job) if any_state % 4 == 0 else self._job_in(job, State.PAUSED))

    def do_stop(self, job: int, _two: int, _three: int) -> None:
        live = [n for n in self.world.jobs if self.world.jobs[n].terms.live]
        self.stop(live[job % len(live)] if live else self._job(job))

    def do_update(self, job: int, queue: int, priority: int) -> None:
        to_queue = Queue(queue % 3) if queue % 4 else None
        self.ask(ev.Update(0, self._job(job), to_queue, Priority(priority % 3)))

    def do_queue(self, queue: int, paused: int, _three: int) -> None:
        self.ask(ev.SetQueue(0, Queue(queue % 3), paused % 3 == 0))

    def do_drain(self, host: int, drained: int, _three: int) -> None:
        self.ask(ev.DrainNode(0, self._host(host).name, drained % 2 == 0))

    def do_remove(self, host: int, force: int, _three: int) -> None:
        name = self._host(host).name
        if self.ask(ev.RemoveNode(0, name, force % 2 == 0)).status == 200:
            del self.hosts[name]

    def do_add(self, host: int, room: int, key: int) -> None:
        name = NODES[host % len(NODES)]
        if name not in self.hosts:
            self.node(name, ROOMS[room % len(ROOMS)], address=f"10.0.1.{NODES.index(name)}")
        elif key % 3 == 0:
            self.ask(ev.AddNode(0, name, f"key-{NODES[key % len(NODES)]}"))

    def do_replace(self, host: int, key: int, _three: int) -> None:
        found = self._host(host)
        if self.ask(ev.AddNode(0, found.name, f"key-{found.name}-{key % 2}", replace=True)).status == 201:
            found.locals.clear()
            found.outbox.clear()
            found.session = 0
            found.incarnation = 1
            found.connection += b"r"

    def do_accept(self, host: int, _two: int, _three: int) -> None:
        found = self._host(host)
        self.ask(ev.AcceptNode(0, found.name))
        found.incarnation = max(1, found.incarnation - 1)

    def do_label(self, host: int, on: int, _three: int) -> None:
        self.ask(ev.LabelNode(0, self._host(host).name, frozenset({"rare"} if on % 2 else ())))

    def do_shrink(self, host: int, cpu: int, _three: int) -> None:
        found = self._host(host)
        found.capacity = replace(found.capacity, cpu_milli=1000 * (cpu % 5 + 1))
        self.turn(replace(found.beat_event(), capacity=found.capacity))

    def do_pass(self, seconds: int, _two: int, _three: int) -> None:
        self.pass_s(float((1, 2, 6, 18)[seconds % 4]), 1.0)

    def do_jump(self, seconds: int, _two: int, _three: int) -> None:
        """The master is stopped for a while."""
        self.now_s += (2.5, 20.0, 100.0, 1000.0)[seconds % 4]
        self.turn()

    def do_moment(self, moments: int, _two: int, _three: int) -> None:
        self.now_s += 0.3 * (moments % 4)
        self.turn()

    def do_lose(self, host: int, also: int, disobeys: int) -> None:
        """Nodes are silent until they are called lost; their attempts go on. One node at least stays."""
        up = [h for h in self.hosts.values() if h.up]
        if len(up) < 2:
            return
        up[host % len(up)].leave()
        up[host % len(up)].obeys = disobeys % 3 != 0
        if also % 6 == 0:
            self._host(also).leave()
        self.pass_s(17.0, 1.0)

    def do_return(self, host: int, keeps: int, _three: int) -> None:
        """The first node that is down comes back, mostly with what it had."""
        away = [h for h in self.hosts.values() if not h.up]
        if away:
            away[host % len(away)].back(rebooted=keeps % 5 == 0)

    def do_fill(self, cpu: int, _two: int, _three: int) -> None:
        """Live jobs take whatever room there is."""
        for _ in range(6):
            self.submit(terms(1000 * (cpu % 2 + 1), queue=Queue.LIVE, live=True))

    def do_work(self, far: int, which: int, _three: int) -> None:
        """Everything runs on for a while, each at its pace."""
        for host in self.hosts.values():
            for local in host.locals.values():
                local.out_time_s += (far + which * local.number) % 7 * (local.stage == "running")
        self.pass_s(2.0, 1.0)

    def do_down(self, host: int, _two: int, _three: int) -> None:
        self._host(host).leave()

    def do_up(self, host: int, _two: int, _three: int) -> None:
        self._host(host).up = True

    def do_reboot(self, host: int, keeps: int, _three: int) -> None:
        self._host(host).back(rebooted=keeps % 2 == 0)

    def do_reconnect(self, host: int, _two: int, _three: int) -> None:
        found = self._host(host)
        found.connection += b"'"
        found.session = 0
        found.hello()

    def do_bye(self, host: int, comes_back: int, _three: int) -> None:
        found = self._host(host)
        self.turn(ev.Goodbye(*found._at()))
        if comes_back % 2:
            found.back()
        else:
            found.leave()

    def do_switch(self, host: int, which: int, on: int) -> None:
        setattr(self._host(host), ("accepts", "obeys", "obeys", "publishes")[which % 4], on % 3 == 0)

    def do_copy(self, host: int, older: int, _three: int) -> None:
        found = self._host(host)
        incarnation = found.incarnation + (1 if older % 2 else -1)
        self.turn(found.hello_event(connection=b"copy", incarnation=incarnation, reports=()))

    def do_same_address(self, host: int, other: int, _three: int) -> None:
        found = self._host(host)
        self.turn(found.hello_event(connection=found.connection + b"x", address=self._host(other).address))

    def do_repeat_hello(self, host: int, fewer: int, _three: int) -> None:
        found = self._host(host)
        hello = found.hello_event()
        self.turn(replace(hello, reports=hello.reports[fewer % 2 :]))

    def do_beat(self, host: int, fewer: int, _three: int) -> None:
        beat = self._host(host).beat_event()
        self.turn(replace(beat, reports=beat.reports[fewer % 3 // 2 :]))

    def do_progress(self, host: int, local: int, far: int) -> None:
        found = self._host(host)
        picked = self._local(found, local)
        if picked is not None:
            picked.out_time_s += far
            picked.phase = list(Phase)[far % 2]
            self.turn(found.beat_event())

    def do_verify(self, host: int, local: int, stays: int) -> None:
        """Ask for a grant, and use it at once, a little later, or not before it is published by another deed."""
        found = self._host(host)
        picked = self._local(found, local)
        if picked is not None:
            publishes, found.publishes = found.publishes, found.publishes and stays % 3 != 0
            self.turn(found.request_event(picked))
            found.publishes = publishes
            if stays % 2:
                self.settle()

    def do_publish(self, host: int, local: int, _three: int) -> None:
        """Use a grant that was given a while ago."""
        found = self._host(host)
        picked = self._local(found, local)
        if picked is not None:
            grant = self.world.grants.get(self.world.by_uuid.get(picked.uuid, 0))
            if grant is not None and grant.attempt == picked.number:
                self.turn(found.published_event(picked))

    def do_fail(self, host: int, local: int, why: int) -> None:
        found = self._host(host)
        picked = self._local(found, local)
        if picked is not None:
            self.turn(found.ended_event(picked, "failed", FAILURES[why % len(FAILURES)]))

    def do_end(self, host: int, local: int, how: int) -> None:
        found = self._host(host)
        picked = self._local(found, local)
        if picked is not None:
            self.turn(found.ended_event(picked, ("stopped", "completed", "node_lost", "absent")[how % 4]))

    def do_refuse(self, host: int, job: int, why: int) -> None:
        found = self._host(host)
        on_it = self.world.attempts_on(found.name)
        if on_it:
            attempt = on_it[job % len(on_it)]
            found.locals.pop((attempt.uuid, attempt.number), None)
            failure = FAILURES[why % len(FAILURES)] if why % 3 else None
            self.turn(ev.Refused(*found._at(), attempt.uuid, attempt.number, "no room", failure))

    def do_expire(self, host: int, local: int, failed: int) -> None:
        found = self._host(host)
        picked = self._local(found, local)
        if picked is not None:
            failure = BROKEN if failed % 2 else None
            if failure:
                found.locals.pop((picked.uuid, picked.number))
            at = found._at()
            self.turn(ev.NotPublished(*at, "late", picked.uuid, picked.number, picked.request, "late", failure))

    # ---- messages ------------------------------------------------------------------------------------------------

    def do_drop(self, which: int, _two: int, _three: int) -> None:
        if self.mail:
            del self.mail[which % len(self.mail)]

    def do_double(self, which: int, _two: int, _three: int) -> None:
        if self.mail:
            self.mail.append(self.mail[which % len(self.mail)])

    def do_reverse(self, _one: int, _two: int, _three: int) -> None:
        self.mail.reverse()

    def do_deliver(self, at_once: int, _two: int, _three: int) -> None:
        said, self.mail = self.mail, []
        if at_once % 2:
            self.turn(*said)
        else:
            for event in said:
                self.turn(event)

    def do_deafen(self, host: int, messages: int, _three: int) -> None:
        """The next messages to a host are lost."""
        self.lost_messages[self._host(host).name] = messages % 4

    def do_nonsense(self, kind: int, pick: int, more: int) -> None:
        """A message that no honest agent would say at this time: mostly by the right node of an attempt that is there."""
        host = self._host(pick)
        uuid, number = f"u{pick % 9}", more % 4
        there = self.world.attempts.rows()
        if there and pick % 6:
            attempt = there[pick % len(there)]
            host = self.hosts.get(attempt.node, host) if more % 6 else host
            uuid, number = attempt.uuid, attempt.number
        at = (host.name, host.connection, host.session if more % 8 else pick)
        fingerprint = self.print_of(uuid)
        event = (
            ev.Accepted(*at, uuid, number, more),
            ev.Refused(*at, uuid, number, "nonsense", BROKEN if more % 2 else None),
            ev.PublishRequest(*at, uuid, number, more, fingerprint),
            ev.Published(*at, "x", uuid, number, more, fingerprint),
            ev.NotPublished(*at, "x", uuid, number, more, "nonsense", BROKEN if more % 2 else None),
            ev.Ended(*at, "x", uuid, number, ("failed", "stopped", "completed", "node_lost", "absent")[more % 5], None),
            ev.Settled(*at, uuid, number, None if more % 2 else Fingerprint(1, "foreign")),
            ev.Adopt(*at, uuid, pick, number + 1, KINDS[more % len(KINDS)]),
            ev.Heartbeat(*at, more, (ev.Report(uuid, pick, number, ("paused", "running", "ended")[more % 3]),)),
            ev.Goodbye(*at),
            ev.NewcomerDue(host.name),
            ev.AttemptDue((pick, number)),
            ev.JobDue(pick),
            ev.GrantDue(self._job(pick)),
            ev.GraceOver(),
        )[kind % 15]
        self.turn(event)

    def do_rogue(self, kind: int, pick: int, more: int) -> None:
        """An attempt that was given up goes on as if it had not been."""
        given_up = [a for a in self.world.attempts.rows() if a.given_up and a.job in self.world.jobs]
        hosts = [(a, self.hosts[a.node]) for a in given_up if a.node in self.hosts and self.hosts[a.node].session]
        if not hosts:
            return
        attempt, host = hosts[pick % len(hosts)]
        host.obeys = False
        uuid, number, at = attempt.uuid, attempt.number, host._at()
        self.turn(
            (
                ev.PublishRequest(*at, uuid, number, more, self.print_of(uuid)),
                ev.Published(*at, "x", uuid, number, more, self.print_of(uuid)),
                ev.NotPublished(*at, "x", uuid, number, more, "no", FAILURES[more % len(FAILURES)]),
                ev.Ended(*at, "x", uuid, number, "failed", FAILURES[more % len(FAILURES)]),
                ev.Refused(*at, uuid, number, "no", FAILURES[more % len(FAILURES)]),
                ev.Accepted(*at, uuid, number, more),
                ev.Heartbeat(*at, host.beat_number + 1, (ev.Report(uuid, attempt.job, number, "paused"),)),
            )[kind % 7]
        )

    def do_unreachable(self, host: int, _two: int, _three: int) -> None:
        self.turn(ev.Unreachable(self._host(host).connection))

    # ---- the master ----------------------------------------------------------------------------------------------

    def _tables(self) -> list[dict]:
        world = self.world
        tables = (world.jobs, world.ended, world.attempts, world.grants, world.nodes, world.contacts, world.newcomers)
        return [{key: table[key] for key in table} for table in (*tables, world.ancestors, world._values)]

    def do_undo(self, seconds: int, job: int, kind: int) -> None:
        """A turn whose commit fails: it has not happened, and nobody has heard of it."""
        before = self._tables()
        history, handed = History(dict(self.history.states), list(self.history.rows)), dict(self.handed)
        wishes = dict(self.wishes)
        self.now_s += (0.0, 1.0, 20.0, 60.0)[seconds % 4]
        said, self.mail = self.mail, []
        events = [*said, ev.Submit(0, (self.new(KINDS[kind % len(KINDS)]),)), ev.Cancel(0, self._job(job))]
        for event in [*events, *self.farm.due(self.now_s)]:
            self._apply(event)
        self.farm.undo_turn()
        edges = self.history.edges
        self.history, self.handed, self.wishes = history, handed, wishes
        self.history.edges = edges
        assert self._tables() == before
        self.look()

    def do_raise(self, host: int, _two: int, _three: int) -> None:
        """An event whose rule raises half-way is undone alone."""
        found = self._host(host)
        before = self._tables()
        broken: tuple[Any, ...] = (*(x.report() for x in found.locals.values()), None)
        for event in (replace(found.beat_event(), reports=broken), replace(found.hello_event(), reports=broken)):
            try:
                self.farm.apply(event, self.now_s)
            except AttributeError:
                assert self._tables() == before
            else:
                self.look()
                self.farm.undo_turn()
        self.look()

    def do_restart(self, seconds: int, _two: int, _three: int) -> None:
        self.restart((0.5, 5.0, 30.0)[seconds % 3])

    def do_restore(self, keep: int, _two: int, _three: int) -> None:
        """Make a backup, or go back to the last one, as the store does it: another lineage, numbers beyond all used ones."""
        if keep % 3 or self.backup is None:
            self.backup = self.stored()
            return
        old = self.backup
        fields = dict(old.fields)
        fields["ancestors"] = {**fields["ancestors"], old.lineage: fields["turn"]}
        fields["next_job"] = self.highest_job
        fields["jobs"] = [replace(j, attempt=j.attempt + 100) for j in fields["jobs"]]
        self.backup = replace(old, lineage=f"R{next(self.tokens)}", fields=fields)
        self.restart(1.0, backup=self.backup)
        self.handed = {identity: node for identity, node in self.handed.items() if identity[0] in self.known}
        self.hosts = {name: host for name, host in self.hosts.items() if name in self.world.nodes}
        self.wishes = {n: "hold" if j.state is State.PAUSED or _pausing(self, j) else "stop" for n, j in _wished(self)}
        self.backup = self.stored()

    # ---- the end of all trouble ----------------------------------------------------------------------------------

    def finale(self) -> None:
        """All nodes behave from now on, and users let everything go: then everything ends (P1)."""
        self.lost_messages.clear()
        for queue in Queue:
            self.ask(ev.SetQueue(0, queue, False))
        for host in self.hosts.values():
            host.accepts = host.obeys = host.publishes = True
            host.up = True
            host.capacity = ROOM
            host.session = 0
            self.ask(ev.DrainNode(0, host.name, False))
        for name in [n for n in self.world.nodes if n not in self.hosts]:
            self.ask(ev.RemoveNode(0, name, force=True))
        self.node("last", replace(ROOM, labels=frozenset({"rare"})), address="10.0.2.1")
        for _ in range(150):
            self._good_users()
            self._good_work()
            self.pass_s(2.0, 2.0)
            if not self.world.jobs and not self.world.attempts and not self.world.grants:
                break
        left = [(j.number, j.state.value, self.why(j.number)) for j in self.world.jobs.rows()]
        assert not left, f"P1: these never end: {left}"
        assert not len(self.world.attempts) and not len(self.world.grants)
        assert all(self.history.states[n] not in OPEN for n in self.history.states)

    def _good_users(self) -> None:
        for host in self.hosts.values():
            if not host.session:
                self.ask(ev.AcceptNode(0, host.name))
        for number in list(self.world.jobs):
            job = self.world.jobs.get(number)
            if job is not None and job.state is State.PAUSED:
                self.resume(number)
            elif job is not None and job.terms.live and job.state is State.RUNNING:
                attempt = self.world.current(job)
                if attempt is not None and attempt.want is not Want.STOP:
                    self.stop(number)

    def _good_work(self) -> None:
        for host in self.hosts.values():
            for local in list(host.locals.values()):
                if local.stage == "running" and host.session:
                    self.mail.append(host.request_event(local))
        self.settle()


def _pausing(stage: Stage, job) -> bool:
    attempt = stage.world.current(job)
    return attempt is not None and attempt.want is Want.PAUSE and job.state is not State.RESUMING


def _wished(stage: Stage):
    for number in stage.world.jobs:
        job = stage.world.jobs[number]
        attempt = stage.world.current(job)
        stopping = attempt is not None and attempt.want is Want.STOP
        if job.state is State.PAUSED or _pausing(stage, job) or stopping:
            yield number, job


def play(story: list[Deed], ageing_interval_s: float) -> Chaos:
    """Let the deeds happen, and then everything come to its end. Raises where a promise is broken."""
    stage = Chaos(ageing_interval_s=ageing_interval_s)
    for deed in story:
        stage.do(deed)
    stage.finale()
    return stage


def shortened(story: list[Deed], ageing_interval_s: float) -> list[Deed]:
    """A story that breaks something, without the deeds that are not needed for it."""
    length = len(story) // 2
    while length:
        at = 0
        while at < len(story):
            shorter = story[:at] + story[at + length :]
            if _breaks(shorter, ageing_interval_s):
                story = shorter
            else:
                at += length
        length //= 2
    return story


def _breaks(story: list[Deed], ageing_interval_s: float) -> bool:
    try:
        play(story, ageing_interval_s)
    except Exception:
        return True
    return False
