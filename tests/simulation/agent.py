"""One life of an agent: its real session, and a shell round it whose disk, engines and clock are of the simulated world.

The shell does what agent.py and workshop.py do, in the same steps, and may be stopped between any two of them. What those make
durable before they go on outlives everything here; what they do not may be lost when the host's power goes. An agent that is
killed loses its session and what it had asked its disk's thread for; engines go on.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from simulation import logs
from simulation.attempt import BROKEN, Directory, Engine, fate
from simulation.clock import A_MOMENT_S
from simulation.network import Link
from simulation.process import Thread

from ffrtmp import wire
from ffrtmp.spec import Fingerprint, Results
from ffrtmp_agent import actions as do
from ffrtmp_agent.local import About, Local, Measured, Step
from ffrtmp_agent.session import Session
from ffrtmp_agent.shipping import Shipping

if TYPE_CHECKING:
    from simulation.host import Host

LOOK_S = 0.4
LEASE_LOOK_S = 0.5
SEEN_S = 30.0
RETRY_S = 2.0

VANISHED = wire.Failure("platform_error", True, "it ended without a word (was it killed?)")
TAKEN = wire.Failure("platform_error", True, "the staging folder was taken away")
EXISTS = wire.Failure("user_error", False, "the output already exists")


class Agent:
    """One life of an agent."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.since_s = host.time.now_s
        self.world = host.world
        self.chance = host.chance
        self.folder = host.folder
        self.folder.incarnation += 1
        boot = f"boot {host.boot} of {host.name}"
        about = About(host.name, host.address, boot, self.folder.incarnation, wire.Facts(), host.capacity)
        self.session = Session(about, self.folder.seen, host.clock_s)
        self.shipping = Shipping()
        self.link: Link = self._open_link()
        self._thread = Thread()
        self._looker = Thread()
        self.dirs: dict[do.AttemptKey, Directory] = {}  # that it knows of
        self._judged: set[do.AttemptKey] = set()  # or it is under way
        self._judging: set[do.AttemptKey] = set()
        self._settling: set[do.AttemptKey] = set()
        self._seen_s = 0.0
        self._alarm = 0

    def begin(self) -> None:
        """Match directories, engines and items."""
        over = {(item.uuid, item.attempt) for item in self.folder.outbox.values()}
        for key, directory in list(self.folder.dirs.items()):
            if not directory.made:
                self._discard_staging(directory)
                del self.folder.dirs[key]
                continue
            needs = directory.assign.spec.recipe.needs
            local = Local(*key[:1], directory.assign.job, key[1], needs.cpu_milli, needs.memory_bytes)
            local.live, local.lease, local.want = directory.live, directory.strict, ""
            local.step = Step.OVER if key in over else Step.RUNNING
            self.dirs[key] = directory
            self.shipping.add(key)
            self.session.found(local)
            if key in over:
                self._judged.add(key)
                self.shipping.ended(key, directory.log_bytes)
            elif directory.engine is None or directory.engine.state == "ended":
                self._judge(key, found=True)
        for item, message in self.folder.outbox.items():
            self.session.found_item(item, message)
        self._look()
        self.round()

    def measured(self, address: str, capacity: wire.Capacity) -> None:
        """The host is not what it was, as main.py finds out now and then."""
        if address != self.session.about.address:
            self.session.say_hello_again()
        self.session.about = replace(self.session.about, address=address, capacity=capacity)

    def _open_link(self) -> Link:
        def hear(message: wire.FromMaster) -> None:
            self.host.do(lambda: self._hear(message), self)

        return self.world.network.link(self.host.key, hear)

    # ---- the loop ------------------------------------------------------------------------------------------------

    def round(self) -> None:
        """What time brings; and when to look again."""
        now_s = self.host.clock_s
        if now_s >= self.session.next_s():
            self.session.measured = Measured((0.5, 0.5, 0.5), 1 << 30)
            for key, directory in self.dirs.items():
                if directory.engine is not None:
                    self.session.seen_progress(key, "encoding", directory.engine.progress, 0)
            self.carry_out(self.session.tick(now_s))
        self._ship(now_s)
        self._set_alarm()

    def _set_alarm(self) -> None:
        self._alarm += 1
        number = self._alarm
        wait_s = min(1.0, (self.session.next_s() - self.host.clock_s) / self.host.rate)

        def ring() -> None:
            if self._alarm == number:
                self.round()

        self.host.after(wait_s + A_MOMENT_S, ring, self)

    def _hear(self, message: wire.FromMaster) -> None:
        now_s = self.host.clock_s
        if isinstance(message, wire.LogAck):
            key = (message.uuid, message.attempt)
            if self.shipping.acked(key, message.offset, now_s):
                self.carry_out(self.session.log_shipped(key))
            return
        actions = self.session.receive(message, now_s)
        if isinstance(message, wire.Welcome):
            self.shipping.welcome({(d.uuid, d.attempt): d.log_offset for d in message.directives})
        self.carry_out(actions)
        if self.host.agent is self:
            self._set_alarm()

    def _ship(self, now_s: float) -> None:
        if not self.session.live:
            return
        for key, offset in list(self.shipping.wanted(now_s)):
            directory = self.dirs.get(key)
            if directory is None:
                self.shipping.forget(key)
                continue
            if directory.engine is not None:
                directory.engine.write()
            read = logs.read(directory, self.host.name, self.world.log_max_bytes, offset)
            chunk = self.shipping.chunk(key, self.session.number, read, now_s)
            if chunk is not None:
                self.world.network.say(self.link, chunk)

    def _look(self) -> None:
        """The process table, now and then."""
        now_s = self.host.clock_s
        for key, directory in list(self.dirs.items()):
            engine = directory.engine
            if engine is None or key in self._judged:
                continue
            if engine.state == "ended":
                self._judge(key)
            else:
                self.carry_out(self.session.seen_stage(key, "paused" if engine.state == "paused" else "running", now_s))
        if self.host.agent is self:
            self.host.after(self.chance.uniform(0.5, 1.0) * LOOK_S, self._look, self)

    # ---- actions -------------------------------------------------------------------------------------------------

    def carry_out(self, actions: list[do.Action]) -> None:
        """In order; the agent may be gone after any of them."""
        for action in actions:
            if self.host.agent is not self:
                return
            self._do(action)

    def _do(self, action: do.Action) -> None:
        match action:
            case do.Send(message):
                self.world.network.say(self.link, message)
            case do.Create(assign):
                self._create(assign)
            case do.Control(key, "stop"):
                self.host.after(self.chance.uniform(0.0, 0.2), lambda: self._control(key, "stop"))
            case do.Control(key, what):
                self._control(key, what)  # signals
            case do.Clean(key):
                self._discard(key)
            case do.Publish(key, _request, until_s):
                self._publish(key, until_s)
            case do.PutItem(item, message):
                self._put(item, message)
            case do.Remove(key, item):
                self._remove(key, item)
            case do.Lease(key, until_s):
                if key in self.dirs:
                    self.dirs[key].lease_s = until_s
            case do.Look(settle):
                self._settle(settle)
            case _:
                self._do_for_session(action)

    def _do_for_session(self, action: do.Action) -> None:
        match action:
            case do.SaveSeen(seen):
                self._save_seen(seen)
            case do.Offer(key):
                self._offer(key)
            case do.Reconnect():
                self.world.network.close(self.link)
                self.link = self._open_link()
            case do.GiveUp():
                self.world.tell(lambda: f"{self.host.name} is refused: {action.status} {action.detail}")
                self.host.refused = action
                self.host.kill()

    def _task(self, work: Callable[[], Callable[[], None]], thread: Thread | None = None) -> None:
        """On the disk's thread: `work` in a moment, and what it gives back a moment later on the loop's."""
        thread = thread or self._thread
        begins_s = max(self.world.time.now_s, thread.free_s)
        work_s, done_s = self.chance.choice((0.01, 0.1, 0.3)) * self.chance.random(), 0.02 * self.chance.random()
        thread.free_s = begins_s + work_s + done_s

        def run() -> None:
            done = work()
            self.host.after(done_s, done, self)

        self.host.after(begins_s - self.world.time.now_s + work_s, run, self)

    def _then(self, actions: Callable[[], list[do.Action]]) -> Callable[[], None]:
        def done() -> None:
            self.carry_out(actions())
            if self.host.agent is self:
                self._set_alarm()

        return done

    # ---- making --------------------------------------------------------------------------------------------------

    def _create(self, assign: wire.Assign) -> None:
        key = (assign.uuid, assign.attempt)

        def make() -> Callable[[], None]:
            refusal = self._draft(assign)
            if refusal is not None:
                detail, failure = refusal
                return self._then(lambda: self.session.not_created(key, detail, failure))
            self._task(settle)
            return lambda: None

        def settle() -> Callable[[], None]:
            self.folder.dirs[key].made = True
            return self._then(lambda: self._created(key))

        self._task(make)

    def _draft(self, assign: wire.Assign) -> tuple[str, wire.Failure | None] | None:
        """The staging folder, and a directory that is not whole yet."""
        key = (assign.uuid, assign.attempt)
        directory = Directory(assign, f"{assign.job}.{assign.attempt}", epoch=self.world.checks.epochs.get(key, 0))
        root = self.host.root(directory)
        if root.outputs.get(directory.path) is not None and not assign.spec.overwrite and not assign.granted:
            return EXISTS.line, EXISTS
        if directory.staged in root.staging or key in self.folder.dirs or self.chance.random() < self.world.trouble:
            return "an attempt of this number is there already, of another job or farm", None
        if directory.strict:
            timing = self.session.timing
            lease_s = timing.lost_after_live_s if directory.live else timing.lost_after_s
            directory.lease_s = self.session.reached_s + lease_s
            if self.host.clock_s >= directory.lease_s:
                return "the master has not been heard for so long that its lease is over", None
        root.staging[directory.staged] = assign.uuid
        self.folder.dirs[key] = directory
        return None

    def _created(self, key: do.AttemptKey) -> list[do.Action]:
        directory = self.dirs[key] = self.folder.dirs[key]
        self.shipping.add(key)
        actions = self.session.created(key, self.host.clock_s)
        if self.session.attempts[key].want == "discard":
            return actions
        if directory.lease_s is not None and self.host.clock_s >= directory.lease_s:
            self._judge(key)  # it has stood still while it made it
            return actions
        needs_s, end = fate(self.chance, self.world.fails, live=directory.live)
        self.world.tell(lambda: f"{self.host.name} starts {directory.name}, {needs_s:.1f} s until {end or 'its death'}")
        host = self.host
        self.world.checks.engine_starts(host, directory)
        directory.engine = Engine(self.world.time, directory, needs_s, end)
        directory.boot = host.boot
        directory.engine.start()
        if directory.strict:
            host.after(LEASE_LOOK_S, lambda: _watch_lease(host, directory))
        return actions

    def _control(self, key: do.AttemptKey, what: str) -> None:
        directory = self.dirs.get(key)
        engine = directory.engine if directory is not None else None
        if engine is None or engine.state == "ended":
            return
        if what == "pause":
            engine.pause()
        elif what == "resume" and engine.state == "paused":
            engine.start()
        elif what == "stop":
            engine.end("completed")

    # ---- the end -------------------------------------------------------------------------------------------------

    def _discard(self, key: do.AttemptKey) -> None:
        if key in self._judging:
            return
        if key in self._judged:
            self._clean(key)
        elif key in self.dirs:
            directory = self.dirs[key]
            directory.discarded = True
            if directory.engine is None:
                self._judge(key)  # it was never started
            else:
                engine = directory.engine
                self.host.after(self.chance.uniform(0.0, 1.0), lambda: engine.end("stopped"))

    def _clean(self, key: do.AttemptKey) -> None:
        directory = self.dirs[key]

        def work() -> Callable[[], None]:
            self._discard_staging(directory)
            return self._then(lambda: self.session.ended(key, "stopped"))

        self._task(work)

    def _judge(self, key: do.AttemptKey, *, found: bool = False) -> None:
        directory = self.dirs[key]
        self._judged.add(key)
        self._judging.add(key)
        self.shipping.ended(key, directory.log_bytes)

        def work() -> Callable[[], None]:
            how, made, failure = self._judgement(directory, found=found)
            return self._then(lambda: self._ended_as(key, how, made, failure))

        self._task(work)

    def _judgement(self, directory: Directory, *, found: bool) -> tuple[str, Fingerprint | None, wire.Failure | None]:
        """As workshop.judge has it."""
        if directory.intent:
            root = self.host.root(directory)
            if root.outputs.get(directory.path) == directory.print:
                root.sync(directory.path)
                self._discard_staging(directory)
                return "published", directory.print, None
            directory.intent = False
        how, failure = _judged(directory, self.host.boot, found=found)
        if how != "verified":
            self._discard_staging(directory)
            return how, None, failure
        return how, directory.print, None

    def _ended_as(
        self, key: do.AttemptKey, how: str, made: Fingerprint | None, failure: wire.Failure | None
    ) -> list[do.Action]:
        self._judging.discard(key)
        local = self.session.attempts[key]
        now_s = self.host.clock_s
        if how == "published" and made is not None:
            return self.session.publish_done(key, made)
        if local.want == "discard":
            self._clean(key)
            return []
        if how == "verified" and made is not None:
            return self.session.verified(key, made, Results(frames=1), now_s)
        kinds: dict[str, wire.How] = {"stopped": "stopped", "completed": "completed", "node_lost": "node_lost"}
        return self.session.ended(key, kinds.get(how, "failed"), failure)

    def _discard_staging(self, directory: Directory) -> None:
        root = self.host.root(directory)
        if root.staging.get(directory.staged) == directory.assign.uuid:
            del root.staging[directory.staged]

    def _put(self, item: str, message: do.Item) -> None:
        def work() -> Callable[[], None]:
            if self.chance.random() < self.world.trouble:
                self.world.count("outbox without room")
                self.host.after(RETRY_S, lambda: self._put(item, message), self)
                return lambda: None
            self.folder.outbox[item] = message
            return self._then(lambda: self.session.item_kept(item, message))

        self._task(work)

    def _remove(self, key: do.AttemptKey, item: str) -> None:
        self.shipping.forget(key)
        self._judged.discard(key)
        self.dirs.pop(key, None)

        def first() -> Callable[[], None]:
            directory = self.folder.dirs.pop(key, None)
            if directory is not None:
                self.world.logs.gone(self.host, directory)
            return lambda: None

        def last() -> Callable[[], None]:
            self.folder.outbox.pop(item, None)
            return lambda: None

        self._task(first)
        self._task(last)

    # ---- publishing ----------------------------------------------------------------------------------------------

    def _publish(self, key: do.AttemptKey, until_s: float) -> None:
        """The intent; a look at the clock; the rename; its sync; its word. It may end or stand still between any two."""
        directory = self.dirs[key]
        root = self.host.root(directory)

        def intend() -> Callable[[], None]:
            directory.intent = True
            if self.host.clock_s >= until_s:
                directory.intent = False
                return self._then(lambda: self.session.publish_late(key, self.host.clock_s))
            self._task(rename)
            return lambda: None

        def rename() -> Callable[[], None]:
            if root.staging.get(directory.staged) != directory.assign.uuid:
                directory.intent = False
                return self._then(lambda: self.session.publish_failed(key, TAKEN.line, TAKEN))
            there = root.outputs.get(directory.path)
            if there is not None and not directory.assign.spec.overwrite:
                directory.intent = False
                return self._then(lambda: self._instead(directory, there))
            self.world.checks.rename(self.host, directory, there)
            self.world.time.event()
            root.rename(directory.staged, directory.path, directory.print)
            root.staging.pop(directory.staged)
            self._task(sync)
            return lambda: None

        def sync() -> Callable[[], None]:
            root.sync(directory.path)
            return self._then(lambda: self.session.publish_done(key, directory.print))

        self._task(intend)

    def _instead(self, directory: Directory, there: Fingerprint) -> list[do.Action]:
        """Something stands there. If it is what an earlier attempt of this job was granted, it is the job's output."""
        self._discard_staging(directory)
        if there in directory.assign.granted:
            return self.session.publish_done(directory.key, there)
        return self.session.publish_failed(directory.key, EXISTS.line, EXISTS)

    def _settle(self, settle: wire.Settle) -> None:
        key = (settle.uuid, settle.attempt)
        if key in self._settling:
            return
        self._settling.add(key)
        assert settle.spec.output is not None
        root, path = self.world.media.root(settle.spec.output.root_id), settle.spec.output.relative

        def work() -> Callable[[], None]:
            root.staging.pop(f"{settle.job}.{settle.attempt}", None)
            found = root.outputs.get(path)

            def looked() -> list[do.Action]:
                self._settling.discard(key)
                return self.session.looked(settle, found)

            return self._then(looked)

        self._task(work, self._looker)

    # ---- the session's notes -------------------------------------------------------------------------------------

    def _save_seen(self, seen: wire.Seen) -> None:
        known, now_s = self.folder.seen, self.host.clock_s
        if seen.lineage != known.lineage or seen.job > known.job or now_s >= self._seen_s:
            self._seen_s = now_s + SEEN_S

            def work() -> Callable[[], None]:
                self.folder.seen = seen
                return lambda: None

            self._task(work)

    def _offer(self, key: do.AttemptKey) -> None:
        directory = self.dirs.get(key)
        if directory is not None:
            job, number = directory.assign, self.session.number
            paused = self.session.paused(key)
            offer = wire.AdoptionOffer(
                number, job.uuid, job.job, job.attempt, job.spec, job.queue, job.priority, paused
            )
            self.world.network.say(self.link, offer)


def _judged(directory: Directory, boot: int, *, found: bool) -> tuple[str, wire.Failure | None]:
    """What an outcome tells, and its lack (workshop._judge)."""
    if directory.discarded:
        return "stopped", None
    if not directory.outcome:
        if (directory.boot and directory.boot != boot) or (found and not directory.boot):
            return "node_lost", None
        return "failed", VANISHED
    if directory.outcome in ("verified", "stopped", "completed"):
        return directory.outcome, None
    return "failed", directory.failure or BROKEN


def _watch_lease(host: Host, directory: Directory) -> None:
    """The guard's look at the lease."""
    engine = directory.engine
    if engine is None or engine.state == "ended" or directory.lease_s is None:
        return
    if host.clock_s > directory.lease_s:
        host.world.count("lease ran out")
        stop_s = (host.world.rules.lease_stop_s - LEASE_LOOK_S) * host.chance.choice((0.0, host.chance.random(), 1.0))
        host.after(stop_s, lambda: engine.end("stopped"))
        return
    host.after(LEASE_LOOK_S, lambda: _watch_lease(host, directory))
