"""What is looked at after every step of a world, and at its end: the promises, as far as they can be seen here."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NoReturn

from farm import oracle
from farm.invariants import History, check, overfull
from simulation.media import FOREIGN
from simulation.words import Signs
from store.mirror import Mirror

from ffrtmp.farm import effects as fx
from ffrtmp.farm import events as ev
from ffrtmp.farm.job import TERMINAL, Attempt, Grant, Job, State, Want
from ffrtmp.farm.node import Node
from ffrtmp.spec import Fingerprint
from ffrtmp_master.rows import Loaded, TurnRows
from ffrtmp_master.store.reader import Reader

if TYPE_CHECKING:
    from simulation.attempt import Directory
    from simulation.host import Host
    from simulation.world import World

    from ffrtmp.farm.farm import Farm
    from ffrtmp_master.store import Store
    from ffrtmp_master.turn import Decision, Turns


class Violated(BaseException):
    """A promise is broken. No `except Exception` of production code may hide it."""


@dataclass(frozen=True)
class Published:
    """Who put an output at its place; `epoch`: how often the master had been put back when the attempt began."""

    number: int
    node: str
    epoch: int


def _timeless(row: Any) -> Any:
    """A row without what a start changes: times, which are by another clock, who settles, the number that a restore raises."""
    if isinstance(row, Job):
        return replace(row, arrival_s=0.0, due_s=0.0, attempt=0)
    if isinstance(row, Attempt):
        return replace(row, offered_s=0.0, fence_s=0.0)
    return replace(row, until_s=0.0, settling="") if isinstance(row, Grant) else row


class Checks:
    """Watches one world."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.history = History()
        self.signs = Signs()
        self.mirror = Mirror()
        self.numbers: dict[int, str] = {}  # of jobs -> UUID: never given twice
        self.attempts: dict[tuple[str, int], str] = {}  # handed out: (UUID, number) -> node
        self.epochs: dict[tuple[str, int], int] = {}  # and how often the master had been put back by then
        self.ended: dict[str, State] = {}  # UUID -> as it was on disk
        self.forgotten: set[str] = set()  # UUIDs of jobs that were retired after a restore
        self.granted: set[tuple[str, int]] = set()  # attempts (UUID, number) whose grant ever was on disk
        self.published: dict[str, Published] = {}  # UUID -> who put the output there last
        self.loose: set[str] = set()  # hosts whose node was removed or whose folder was put back: not bound by grants
        self.strayed: set[str] = set()  # UUIDs of jobs of which a host that is not bound has published
        self.restored = 0  # how often the master was put back to a backup
        self.unknowing = False  # it was put back so that nothing on its disk told of the time since
        self.started: set[tuple[str, int]] = set()  # attempts (UUID, number) whose engine was started
        self.in_flight: TurnRows | None = None
        self._turns = 0

    def fail(self, what: str) -> NoReturn:
        """A promise is broken."""
        raise Violated(what)

    def _sure(self, holds: Any, what: Callable[[], str]) -> None:
        if not holds:
            self.fail(what())

    # ---- the rules -----------------------------------------------------------------------------------------------

    def before(self, farm: Farm, event: ev.Event, now_s: float) -> list[tuple[int, str]] | None:
        """What a `Place` has to hand out (P7), where anything waits."""
        if isinstance(event, ev.Place) and (farm.world.lanes or farm.world.resuming):
            farm.world.now_s = max(farm.world.now_s, now_s)
            return oracle.handouts(farm.world)
        return None

    def applied(
        self, farm: Farm, event: ev.Event, effects: list[fx.Effect], expected: list[tuple[int, str]] | None
    ) -> None:
        """An event was applied; it is not on disk yet."""
        handed = [(e.job, e.node) for e in effects if isinstance(e, fx.Record) and e.kind == "assigned"]
        if expected is not None:
            self._sure(handed == expected, lambda: f"P7: {handed} were handed out, {expected} are right")
        else:
            self._sure(not handed, lambda: f"{type(event).__name__} hands out {handed}")
        full = overfull(farm.world, handed)
        self._sure(full is None, lambda: f"P6: {full} was handed out more than it has room for")
        woken = {e.node for e in effects if isinstance(e, fx.SendOrder) and e.want is Want.RUN}
        for node in woken if isinstance(event, ev.Place) else ():
            usage, offer = farm.world.usage[node], farm.world.nodes[node].capacity
            fits = usage.cpu_milli <= offer.cpu_milli and usage.slots <= offer.slots
            self._sure(fits, lambda: f"P6: {node} lets a job go on for which it has no room: {usage}")  # noqa: B023
        self.world.count(f"event {type(event).__name__}")

    # ---- the store -----------------------------------------------------------------------------------------------

    def commits(self, turn: TurnRows) -> None:
        """A commit begins."""
        self.in_flight = turn

    def on_disk(self, turn: TurnRows) -> None:
        """A turn is on disk, and nobody knows it yet."""
        self.in_flight = None
        self._numbered(turn)
        self.loose.update(name for name, node in turn.changes.nodes.items() if self._left(name, node))
        self.mirror.take(turn)
        try:
            self.history.add(list(turn.records))
        except (AssertionError, Exception) as error:
            self.fail(f"P10: {error!r}")
        for job in turn.ended.values():
            again = job.uuid in self.ended and job.uuid not in self.forgotten
            self._sure(not again, lambda: f"P1: job {job.number} ended twice")  # noqa: B023
            self.ended[job.uuid] = job.state
            if job.state is State.CANCELED:
                self._canceled(job)
        if self.world.calm:
            self._nothing_lost(turn)
        self.world.master.committed()

    def _nothing_lost(self, turn: TurnRows) -> None:
        """P11: where daemons are restarted and nothing else goes wrong, no attempt that runs is lost, doubted or replaced."""
        for key, attempt in turn.changes.attempts.items():
            if isinstance(attempt, Attempt) and (attempt.uuid, attempt.number) in self.started:
                self._sure(not attempt.doubted, lambda: f"P11: a restart cost attempt {key}: it is doubted")  # noqa: B023
        for row in turn.records:
            if row.kind == "node_lost" and (self.numbers[row.job], row.attempt) in self.started:
                self.fail(f"P11: a restart cost attempt {row.job}.{row.attempt}: {row.text}")

    def _left(self, name: str, node: object) -> bool:
        """Whether an operator took leave of a host: its node is removed, or its name given to another key."""
        before = self.mirror.nodes.get(name)
        return before is not None and (not isinstance(node, Node) or node.key != before.key)

    def _numbered(self, turn: TurnRows) -> None:
        for job in (*turn.changes.jobs.values(), *turn.ended.values()):
            if isinstance(job, Job):
                known = self.numbers.setdefault(job.number, job.uuid)
                if self.unknowing:
                    known = self.numbers[job.number] = job.uuid
                self._sure(known == job.uuid, lambda: f"job number {job.number} was given twice")  # noqa: B023
        for number, grant in turn.changes.grants.items():
            if isinstance(grant, Grant):
                self.granted.add((self.numbers[number], grant.attempt))
        for key, attempt in turn.changes.attempts.items():
            if isinstance(attempt, Attempt) and key not in self.mirror.attempts:
                identity = (attempt.uuid, attempt.number)
                if not attempt.accepted:
                    self.epochs[identity] = self.restored
                again = self.unknowing or attempt.uuid in self.forgotten  # nothing tells of the numbers that it had
                fresh = attempt.accepted or identity not in self.attempts or again
                self._sure(fresh, lambda: f"P4: attempt {key} is handed out twice")  # noqa: B023
                node = self.attempts.setdefault(identity, attempt.node)
                if again:
                    node = self.attempts[identity] = attempt.node
                self._sure(node == attempt.node, lambda: f"attempt {key} was given twice: {node}, {attempt.node}")  # noqa: B023

    def _canceled(self, job: Job) -> None:
        for host in self.world.hosts.values():
            left = [d.name for d in host.running() if d.assign.uuid == job.uuid and d.epoch == self.restored]
            self._sure(not left or host.name in self.loose, lambda: f"P5: {left} runs on {host.name}, canceled")  # noqa: B023

    def kept(self, turns: Turns, decision: Decision) -> None:
        """A turn is committed, or wrote nothing: memory is as the disk (P10), and all invariants hold."""
        if decision.rows.empty:
            return
        different = self.mirror.differs(turns.farm.world)
        self._sure(not different, lambda: different)
        try:
            check(turns.farm, self.history)
        except AssertionError as error:
            line = traceback.extract_tb(error.__traceback__)[-1].line
            self.fail(f"an invariant: {str(error) or line}")
        self._turns += 1
        self.world.turned(decision)

    def starts(self, loaded: Loaded, store: Store, reader: Reader) -> None:
        """A master starts: what it finds is what was committed, or (in flight) one turn more."""
        mirror, in_flight, self.in_flight = self.mirror, self.in_flight, None
        if loaded.turn == mirror.turn + 1 and in_flight is not None and in_flight.turn == loaded.turn:
            self.world.count("commit found that was not answered")
            self.on_disk(in_flight)
        elif loaded.turn != mirror.turn and not self.world.put_back:
            self.fail(f"P1: turn {mirror.turn} was committed, and the store has {loaded.turn}")
        if self.world.put_back:
            self._put_back(loaded)
            mirror = self.mirror
        self._found(loaded, mirror)
        problems = store.verify_history()
        self._sure(not problems, lambda: f"P10: {problems}")
        mirror.reload(loaded)

    def _found(self, loaded: Loaded, mirror: Mirror) -> None:
        """What a start finds is what was committed, in all that is told neither by clocks nor by the numbers file."""
        for what, found, wanted in (
            ("P1: job", {job.number: job for job in loaded.jobs}, mirror.jobs),
            ("P4: attempt", {attempt.id: attempt for attempt in loaded.attempts}, mirror.attempts),
            ("P2: grant of job", {grant.job: grant for grant in loaded.grants}, mirror.grants),
            ("P9: node", {node.name: node for node in loaded.nodes}, mirror.nodes),
        ):
            for key in {*found, *wanted}:
                there, was = _timeless(found.get(key)), _timeless(wanted.get(key))
                self._sure(there == was, lambda: f"{what} {key}: the store has {there}, committed was {was}")  # noqa: B023

    def begun(self, farm: Farm) -> None:
        """A master has taken over what it found; waits count anew, which the disk need not know."""
        self.mirror.begun(farm.world)

    def _put_back(self, loaded: Loaded) -> None:
        """A backup stands in the place of the store: the past is what it tells."""
        self.world.put_back = False
        self.restored += 1
        self.mirror = Mirror()
        self.mirror.reload(loaded)
        reader = self.world.master.reader
        self.history.states = {}
        self.ended = {}
        for number in sorted(self.numbers):
            row = reader.job(number)
            if row is not None:
                self.history.states[number] = row.state
                if row.state in TERMINAL:
                    self.ended[row.uuid] = row.state

    def retired(self) -> None:
        """Old jobs were retired. A restored master has never heard of them: a node may offer one as if it had been lost."""
        for number, uuid in self.numbers.items() if self.restored else ():
            if uuid in self.ended and self.world.master.reader.job(number) is None:
                self.history.states.pop(number, None)
                self.forgotten.add(uuid)

    # ---- hosts ---------------------------------------------------------------------------------------------------

    def engine_starts(self, host: Host, directory: Directory) -> None:
        """A process is about to begin on a host: it has room (P6), and no strict twin is alive elsewhere."""
        self.started.add(directory.key)
        need = directory.assign.spec.recipe.needs
        awake = [d for d in host.running() if d.engine is not None and d.engine.state == "running"]
        used = sum(d.assign.spec.recipe.needs.cpu_milli for d in awake)
        most = max(host.capacity.cpu_milli, need.cpu_milli)
        self._sure(used + need.cpu_milli <= most, lambda: f"P6: {host.name} runs {used} and takes more")
        if not directory.strict or host.name in self.loose:
            return
        for other in self.world.hosts.values():
            twins = [
                d.name for d in other.running() if d.assign.uuid == directory.assign.uuid and d.epoch == self.restored
            ]
            frozen = other.frozen_s > self.world.time.now_s or other.name in self.loose
            self._sure(not twins or frozen, lambda: f"two engines of a strict job: {twins} on {other.name}")  # noqa: B023

    def rename(self, host: Host, directory: Directory, there: Fingerprint | None) -> None:
        """An output is about to be put at its place: by the attempt whose grant is on the master's disk (P2, P3)."""
        uuid, number = directory.assign.uuid, directory.assign.attempt
        job = directory.assign.job
        self.world.tell(lambda: f"{host.name} renames the output of {directory.name}")
        self._sure(there is None or directory.assign.spec.overwrite, lambda: f"P3: {directory.name} replaces a file")
        self._sure((uuid, number) in self.granted, lambda: f"P2: {directory.name} publishes, and never had a grant")
        grant = self.mirror.grants.get(job)
        granted = grant is not None and grant.attempt == number and self.numbers.get(job) == uuid
        if host.name in self.loose:
            self.strayed.add(uuid)
        excused = uuid in self.strayed or directory.epoch < self.restored
        self._sure(granted or excused, lambda: f"P2: {directory.name} publishes on {host.name}, granted is {grant}")
        before = self.published.get(uuid)
        first = before is None or before.number == number or not self._bound(before)
        self._sure(first or excused, lambda: f"P2: {directory.name} publishes after {before}")
        self.published[uuid] = Published(number, host.name, directory.epoch)

    def _bound(self, published: Published) -> bool:
        """Whether the master still knew of that grant, or its end, and could settle it."""
        return published.node not in self.loose and published.epoch == self.restored

    # ---- the end -------------------------------------------------------------------------------------------------

    def at_the_end(self) -> None:
        """All that was accepted has ended, and nothing is left."""
        world = self.world
        reader, store = world.master.reader, world.master.store
        for job in world.users.accepted.values():
            row = reader.job(job.uuid)
            if row is None and (job.restored < self.restored or world.master.retention_s):
                continue
            self._sure(row is not None, lambda: f"P1: job {job.number} was accepted and is lost")  # noqa: B023
            assert row is not None
            self._sure(row.state in TERMINAL, lambda: f"P1: job {job.number} is {row.state}")  # noqa: B023
            self._output_of(row.uuid, row.state, live=job.live)
        problems = store.verify_history()
        self._sure(not problems, lambda: f"P10: {problems}")
        for identity, root in world.media.roots.items():
            for path, made in root.outputs.items():
                if made == FOREIGN:
                    continue
                uuid, _dot, number = made.digest.rpartition(".")
                self._sure((uuid, int(number)) in self.granted, lambda: f"P2: {identity}:{path} was never granted")  # noqa: B023
                known, published = self.ended.get(uuid), self.published[uuid]
                self._sure(
                    known is State.COMPLETED or uuid in self.strayed or not self._bound(published),
                    lambda: f"P3: {identity}:{path} is of a job that is {known}",  # noqa: B023
                )

    def _output_of(self, uuid: str, state: State, *, live: bool) -> None:
        if state is State.COMPLETED and not live:
            self._sure(uuid in self.published, lambda: f"P3: {uuid} is completed, and nobody published it")
