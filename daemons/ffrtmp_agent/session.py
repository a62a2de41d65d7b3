"""The agent's heart: what it says to the master and what it has its runner do. Pure: messages and time in, actions out.

No socket, file or clock in here, so that the very code that runs on hosts can run in a simulated world. The shell
(agent.py) carries the actions out and reports back through the methods named after what happened.

One attempt's way through an agent::

    Assign --> CREATING --> RUNNING --> VERIFIED --> PUBLISHING --> OVER
                  |            |           |             |
                  |            +-----------+-------------+---> CLEANING --> OVER
                  +--> refused

* CREATING: the shell makes the directory; only when it is on disk is `Accepted` said.
* VERIFIED: the output stands in the staging folder; a grant is asked for, and asked for again when it ran out.
* PUBLISHING: the shell is between `intent` and the end of the rename. Nothing interrupts that.
* CLEANING: its processes are ended and its staging folder removed.
* OVER: what became of it waits in the outbox for the master's Ack. Then, and when its log has been shipped, it is removed.

The right to publish runs from the *sending* of the request (`Publish.until_s`); the master's count starts later, so the
agent's is always over first. A slow master may answer when the request has been repeated: each answer counts from its own.

A master that was put back to an earlier state is told so by `seen`: turns that it does not know. It asks for attempts that
it does not know either (`Offer`). Until it has said of each what it is to be, `seen` stays as it was, for whoever says Hello
again meanwhile must be known once more as one who has seen more.
"""

from __future__ import annotations

import msgspec

from ffrtmp import wire
from ffrtmp.spec import Fingerprint, Progress, Results

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
from .local import About, Local, Measured, Step

RESEND_S = 2.0
HELLO_S = 2.0
TOMBSTONES = 4096
REQUESTS_A_LIFE = 1_000_000
REQUESTS_KEPT = 32  # of one attempt, that may still be answered
TELL_AGAIN = 10  # in every so many heartbeats all is told, also what has not changed: one that told it may be lost


