"""The agent's shell round its pure heart: one loop that looks at link, processes and clock, and carries the actions out.

The loop never waits for a disk: what does (workshop.py) runs on a thread, in order, and its results come back through
`_done`. What the heart wants of processes goes to the runner at once.
"""

from __future__ import annotations

import dataclasses
import logging
import os
import select
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

from msgspec import structs

from ffrtmp import wire
from ffrtmp.errors import Exit, FarmError
from ffrtmp.host import facts
from ffrtmp.journal import Event
from ffrtmp.service import Notifier

from . import joblog
from .actions import (
    Action,
    AttemptKey,
    Clean,
    Control,
    Create,
    GiveUp,
    Item,
    Lease,
    Look,
    Offer,
    Publish,
    PutItem,
    Reconnect,
    Remove,
    SaveSeen,
    Send,
)
from .attempt import AttemptDir
from .link import Link
from .local import Local, Measured, Step
from .media.progress import parse
from .outbox import Outbox
from .runner import Observation, Runner
from .session import Session
from .shipping import Shipping
from .state import StateFolder
from .watching import Watching
from .workshop import Judgement, Published, Refusal, Workshop, clock_s

log = logging.getLogger(__name__)

TURN_S = 0.2
LOOK_S = 0.5
MEASURE_S = 2.0
SEEN_S = 30.0
RETRY_S = 2.0
FAULTS_KEPT = 100


class Refused(FarmError):
    """The master refuses this agent for good."""


