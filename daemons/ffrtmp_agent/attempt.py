"""The attempt directory: all there is to know of an attempt, whoever restarts.

Two users share it: the agent, who owns it, and the job's user, who writes the log, the outcome and whatever else the
guard or an engine gone wrong may write. So every file in it that is not the agent's own is a *claim*: it is opened
without following links, read up to a bound, and what does not make sense is None. Nobody is ever harmed by believing
nothing: an attempt that ended without a readable outcome is one that the platform broke, and is tried again.
The folder is sticky, so that the job's user cannot put another file in place of one of the agent's; what it puts where
the agent has none yet is told by its owner.

An attempt directory is there whole or not at all: it is filled under another name, made durable, and renamed. Only
then may the agent say `Accepted`.
"""

from __future__ import annotations

import os
import re
import stat
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from ffrtmp.errors import FarmError
from ffrtmp.spec import Limits
from ffrtmp.wire import Timing
from ffrtmp_agent import jobfile
from ffrtmp_agent.claims import GuardPid, Intent, Outcome, State, StopNote, Verdict
from ffrtmp_agent.folders import clear
from ffrtmp_agent.jobfile import JobFile

NAME = re.compile(r"([1-9][0-9]{0,17})\.([1-9][0-9]{0,8})")
NEW, GONE = ".new-", ".gone-"
SMALL_BYTES = 64 << 10
PROGRESS_TAIL_BYTES = 8 << 10

T = TypeVar("T")


