"""A day of a master, on a disk that may fail at any write: what is asked of it, what it answers, and what must be there then.

`Day.run` goes through the script below in virtual time: two agents with the real session (little_agent.py), a master made of
production's own cycle of turns, rules and store (little_master.py), users who repeat what was not answered. When the store
breaks, the master ends as the program does, and starts again on what is on its disk.

What was answered is written down in the moment of the answer, apart from what the store says (`Told`); what was committed, in
`Mirror`. After each turn memory is held against the mirror; at each start both are held against the disk.
"""

from __future__ import annotations

import copy
import itertools
import json
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import apsw
from farm import invariants
from store.little_agent import LittleAgent
from store.little_master import WALL_S, Answered, LittleMaster, Mouth, at_once, key_of
from store.memory_disk import Cut, Disk, Fault, PowerCut, Step, lay_out
from store.told import Noted, Past, differences, taken

from ffrtmp import wire
from ffrtmp.errors import FarmError
from ffrtmp.farm import events as ev
from ffrtmp.farm.job import TERMINAL, Job, Queue, State
from ffrtmp.farm.rules import Rules
from ffrtmp_master.api.backend import Outcome
from ffrtmp_master.hub import SendResult
from ffrtmp_master.rows import AuditRow, StoreBroken, StoreRefused, TurnRows
from ffrtmp_master.store import Store, database, examine, schema
from ffrtmp_master.store.backup import restore

TICK_S = 0.5
MOST_S = 300.0  # a day that takes longer stands still
REPAIR_S = 3.0  # how long a fault that lasts goes on
DOWN_S = 1.0
CHECKPOINT_PAGES = 60  # so that a short day has several checkpoints
RETENTION_S = 4.0
LATER = "CREATE TABLE later (x INTEGER) STRICT; ALTER TABLE jobs ADD COLUMN colour TEXT NOT NULL DEFAULT 'grey'"
RULES = Rules(
    heartbeat_s=1.0,
    lost_after_s=4.0,
    reconnect_grace_s=3.0,
    accept_timeout_s=3.0,
    grant_ttl_s=4.0,
    grant_margin_s=1.0,
    backoff_first_s=1.0,
    backoff_max_s=2.0,
    hold_s=1.0,
)
TIMING = wire.Timing(heartbeat_s=1.0, lost_after_s=4.0, grant_ttl_s=4.0)
NO_START = (FarmError, StoreRefused, StoreBroken, PowerCut)
Script = Iterator[Callable[[], None] | None]  # what to do beside the turn, which may end the master


