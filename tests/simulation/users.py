"""Users of a simulated world: what they ask, what they were answered, and what they ask again when an answer was lost."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any
from uuid import UUID

from msgspec import structs
from simulation import whys
from simulation.media import SHARED
from simulation.plots import Plots

from ffrtmp import wire
from ffrtmp.farm import events as ev
from ffrtmp.farm.job import TERMINAL, Priority, Queue, State
from ffrtmp.farm.placement import could_ever
from ffrtmp.spec import JobSpec, MediaPath, Needs, Pattern, Recipe, Source
from ffrtmp_master.api.backend import Idempotency, Outcome
from ffrtmp_master.refusal import Refusal
from ffrtmp_master.rows import AuditRow, TicketRow
from ffrtmp_master.submit import NUMBER_MARK, PreparedJob, again, output_key, terms_of
from ffrtmp_master.turn import Asked, Input

if TYPE_CHECKING:
    from simulation.world import World

OF_JOBS = ("cancel", "stop", "pause", "resume", "update", "retry")
OF_ENROLMENT = ("enrol again", "enrol taken", "enrol copy", "invite", "invite taken", "remove gently", "no such node")
OUTPUTS = 12  # names that outputs are drawn from: some want the same


@dataclass
class Accepted:
    """A job whose acceptance somebody was told."""

    number: int
    uuid: str
    live: bool
    spec: JobSpec
    restored: int  # how often the master had been put back by then


class Asking:
    """One request that waits for its answer, as a future would."""

    def __init__(self, users: Users, what: str, heard: Callable[[Outcome | Refusal], None]) -> None:
        self._users, self._what, self._heard = users, what, heard
        self._done = False

    def done(self) -> bool:
        return self._done

    def set_result(self, result: Outcome, /) -> None:
        self._close(result)

    def set_exception(self, exception: Refusal | ConnectionError, /) -> None:
        if isinstance(exception, Refusal):
            self._close(exception)
        else:
            self._done = True  # the connection broke: nobody knows what became of it

    def _close(self, how: Outcome | Refusal) -> None:
        self._done = True
        self._users.durable(self._what, how)
        status = how.status if isinstance(how, Refusal) else how.answer.status
        self._users.world.tell(lambda: f"{self._what}: {status}")
        self._users.world.count(f"answer {status}")
        self._heard(how)


class Users:
    """All of them."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.accepted: dict[str, Accepted] = {}  # by UUID
        self._uuids = world.time.chance("uuids")
        self._chance = world.time.chance("users")
        self._repeats: list[Callable[[], None]] = []
        self.plots = Plots(world)

    def gone(self) -> None:
        """The master is gone: who waited hears nothing, and some ask again."""
        repeats, self._repeats = self._repeats, []
        for repeat in repeats:
            self.world.count("asked again")
            self.world.time.after(3.0, repeat)

    # ---- asking --------------------------------------------------------------------------------------------------

    def ask(
        self,
        what: str,
        make: Callable[[int], Input],
        heard: Callable[[Outcome | Refusal], None] = lambda _how: None,
        *,
        hangs_up: bool = False,
    ) -> bool:
        """Post a request, whose caller may hang up at once; False where no master is there to take it."""
        master = self.world.master
        if not master.up:
            return False

        def post() -> None:
            number, given = master.callers.ask(make, Asking(self, what, heard))
            master.callers.audit(AuditRow("somebody", what.partition(" ")[0], str(number)))
            master.cycle.post(given)
            if hangs_up:
                master.callers.left(number)

        master.audit(post)
        return True

    def durable(self, what: str, how: Outcome | Refusal) -> None:
        """What is answered has been written to disk before (P1)."""
        checks = self.world.checks
        if isinstance(how, Outcome) and how.answer.status < 300:
            missing = [n for n in how.answer.jobs if n not in checks.mirror.jobs and n not in checks.numbers]
            if missing:
                checks.fail(f"P1: {what} is answered, and {missing} are not on disk")

    def submit(self, chance: random.Random, kind: str = "") -> None:
        """A job, or a batch; now and then with an idempotency key, and asked again when nobody answers."""
        count = chance.choice((1, 1, 1, 2, 4))
        jobs = [self._job(chance, kind) for _ in range(count)]
        key = f"key {chance.getrandbits(40)}" if chance.random() < 0.5 else ""
        self._submit(tuple(jobs), key)

    def _submit(self, jobs: tuple[PreparedJob, ...], key: str) -> None:
        master = self.world.master
        asked = Idempotency("somebody", key, "digest") if key else None
        if not master.up:
            if key:
                self.world.time.after(2.0, lambda: None if self.world.over else self._submit(jobs, key))
            return
        if key and (row := master.reader.idempotency("somebody", key)) is not None:
            self.world.count("answered from the key")
            if any(job.new.uuid not in self.accepted for job in jobs):
                self._take(jobs, tuple(master.reader.job(job.new.uuid) for job in jobs))
            assert row.answer
            return

        def heard(how: Outcome | Refusal) -> None:
            if repeat is not None and repeat in self._repeats:
                self._repeats.remove(repeat)
            if isinstance(how, Outcome) and how.answer.status == 201:
                for prepared, number in zip(jobs, how.answer.jobs, strict=True):
                    self._accept(prepared, number)

        repeat = (lambda: self._submit(jobs, key)) if key else None
        if repeat is not None:
            self._repeats.append(repeat)
        news = tuple(job.new for job in jobs)
        names = " ".join(job.spec.output.relative if job.spec.output else "-" for job in jobs)
        self.ask(f"submit {names}", lambda n: Input(ev.Submit(n, news), asked=Asked(jobs, "somebody", asked)), heard)

    def _take(self, jobs: tuple[PreparedJob, ...], rows: tuple[Any, ...]) -> None:
        for prepared, row in zip(jobs, rows, strict=True):
            if row is not None:
                self._accept(prepared, row.number)

    def _accept(self, prepared: PreparedJob, number: int) -> None:
        live = prepared.spec.recipe.kind == "live"
        restored = self.world.checks.restored
        self.accepted[prepared.new.uuid] = Accepted(number, prepared.new.uuid, live, prepared.spec, restored)

    def crowd(self, chance: random.Random, count: int, *, wide: bool) -> None:
        """Some small jobs, and one that needs nearly all of a host."""
        jobs = [self._job(chance, "file", Needs(1000, 256 << 20)) for _ in range(count)]
        if wide:
            jobs.append(self._job(chance, "file", Needs(3500, 256 << 20)))
        self._submit(tuple(jobs), "")

    def alike(self, chance: random.Random, count: int) -> None:
        """Jobs of one kind that wait until somebody cancels them: nobody has what they need."""
        needs = Needs(1000, 256 << 20, labels=("nowhere",))
        first = self._job(chance, "file", needs)
        jobs = []
        for _ in range(count):
            output = MediaPath("media", SHARED, f"{chance.getrandbits(40)}.mp4")
            spec = structs.replace(first.spec, output=output)
            new = replace(first.new, uuid=self.fresh_uuid(), output=output_key(spec), strict=False)
            jobs.append(PreparedJob(new, spec, output_key(spec)))
        self._submit(tuple(jobs), "")

    def unstorable(self, chance: random.Random) -> None:
        """A submission that no store can hold, past all that looks at it before: it is refused, and nothing else is."""
        job = self._job(chance, "file")
        spec = structs.replace(job.spec, note="\ud800")
        asked = Asked((replace(job, spec=spec),), "somebody")

        def heard(how: Outcome | Refusal) -> None:
            if (how.status if isinstance(how, Refusal) else how.answer.status) < 400:
                self.world.checks.fail(f"P12: a text that is none is accepted: {how}")

        self.ask("submit nonsense", lambda n: Input(ev.Submit(n, (job.new,)), asked=asked), heard)
        for _ in range(chance.choice((0, 2))):
            self.submit(chance)

    def _job(self, chance: random.Random, kind: str, needs: Needs | None = None) -> PreparedJob:
        live = kind.endswith("live") or (not kind and chance.random() < 0.06)
        needs = needs or _needs(chance)
        root = SHARED if chance.random() < 0.7 else f"local-{chance.choice(self.world.names)}"
        serial = chance.randrange(OUTPUTS) if chance.random() < 0.25 else 1000 + chance.getrandbits(30)
        name = f"jobs/{NUMBER_MARK}.mp4" if chance.random() < 0.05 else f"{serial}.mp4"
        output = MediaPath("media", root, name)
        plain = not live and chance.random() < 0.02
        spec = JobSpec(
            Recipe("x", kind="live" if live else "plain" if plain else "file", needs=needs),
            Source(url="https://nowhere.test/in.mov") if chance.random() < 0.03 else Source(pattern=Pattern()),
            output,
            overwrite=chance.random() < 0.3,
            on_disconnect="stop" if kind.startswith("strict") else chance.choice(("keep", "keep", "keep", "stop")),
        )
        queue = Queue.LIVE if live else chance.choice(list(Queue))
        terms = terms_of(spec, queue, chance.choice(list(Priority)), chance.choice((0, 1, 3, 3)))
        strict = chance.random() < 0.2
        new = ev.NewJob(self.fresh_uuid(), terms, strict=strict, output=output_key(spec))
        return PreparedJob(new, spec, output_key(spec))

    def fresh_uuid(self) -> str:
        """Of the world's own randomness."""
        return str(UUID(int=self._uuids.getrandbits(128), version=4))

    # ---- jobs and nodes ------------------------------------------------------------------------------------------

    def of_job(self, what: str, chance: random.Random) -> None:
        """Something that is asked of one job."""
        if not self.accepted or not self.world.master.up:
            return
        job = list(self.accepted.values())[-1 - int(chance.random() ** 2 * len(self.accepted))]
        if what == "retry":
            self._retry(job)
        else:
            self.of_number(what, job.number, chance)

    def of_number(self, what: str, number: int, chance: random.Random | None = None) -> None:
        """The same of the job of this number."""
        chance = chance or self._chance
        events: dict[str, Callable[[int], ev.UserEvent]] = {
            "cancel": lambda n: ev.Cancel(n, number),
            "stop": lambda n: ev.Stop(n, number),
            "pause": lambda n: ev.Pause(n, number),
            "resume": lambda n: ev.Resume(n, number),
            "update": lambda n: ev.Update(n, number, queue, priority),
        }
        queue = chance.choice((None, Queue.DEFAULT, Queue.BATCH))
        priority = chance.choice((None, *Priority))
        self.ask(f"{what} {number}", lambda n: Input(events[what](n)), hangs_up=chance.random() < 0.05)

    def why(self) -> None:
        """Somebody wants to know of all jobs why they are where they are, and is told what is so."""
        master = self.world.master
        if not master.up:
            return
        world = master.turns.farm.world
        for number in [*world.jobs, 10**9]:
            self.world.count("why")
            wrong = whys.untrue(world, number, master.cycle.live.why(number))
            if wrong:
                self.world.checks.fail(f"why: {wrong}")

    def _retry(self, job: Accepted) -> None:
        row = self.world.master.reader.job(job.uuid)
        if row is None or row.state not in TERMINAL:
            return
        terms = terms_of(job.spec, Queue.DEFAULT, Priority.MEDIUM, 3)
        self._submit((again(job.spec, terms, job.number, self.fresh_uuid),), "")

    def of_node(self, what: str, name: str, chance: random.Random) -> None:
        """Something that an operator asks of one node."""
        key = self.world.hosts[name].key
        events: dict[str, Callable[[int], ev.UserEvent]] = {
            "add": lambda n: ev.AddNode(n, name, key),
            "drain": lambda n: ev.DrainNode(n, name, True),
            "undrain": lambda n: ev.DrainNode(n, name, False),
            "accept": lambda n: ev.AcceptNode(n, name),
            "remove": lambda n: ev.RemoveNode(n, name, True),
            "label": lambda n: ev.LabelNode(n, name, frozenset({"rare"} if chance.random() < 0.5 else ())),
        }
        if what == "remove":
            self.world.checks.loose.add(name)
        self.ask(f"{what} node {name}", lambda n: Input(events[what](n)))

    def of_enrolment(self, what: str, chance: random.Random) -> None:
        """What is asked about keys and names of nodes: some of it must be refused."""
        name, other = chance.sample(self.world.names, 2)
        host = self.world.hosts[name]
        strange = "k" * 40
        strange_of: Callable[[int], ev.UserEvent] = chance.choice(
            (
                lambda n: ev.DrainNode(n, "nobody", True),
                lambda n: ev.AcceptNode(n, "nobody"),
                lambda n: ev.LabelNode(n, "nobody", frozenset()),
                lambda n: ev.RemoveNode(n, "nobody"),
            )
        )
        ticket = TicketRow(f"{chance.getrandbits(100):040x}", 0.0, "fresh") if what == "invite" else None
        events: dict[str, tuple[Callable[[int], ev.UserEvent], tuple[int, ...]]] = {
            "enrol again": (lambda n: ev.AddNode(n, name, host.key), (200, 201, 409)),
            "enrol taken": (lambda n: ev.AddNode(n, name, strange), (409,)),
            "enrol copy": (lambda n: ev.AddNode(n, other, host.key, replace=True), (409,)),
            "invite": (lambda n: ev.Invite(n, "fresh"), (201,)),
            "invite taken": (lambda n: ev.Invite(n, name, replace=chance.choice(("", "nobody"))), (404, 409)),
            "remove gently": (lambda n: ev.RemoveNode(n, name), (200, 409)),
            "no such node": (strange_of, (404,)),
        }
        make, may = events[what]
        known = self.world.checks.mirror.nodes
        if not self.world.master.up or not {name, other} <= set(known) or self.world.checks.restored:
            return
        if known[name].key != host.key:
            return  # it was installed anew, and nobody has said so yet
        if what == "remove gently":
            self.world.checks.loose.add(name)

        def heard(how: Outcome | Refusal) -> None:
            status = how.status if isinstance(how, Refusal) else how.answer.status
            gone = not {name, other} <= set(known) or len(self.world.checks.loose) > 0
            if status not in (*may, 500, 503) and not gone:
                self.world.checks.fail(f"P9: {what} is answered {status}")

        self.ask(f"{what} {name}", lambda n: Input(make(n), ticket=ticket), heard)

    def reinstall(self, name: str) -> None:
        """A host is installed anew, with a fresh key, and takes the place of its node when an operator says so."""
        host = self.world.hosts[name]
        self.world.checks.loose.add(name)  # what it had published there, nobody can tell any more
        host.reinstall(f"{name}{host.boot % 10}" * 20)
        self._take_place(name)

    def _take_place(self, name: str) -> None:
        key = self.world.hosts[name].key
        self.ask(f"replace node {name}", lambda n: Input(ev.AddNode(n, name, key, replace=True)))

    def of_queue(self, queue: Queue, *, paused: bool) -> None:
        """An operator holds a queue or lets it go."""
        self.ask(
            f"queue {queue.label} {'paused' if paused else 'open'}", lambda n: Input(ev.SetQueue(n, queue, paused))
        )

    def let_go(self) -> None:
        """In peace: nothing is held, what would run for ever is stopped, and what no node could run is canceled."""
        world = self.world.master.turns.farm.world
        for host in self.world.hosts.values():
            host.move("")
            node = world.nodes.get(host.name)
            if node is not None and node.key != host.key:
                self._take_place(host.name)
        for job in list(world.jobs.rows()):
            number = job.number
            if job.terms.live and job.state is State.RUNNING:
                self.ask(f"stop {number}", lambda n: Input(ev.Stop(n, number)))  # noqa: B023
            elif job.terms.live:
                self.ask(f"cancel {number}", lambda n: Input(ev.Cancel(n, number)))  # noqa: B023
            elif job.state is State.PAUSED:
                self.ask(f"resume {number}", lambda n: Input(ev.Resume(n, number)))  # noqa: B023
            elif job.state is State.QUEUED and could_ever(world, job.terms.requirements) is not None:
                self.ask(f"cancel {number}", lambda n: Input(ev.Cancel(n, number)))  # noqa: B023


