"""What an agent knows of its attempts and of its host: plain data, kept by the session (session.py)."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from ffrtmp import wire
from ffrtmp.spec import Fingerprint, Progress, Results

from .actions import AttemptKey


class Step(StrEnum):
    """Where an attempt is on its way; see the picture in session.py."""

    CREATING = "creating"
    RUNNING = "running"
    VERIFIED = "verified"
    PUBLISHING = "publishing"
    CLEANING = "cleaning"
    OVER = "over"


@dataclass(slots=True)
class Local:
    """One attempt on this host."""

    uuid: str
    job: int
    number: int
    cpu_milli: int = 0
    memory_bytes: int = 0
    live: bool = False
    lease: bool = False  # on_disconnect = stop
    step: Step = Step.CREATING
    stage: wire.Stage = "starting"
    phase: wire.PhaseName = "encoding"
    want: str = "run"  # empty: an earlier life knew, and the master will say
    progress: Progress | None = None
    restarts: int = 0
    fingerprint: Fingerprint | None = None
    results: Results = field(default_factory=Results)
    request: int = 0
    requested_s: float = 0.0
    asked: dict[int, float] = field(default_factory=dict)  # publish requests: number -> when it was sent
    log_done: bool = False
    item: str = ""  # the outbox item that the master has acknowledged

    @property
    def key(self) -> AttemptKey:
        """(UUID, number)."""
        return (self.uuid, self.number)

    def report(self) -> wire.AttemptReport:
        """As it is told in Hello and heartbeats."""
        over = self.step in (Step.CLEANING, Step.OVER)
        return wire.AttemptReport(
            self.uuid,
            self.job,
            self.number,
            "ended" if over else self.stage,
            "publishing" if self.step in (Step.VERIFIED, Step.PUBLISHING) else self.phase,
            self.progress,
            self.request,
            self.restarts,
        )


@dataclass(frozen=True, slots=True)
class About:
    """What Hello and heartbeats say of the host; the shell measures it."""

    name: str
    address: str
    boot_id: str
    incarnation: int
    facts: wire.Facts
    capacity: wire.Capacity


@dataclass(frozen=True, slots=True)
class Measured:
    """What changes from heartbeat to heartbeat."""

    load: tuple[float, float, float] = (0.0, 0.0, 0.0)
    free_memory_bytes: int = 0
    rx_bytes: int = 0
    tx_bytes: int = 0
