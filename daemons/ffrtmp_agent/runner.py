"""What every runner does: the contract between the agent and what starts processes for it.

A runner is given attempt directories and knows them by their name, "42.1". It never waits: whatever takes time is asked
for here and seen in `poll`. What it started outlives it: the next agent calls `adopt` with the directories it finds.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, Protocol

from ffrtmp.spec import Limits
from ffrtmp_agent.attempt import AttemptDir

Stage = Literal["running", "paused", "ended"]


@dataclass(frozen=True, slots=True)
class Observation:
    """What an attempt's processes do. "ended": not one of them is left; how, is in the directory."""

    name: str
    stage: Stage


class Runner(Protocol):
    """Starts, pauses and ends attempts. Orders for a name that is not there are passed over."""

    name: str  # plain or systemd
    confinement: str  # landlock, systemd or none
    unenforced: tuple[str, ...]  # limits that it cannot enforce, in words

    def start(self, attempt: AttemptDir, limits: Limits) -> None:
        """Start the guard of an attempt whose directory and staging folder are there. Raises FarmError."""

    def adopt(self, attempts: Iterable[AttemptDir]) -> set[str]:
        """Find what an earlier agent started. Returns the names of those that have a process; `poll` tells of them."""

    def pause(self, name: str) -> None:
        """Let every process of an attempt stand still."""

    def resume(self, name: str) -> None:
        """Let them go on."""

    def stop(self, name: str) -> None:
        """End an attempt in order, also a paused one: a live engine finishes what it writes."""

    def discard(self, name: str) -> None:
        """Give an attempt up: its processes are gone within seconds, whatever they do."""

    def poll(self) -> list[Observation]:
        """How all attempts stand. To be called at least once a second while there are any: it also does what is due."""

    def forget(self, name: str) -> None:
        """Tell no more of an attempt that has ended."""

    def filenos(self) -> list[int]:
        """Descriptors that become readable when a guard ends: reasons to `poll` at once."""

    def close(self) -> None:
        """Let go of all, ending nothing."""