class Agent:
    """Runs until `stop`, or raises Refused."""

    def __init__(
        self,
        state: StateFolder,
        session: Session,
        link: Link,
        runner: Runner,
        workshop: Workshop,
        outbox: Outbox,
        notifier: Notifier,
    ) -> None:
        self.state = state
        self.session = session
        self.link = link
        self.runner = runner
        self.workshop = workshop
        self.outbox = outbox
        self.notifier = notifier
        self.watching = Watching()
        self.shipping = Shipping()
        self.dirs: dict[AttemptKey, AttemptDir] = {}
        self.keys: dict[str, AttemptKey] = {}  # by the directory's name
        self.chores: list[Callable[[float], None]] = []  # called about once a second
        self._ended: set[AttemptKey] = set()  # no process is left, the end is being judged or is
        self._judging: set[AttemptKey] = set()
        self._results: deque[Callable[[float], list[Action]]] = deque()
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="disk")
        self._looker = ThreadPoolExecutor(1, thread_name_prefix="settle")
        self._settling: set[AttemptKey] = set()
        self._faults: set[str] = set()
        self._stopping = False
        self._trouble = ""
        self._look_s = self._measure_s = self._chores_s = self._seen_s = 0.0

    # ---- life ----------------------------------------------------------------------------------------------------

    def stop(self) -> None:
        """End soon; called from a signal handler."""
        self._stopping = True
        os.eventfd_write(self._wake, 1)

    def run(self) -> None:
        """Find what an earlier life left, then go round."""
        self._find()
        self.notifier.ready(self._status())
        while not self._stopping:
            self._round(clock_s())
            self.notifier.beat()
            self._wait()
        self._carry_out(self.session.goodbye())
        self.link.receive()
        self._worker.shutdown()
        self._looker.shutdown(cancel_futures=True)
        self.runner.close()
        with suppress(FarmError):  # an older note accuses nobody wrongly
            self.state.save_seen(self.session.seen)

    def _find(self) -> None:
        """Match directories, processes and outbox items."""
        items = self.outbox.load()
        over = {(m.uuid, m.attempt) for m in items.values()}
        self.workshop.sweep()
        found = AttemptDir.scan(self.workshop.folder)
        running = self.runner.adopt(found)
        for directory in found:
            job = directory.job_file()
            if job is None:
                log.error("attempt directory %s cannot be read and is removed", directory.name)
                directory.remove()
                continue
            needs = job.spec.recipe.needs
            live, lease = job.spec.recipe.kind == "live", job.spec.on_disconnect == "stop"
            local = Local(
                job.uuid, job.job, job.attempt, needs.cpu_milli, needs.memory_bytes, live, lease, Step.RUNNING
            )
            key = local.key
            local.want = ""
            if key in over:
                local.step = Step.OVER
            self._know(key, directory)
            self.session.found(local)
            if key in over:
                self._ended.add(key)
                self.shipping.ended(key, joblog.size(directory.path))
            extra = {"FFRTMP_ATTEMPT": directory.name, **Event.ATTEMPT_FOUND.field}
            log.info(
                "found attempt %s, %s", directory.name, "running" if directory.name in running else "ended", extra=extra
            )
            if directory.name not in running and key not in over:
                self._judge(key, found=True)
        for item, message in items.items():
            self.session.found_item(item, message)

    def _know(self, key: AttemptKey, directory: AttemptDir) -> None:
        self.dirs[key] = directory
        self.keys[directory.name] = key
        self.shipping.add(key)

    def _wait(self) -> None:
        """Until something has come, or the clock wants a look."""
        poll = select.poll()
        for fd in (self.link.fileno(), self._wake, *self.runner.filenos()):
            poll.register(fd, select.POLLIN)
        busy = bool(self.dirs)
        wait_s = min(TURN_S if busy else 1.0, max(0.0, self.session.next_s() - clock_s()))
        poll.poll(max(1, int(wait_s * 1000)))
        with suppress(BlockingIOError):
            os.eventfd_read(self._wake)

    def _round(self, now_s: float) -> None:
        while self._results:
            self._safely("a result of the disk's thread", self._finish, self._results.popleft(), now_s)
        for message in self.link.receive():
            self._safely(type(message).__name__, self._hear, message, now_s)
        self._observe(now_s)
        if now_s >= self._measure_s:
            self._measure_s = now_s + MEASURE_S
            load = facts.read_load()
            self.watching.share_energy(self._running())
            self.session.measured = Measured(load.average, load.free_memory_bytes, *self.watching.link_bytes())
        self._carry_out(self.session.tick(now_s))
        self._ship(now_s)
        if now_s >= self._chores_s:
            self._chores_s = now_s + 1.0
            for chore in self.chores:
                chore(now_s)
            self._tell_trouble()
            self.notifier.status(self._status())

    def _safely(self, what: str, work: Callable[..., None], *arguments: Any) -> None:
        """A fault in one thing must not end the agent, nor what it does for other attempts; told once, not each time."""
        try:
            work(*arguments)
        except Refused:
            raise
        except Exception as error:
            fault = f"{what}: {error!r}"[:200]
            if fault not in self._faults:
                log.exception("%s could not be handled", what)
            if len(self._faults) > FAULTS_KEPT:
                self._faults.clear()
            self._faults.add(fault)

    def _finish(self, done: Callable[[float], list[Action]], now_s: float) -> None:
        self._carry_out(done(now_s))

    def _tell_trouble(self) -> None:
        """Say once what stands between this node and its master, and once that it is over."""
        trouble = "" if self.session.live else self.link.troubles() or ""
        if trouble and trouble != self._trouble:
            log.warning("; ".join(filter(None, (trouble, "jobs go on", self.link.advice()))))
        self._trouble = trouble

    def _status(self) -> str:
        trouble = self.link.troubles()
        state = "in contact" if self.session.live else trouble or "looking for the master"
        return f"{len(self.dirs)} attempts, {state}"

    # ---- the master ----------------------------------------------------------------------------------------------

    def _hear(self, message: wire.FromMaster, now_s: float) -> None:
        if isinstance(message, wire.LogAck):
            key = (message.uuid, message.attempt)
            if self.shipping.acked(key, message.offset, now_s):
                self._carry_out(self.session.log_shipped(key))
            return
        actions = self.session.receive(message, now_s)
        if isinstance(message, wire.Welcome):
            self.shipping.welcome({(d.uuid, d.attempt): d.log_offset for d in message.directives})
            log.info("in contact with the master as node %s", message.name, extra={"FFRTMP_NODE": message.name})
        self._carry_out(actions)

    def _offer(self, key: AttemptKey) -> None:
        job = self.dirs[key].job_file() if key in self.dirs else None
        if job is not None:
            number, paused = self.session.number, self.session.paused(key)
            self.link.send(
                wire.AdoptionOffer(number, job.uuid, job.job, job.attempt, job.spec, job.queue, job.priority, paused)
            )

    def _ship(self, now_s: float) -> None:
        if not self.session.live:
            return
        for key, offset in list(self.shipping.wanted(now_s)):
            directory = self.dirs.get(key)
            if directory is None:
                self.shipping.forget(key)
                continue
            read = joblog.chunks(directory.path, offset, wire.LOG_CHUNK_BYTES)
            chunk = self.shipping.chunk(key, self.session.number, read, now_s)
            if chunk is not None:
                self.link.send(chunk)

    # ---- processes -----------------------------------------------------------------------------------------------

    def _observe(self, now_s: float) -> None:
        detail = now_s >= self._look_s
        if detail:
            self._look_s = now_s + LOOK_S
        for seen in self.runner.poll():
            key = self.keys.get(seen.name)
            if key is not None:
                self._safely(f"attempt {seen.name}", self._look_at, key, seen, detail, now_s)

    def _look_at(self, key: AttemptKey, seen: Observation, detail: bool, now_s: float) -> None:
        if seen.stage == "ended":
            if key not in self._ended:
                self._judge(key)
            return
        if detail:
            directory = self.dirs[key]
            state = directory.state()
            progress = parse(directory.progress_tail(), self.watching.total_s(directory))
            self.session.seen_progress(key, state.phase, progress, state.restarts)
        self._carry_out(self.session.seen_stage(key, seen.stage, now_s))

    def _judge(self, key: AttemptKey, *, found: bool = False) -> None:
        """No process of it is left: find out what became of it. `found`: an earlier life of this agent left it so."""
        directory = self.dirs[key]
        self.watching.share_energy(self._running())
        energy_j = self.watching.energy_j(directory)
        self._ended.add(key)
        self._judging.add(key)
        self.runner.forget(directory.name)
        self.watching.forget(directory)
        self.shipping.ended(key, joblog.size(directory.path))

        def judged(result: Any, error: Exception | None, now_s: float) -> list[Action]:
            if error is not None:
                log.error("attempt %s cannot be judged, trying again: %s", directory.name, error)
                self._later(lambda: self.workshop.judge(directory, found=found), judged)
                return []
            self._judging.discard(key)
            return self._ended_as(key, directory, _with_energy(result, energy_j), now_s)

        self._task(lambda: self.workshop.judge(directory, found=found), judged)

    def _running(self) -> list[AttemptDir]:
        return [directory for key, directory in self.dirs.items() if key not in self._ended]

    def _ended_as(self, key: AttemptKey, directory: AttemptDir, judgement: Judgement, now_s: float) -> list[Action]:
        extra = {"FFRTMP_ATTEMPT": directory.name, **Event.ATTEMPT_ENDED.field}
        log.info("attempt %s ended: %s", directory.name, judgement.how, extra=extra)
        local = self.session.attempts[key]
        if judgement.how == "published" and judgement.fingerprint is not None:
            local.results = judgement.results or local.results
            return self.session.publish_done(key, judgement.fingerprint)
        if local.want == "discard":
            return self._clean(key)
        if judgement.how == "verified" and judgement.fingerprint is not None:
            return self.session.verified(key, judgement.fingerprint, judgement.results or local.results, now_s)
        return self.session.ended(key, _how(judgement.how), judgement.failure, judgement.results)

    def _clean(self, key: AttemptKey) -> list[Action]:
        directory = self.dirs[key]

        def cleaned(_result: Any, error: Exception | None, _now_s: float) -> list[Action]:
            if error is not None:
                log.error("the staging folder of %s cannot be removed, trying again: %s", directory.name, error)
                self._later(lambda: self.workshop.clean(directory), cleaned)
                return []
            return self.session.ended(key, "stopped")

        self._task(lambda: self.workshop.clean(directory), cleaned)
        return []

    # ---- actions -------------------------------------------------------------------------------------------------

    def _carry_out(self, actions: list[Action]) -> None:
        for action in actions:
            self._do(action)

    def _do(self, action: Action) -> None:
        match action:
            case Send(message):
                self.link.send(message)
            case Create():
                self._create(action)
            case Control(key, what):
                self._control(key, what)
            case Clean(key):
                self._discard(key)
            case Publish():
                self._publish(action)
            case PutItem(item, message):
                self._put(item, message)
            case Remove(key, item):
                self._remove(key, item)
            case Lease(key, until_s):
                self._lease(key, until_s)
            case Look(settle):
                self._settle(settle)
            case _:
                self._do_for_session(action)

    def _do_for_session(self, action: Action) -> None:
        match action:
            case SaveSeen(seen):
                self._save_seen(seen)
            case Offer(key):
                self._offer(key)
            case Reconnect():
                self.link.reset()
            case GiveUp(status, detail, hint):
                raise Refused(f"the master refuses this node ({status}): {detail}", hint=hint, code=Exit.REFUSED)

    def _create(self, action: Create) -> None:
        assign = action.assign
        key = (assign.uuid, assign.attempt)

        def made(directory: Any, error: Exception | None, now_s: float) -> list[Action]:
            if isinstance(error, Refusal):
                return self.session.not_created(key, error.detail, error.failure)
            if error is not None:
                log.error("attempt %d.%d cannot be made", assign.job, assign.attempt, exc_info=error)
                return self.session.not_created(key, f"it could not be made: {error}", None)
            self._know(key, directory)
            return self._start(key, directory, now_s)

        timing, reached_s = self.session.timing, self.session.reached_s
        self._task(lambda: self.workshop.make(assign, timing, reached_s), made)

    def _start(self, key: AttemptKey, directory: AttemptDir, now_s: float) -> list[Action]:
        job = directory.job_file()
        actions = self.session.created(key, now_s)
        if self.session.attempts[key].want == "discard":
            return actions
        extra = {"FFRTMP_ATTEMPT": directory.name, **Event.ATTEMPT_STARTED.field}
        try:
            if job is None:
                raise FarmError("its directory is damaged")
            if directory.lease_over(clock_s()):
                raise FarmError("this agent stood still while it made it, and its lease is over")
            self.runner.start(directory, job.spec.recipe.limits)
            self.watching.began(directory)
            log.info("attempt %s started", directory.name, extra=extra)
        except FarmError as error:
            log.error("attempt %s cannot be started: %s", directory.name, error.what, extra=extra)
            self._judge(key)
        return actions

    def _control(self, key: AttemptKey, what: str) -> None:
        directory = self.dirs.get(key)
        if directory is None or key in self._ended:
            return
        orders = {"pause": self.runner.pause, "resume": self.runner.resume, "stop": self.runner.stop}
        try:
            orders[what](directory.name)
        except OSError as error:
            log.error("attempt %s cannot be asked to %s: %s", directory.name, what, error)
        self._look_s = 0.0

    def _discard(self, key: AttemptKey) -> None:
        """End its processes; what follows is seen by `_observe`."""
        if key in self._judging:
            return  # what it had come to is found out first, and then it is cleaned
        if key in self._ended:
            self._clean(key)
        elif key in self.dirs:
            self.runner.discard(self.dirs[key].name)
            if self.dirs[key].name not in {seen.name for seen in self.runner.poll()}:
                self._judge(key)  # it was never started

    def _publish(self, action: Publish) -> None:
        key = action.key
        directory, local = self.dirs[key], self.session.attempts[key]
        fingerprint = local.fingerprint
        assert fingerprint is not None

        def published(result: Any, error: Exception | None, now_s: float) -> list[Action]:
            if error is not None or not isinstance(result, Published):
                log.error("attempt %s: publishing failed", directory.name, exc_info=error)
                self._judge(key)  # what stands at the target tells
                return self.session.publish_late(key, now_s)
            if result.fingerprint is not None:
                extra = {"FFRTMP_ATTEMPT": directory.name, **Event.OUTPUT_PUBLISHED.field}
                log.info("attempt %s published its output", directory.name, extra=extra)
                return self.session.publish_done(key, result.fingerprint)
            if result.failure is None:
                return self.session.publish_late(key, now_s)
            return self.session.publish_failed(key, result.detail, result.failure)

        self._task(lambda: self.workshop.publish(directory, action.request, fingerprint, action.until_s), published)

    def _put(self, item: str, message: Item) -> None:
        def kept(_result: Any, error: Exception | None, _now_s: float) -> list[Action]:
            if error is not None:
                log.error("what became of an attempt cannot be kept, trying again: %s", error)
                self._later(lambda: self.outbox.put(item, message), kept)
                return []
            return self.session.item_kept(item, message)

        self._task(lambda: self.outbox.put(item, message), kept)

    def _remove(self, key: AttemptKey, item: str) -> None:
        directory = self.dirs.pop(key, None)
        self.shipping.forget(key)
        self._ended.discard(key)
        if directory is not None:
            self.keys.pop(directory.name, None)

        def work() -> None:
            # The item goes last: without it the directory would be judged anew, and there is none any more.
            if directory is not None:
                directory.remove()
            self.outbox.drop(item)

        def removed(_result: Any, error: Exception | None, _now_s: float) -> list[Action]:
            if error is not None:
                log.warning("what is left of an attempt cannot be removed: %s", error)
            return []

        self._task(work, removed)

    def _lease(self, key: AttemptKey, until_s: float) -> None:
        directory = self.dirs.get(key)
        if directory is not None:
            try:
                directory.renew_lease(until_s)
            except OSError as error:
                log.error("the lease of %s cannot be renewed: %s", directory.name, error)

    def _settle(self, settle: wire.Settle) -> None:
        """Look once, however often it is asked for meanwhile: the digest of a large file takes its time."""
        key = (settle.uuid, settle.attempt)
        if key in self._settling:
            return
        self._settling.add(key)

        def looked(result: Any, error: Exception | None, _now_s: float) -> list[Action]:
            self._settling.discard(key)
            if error is not None:
                log.error("cannot settle for another node: %s", error)
                return []
            return self.session.looked(settle, result)

        self._task(lambda: self.workshop.look(settle), looked, self._looker)

    def _save_seen(self, seen: wire.Seen) -> None:
        """A new lineage or job at once; turns, of which each heartbeat tells, now and then."""
        known, now_s = self.state.seen(), clock_s()
        if seen.lineage != known.lineage or seen.job > known.job or now_s >= self._seen_s:
            self._seen_s = now_s + SEEN_S
            self._task(lambda: self.state.save_seen(seen), lambda _r, _e, _n: [])

    # ---- the disk's thread ---------------------------------------------------------------------------------------

    def _task(
        self,
        work: Callable[[], Any],
        done: Callable[[Any, Exception | None, float], list[Action]],
        on: ThreadPoolExecutor | None = None,
    ) -> None:
        """Do `work` on the disk's thread; `done(result, error, now)` then runs on the loop's."""

        def run() -> None:
            result, failure = None, None
            try:
                result = work()
            except Exception as error:
                failure = error
            self._results.append(lambda now_s: done(result, failure, now_s))
            os.eventfd_write(self._wake, 1)

        (on or self._worker).submit(run)

    def _later(self, work: Callable[[], Any], done: Callable[[Any, Exception | None, float], list[Action]]) -> None:
        """Again in a while."""
        at_s = clock_s() + RETRY_S

        def chore(now_s: float) -> None:
            if now_s >= at_s:
                self.chores.remove(chore)
                self._task(work, done)

        self.chores.append(chore)


def _with_energy(judgement: Judgement, energy_j: float | None) -> Judgement:
    if judgement.results is None or energy_j is None:
        return judgement
    return dataclasses.replace(judgement, results=structs.replace(judgement.results, energy_j=round(energy_j, 1)))


def _how(how: str) -> wire.How:
    kinds: dict[str, wire.How] = {
        "failed": "failed",
        "stopped": "stopped",
        "completed": "completed",
        "node_lost": "node_lost",
    }
    return kinds.get(how, "absent")