class Day:
    """Give it a disk that fails (`before`: what to do before each step), and `run` it."""

    def __init__(self, base: Path, before: Callable[[Day, Step], None], seed: int = 0) -> None:
        self.base = base
        self.before = before
        self.chance = random.Random(seed)
        self.now_s = 1000.0
        self.past = Past()
        self.backup: Past | None = None
        self.in_flight: TurnRows | None = None
        self.over = False
        self.putting_back = ""  # the lineage that is to begin
        self._put_back_whole = False
        self._retired = False
        self.numbers: dict[int, str] = {}  # job -> UUID
        self.places: dict[tuple[str, int], str] = {}  # attempt -> node
        self.story: list[str] = []
        self.image: dict[str, bytes] | None = None  # what the power cut that just was has left
        self.struck = 0  # faults that came to be
        self.cuts = 0  # how often the power went, or the process was killed
        self.broke = 0  # how often the store broke under a master that ran
        self._lasting: Fault | None = None
        self._mended_s = 0.0
        self._lives = itertools.count(1)
        self._down_until_s = 0.0
        self._tokens, self._uuids = itertools.count(7), itertools.count(1)
        self._frozen_s: dict[str, float] = {}
        self._asked: list[Answered] = []
        self.agents = {name: LittleAgent(name, self.now_s) for name in ("a", "b")}
        self.master: LittleMaster | None = None
        self.disk = self._mount({}, 0)

    # ---- the disk ------------------------------------------------------------------------------------------------

    def _mount(self, image: dict[str, bytes], steps: int) -> Disk:
        folder = self.base / f"life-{next(self._lives)}"
        lay_out(image, folder)
        disk = Disk(folder, steps)
        disk.__enter__()
        disk.watch = partial(self.before, self)
        return disk

    def cut(self, how: Cut) -> None:
        """The power goes, now: for `before`."""
        self.image = self.disk.image(how, self.chance)
        self.disk.off = True
        self.cuts += 1

    def fail(self, fault: Fault, *, lasting: bool) -> None:
        """The step that is about to be made fails; where it is `lasting`, so do all others for a while: for `before`."""
        if lasting:
            self._lasting, self._mended_s = fault, self.now_s + REPAIR_S
            self.disk.fail_from(0, fault)
        else:
            self.disk.fail_at(self.disk.steps, fault)

    # ---- what happens --------------------------------------------------------------------------------------------

    def run(self) -> None:
        """The whole day; AssertionError where a promise is broken."""
        script = self._script()
        with _short_day():
            try:
                while self._goes_on(script):
                    assert self.now_s < 1000.0 + MOST_S, "the day does not end"
            finally:
                self._leave()

    def tell(self, what: str) -> None:
        """A line of the story."""
        self.story.append(f"{self.now_s - 1000.0:6.1f} s, step {self.disk.steps}: {what}")

    def _goes_on(self, script: Script) -> bool:
        self.now_s += TICK_S
        if self._lasting is not None and self.now_s >= self._mended_s:
            self._lasting = None
            self.disk.mend()
        if self.master is None and self.now_s >= self._down_until_s:
            self._start()
        for name, agent in self.agents.items():
            if self.now_s >= self._frozen_s.get(name, 0.0):
                self._hear(name, agent.tick(self.now_s))
        try:
            if self.master is not None:
                deed = next(script)
                if deed is not None:
                    deed()
            if self.master is not None:
                self._turn(self.master)
        except StopIteration:
            assert self.over, "the script was left"
            return False
        except (*NO_START, apsw.Error) as error:
            if not self.disk.off and not isinstance(error, StoreBroken):
                raise
            self._die(error)
        if self.disk.off:
            self._die(PowerCut())
        return True

    def _turn(self, master: LittleMaster) -> None:
        master.now_s = self.now_s
        master.turn(0.0)
        if self.disk.off:
            return
        assert all(each.done() for each in self._asked), "somebody was not answered"
        self._asked.clear()
        different = self.past.mirror.differs(master.world)
        assert not different, different
        invariants.derived(master.world)
        invariants.attempts(master.world)
        said, master.mouth.said = master.mouth.said, []
        for connection, frame in said:
            name = connection.decode()
            if self.now_s >= self._frozen_s.get(name, 0.0):
                self._hear(name, self.agents[name].hear(wire.decode_from_master(frame), self.now_s))

    def _hear(self, name: str, messages: list[wire.Message]) -> None:
        for message in messages:
            if self.master is not None:
                self.master.hear(name, message)

    # ---- a master's life -----------------------------------------------------------------------------------------

    def _start(self) -> None:
        struck = len(self.disk.struck)
        try:
            if self.putting_back:
                self._restore(self.putting_back)
            master = _Watched(self)
            self._found(master)
        except (*NO_START, apsw.Error) as error:
            if isinstance(error, apsw.Error) and not _while_closing(error):
                raise
            assert self.disk.off or len(self.disk.struck) > struck, f"no start, and no reason: {error}"
            self._die(error)
            return
        self.tell(f"the master starts with turn {master.loaded.turn} of {master.loaded.lineage}")
        self.past.mirror.begun(master.world)
        self.master = master

    def _found(self, master: LittleMaster) -> None:
        loaded = master.loaded
        found, problems = None, []
        for past in self._candidates():
            problem = differences(past, loaded, master)
            problems.append(problem)
            if not problem:
                found = past
                break
        if found is None:
            master.close()
            raise AssertionError("; or ".join(problems))
        assert not loaded.restored or self.putting_back, "the store takes itself for a backup that was put back"
        if loaded.restored:
            found.told.turns.clear()
        assert self.backup is None or (self.disk.folder / "backup").exists(), "the backup was made, and is not there"
        self.past, self.in_flight, self.putting_back = found, None, ""
        self.past.mirror.reload(loaded)

    def _candidates(self) -> list[Past]:
        """What may be on disk: what is known to be, a turn more if one was under way, a backup if one was put back."""
        candidates = [self.past]
        if self.in_flight is not None:
            more = copy.deepcopy(self.past)
            taken(more, self.in_flight)
            candidates.append(more)
        if self.putting_back and self.backup is not None:
            candidates.append(copy.deepcopy(self.backup))
            if not self._put_back_whole:
                candidates[-1].told.logs.clear()  # they are put back after the database
        return candidates

    def check_image(self, how: Cut, folder: Path) -> None:
        """What a crash would leave now is enough to start with; AssertionError where it is not."""
        lay_out(self.disk.image(how, self.chance), folder)
        master = LittleMaster(folder, RULES, self.now_s + DOWN_S, "lineage-of-the-next")
        try:
            problems = [differences(past, master.loaded, master) for past in self._candidates()]
            assert "" in problems, f"{how}: " + "; or ".join(problems)
            assert not master.loaded.restored or self.putting_back, f"{how}: the store takes itself for a backup"
        finally:
            master.close()
        if self.backup is not None:
            assert examine(folder / "backup") == []
            assert (folder / "backup.logs").exists()

    def _die(self, error: BaseException) -> None:
        """As main.py ends; or the power is gone, and nothing is done in order."""
        self.tell(f"the master dies: {error}")
        self._asked.clear()
        if self.master is not None:
            self.broke += not self.disk.off
            self.master.callers.cut()
            self._close(self.master)
            self.master = None
        self._down_until_s = self.now_s + DOWN_S
        how: Cut = self.chance.choice(("killed", "killed", "lost", "torn", "mixed"))
        image, self.image = self.image, None
        if image is None:
            image = self.disk.image(how, self.chance)
        old = self.disk
        self.struck += len(old.struck)
        old.__exit__()
        self.disk = self._mount(image, old.steps)
        if self._lasting is not None:
            self.disk.fail_from(0, self._lasting)

    def _close(self, master: LittleMaster) -> None:
        if self.disk.off:
            master.store._database.broken = master.store._logs.broken = True  # nothing is done in order any more
        try:
            master.close()
        except Exception as error:
            if not self.disk.off and not (isinstance(error, apsw.Error) and _while_closing(error)):
                raise

    def _leave(self) -> None:
        if self.master is not None:
            self.disk.off = True
            self._close(self.master)
        self.struck += len(self.disk.struck)
        self.disk.__exit__()

    def committed(self, turn: TurnRows) -> None:
        """A turn is on disk, and nobody has been told."""
        if self.disk.off:
            return
        self.in_flight = None
        for job in (*turn.changes.jobs.values(), *turn.ended.values()):
            if isinstance(job, Job):
                known = self.numbers.setdefault(job.number, job.uuid)
                assert known == job.uuid, f"number {job.number} was given twice"
        taken(self.past, turn)

    def said(self, node: str, message: wire.Message) -> None:
        """The master speaks."""
        if self.disk.off:
            return
        self.past.told.hear(message)
        if isinstance(message, wire.Assign):
            where = self.places.setdefault((message.uuid, message.attempt), node)
            assert where == node, f"attempt {message.job}.{message.attempt} was given twice"

    # ---- users ---------------------------------------------------------------------------------------------------

    def _ask(self, make: Callable[[int], ev.UserEvent], *fine: int) -> Script:
        """Ask until it is answered so; a refusal for want of room, or a master that ends, is borne."""
        while True:
            answered = self._there.ask(make)
            self._asked.append(answered)
            yield
            if answered.status in fine:
                return
            assert answered.status in (0, 503), f"{make(0)} was answered with {answered.refusal or answered.outcome}"

    def _submit(self, output: str, jobs: int = 1) -> Script:
        """Submit under a key, as the API does: what was accepted, and not answered, is not accepted twice."""
        while True:
            row = self._there.reader.idempotency("somebody", output)
            if row is not None:
                self.past.told.accepted.update(item["job"] for item in json.loads(row.answer)["items"])
                return
            pending = Noted(self._accepted)
            self._asked.append(self._there.submit(output, key=output, jobs=jobs, pending=pending))
            yield
            if pending.status == 201:
                return
            assert pending.status in (0, 503), f"{output} was answered with {pending.status}"

    def _accepted(self, outcome: Outcome) -> None:
        if outcome.answer.status == 201 and not self.disk.off:
            self.past.told.accepted.update(outcome.answer.jobs)

    def _cancel(self, output: str) -> Script:
        number = self._number(output)

        def note(outcome: Outcome) -> None:
            if outcome.answer.status in (200, 202) and not self.disk.off:
                self.past.told.canceled.add(number)

        while True:
            pending = Noted(note)
            self._asked.append(self._there.ask(lambda n: ev.Cancel(n, number), pending))
            yield
            if pending.status in (200, 202, 404):
                return
            assert pending.status in (0, 503, 409), f"cancel was answered with {pending.status}"

    @property
    def _there(self) -> LittleMaster:
        assert self.master is not None
        return self.master

    def _number(self, output: str) -> int:
        """The newest job that writes it, or wrote."""
        return max(job.number for job in self._there.reader.jobs(limit=1000).jobs if job.output_key.endswith(output))

    def _until(self, holds: Callable[[], Any]) -> Script:
        while not holds():
            yield

    def _wait(self, seconds: float) -> Script:
        until_s = self.now_s + seconds
        yield from self._until(lambda: self.now_s >= until_s)

    def _state(self, output: str) -> State:
        row = self._there.reader.job(self._number(output))
        assert row is not None
        return row.state

    # ---- the script ----------------------------------------------------------------------------------------------

    def _script(self) -> Script:
        for name in self.agents:
            yield from self._add_node(name)
        yield from self._morning()
        yield from self._upgrade()
        yield from self._back_up()
        yield from self._submit("noon.mp4")
        yield from self._submit("flaky-noon.mp4")
        yield from self._wait(1.0)
        yield from self._retire()
        yield lambda: self.cut("lost")  # the power goes: what a sync that failed has promised is found out
        yield from self._until(lambda: self._state("flaky-noon.mp4") in TERMINAL)
        yield from self._submit("late.mp4", 2)
        yield from self._wait(1.0)
        yield from self._put_back()
        yield from self._submit("evening.mp4")
        yield from self._until(lambda: not self._there.world.jobs and not any(a.work for a in self.agents.values()))
        self._at_the_end()
        yield self._stop
        yield from self._wait(1.0)
        self._at_the_end()
        self.over = True

    def _add_node(self, name: str) -> Script:
        while name not in self._there.world.nodes:
            yield from self._ask(lambda n: ev.AddNode(n, name, key_of(name)), 200, 201, 409)

    def _morning(self) -> Script:
        """Three at once; one held back; one that fails at first; one that is canceled; a node that is lost and comes back."""
        yield from self._submit("morning.mp4", 3)
        yield from self._submit("long.mp4")
        yield from self._ask(lambda n: ev.SetQueue(n, Queue.DEFAULT, True), 200)
        yield from self._submit("held.mp4")
        yield from self._submit("flaky.mp4")
        self._there.callers.audit(AuditRow("somebody", "look"))
        yield from self._wait(1.0)
        yield from self._ask(lambda n: ev.SetQueue(n, Queue.DEFAULT, False), 200)
        yield from self._until(lambda: self._state("held.mp4") is not State.QUEUED)
        self._frozen_s["b"] = self.now_s + RULES.lost_after_s + 3.0
        yield from self._wait(1.0)
        yield from self._cancel("long.mp4")
        yield from self._until(lambda: len(self._there.world.jobs) == 0)

    def _stop(self) -> None:
        """In order, as at SIGTERM."""
        at_once(self._there.cycle.last_turns())
        master, self.master = self._there, None
        self._down_until_s = self.now_s + TICK_S
        self._close(master)
        self.tell("the master stops in order")

    def _upgrade(self) -> Script:
        """The next version brings a step of the schema."""
        schema.MIGRATIONS = (*schema.MIGRATIONS, LATER)
        yield self._stop

    def _back_up(self) -> Script:
        while self.backup is None:
            yield self._make_backup

    def _make_backup(self) -> None:
        past = copy.deepcopy(self.past)
        try:
            made = self._there.store.backup(self.disk.folder / "backup")
        except (FarmError, apsw.Error) as error:
            self._borne(error)
            return
        assert made.turn == past.mirror.turn
        if not self.disk.off:
            self.backup = past

    def _borne(self, error: FarmError | apsw.Error) -> None:
        """An operator is told so, and does it again."""
        if isinstance(error, apsw.Error) and not _while_closing(error) and not self.disk.off:
            raise error
        self.tell(f"not done: {error}")

    def _retire(self) -> Script:
        """Forget what has ended, to the last slice."""
        self._retired = False
        while not self._retired:
            yield self._retire_some

    def _retire_some(self) -> None:
        self.past.told.retired_s = self.now_s + WALL_S - RETENTION_S
        self._retired = not at_once(self._there.cycle.retire(RETENTION_S))

    def _put_back(self) -> Script:
        """kill -9, put the backup back, and start. What is cut short is done again."""
        self._put_back_whole = False
        while not self._put_back_whole:
            self.putting_back = f"put-back-{next(self._lives)}"
            yield lambda: self.cut("killed")

    def _restore(self, lineage: str) -> None:
        folder = self.disk.folder
        try:
            restore(folder / "backup", folder / "farm.db", folder / "farm.logs", lineage)
            self._put_back_whole = True
        except (FarmError, apsw.Error) as error:
            self._borne(error)

    def _at_the_end(self) -> None:
        """All that was accepted has ended; what was answered is so."""
        master = self._there
        problem = differences(self.past, master.store.load(WALL_S), master)
        assert not problem, problem
        for number in self.past.told.accepted:
            row = master.reader.job(number)
            assert row is None or row.state in TERMINAL, f"job {number} is {row and row.state}"


