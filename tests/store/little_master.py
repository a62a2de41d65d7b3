"""A master without sockets, threads and clocks: the real store, rules, turns, cycle and switchboard on one folder.

`hear` gives it a frame of an agent, `ask` a user's event, `turn` makes a turn; all of it happens at once, in the caller's
thread. What it says to agents is in `said`, as the frames that would have gone out.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID

from zmq.utils import z85

from ffrtmp import wire
from ffrtmp.farm import events as ev
from ffrtmp.farm.farm import Farm
from ffrtmp.farm.rules import Rules
from ffrtmp.spec import JobSpec, MediaPath, Pattern, Recipe, Source
from ffrtmp_master.api.backend import Idempotency, Outcome
from ffrtmp_master.api.watch import Watchers
from ffrtmp_master.callers import Callers
from ffrtmp_master.complaints import Complaints, Pace
from ffrtmp_master.cycle import Clocks, Cycle
from ffrtmp_master.hub import Received, SendResult
from ffrtmp_master.live import LiveFarm
from ffrtmp_master.refusal import Refusal
from ffrtmp_master.store import Store
from ffrtmp_master.submit import PreparedJob, output_key, terms_of
from ffrtmp_master.switchboard import Switchboard
from ffrtmp_master.translate import Chance
from ffrtmp_master.turn import Asked, Input, Turns

T = TypeVar("T")
WALL_S = 1_000_000.0  # wall - farm
ROOT = wire.RootFact("media", "root-1", "/media")
CAPACITY = wire.Capacity(8000, 8 << 30, 8, 1 << 40, protocols=("http",), roots=(ROOT,))


def key_of(node: str) -> str:
    """The public key of a node's agent."""
    return z85.encode(node.encode().ljust(32, b".")).decode("ascii")


