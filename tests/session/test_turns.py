"""The master's turn: what fails is undone alone, what cannot be kept has not happened, what is kept is answered once (P1)."""

from __future__ import annotations

import asyncio
import resource
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from pathlib import Path
from uuid import UUID

import pytest
from msgspec import structs

from ffrtmp.config import source
from ffrtmp.config_master import MasterConfig
from ffrtmp.farm import events as ev
from ffrtmp.farm.effects import Answer
from ffrtmp.farm.farm import Farm
from ffrtmp.farm.job import Queue, State
from ffrtmp.farm.rules import Rules
from ffrtmp.service import Notifier
from ffrtmp.spec import JobSpec, MediaPath, Pattern, Recipe, Source
from ffrtmp_master.api.access import Caller
from ffrtmp_master.cycle import Clocks
from ffrtmp_master.main import _Running
from ffrtmp_master.refusal import Refusal
from ffrtmp_master.rows import StoreRefused
from ffrtmp_master.store import Store
from ffrtmp_master.submit import PreparedJob, output_key
from ffrtmp_master.turn import Asked, Decision, Input, Turns

NOW_S = 1000.0


def _job(number: int, output: str) -> Input:
    """A submission of one job."""
    spec = JobSpec(Recipe("x"), Source(pattern=Pattern()), MediaPath("media", "root-1", output))
    new = ev.NewJob(str(UUID(int=number)), ev.Terms(), output=output_key(spec))
    return Input(ev.Submit(number, (new,)), asked=Asked((PreparedJob(new, spec, output_key(spec)),), "somebody"))


# The first job of this batch is accepted before the second makes the rule fail.
_NOWHERE = ev.Terms(queue="nowhere")  # type: ignore[arg-type]
BROKEN = Input(ev.Submit(99, (ev.NewJob(str(UUID(int=98)), ev.Terms()), ev.NewJob(str(UUID(int=99)), _NOWHERE))))


@contextmanager
def a_master(folder: Path) -> Iterator[tuple[Turns, Store]]:
    """Turns over a real store."""
    with Store.open(folder / "farm.db", folder / "farm.logs") as store:
        loaded = store.load(0.0)
        farm = Farm(Rules(), lineage=loaded.lineage, now_s=NOW_S)
        loaded.put_into(farm)
        yield Turns(farm, loaded.turn), store


def _decide(turns: Turns, *inputs: Input) -> Decision:
    return turns.decide(inputs, NOW_S, NOW_S, taken=lambda _keys: {})


def _answers(decision: Decision) -> dict[int, int]:
    return {effect.request: effect.status for effect in decision.effects if isinstance(effect, Answer)}


def test_an_event_whose_rule_fails_is_undone_alone_and_the_turn_goes_on(tmp_path: Path) -> None:
    with a_master(tmp_path) as (turns, store), store.reader() as reader:
        decision = _decide(turns, _job(1, "one.mp4"), BROKEN, _job(2, "two.mp4"))
        assert [given.event for given, _error in decision.failed] == [BROKEN.event]
        assert _answers(decision) == {1: 201, 2: 201}
        store.commit(decision.rows)
        turns.keep(decision)
        assert sorted(turns.farm.world.jobs) == [1, 2], "the one that failed has used no number"
        assert [row and row.uuid for row in (reader.job(1), reader.job(2))] == [str(UUID(int=1)), str(UUID(int=2))]


def test_a_turn_that_cannot_be_kept_has_not_happened(tmp_path: Path) -> None:
    with a_master(tmp_path) as (turns, store), store.reader() as reader:
        first = _decide(turns, _job(1, "one.mp4"))
        store.commit(first.rows)
        turns.keep(first)
        lost = _decide(turns, _job(2, "two.mp4"), Input(ev.Cancel(3, 1)), Input(ev.SetQueue(4, Queue.BATCH, True)))
        with _no_room(tmp_path), pytest.raises(StoreRefused):
            store.commit(lost.rows)
        turns.undo()
        world = turns.farm.world
        assert sorted(world.jobs) == [1]
        assert world.jobs[1].state is State.QUEUED
        assert not world.paused_queues
        assert reader.job(2) is None
        again = _decide(turns, _job(2, "two.mp4"))
        assert again.rows.turn == lost.rows.turn, "no turn is missing in the count"
        store.commit(again.rows)
        turns.keep(again)
        row = reader.job(2)
        assert row is not None
        assert row.uuid == str(UUID(int=2)), "nor a number of a job"
        assert store.verify_history() == []


@contextmanager
def _no_room(folder: Path) -> Iterator[None]:
    """No file of the database may grow."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    sizes = [path.stat().st_size for path in folder.glob("farm.db-wal")]
    resource.setrlimit(resource.RLIMIT_FSIZE, (min(sizes), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_turn_that_changes_nothing_has_no_number(tmp_path: Path) -> None:
    with a_master(tmp_path) as (turns, _store):
        before = turns.committed
        decision = _decide(turns)
        assert decision.rows.empty
        turns.keep(decision)
        assert turns.committed == before


def test_p3_two_jobs_of_one_turn_cannot_have_one_output(tmp_path: Path) -> None:
    with a_master(tmp_path) as (turns, store):
        decision = _decide(turns, _job(1, "one.mp4"), _job(2, "one.mp4"))
        assert _answers(decision) == {1: 201, 2: 409}
        store.commit(decision.rows)


def test_p3_a_job_cannot_have_the_output_of_one_that_waits(tmp_path: Path) -> None:
    with a_master(tmp_path) as (turns, store), store.reader() as reader:
        first = _decide(turns, _job(1, "one.mp4"))
        store.commit(first.rows)
        turns.keep(first)
        second = turns.decide([_job(2, "one.mp4")], NOW_S, NOW_S, taken=reader.open_outputs)
        assert _answers(second) == {2: 409}


# ---- the loop round it -------------------------------------------------------------------------------------------


@asynccontextmanager
async def a_running_master(folder: Path) -> AsyncIterator[_Running]:
    """The whole master, serving, in this very process."""
    flags = {"state_dir": str(folder), "socket": str(folder / "s"), "hub": "tcp://127.0.0.1:0"}
    settings = source(MasterConfig, flags, {})
    config = _unguarded(settings.load())
    clocks = Clocks(lambda: time.clock_gettime(time.CLOCK_BOOTTIME), time.time)
    with Store.open(config.database, folder / "farm.db.logs") as store, store.reader() as reader:
        running = _Running(settings, config, store, reader, clocks, Notifier({}))
        task = asyncio.create_task(running.run())
        try:
            while running.desk.not_ready():
                await asyncio.sleep(0.01)
                assert not task.done(), task.result()
            yield running
        finally:
            running.master.stop()
            await asyncio.wait_for(task, 30)


def _unguarded(config: MasterConfig) -> MasterConfig:
    """A test's disk may be fuller than the guard likes."""
    return structs.replace(config, disk_free=0, disk_free_percent=0.0)


def test_a_request_whose_rule_fails_is_answered_500_and_the_next_one_is_taken(tmp_path: Path) -> None:
    caller = Caller("uid 0", "somebody", frozenset({"admin"}))

    async def story() -> None:
        async with a_running_master(tmp_path) as running:
            with pytest.raises(Refusal) as refused:
                await running.desk.request(lambda number: replace(BROKEN.event, request=number), caller)
            assert refused.value.status == 500
            answer = await running.desk.request(lambda number: ev.SetQueue(number, Queue.BATCH, True), caller)
            assert answer.status == 200
            assert Queue.BATCH in running.cycle.turns.farm.world.paused_queues

    asyncio.run(asyncio.wait_for(story(), 60))
