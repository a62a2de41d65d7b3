"""What a host keeps of an attempt, and the engine that works at it. Engines belong to the host: they outlive their agent."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from simulation.clock import Time
from simulation.logs import BYTES_PER_S

from ffrtmp import wire
from ffrtmp.spec import Fingerprint, Progress
from ffrtmp_agent.actions import AttemptKey

BROKEN = wire.Failure("runtime_error", True, "Conversion failed!")
WRONG = wire.Failure("input_error", False, "moov atom not found")
LATE = wire.Failure("timeout", False, "it used up its time")


@dataclass(eq=False)
class Directory:
    """The attempt directory. What is here is on disk; `outcome` and the log's tail may be lost with the power."""

    assign: wire.Assign
    staged: str
    boot: int = 0  # of the host, when the guard began; 0: it has not
    made: bool = False
    intent: bool = False
    discarded: bool = False
    outcome: str = ""
    failure: wire.Failure | None = None
    log_bytes: int = 0
    log_most: int = 0  # so long was the log before the host's power went, and took its end with it
    epoch: int = 0  # how often the master had been put back when this was handed out
    lease_s: float | None = None  # on the host's clock
    engine: Engine | None = None

    @property
    def key(self) -> AttemptKey:
        """(UUID, number)."""
        return (self.assign.uuid, self.assign.attempt)

    @property
    def name(self) -> str:
        """As people call it."""
        return f"{self.assign.job}.{self.assign.attempt}"

    @property
    def live(self) -> bool:
        """Whether it runs until it is told to end."""
        return self.assign.spec.recipe.kind == "live"

    @property
    def strict(self) -> bool:
        """Whether its engine ends with its lease."""
        return self.assign.spec.on_disconnect == "stop"

    @property
    def path(self) -> str:
        """Its output's, inside its storage."""
        assert self.assign.spec.output is not None
        return self.assign.spec.output.relative

    @property
    def print(self) -> Fingerprint:
        """Of the output that it makes: no two attempts make the same bytes."""
        return Fingerprint(1000, f"{self.assign.uuid}.{self.assign.attempt}")


@dataclass(eq=False)
class Engine:
    """A process that works for `needs_s` and then ends as it is fated to."""

    time: Time
    directory: Directory
    needs_s: float
    fate: str
    state: str = "running"
    done_s: float = 0.0
    since_s: float = 0.0
    _round: int = field(default=0)

    def start(self) -> None:
        """Begin, or go on."""
        self.time.event()
        self.state, self.since_s = "running", self.time.now_s
        self._round += 1
        number = self._round

        def over() -> None:
            if self._round == number and self.state == "running":
                self.end(self.fate)

        self.time.after(self.needs_s - self.done_s, over)

    def pause(self) -> None:
        """Stand still."""
        if self.state == "running":
            self.done_s = self.worked_s
            self.state = "paused"
            self._round += 1

    def end(self, outcome: str) -> None:
        """No process is left."""
        if self.state == "ended":
            return
        self.time.event()
        self.done_s = self.worked_s
        self.state = "ended"
        self._round += 1
        self.directory.outcome = outcome
        self.directory.failure = {"failed": BROKEN, "wrong": WRONG, "late": LATE}.get(outcome)
        self.directory.log_bytes = max(self.directory.log_bytes, int(BYTES_PER_S * self.done_s) + 10)

    def write(self) -> None:
        """Its log is as long as it has worked by now."""
        if self.state != "ended":
            self.directory.log_bytes = max(self.directory.log_bytes, int(BYTES_PER_S * self.worked_s))

    @property
    def worked_s(self) -> float:
        """How far it is."""
        return self.done_s + (self.time.now_s - self.since_s if self.state == "running" else 0.0)

    @property
    def progress(self) -> Progress:
        """As its agent reads it."""
        return Progress(out_time_s=round(self.worked_s, 3), total_s=self.needs_s)


def fate(chance: random.Random, fails: float, *, live: bool) -> tuple[float, str]:
    """How long an engine is to work, and how it ends."""
    needs_s = chance.choice((0.0, 1.0, 3.0, 3.0, 8.0, 20.0)) * chance.uniform(0.5, 1.5)
    if live:
        return 10_000.0, "completed"
    if chance.random() < fails:
        return needs_s, chance.choice(("failed", "failed", "failed", "wrong", "late", ""))
    return needs_s, "verified"
