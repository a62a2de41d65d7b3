"""The agent's work on the disk: making, judging, publishing and clearing attempts.

All of it may take its time (a sync of a slow disk, the digest of a large file), so it is done on a thread of its own, in
order; the agent's loop gives it functions of this module and gets their results back. Nothing here touches the session.
"""

from __future__ import annotations

import logging
import os
import stat
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import msgspec

from ffrtmp import wire
from ffrtmp.config_agent import MediaRoot
from ffrtmp.errors import FarmError
from ffrtmp.host.disk import DiskGuard, disk_reason
from ffrtmp.journal import Event
from ffrtmp.masking import mask_url
from ffrtmp.spec import Fingerprint, JobSpec, MediaPath, Results

from . import joblog
from .attempt import AttemptDir, guard_section
from .claims import Intent, Outcome
from .folders import OURS
from .guarding.files import boot_id
from .jobfile import JobFile, Paths
from .media import commands
from .media.reasons import End, classify
from .roots import ROOT_ID, input_inside
from .staging import NotPublishedError, Place, TargetExistsError

log = logging.getLogger(__name__)
LOG_TAIL_BYTES = 16 << 10


class Refusal(Exception):
    """No attempt is made. Without `failure`: no room here just now."""

    def __init__(self, detail: str, failure: wire.Failure | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.failure = failure


@dataclass(frozen=True, slots=True)
class Judgement:
    """What became of an attempt whose processes are gone. `how` as in wire.Ended, or `verified`, or `published`."""

    how: str
    fingerprint: Fingerprint | None = None
    results: Results | None = None
    failure: wire.Failure | None = None


@dataclass(frozen=True, slots=True)
class Published:
    """What came of publishing: a fingerprint where the output is at its place; else late, or a failure."""

    fingerprint: Fingerprint | None = None
    detail: str = ""
    failure: wire.Failure | None = None


def clock_s() -> float:
    """The agent's clock: monotonic, and counting while the host sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


@dataclass(frozen=True, slots=True)
class Workshop:
    """`roots` are this node's media roots by identity; `farm` tells our staging folders from those of another farm."""

    folder: Path
    roots: Mapping[str, MediaRoot]
    guard: DiskGuard
    protocols: frozenset[str]
    allow_run: bool
    confined: bool
    tee: bool = False
    farm: str = ""

    # ---- making --------------------------------------------------------------------------------------------------

    def make(self, assign: wire.Assign, timing: wire.Timing, reached_s: float = -1.0) -> AttemptDir:
        """Make the staging folder and the attempt directory; raises Refusal.

        `reached_s`: when what the master last answered was sent, on the agent's clock; the first lease counts from there.
        """
        spec = assign.spec
        staged: list[Place] = []
        try:
            self._check(spec)
            source = self._source(spec)
            place = self._place(spec, self._staging(assign.job, assign.attempt))
            _refuse_taken(place, assign)
            paths = Paths(source, str(place.staging), str(place.target), str(place.staged))
            command = commands.command_file(spec, paths)
            reason = disk_reason(place.root, self.guard, wanted_bytes=spec.recipe.needs.scratch_bytes)
            if reason:
                extra = {"FFRTMP_ATTEMPT": f"{assign.job}.{assign.attempt}", **Event.DISK_GUARD.field}
                log.warning("attempt %d.%d is refused: %s", assign.job, assign.attempt, reason, extra=extra)
                raise Refusal(reason)
            job = self._job_file(assign, paths, timing)
            lease_s = first_lease_s(spec, timing, reached_s)
            if lease_s is not None and clock_s() >= lease_s:
                raise Refusal("the master has not been heard for so long that its lease is over")

            def stage() -> None:
                place.make_staging()
                staged.append(place)

            return AttemptDir.create(self.folder, job, command, lease_until_s=lease_s, before=stage)
        except FarmError as error:
            raise Refusal(error.what, wire.Failure("user_error", False, error.what, error.hint)) from error
        except FileExistsError as error:
            raise Refusal("an attempt of this number is there already, of another job or farm") from error
        except OSError as error:
            for place in staged:
                with suppress(OSError, FarmError):
                    place.discard_staging()
            raise Refusal(f"its disk does not take the attempt: {error.strerror}") from error

    def _staging(self, job: int, attempt: int) -> str:
        """The name of a staging folder: two farms that share a storage both have a job 42."""
        return f"{job}.{attempt}-{self.farm}" if self.farm else f"{job}.{attempt}"

    def sweep(self) -> None:
        """Clear the staging folders that a crash left: of attempts never made, and of settled ones. Before `AttemptDir.scan`."""
        for job in AttemptDir.half_made(self.folder):
            place = self._place_of(job)
            try:
                if place is not None:
                    place.discard_staging()
            except (OSError, FarmError) as error:
                log.error("the staging folder of %d.%d cannot be removed: %s", job.job, job.attempt, error)
        for root in self.roots.values():
            try:
                Place.sweep_settled(root.path, self.farm)
            except (OSError, FarmError) as error:
                log.error("settled staging folders below %s cannot be removed: %s", root.path, error)

    def _check(self, spec: JobSpec) -> None:
        if not spec.arguments:
            return
        if not self.allow_run:
            raise _unable("this node takes no plain arguments", "its owner has to allow them: allow_run")
        if not self.confined:
            hint = "its owner can allow it all the same: allow_unconfined"
            raise _unable("this node cannot confine plain arguments", hint)

    def _source(self, spec: JobSpec) -> str:
        source = spec.source
        if source.path is not None:
            root = self._root(source.path, "read")
            found = input_inside(root.path, source.path.relative)
            _refuse_absent(found, source.path, root.path)
            return str(found)
        if source.url:
            scheme = source.url.split("://", 1)[0].lower()
            if scheme not in self.protocols:
                raise _unable(f"this node may not use {scheme}", "its owner has to allow it: protocols")
        return source.url

    def _place(self, spec: JobSpec, name: str) -> Place:
        if spec.output is None:
            raise _unable("this node does not know jobs without an output path", "install a newer ffrtmp-agent")
        root = self._root(spec.output, "write")
        return Place(root.path, name, spec.output.relative)

    def _root(self, path: MediaPath, use: str) -> MediaRoot:
        root = self.roots.get(path.root_id)
        if root is None:
            raise _unable(f"this node cannot see media root {path.root}", "submit it again: the roots have changed")
        if not (root.read if use == "read" else root.write):
            raise _unable(
                f"this node may not {use} in media root {path.root}", "its owner has to allow it: media_roots"
            )
        return root

    def _job_file(self, assign: wire.Assign, paths: Paths, timing: wire.Timing) -> JobFile:
        spec = assign.spec
        verify = [
            sys.executable,
            "-m",
            "ffrtmp_agent.media.verify",
            str(self.folder / f"{assign.job}.{assign.attempt}"),
        ]
        section = guard_section(
            spec.recipe.limits,
            timing,
            live=spec.recipe.kind == "live",
            verify=[*verify, paths.staging],
            grow=[paths.staged],
            lease=spec.on_disconnect == "stop",
            tee=self.tee,
        )
        return JobFile(
            assign.uuid, assign.job, assign.attempt, assign.queue, assign.priority, spec, paths, section, assign.granted
        )

    # ---- the end -------------------------------------------------------------------------------------------------

    def judge(self, directory: AttemptDir, *, found: bool = False) -> Judgement:
        """What became of an attempt whose processes are gone. Its staging folder is cleared unless it is to be published.

        `found` by an agent that has just started: one that was never begun is not the job's failure, but this host's loss.
        """
        job = directory.job_file()
        if job is None:
            return Judgement("failed", failure=_broken("its directory is damaged"))
        place = self._place_of(job)
        if place is not None and directory.intent() is not None:
            done = place.recover(directory)
            if done is not None:
                verdict = directory.verdict()
                results = _measured(verdict.results if verdict else None, directory.outcome())
                return Judgement("published", done.fingerprint, results)
        judgement = _judge(directory, job, found=found)
        if judgement.how != "verified" and place is not None:
            place.discard_staging()
        return judgement

    def publish(self, directory: AttemptDir, request: int, fingerprint: Fingerprint, until_s: float) -> Published:
        """Put the output at its place, beginning the rename before `until_s`."""
        job = directory.job_file()
        place = self._place_of(job) if job is not None else None
        if job is None or place is None:
            return Published(detail="its directory is damaged", failure=_broken("its directory is damaged"))
        intent = Intent(request, fingerprint, job.spec.overwrite)
        try:
            place.publish(directory, intent, until_s=until_s, clock=clock_s)
        except TargetExistsError as error:
            return self._instead(directory, job, place, error)
        except NotPublishedError as error:
            return _late(place, error)
        except FarmError as error:
            place.discard_staging()
            return Published(detail=error.what, failure=wire.Failure("runtime_error", True, error.what, error.hint))
        except OSError as error:
            return _disk(directory, place, error)
        return Published(fingerprint)

    def _instead(self, directory: AttemptDir, job: JobFile, place: Place, error: FarmError) -> Published:
        """Something stands there. If it is what an earlier attempt of this job was granted, it is the job's output."""
        there = place.look()
        place.discard_staging()
        if there is not None and there in job.granted:
            return Published(there)
        return Published(detail=error.what, failure=_taken(job.spec))

    def clean(self, directory: AttemptDir) -> None:
        """Remove the staging folder of an attempt that is given up."""
        job = directory.job_file()
        place = self._place_of(job) if job is not None else None
        if place is not None:
            place.discard_staging()

    def look(self, settle: wire.Settle) -> Fingerprint | None:
        """Settle another node's grant on storage that both share; raises OSError or Refusal."""
        return self._place(settle.spec, self._staging(settle.job, settle.attempt)).settle()

    def _place_of(self, job: JobFile) -> Place | None:
        with suppress(Refusal, FarmError):
            return self._place(job.spec, Path(job.paths.staging).name)
        return None


def _refuse_absent(found: Path, path: MediaPath, root: Path) -> None:
    """Raise Refusal for an input that is not there or is a folder. What cannot be looked at is for the engine to say.

    Where the storage itself has gone (its mount is not there) it is no fault of the job's, which waits or goes elsewhere.
    """
    what = ""
    try:
        if stat.S_ISDIR(found.stat().st_mode):
            what = f"{path.root}:{path.relative} is a folder"
    except (FileNotFoundError, NotADirectoryError):
        what = f"{path.root}:{path.relative} does not exist"
    except OSError:
        return
    if what and not (root / OURS / ROOT_ID).exists():
        raise Refusal(f"the storage of media root {path.root} is gone from {root}")
    if what:
        hint = "name a file in it" if what.endswith("folder") else "check the input's path, then submit it again"
        raise Refusal(what, wire.Failure("input_error", False, what, hint))


def _refuse_taken(place: Place, assign: wire.Assign) -> None:
    """Raise Refusal for a target that is there and is not to be replaced: before hours of work, not after them.

    Not where this job was granted an output before. That may be what stands there, and publishing finds out.
    """
    if assign.spec.overwrite or assign.granted or not os.path.lexists(place.target):
        return
    failure = _taken(assign.spec)
    raise Refusal(failure.line, failure)


def _taken(spec: JobSpec) -> wire.Failure:
    """Something stands at the output's place, told as its user named that."""
    assert spec.output is not None
    what = f"{spec.output.root}:{spec.output.relative} already exists"
    return wire.Failure("user_error", False, what, "--overwrite replaces it; or choose another output")


def first_lease_s(spec: JobSpec, timing: wire.Timing, reached_s: float) -> float | None:
    """Until when an attempt may run that is given up where its node is not heard; None for all others."""
    if spec.on_disconnect != "stop":
        return None
    lease_s = timing.lost_after_live_s if spec.recipe.kind == "live" else timing.lost_after_s
    return (reached_s if reached_s >= 0 else clock_s()) + lease_s


def _judge(directory: AttemptDir, job: JobFile, *, found: bool) -> Judgement:
    outcome = directory.outcome()
    guard = directory.guard_pid()
    if directory.stop_note() == "discard":
        return Judgement("stopped")
    if outcome is None:
        complaint = directory.complaint()
        begun = guard is not None or bool(complaint)
        if (guard is not None and guard.boot_id != boot_id()) or (found and not begun):
            return Judgement("node_lost")
        return Judgement("failed", failure=_broken(complaint or "it ended without a word (was it killed?)"))
    if outcome.how == "verified":
        verdict = directory.verdict()
        if verdict is not None and verdict.ok and verdict.fingerprint is not None:
            return Judgement("verified", verdict.fingerprint, _measured(verdict.results, outcome))
        failure = verdict.failure if verdict is not None else None
        return Judgement("failed", failure=failure or _broken("its verification left no verdict"))
    if outcome.how == "stopped":
        return Judgement("stopped")
    if outcome.how == "terminated":
        return Judgement("node_lost")
    if outcome.how == "completed":
        return Judgement("completed")
    return Judgement("failed", failure=_explained(directory, job, outcome))


def _measured(results: Results | None, outcome: Outcome | None) -> Results:
    """What the verification measured, with the guard's account of what the engine used."""
    results = results or Results()
    if outcome is None or outcome.cpu_s <= 0:
        return results
    return msgspec.structs.replace(results, cpu_s=outcome.cpu_s, peak_memory_bytes=outcome.peak_memory_bytes or None)


def _explained(directory: AttemptDir, job: JobFile, outcome: Outcome) -> wire.Failure:
    size = joblog.size(directory.path)
    tail = joblog.chunks(directory.path, max(0, size - LOG_TAIL_BYTES), LOG_TAIL_BYTES)
    end = End(
        status=outcome.exit_status,
        signal=outcome.signal,
        timed_out=outcome.timed_out,
        stalled=outcome.stalled,
    )
    text = b"".join(data for _offset, data in tail).decode("utf-8", "replace")
    failure = classify(end, text, staged=job.paths.staged)
    return msgspec.structs.replace(failure, line=mask_url(failure.line))


def _unable(what: str, hint: str) -> Refusal:
    return Refusal(what, wire.Failure("capability_mismatch", False, what, hint))


def _broken(line: str) -> wire.Failure:
    return wire.Failure("platform_error", True, line, "the agent's journal on that node tells more")


def _late(place: Place, error: FarmError) -> Published:
    """The right ran out, and the staging folder is as it was; or somebody took it away, and nothing can be published."""
    if place.staged.exists():
        return Published(detail=error.what)
    return Published(detail=error.what, failure=wire.Failure("platform_error", True, error.what))


def _disk(directory: AttemptDir, place: Place, error: OSError) -> Published:
    """The disk failed somewhere in between: what stands at the target tells what became of it."""
    intent = None
    with suppress(OSError, FarmError):
        intent = place.recover(directory)
    if intent is not None:
        return Published(intent.fingerprint)
    with suppress(OSError, FarmError):
        place.discard_staging()
    line = f"the output cannot be put at its place: {error.strerror}"
    return Published(detail=line, failure=wire.Failure("resource_error", True, line, "see the disk of its media root"))