class _Watched(LittleMaster):
    """A master of a day, which sees its commits and what it says."""

    timing = TIMING

    def __init__(self, day: Day) -> None:
        class Watched(Store):
            def commit(self, turn: TurnRows) -> None:
                day.in_flight = turn
                try:
                    super().commit(turn)
                except StoreRefused:
                    day.in_flight = None
                    raise
                day.committed(turn)

        class Spoken(Mouth):
            def send(self, connection: bytes, message: wire.Message) -> SendResult:
                day.said(connection.decode(), message)
                return super().send(connection, message)

        self.store_kind = Watched
        super().__init__(day.disk.folder, RULES, day.now_s, f"lineage-{next(day._lives)}")
        self.tokens, self.uuids = day._tokens, day._uuids
        self.mouth = Spoken()
        self.board.hub = self.mouth  # type: ignore[assignment]


@contextmanager
def _short_day() -> Iterator[None]:
    """Checkpoints as often as a short day wants them; afterwards all is as it was, also the schema."""
    before = database.CHECKPOINT_PAGES, schema.MIGRATIONS
    database.CHECKPOINT_PAGES = CHECKPOINT_PAGES
    try:
        yield
    finally:
        database.CHECKPOINT_PAGES, schema.MIGRATIONS = before


def _while_closing(error: apsw.Error) -> bool:
    """SQLite passes over what fails while it closes a file, and tells nobody; of a VFS in Python it is heard all the same."""
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_name == "Connection.close":
            return True
        trace = trace.tb_next
    return False