def _needs(chance: random.Random) -> Needs:
    """What a job needs: mostly what every host has, now and then what only some have, or none."""
    return Needs(
        chance.choice((500, 1000, 1000, 2000, 3500)),
        chance.choice((256, 512, 2048)) << 20,
        chance.choice((0, 0, 1 << 30)),
        encoders=("h264_nvenc",) if chance.random() < 0.04 else (),
        engine="gstreamer" if chance.random() < 0.03 else "ffmpeg",
        labels=("rare",) if chance.random() < 0.06 else (),
    )


def capacity(chance: random.Random, name: str, roots: tuple[wire.RootFact, ...], *, rare: bool) -> wire.Capacity:
    """What a host offers."""
    return wire.Capacity(
        chance.choice((4000, 4000, 8000)),
        chance.choice((3, 8, 8)) << 30,
        chance.choice((2, 3, 4)),
        chance.choice((1 << 30, 1 << 40, 1 << 40)),
        encoders=("h264_nvenc",) if chance.random() < 0.3 else (),
        engines=("ffmpeg", "gstreamer") if chance.random() < 0.3 else ("ffmpeg",),
        protocols=("https",) if chance.random() < 0.5 else (),
        roots=roots,
        labels=("rare",) if rare else (),
        allow_run=chance.random() < 0.5,
    )
