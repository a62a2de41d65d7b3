"""Writing turns into a store as a master would, for tests: jobs that are born, move along the table, and end."""

from __future__ import annotations

import uuid
from dataclasses import replace
from pathlib import Path

from ffrtmp.farm.effects import Record
from ffrtmp.farm.job import TERMINAL, Attempt, Failure, Job, State, Terms, check
from ffrtmp.spec import JobSpec, Recipe, Source
from ffrtmp_master.rows import AttemptResult, Changes, NewSpec, TurnRows
from ffrtmp_master.store import Reader, Store

OFFSET_S = 1_000_000.0  # wall - farm


def open_store(folder: Path, **more) -> Store:
    return Store.open(folder / "farm.db", folder / "logs.db", **more)


def open_reader(folder: Path) -> Reader:
    return Reader(folder / "farm.db", folder / "logs.db")


def spec(scenario: str = "720p-h264", **fields) -> JobSpec:
    return JobSpec(recipe=Recipe(scenario=scenario), source=Source(url="http://127.0.0.1/in.mp4"), **fields)


class Book:
    """What a farm would hold, and the turn that is being gathered."""

    def __init__(self, turn: int = 0, next_job: int = 1) -> None:
        self.turn = turn
        self.next_job = next_job
        self.jobs: dict[int, Job] = {}
        self.rows = self._fresh(1.0)

    def _fresh(self, farm_s: float) -> TurnRows:
        return TurnRows(self.turn + 1, OFFSET_S + farm_s, OFFSET_S, Changes(), next_job=self.next_job)

    def at(self, farm_s: float) -> Book:
        """Set the clock of the turn that is being gathered."""
        self.rows.at_s = OFFSET_S + farm_s
        return self

    def submit(
        self,
        *,
        terms: Terms | None = None,
        output: str = "",
        state: State = State.QUEUED,
        job_spec: JobSpec | None = None,
    ) -> int:
        number = self.next_job
        self.next_job += 1
        job = Job(number, str(uuid.UUID(int=number)), terms or Terms(), self.rows.at_s - OFFSET_S, state)
        self.rows.next_job = self.next_job
        self.rows.specs.append(NewSpec(number, job_spec or spec(), "uid 0 (root)", output))
        self.rows.records.append(Record(number, 0, None, state, "submitted", "accepted"))
        self._put(job)
        return number

    def move(self, number: int, *states: State, failure: Failure | None = None, **fields) -> None:
        """Take edges of the table, one row of history each."""
        for state in states:
            old = self.jobs[number]
            check(old.state, state)
            self.rows.records.append(Record(number, old.current, old.state, state, "moved", "", failure=failure))
            self._put(replace(old, state=state, failure=failure or old.failure, **fields))

    def run(self, number: int, node: str = "anna", attempt: int = 1) -> Attempt:
        """Hand a queued job out and hear that it was accepted."""
        job = self.jobs[number]
        there = Attempt(number, attempt, job.uuid, node, job.terms.requirements, job.terms.live, accepted=True)
        self.rows.changes.attempts[there.id] = there
        self.move(number, State.ASSIGNED, State.RUNNING, attempt=attempt, current=attempt)
        return there

    def end(self, number: int, state: State = State.COMPLETED, how: str = "published", **result) -> None:
        """The current attempt is over and the job with it."""
        attempt = (number, self.jobs[number].current)
        self.rows.changes.attempts[attempt] = None
        self.rows.attempt_results[attempt] = AttemptResult(how, **result)
        self.move(number, state, failure=result.get("failure"))

    def _put(self, job: Job) -> None:
        self.jobs[job.number] = job
        if job.state in TERMINAL:
            self.rows.ended[job.number] = job
            self.rows.changes.jobs[job.number] = None
        else:
            self.rows.changes.jobs[job.number] = job

    def commit(self, store: Store) -> int:
        """Write the turn and begin the next, on the same clock."""
        store.commit(self.rows)
        self.turn = self.rows.turn
        farm_s = self.rows.at_s - OFFSET_S
        self.rows = self._fresh(farm_s)
        return self.turn