def at_once(work: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine that never waits."""
    try:
        work.send(None)
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]
    raise AssertionError("it waits for something")


class AtOnce:
    """The cycle's shell: the disk is here and now."""

    async def on_disk(self, work: Callable[[], T]) -> T:
        return work()

    on_logs_disk = on_disk

    async def sleep(self, seconds: float) -> None:
        """Nothing passes."""

    def wake(self) -> None:
        """Turns are made when the test says so."""

    def serves(self) -> None:
        """Nobody is told."""

    def refuses(self, why: str) -> None:
        """Nobody is told."""


@dataclass
class Answered:
    """One who waits for an answer; what it was."""

    outcome: Outcome | None = None
    refusal: Refusal | ConnectionError | None = None

    def done(self) -> bool:
        return self.outcome is not None or self.refusal is not None

    def set_result(self, result: Outcome, /) -> None:
        self.outcome = result

    def set_exception(self, exception: Refusal | ConnectionError, /) -> None:
        self.refusal = exception

    @property
    def status(self) -> int:
        """0: not answered, or cut off."""
        if self.refusal is not None:
            return self.refusal.status if isinstance(self.refusal, Refusal) else 0
        return self.outcome.answer.status if self.outcome is not None else 0


@dataclass
class Mouth:
    """The hub, as far as the switchboard knows it."""

    said: list[tuple[bytes, bytes]] = field(default_factory=list)

    def send(self, connection: bytes, message: wire.Message) -> SendResult:
        self.said.append((connection, wire.encode(message)))
        return SendResult.SENT

    def hold(self, held: bool) -> None:
        """There is nobody to hold."""


class LittleMaster:
    """Use `little_master`, which closes it."""

    store_kind: type[Store] = Store
    timing = wire.Timing()

    def __init__(
        self, folder: Path, rules: Rules | None = None, now_s: float = 1000.0, lineage: str = "lineage-1"
    ) -> None:
        self.now_s = now_s
        self.mouth = Mouth()
        self.tokens = itertools.count(7)
        self.uuids = itertools.count(1)
        self.store = self.store_kind.open(folder / "farm.db", folder / "farm.logs", fresh_lineage=lineage)
        self.reader = self.store.reader()
        loaded = self.loaded = self.store.load(WALL_S)
        farm = Farm(rules or Rules(reconnect_grace_s=0.0), lineage=loaded.lineage, now_s=now_s)
        loaded.put_into(farm)
        self.turns = Turns(farm, loaded.turn)
        self.callers = Callers()
        live, watchers = LiveFarm(farm), Watchers()
        clocks = Clocks(lambda: self.now_s, lambda: self.now_s + WALL_S)
        self.cycle = Cycle(
            self.store, self.reader, self.turns, clocks, AtOnce(), self.callers, live, watchers, events_per_turn=1000
        )
        log = logging.getLogger("ffrtmp_master.switchboard")
        self.board = self.cycle.board = Switchboard(
            turns=self.turns,
            reader=self.reader,
            live=live,
            watchers=watchers,
            timing=self.timing,
            max_retries=3,
            post=self.cycle.post,
            enroll=lambda _connection, _key, _message: None,
            complaints=Complaints(log, lambda: self.now_s),
            hellos=Pace(1000, 0.0, lambda: self.now_s),
            chance=lambda: Chance(next(self.tokens), f"lineage-of-{self.now_s}", 0.5),
        )
        self.board.hub = self.mouth  # type: ignore[assignment]  # it has the two methods that are used
        self.board.know_nodes()

    @property
    def world(self) -> Any:
        """What the rules know."""
        return self.turns.farm.world

    def close(self) -> None:
        """An orderly stop."""
        self.reader.close()
        self.store.close()

    # ---- what happens --------------------------------------------------------------------------------------------

    def turn(self, seconds: float = 0.1) -> None:
        """A turn, and the logs that came; raises what ends a master."""
        self.now_s += seconds
        at_once(self.cycle.turn())
        at_once(self.cycle.store_logs())

    def hear(self, node: str, message: wire.Message | bytes) -> None:
        """A frame of this node's agent; raises msgspec.DecodeError where it is no message."""
        frame = message if isinstance(message, bytes) else wire.encode(message)
        self.board.hear(Received(node.encode(), key_of(node), wire.decode_from_agent(frame)))

    def ask(self, make: Callable[[int], ev.UserEvent], pending: Answered | None = None, **more: Any) -> Answered:
        """A user's request, to be answered by the next turn."""
        pending = pending or Answered()
        _number, given = self.callers.ask(lambda n: Input(make(n), **more), pending)
        self.cycle.post(given)
        return pending

    def submit(self, output: str, *, key: str = "", jobs: int = 1, pending: Answered | None = None) -> Answered:
        """A submission of jobs that write `output`, numbered where there are more."""
        prepared = []
        for number in range(jobs):
            path = MediaPath("media", "root-1", output if jobs == 1 else f"{number}-{output}")
            spec = JobSpec(Recipe("x"), Source(pattern=Pattern()), path)
            uuid = str(UUID(int=next(self.uuids) + 1000 * self.turns.committed))
            new = ev.NewJob(uuid, terms_of(spec, ev.Queue.DEFAULT, ev.Priority.MEDIUM, 3), output=output_key(spec))
            prepared.append(PreparedJob(new, spec, output_key(spec)))
        idempotency = Idempotency("somebody", key, "digest") if key else None
        news = tuple(each.new for each in prepared)
        asked = Asked(tuple(prepared), "somebody", idempotency)
        return self.ask(lambda n: ev.Submit(n, news), pending, asked=asked)

    def hello(self, node: str, *reports: wire.AttemptReport, incarnation: int = 1) -> int:
        """This node's agent says Hello, and a turn is made; its session, 0: none."""
        facts = wire.Facts(hostname=node)
        hello = wire.Hello(
            wire.PROTOCOL, "boot", incarnation, f"10.0.0.{len(node)}.{node}", node, facts, CAPACITY, reports
        )
        self.hear(node, hello)
        self.turn()
        contact = self.world.in_contact(node)
        return contact.session if contact is not None else 0


@contextmanager
def little_master(folder: Path, rules: Rules | None = None, now_s: float = 1000.0) -> Iterator[LittleMaster]:
    """A master on `folder`, until the block is left."""
    master = LittleMaster(folder, rules, now_s)
    try:
        yield master
    finally:
        master.close()