class Session:
    """All that an agent knows of its master and of its attempts."""

    def __init__(self, about: About, seen: wire.Seen, now_s: float) -> None:
        """`now_s` is on the agent's monotonic clock that also counts while the host sleeps (CLOCK_BOOTTIME)."""
        self.about = about
        self.seen = seen
        self.measured = Measured()
        self.timing = wire.Timing()
        self.attempts: dict[AttemptKey, Local] = {}
        self.items: dict[str, Item] = {}
        self.number = 0  # of the session; 0: none
        self._beat = 0
        self._told: tuple[wire.Capacity, wire.Facts] | None = None
        self._told_address = about.address
        self._beat_s: dict[int, float] = {}
        self._next_beat_s = now_s
        self._next_hello_s = now_s
        self._hellos = 0
        self._first_hello_s = now_s
        self._answered_s = now_s
        self._resend_s = now_s
        self._tombstones: dict[AttemptKey, None] = {}
        self._requests = about.incarnation * REQUESTS_A_LIFE
        self._offers: dict[AttemptKey, None] = {}
        self._reached_s = now_s

    # ---- starting ------------------------------------------------------------------------------------------------

    def found(self, local: Local) -> None:
        """An attempt that an earlier life of this agent left."""
        self.attempts[local.key] = local

    def found_item(self, item: str, message: Item) -> None:
        """An outbox item that an earlier life left: it is on disk and not acknowledged."""
        self.items[item] = message

    @property
    def live(self) -> bool:
        """Whether there is a session."""
        return self.number != 0

    @property
    def quiet_s(self) -> float:
        """When the master last answered, on the agent's clock."""
        return self._answered_s

    @property
    def reached_s(self) -> float:
        """When the newest of our messages was sent that the master has answered: from then on it may count silence."""
        return self._reached_s

    # ---- time ----------------------------------------------------------------------------------------------------

    def tick(self, now_s: float) -> list[Action]:
        """What time brings: Hello, heartbeats, repetitions, a master that is gone."""
        if not self.live:
            return self._say_hello(now_s) if now_s >= self._next_hello_s else []
        if now_s - self._answered_s > self.timing.lost_after_s:
            self._close(now_s)
            return [Reconnect(), *self._say_hello(now_s)]
        actions: list[Action] = []
        if now_s >= self._next_beat_s:
            actions += self._heartbeat(now_s)
        if now_s >= self._resend_s:
            self._resend_s = now_s + RESEND_S
            actions += self._repeat(now_s)
        return actions

    def next_s(self) -> float:
        """When `tick` has something to do again at the latest."""
        return min(self._next_beat_s, self._resend_s) if self.live else self._next_hello_s

    def _say_hello(self, now_s: float) -> list[Action]:
        about = self.about
        if not self._hellos:
            self._first_hello_s = now_s
        self._next_hello_s = now_s + HELLO_S
        self._hellos += 1
        hello = wire.Hello(
            wire.PROTOCOL,
            about.boot_id,
            about.incarnation,
            about.address,
            about.name,
            about.facts,
            about.capacity,
            tuple(a.report() for a in self.attempts.values() if a.step is not Step.CREATING),
            self.seen,
        )
        self._told = (about.capacity, about.facts)
        self._told_address = about.address
        for local in self.attempts.values():
            if local.step is Step.CREATING:
                local.want = "discard"  # a Hello that does not name it says that it is not there, so it must not begin
        # A connection over which nobody answers may be dead without saying so.
        renew: list[Action] = [Reconnect()] if self._hellos % 4 == 0 else []
        return [*renew, Send(hello)]

    def _close(self, now_s: float) -> None:
        self.number = 0
        self._next_hello_s = now_s
        self._hellos = 0
        self._beat_s.clear()

    def _heartbeat(self, now_s: float) -> list[Action]:
        self._beat += 1
        self._beat_s[self._beat] = now_s
        lively = any(a.live for a in self.attempts.values())
        self._next_beat_s = now_s + (self.timing.heartbeat_live_s if lively else self.timing.heartbeat_s)
        capacity, facts = self.about.capacity, self.about.facts
        told = (self._told if self._beat % TELL_AGAIN else None) or (None, None)
        self._told = (capacity, facts)
        beat = wire.Heartbeat(
            self.number,
            self._beat,
            self.measured.load,
            self.measured.free_memory_bytes,
            tuple(a.report() for a in self.attempts.values() if a.step is not Step.CREATING),
            capacity if capacity != told[0] else None,
            facts if facts != told[1] else None,
            self.measured.rx_bytes,
            self.measured.tx_bytes,
        )
        return [Send(beat)]

    def _repeat(self, now_s: float) -> list[Action]:
        actions: list[Action] = [Offer(key) for key in self._offers]
        actions += [Send(self._in_session(m)) for m in self.items.values()]
        for local in self.attempts.values():
            if local.step is Step.VERIFIED and now_s - local.requested_s >= RESEND_S:
                actions += self._request(local, now_s)
        return actions

    # ---- messages ------------------------------------------------------------------------------------------------

    def receive(self, message: wire.FromMaster, now_s: float) -> list[Action]:
        """A message of the master. What belongs to another session is dropped."""
        if isinstance(message, wire.Welcome):
            return self._welcome(message, now_s)
        if isinstance(message, wire.Sorry):
            return self._sorry(message, now_s)
        if isinstance(message, wire.Enrolled) or not self.live or message.session != self.number:
            return []
        self._answered_s = now_s
        if isinstance(message, wire.HeartbeatAck):
            return self._beat_answered(message)
        if isinstance(message, wire.NoSession):
            self._close(now_s)
            return self._say_hello(now_s)
        if isinstance(message, wire.GiveSign):
            return self._heartbeat(now_s)
        if isinstance(message, wire.Assign):
            return self._see(message.lineage, message.turn, message.job) + self._assign(message)
        if isinstance(message, wire.Order):
            return self._order(message)
        if isinstance(message, wire.Grant):
            return self._granted(message, now_s)
        if isinstance(message, wire.Ack):
            return self._see(message.lineage, message.turn, 0) + self._acked(message.item)
        if isinstance(message, wire.Settle):
            return [Look(message)]
        return []  # Deny: the orders that follow say what is to become of the attempt; LogAck is for the shell's shipping

    def _welcome(self, message: wire.Welcome, now_s: float) -> list[Action]:
        if self.number == message.session:
            return []  # said twice
        if self.live:
            # The answer to a Hello that came late: it was said before this session, and names nothing that came in it.
            self._close(now_s)
            return self._say_hello(now_s)
        # Of two Hellos the second may be lost, and this may answer the first.
        if (message.address or self._told_address) != self.about.address:
            return self._say_hello(now_s)  # it has changed since: the master would know this host by its old one
        self.number = message.session
        self.timing = message.timing
        self._answered_s = now_s
        self._reached_s = self._first_hello_s
        self._hellos = 0
        offers = [(d.uuid, d.attempt) for d in message.directives if d.action == "offer"]
        self._offers = dict.fromkeys(key for key in offers if key in self.attempts)
        actions = self._see(message.lineage, message.turn, 0)
        for directive in message.directives:
            local = self.attempts.get((directive.uuid, directive.attempt))
            if local is None:
                continue
            if directive.action == "stop":
                actions += self._discard(local)
        self._next_beat_s = now_s
        self._resend_s = now_s
        return actions + self.tick(now_s)

    def _sorry(self, message: wire.Sorry, now_s: float) -> list[Action]:
        if self.live:
            return []
        if message.retry:
            self._next_hello_s = now_s + HELLO_S
            return []
        return [GiveUp(message.status, message.detail, message.hint)]

    def _see(self, lineage: str, turn: int, job: int) -> list[Action]:
        """Remember what the master has reached, so that a restored one can be told."""
        known = self.seen
        if lineage != known.lineage and self._offers:
            return []
        if lineage != known.lineage:
            self.seen = wire.Seen(lineage, turn, max(job, known.job))
        elif turn > known.turn or job > known.job:
            self.seen = wire.Seen(lineage, max(turn, known.turn), max(job, known.job))
        else:
            return []
        return [SaveSeen(self.seen)]

    def _beat_answered(self, message: wire.HeartbeatAck) -> list[Action]:
        sent_s = self._beat_s.pop(message.number, None)
        for number in [n for n in self._beat_s if n < message.number]:
            del self._beat_s[number]
        actions = self._see(message.lineage, message.turn, 0)
        if sent_s is not None:
            self._reached_s = sent_s
            for local in self.attempts.values():
                if local.lease and local.step is Step.RUNNING:
                    actions.append(Lease(local.key, sent_s + self.lease_s(local.live)))
        return actions

    def lease_s(self, live: bool) -> float:
        """How long an attempt with a lease may run without a word from the master: as long as that waits for one."""
        return self.timing.lost_after_live_s if live else self.timing.lost_after_s

    # ---- assignments and orders ----------------------------------------------------------------------------------

    def _assign(self, message: wire.Assign) -> list[Action]:
        key = (message.uuid, message.attempt)
        local = self.attempts.get(key)
        if local is not None:
            return [] if local.step is Step.CREATING else [self._accepted(local)]
        if key in self._tombstones:
            return self._absent(key)
        reason = self._no_room(message)
        if reason is not None:
            return [Send(wire.Refused(self.number, message.uuid, message.attempt, reason))]
        needs = message.spec.recipe.needs
        self.attempts[key] = Local(
            message.uuid,
            message.job,
            message.attempt,
            needs.cpu_milli,
            needs.memory_bytes,
            message.spec.recipe.kind == "live",
            message.spec.on_disconnect == "stop",
        )
        return [Create(message)]

    def _no_room(self, message: wire.Assign) -> str | None:
        """The node's own guard of P6; the master's picture may be a heartbeat old."""
        capacity = self.about.capacity
        there = [a for a in self.attempts.values() if a.step is not Step.OVER]
        awake = [a for a in there if a.stage != "paused" or a.want == "run"]  # what was told to go on needs its cores
        needs = message.spec.recipe.needs
        if len(awake) + 1 > capacity.slots:
            return "its only slot is taken" if capacity.slots == 1 else f"all of its {capacity.slots} slots are taken"
        if sum(a.cpu_milli for a in awake) + needs.cpu_milli > capacity.cpu_milli:
            return "its cores are taken"
        if sum(a.memory_bytes for a in there) + needs.memory_bytes > capacity.memory_bytes:
            return "its memory is taken"
        return None

    def _accepted(self, local: Local) -> Send:
        return Send(wire.Accepted(self.number, local.uuid, local.number, self._beat))

    def _absent(self, key: AttemptKey) -> list[Action]:
        """There is nothing of this attempt here: said without the disk, for there is nothing to lose."""
        return [Send(wire.Ended(self.number, f"absent.{key[0]}.{key[1]}", key[0], key[1], "absent"))]

    def _order(self, message: wire.Order) -> list[Action]:
        key = (message.uuid, message.attempt)
        self._offers.pop(key, None)
        local = self.attempts.get(key)
        if message.want == "discard":
            if local is None:
                self._bury(key)
                return self._absent(key)
            return self._discard(local)
        if local is None or local.step is not Step.RUNNING:
            return []
        before, local.want = local.want, message.want
        if message.want == "stop":
            return [Control(key, "stop")]
        if message.want == "pause" and (local.stage != "paused" or before == "run"):
            return [Control(key, "pause")]  # one that was told to go on may do so already, and was not seen to
        if message.want == "run" and local.stage == "paused":
            return [Control(key, "resume")]
        return []

    def _bury(self, key: AttemptKey) -> None:
        """An Assign that was overtaken by its own end must not start anything."""
        self._tombstones[key] = None
        while len(self._tombstones) > TOMBSTONES:
            del self._tombstones[next(iter(self._tombstones))]

    def _discard(self, local: Local) -> list[Action]:
        if local.step in (Step.CLEANING, Step.OVER, Step.PUBLISHING):
            return []
        if local.step is Step.CREATING:
            local.want = "discard"  # it is cleaned as soon as it is made
            return []
        local.step = Step.CLEANING
        local.want = "discard"
        return [Clean(local.key)]

    # ---- what the shell reports ----------------------------------------------------------------------------------

    def created(self, key: AttemptKey, now_s: float) -> list[Action]:
        """The directory is on disk and the guard is started."""
        local = self.attempts[key]
        local.step = Step.RUNNING
        if local.want == "discard":
            return self._discard(local)
        return [self._accepted(local), *self._heartbeat(now_s)] if self.live else []

    def not_created(self, key: AttemptKey, detail: str, failure: wire.Failure | None) -> list[Action]:
        """There is no attempt: the input is not to be seen from here, or there is no room on the disk."""
        del self.attempts[key]
        self._bury(key)
        return [Send(wire.Refused(self.number, key[0], key[1], detail, failure))] if self.live else []

    def seen_stage(self, key: AttemptKey, stage: wire.Stage, now_s: float) -> list[Action]:
        """The process table says that the attempt runs or stands still; told at once when it changes."""
        local = self.attempts.get(key)
        if local is None or local.stage == stage or local.step is not Step.RUNNING:
            return []
        local.stage = stage
        actions: list[Action] = []
        if stage == "paused" and local.want == "run":
            actions.append(Control(key, "resume"))
        return [*actions, *(self._heartbeat(now_s) if self.live else [])]

    def paused(self, key: AttemptKey) -> bool:
        """Whether the processes of an attempt stand still, as far as is known."""
        local = self.attempts.get(key)
        return local is not None and local.stage == "paused"

    def seen_progress(self, key: AttemptKey, phase: wire.PhaseName, progress: Progress | None, restarts: int) -> None:
        """How far an attempt is; goes with the next heartbeat."""
        local = self.attempts.get(key)
        if local is not None:
            local.phase = phase
            local.progress = progress or local.progress
            local.restarts = restarts

    def verified(self, key: AttemptKey, fingerprint: Fingerprint, results: Results, now_s: float) -> list[Action]:
        """The output stands in the staging folder and is what was asked for."""
        local = self.attempts[key]
        if local.step is not Step.RUNNING:
            return []
        local.step = Step.VERIFIED
        local.fingerprint = fingerprint
        local.results = results
        return self._request(local, now_s) if self.live else []

    def _request(self, local: Local, now_s: float) -> list[Action]:
        """Ask for the grant under a new number: the right counts from this sending."""
        self._requests += 1
        local.request = self._requests
        local.requested_s = local.asked[local.request] = now_s
        while len(local.asked) > REQUESTS_KEPT:
            del local.asked[next(iter(local.asked))]
        request = wire.PublishRequest(
            self.number, local.uuid, local.number, local.request, local.fingerprint, local.results
        )
        return [Send(request)]

    def _granted(self, message: wire.Grant, now_s: float) -> list[Action]:
        local = self.attempts.get((message.uuid, message.attempt))
        sent_s = local.asked.get(message.request) if local is not None else None
        if local is None or local.step is not Step.VERIFIED or sent_s is None:
            return []
        until_s = sent_s + message.ttl_s
        if now_s >= until_s:
            return self._request(local, now_s) if message.request == local.request else []
        local.step = Step.PUBLISHING
        return [Publish(local.key, message.request, until_s)]

    def publish_done(self, key: AttemptKey, fingerprint: Fingerprint) -> list[Action]:
        """The output is at its place."""
        local = self.attempts[key]
        local.step = Step.OVER
        item = self._item(key, "published")
        message = wire.Published(self.number, item, local.uuid, local.number, local.request, fingerprint, local.results)
        return [PutItem(item, message)]

    def publish_late(self, key: AttemptKey, now_s: float) -> list[Action]:
        """The right ran out before the rename began: nothing was done, ask again."""
        local = self.attempts[key]
        local.step = Step.VERIFIED
        return self._request(local, now_s) if self.live else []

    def publish_failed(self, key: AttemptKey, detail: str, failure: wire.Failure) -> list[Action]:
        """The output cannot be put there. The staging folder is gone, nothing was published."""
        local = self.attempts[key]
        local.step = Step.OVER
        item = self._item(key, "not_published")
        message = wire.NotPublished(self.number, item, local.uuid, local.number, local.request, detail, failure)
        return [PutItem(item, message)]

    def ended(
        self, key: AttemptKey, how: wire.How, failure: wire.Failure | None = None, results: Results | None = None
    ) -> list[Action]:
        """The attempt has no process any more and its staging folder is gone; nothing was published."""
        local = self.attempts[key]
        if local.step is Step.OVER:
            return []
        if local.want == "discard":
            how, failure = "stopped", None
        local.step = Step.OVER
        item = self._item(key, "ended")
        return [PutItem(item, wire.Ended(self.number, item, key[0], key[1], how, failure, results))]

    def _item(self, key: AttemptKey, kind: str) -> str:
        return f"{key[0]}.{key[1]}.{kind}"

    def item_kept(self, item: str, message: Item) -> list[Action]:
        """The item is on disk: it may be said now, and will be repeated until the master acknowledges it."""
        self.items[item] = message
        return [Send(self._in_session(message))] if self.live else []

    def _in_session(self, message: Item) -> Item:
        return msgspec.structs.replace(message, session=self.number)

    def _acked(self, item: str) -> list[Action]:
        message = self.items.pop(item, None)
        if message is None:
            return []
        local = self.attempts.get((message.uuid, message.attempt))
        if local is None:
            return [Remove((message.uuid, message.attempt), item)]
        local.item = item
        return self._removable(local)

    def log_shipped(self, key: AttemptKey) -> list[Action]:
        """The whole log of an attempt that is over has been acknowledged."""
        local = self.attempts.get(key)
        if local is None:
            return []
        local.log_done = True
        return self._removable(local)

    def _removable(self, local: Local) -> list[Action]:
        if not (local.step is Step.OVER and local.item and local.log_done):
            return []
        del self.attempts[local.key]
        self._offers.pop(local.key, None)
        self._bury(local.key)
        return [Remove(local.key, local.item)]

    def looked(self, settle: wire.Settle, fingerprint: Fingerprint | None) -> list[Action]:
        """What stands at the target of another node's grant."""
        return [Send(wire.Settled(self.number, settle.uuid, settle.attempt, fingerprint))] if self.live else []

    def goodbye(self) -> list[Action]:
        """An orderly stop of the agent: its jobs go on, and it will be back."""
        return [Send(wire.Goodbye(self.number))] if self.live else []

    def say_hello_again(self) -> None:
        """Something that only Hello says has changed (the address)."""
        if self.live:
            self._close(self._answered_s)
