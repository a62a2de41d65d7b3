"""Users of a simulated world: what they ask, what they were answered, and what they ask again when an answer was lost."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import UUID

from simulation.media import SHARED

from ffrtmp import wire
from ffrtmp.farm import events as ev
from ffrtmp.farm.job import TERMINAL, Priority, Queue, State
from ffrtmp.farm.placement import could_ever
from ffrtmp.spec import JobSpec, MediaPath, Needs, Pattern, Recipe, Source
from ffrtmp_master.api.backend import Idempotency, Outcome
from ffrtmp_master.refusal import Refusal
from ffrtmp_master.submit import PreparedJob, again, output_key, terms_of
from ffrtmp_master.turn import Asked, Input

if TYPE_CHECKING:
    from simulation.world import World

OF_JOBS = ("cancel", "stop", "pause", "resume", "update", "retry")
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

    def set_exception(self, exception: Refusal, /) -> None:
        self._close(exception)

    def _close(self, how: Outcome | Refusal) -> None:
        self._done = True
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
        self._repeats: list[Callable[[], None]] = []

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
    ) -> bool:
        """Post a request; False where no master is there to take it."""
        master = self.world.master
        if not master.up:
            return False

        def post() -> None:
            _number, given = master.callers.ask(make, Asking(self, what, heard))
            master.cycle.post(given)

        master.audit(post)
        return True

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

    def _job(self, chance: random.Random, kind: str) -> PreparedJob:
        live = kind == "live" or (not kind and chance.random() < 0.06)
        cpu = chance.choice((500, 1000, 1000, 2000, 3500))
        labels = ("rare",) if chance.random() < 0.06 else ()
        needs = Needs(cpu, chance.choice((256, 512, 2048)) << 20, chance.choice((0, 0, 1 << 30)), labels=labels)
        root = SHARED if chance.random() < 0.7 else f"local-{chance.choice(self.world.names)}"
        serial = chance.randrange(OUTPUTS) if chance.random() < 0.25 else 1000 + chance.getrandbits(30)
        output = MediaPath("media", root, f"{serial}.mp4")
        spec = JobSpec(
            Recipe("x", kind="live" if live else "file", needs=needs),
            Source(pattern=Pattern()),
            output,
            overwrite=chance.random() < 0.3,
            on_disconnect=chance.choice(("keep", "keep", "keep", "stop")),
        )
        queue = Queue.LIVE if live else chance.choice(list(Queue))
        terms = terms_of(spec, queue, chance.choice(list(Priority)), chance.choice((0, 1, 3, 3)))
        strict = chance.random() < 0.1
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
        number = job.number
        if what == "retry":
            self._retry(job)
            return
        events: dict[str, Callable[[int], ev.UserEvent]] = {
            "cancel": lambda n: ev.Cancel(n, number),
            "stop": lambda n: ev.Stop(n, number),
            "pause": lambda n: ev.Pause(n, number),
            "resume": lambda n: ev.Resume(n, number),
            "update": lambda n: ev.Update(n, number, queue, priority),
        }
        queue = chance.choice((None, Queue.DEFAULT, Queue.BATCH))
        priority = chance.choice((None, *Priority))
        self.ask(f"{what} {number}", lambda n: Input(events[what](n)))

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

    def of_queue(self, queue: Queue, *, paused: bool) -> None:
        """An operator holds a queue or lets it go."""
        self.ask(
            f"queue {queue.label} {'paused' if paused else 'open'}", lambda n: Input(ev.SetQueue(n, queue, paused))
        )

    def let_go(self) -> None:
        """In peace: nothing is held, what would run for ever is stopped, and what no node could run is canceled."""
        world = self.world.master.turns.farm.world
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


def capacity(chance: random.Random, name: str, roots: tuple[wire.RootFact, ...], *, rare: bool) -> wire.Capacity:
    """What a host offers."""
    cpu = chance.choice((4000, 4000, 8000))
    labels = ("rare",) if rare else ()
    return wire.Capacity(cpu, 8 << 30, chance.choice((2, 3, 4)), 1 << 40, roots=roots, labels=labels)