class AttemptDir:
    """One attempt directory. `name` is "JOB.ATTEMPT", unique on a node."""

    def __init__(self, path: Path) -> None:
        match = NAME.fullmatch(path.name)
        if match is None:
            raise FarmError(f"{path} is no attempt directory", hint="its name is JOB.ATTEMPT, for example 42.1")
        self.path = path
        self.name = path.name
        self.job, self.attempt = int(match[1]), int(match[2])

    def __repr__(self) -> str:
        return f"AttemptDir({self.name})"

    # ---- making, finding, removing ----

    @classmethod
    def create(
        cls,
        folder: Path,
        job: JobFile,
        command: str,
        *,
        lease_until_s: float | None = None,
        before: Callable[[], None] | None = None,
    ) -> AttemptDir:
        """Make the directory of an attempt in `folder`, durable on return.

        `command` is the text of the shell script that becomes the engine; `lease_until_s` (CLOCK_BOOTTIME) the first
        lease of an attempt that needs one. `before` makes what the attempt has elsewhere (its staging folder): it is
        called when `half_made` would already tell of it, so that a crash leaves nothing that nobody knows. Raises
        FileExistsError when the attempt is there already, OSError when the disk cannot take it, and what `before`
        raises.
        """
        made = cls(folder / f"{job.job}.{job.attempt}")
        if made.path.exists():
            raise FileExistsError(f"{made.path} is there already")
        beside = folder / f"{NEW}{made.name}"
        clear(None, str(beside))
        beside.mkdir(0o1770)  # the group of a setgid parent is inherited, and so is setgid
        try:
            _write(beside, "command", command.encode())
            if lease_until_s is not None:
                _write(beside, "lease", f"{lease_until_s:.3f}\n".encode())
            jobfile.write(beside / "job.json", job)
            if before is not None:
                jobfile.fsync(folder)
                before()
            beside.rename(made.path)
        except OSError:
            clear(None, str(beside))
            raise
        jobfile.fsync(folder)
        return made

    @classmethod
    def half_made(cls, folder: Path) -> list[JobFile]:
        """What was asked of attempts that a crash kept from being made. `scan` clears their directories."""
        found = []
        for entry in sorted(folder.glob(f"{NEW}*")) if folder.is_dir() else []:
            with suppress(FarmError):
                found.append(jobfile.read(entry / "job.json"))
        return found

    @classmethod
    def scan(cls, folder: Path) -> list[AttemptDir]:
        """The attempt directories in `folder`, by number. What a crash left half made or half removed is cleared."""
        found = []
        for entry in sorted(folder.iterdir()) if folder.is_dir() else []:
            if entry.name.startswith((NEW, GONE)):
                clear(None, str(entry))
            elif NAME.fullmatch(entry.name) and stat.S_ISDIR(entry.lstat().st_mode):
                found.append(cls(entry))
        return sorted(found, key=lambda one: (one.job, one.attempt))

    def remove(self) -> None:
        """Clear the directory: gone under its name at once, and then from the disk. Raises OSError where it cannot."""
        gone = self.path.with_name(f"{GONE}{self.name}")
        clear(None, str(gone))
        with suppress(FileNotFoundError):
            self.path.rename(gone)
            jobfile.fsync(self.path.parent)
        clear(None, str(gone))

    # ---- the agent's own files ----

    def job_file(self) -> JobFile | None:
        """What was asked, or None when it cannot be read."""
        return self._decoded("job.json", JobFile, limit=4 << 20, own=True)

    def write_stop(self, note: StopNote) -> None:
        """Say why the guard is about to get SIGTERM. "discard" is never taken back to "stop"."""
        if self.stop_note() != "discard":
            _write(self.path, "stop", note.encode())

    def stop_note(self) -> StopNote | None:
        """What the agent has asked of the guard."""
        note = self.read("stop", 64, own=True).strip()
        return "discard" if note == b"discard" else "stop" if note == b"stop" else None

    def renew_lease(self, until_s: float) -> None:
        """Let the engine run until `until_s` of CLOCK_BOOTTIME. Not made durable: a boot ends every lease."""
        _write(self.path, "lease", f"{until_s:.3f}\n".encode(), durable=False)

    def lease_over(self, now_s: float) -> bool:
        """Whether the attempt has a lease, and that ended before `now_s` of CLOCK_BOOTTIME."""
        until = self.read("lease", 64, own=True).strip()
        return bool(until) and now_s >= float(until)

    def write_intent(self, intent: Intent) -> None:
        """Record, durably, that a rename is about to happen."""
        _write(self.path, "intent", msgspec.json.encode(intent))

    def clear_intent(self) -> None:
        """Record, durably, that it will not."""
        (self.path / "intent").unlink(missing_ok=True)
        jobfile.fsync(self.path)

    def intent(self) -> Intent | None:
        """The rename that was about to happen."""
        return self._decoded("intent", Intent, own=True)

    # ---- claims ----

    def outcome(self) -> Outcome | None:
        """How it ended."""
        return self._decoded("outcome", Outcome)

    def verdict(self) -> Verdict | None:
        """What the verification found."""
        return self._decoded("verified", Verdict)

    def state(self) -> State:
        """How it stands."""
        return self._decoded("state", State) or State()

    def guard_pid(self) -> GuardPid | None:
        """Who guards it."""
        words = self.read("guard.pid", 256).decode("ascii", "replace").split()
        try:
            return GuardPid(int(words[0]), int(words[1]), words[2])
        except (IndexError, ValueError):
            return None

    def progress_tail(self) -> bytes:
        """The end of the engine's progress report."""
        return self.read("progress", PROGRESS_TAIL_BYTES, tail=True)

    def complaint(self) -> str:
        """The last line that the launcher or the guard itself said before it broke, "" if nothing."""
        lines = self.read("guard.err", 4096, tail=True).decode("utf-8", "replace").splitlines()
        return lines[-1].strip() if lines else ""

    def read(self, name: str, limit: int, *, tail: bool = False, own: bool = False) -> bytes:
        """Up to `limit` bytes of a plain file in the directory, from its start or its end; b"" for anything else.

        `own` takes only what this very user has written: the agent's files, not what a job put in their place.
        """
        try:
            descriptor = os.open(self.path / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            return b""
        try:
            found = os.fstat(descriptor)
            foreign = own and found.st_uid != os.geteuid()
            if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1 or foreign:
                return b""
            return os.pread(descriptor, limit, max(found.st_size - limit, 0) if tail else 0)
        except OSError:
            return b""
        finally:
            os.close(descriptor)

    def _decoded(self, name: str, kind: type[T], *, limit: int = SMALL_BYTES, own: bool = False) -> T | None:
        try:
            found = msgspec.json.decode(self.read(name, limit, own=own), type=kind)
            msgspec.msgpack.encode(found)  # JSON knows numbers that no message can hold
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, OverflowError):
            return None
        return found


def _write(folder: Path, name: str, content: bytes, *, durable: bool = True) -> None:
    """Put a file at its place, whole or not at all; raises OSError.

    The job's user may have prepared the folder: the file is made under a name that nobody could guess, and never
    through a link. The group may read it.
    """
    descriptor, beside = tempfile.mkstemp(prefix=f".{name}-", dir=folder)
    try:
        os.write(descriptor, content)
        os.fchmod(descriptor, 0o640)
        if durable:
            os.fsync(descriptor)
        Path(beside).rename(folder / name)
    except OSError:
        Path(beside).unlink(missing_ok=True)
        raise
    finally:
        os.close(descriptor)
    if durable:
        jobfile.fsync(folder)


def guard_section(
    limits: Limits, timing: Timing, *, live: bool, verify: list[str], grow: list[str], lease: bool, tee: bool = False
) -> dict[str, Any]:
    """The section "guard" of job.json: what ffrtmp_agent/guarding/orders.py reads."""
    return {
        "live": live,
        "time_limit_s": limits.time_s,
        "stall_after_s": timing.stall_after_s if live else timing.stall_after_file_s,
        "stable_after_s": timing.stable_after_s,
        "log_max_bytes": timing.log_max_bytes,
        "file_bytes": limits.file_bytes,
        "nice": limits.nice,
        "verify": verify,
        "grow": grow,
        "lease": lease,
        "tee": tee,
    }
