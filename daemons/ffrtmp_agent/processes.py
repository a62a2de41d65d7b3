"""The process table, as far as a runner needs it: who is who, and what belongs to which attempt.

A process number alone identifies nothing, it is used again. Number and start time together do, within one boot.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
MARK = b"FFRTMP_ATTEMPT="


@dataclass(frozen=True, slots=True)
class Process:
    """One row. `state` is the letter that ps shows; `start_ticks` clock ticks from boot to its start."""

    pid: int
    parent: int
    group: int
    session: int
    state: str
    start_ticks: int

    @property
    def stopped(self) -> bool:
        """Whether it stands still by a signal."""
        return self.state in "Tt"

    @property
    def dead(self) -> bool:
        """Whether it only waits to be reaped."""
        return self.state in "ZXx"


def find(pid: int) -> Process | None:
    """The process with this number, or None."""
    try:
        text = (PROC / str(pid) / "stat").read_bytes()
    except OSError:
        return None
    fields = text[text.rindex(b")") + 2 :].split()  # the name before it may hold anything
    parent, group, session = (int(field) for field in fields[1:4])
    return Process(pid, parent, group, session, fields[0].decode(), int(fields[19]))


def everyone() -> dict[int, Process]:
    """All processes that can be seen, by number."""
    pids = [int(entry.name) for entry in os.scandir(PROC) if entry.name.isdigit()]
    return {pid: process for pid in pids if (process := find(pid))}


def mark_of(pid: int) -> str:
    """The attempt, "UUID.NUMBER", in the environment that a process was started with; "" if there is none to see."""
    try:
        environment = (PROC / str(pid) / "environ").read_bytes()
    except OSError:
        return ""
    for entry in environment.split(b"\0"):
        if entry.startswith(MARK):
            return entry[len(MARK) :].decode("ascii", "replace")
    return ""


def boot_id() -> str:
    """The identity of this boot."""
    return (PROC / "sys/kernel/random/boot_id").read_text().strip()
