"""The farm: one door for everything that can happen, and one question about time.

`apply(event, now_s)` changes the tables and returns what the shell is to do once the change is committed. If a rule raises,
that event alone is undone and the exception goes on to the caller; the farm is as it was before.

`due(now_s)` lists the events of time that are to be applied now; it changes nothing.

The shell's turn is: apply what has arrived, apply what is due (the last is always `Place`), commit the
`changes`, `keep_turn`; on a commit that failed, `undo_turn`. Only then are effects carried out, so that nobody is told of
what is not on disk. See ffrtmp_master/turn.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from . import endings, handout, placement, publish, recovery, reports, requests, restored, sessions, silence
from . import events as ev
from .effects import Changes, Effect, SendAck
from .job import Attempt, Grant, Job, Queue
from .node import Contact, Node
from .rules import Rules
from .world import World


class Farm:
    """All the rules over one `World`."""

    def __init__(self, rules: Rules, *, lineage: str, now_s: float) -> None:
        """An empty farm; `restore` fills it from a store."""
        self.world = World(rules, lineage, now_s)

    def restore(
        self,
        *,
        turn: int,
        next_job: int,
        ancestors: dict[str, int],
        paused_queues: frozenset[Queue],
        jobs: Iterable[Job],
        attempts: Iterable[Attempt],
        grants: Iterable[Grant],
        nodes: Iterable[Node],
        restores: int = 0,
    ) -> None:
        """Take over what a store has, which was put back to a backup `restores` times.

        Grants and leases run anew from now: what was sent before the restart may still be used, and the times in the store
        are by a clock that may have been set meanwhile.
        """
        world = self.world
        for node in nodes:
            world.nodes.restore(node.name, node)
        for job in recovery.arrived_in_order(jobs, world.now_s):
            waiting = recovery.waits_again(job, world.now_s, world.rules)
            world.jobs.restore(job.number, replace(waiting, terms=world.interned(job.terms)))
        for attempt in attempts:
            world.attempts.restore(attempt.id, recovery.fence_again(attempt, world.now_s, world.rules))
        for grant in grants:
            until_s = world.now_s + world.rules.grant_ttl_s
            world.grants.restore(grant.job, replace(grant, until_s=until_s, settling=""))
        for lineage, left_at in ancestors.items():
            world.ancestors.restore(lineage, left_at)
        world.set("turn", turn)
        world.set("next_job", next_job)
        world.set("restores", restores)
        world.set("paused_queues", paused_queues)
        world.undo.clear()

    # ---- the turn ------------------------------------------------------------------------------------------------

    def apply(self, event: ev.Event, now_s: float) -> list[Effect]:
        """Let one thing happen. Raises what a rule raises, with the event undone."""
        world = self.world
        world.now_s = max(world.now_s, now_s)
        mark = len(world.undo)
        world.effects = []
        try:
            self._dispatch(event)
        except BaseException:
            world.undo_to(mark)
            world.effects = []
            raise
        return world.effects

    def changes(self) -> tuple[Changes, dict[int, Job]]:
        """What this turn writes: rows by table, and the jobs that ended."""
        return self.world.changes()

    def keep_turn(self, turn: int) -> None:
        """The turn is committed under this number (the old one, where it wrote nothing)."""
        self.world.set("turn", turn)
        self.world.keep()

    def undo_turn(self) -> None:
        """The commit failed: nothing of this turn has happened."""
        self.world.undo_to(0)

    def _dispatch(self, event: ev.Event) -> None:
        world = self.world
        user = _USERS.get(type(event))
        if user is not None:
            user(world, event)
        elif isinstance(event, ev.Hello):
            sessions.hello(world, event)
        elif isinstance(event, ev.Unreachable):
            sessions.unreachable(world, event)
        elif isinstance(event, ev.AgentEvent):
            self._agent(event)
        elif isinstance(event, ev.TimeEvent):
            self._time(event)
        else:
            raise TypeError(f"not an event: {event!r}")

    # ---- agents --------------------------------------------------------------------------------------------------

    def _agent(self, event: ev.AgentEvent) -> None:
        world = self.world
        contact = sessions.heard(world, event)
        if contact is None:
            return
        if isinstance(event, ev.Heartbeat):
            reports.heartbeat(world, event, contact)
        elif isinstance(event, ev.Goodbye):
            sessions.goodbye(world, event.node, contact)
        elif isinstance(event, ev.Adopt):
            restored.adopt(world, event)
        elif isinstance(event, ev.Settled):
            publish.settled(world, event)
        elif isinstance(event, ev.FromOutbox):
            self._from_outbox(event, contact)
        else:
            self._of_attempt(event)

    def _of_attempt(self, event: ev.Accepted | ev.Refused | ev.PublishRequest) -> None:
        world = self.world
        attempt = world.on(event.node, event.uuid, event.number)
        if isinstance(event, ev.Accepted):
            handout.heard_accepted(world, event, attempt)
        elif isinstance(event, ev.PublishRequest):
            if attempt is not None and not attempt.accepted:
                attempt = handout.accepted(world, attempt)  # who asks is there: its Accepted was lost
            publish.requested(world, event, attempt)
        elif attempt is not None:
            handout.refused(world, event, attempt)

    def _from_outbox(self, event: ev.Published | ev.NotPublished | ev.Ended, contact: Contact) -> None:
        """Acknowledged also where it is about an attempt that nobody knows any more: else it would be said for ever."""
        world = self.world
        attempt = world.on(event.node, event.uuid, event.number)
        if attempt is None and (event.uuid, event.number) in contact.offered:
            return  # it waits to be adopted, and what became of it is said again after that
        if attempt is not None:
            if isinstance(event, ev.Published):
                publish.published(world, event, attempt)
            elif isinstance(event, ev.NotPublished):
                publish.not_published(world, event, attempt)
            else:
                endings.ended(world, attempt, event.how, event.failure, event.jitter)
        world.effects.append(SendAck(event.node, event.item))

    # ---- time ----------------------------------------------------------------------------------------------------

    def due(self, now_s: float) -> list[ev.TimeEvent]:
        """What time brings at `now_s`, in the order in which it is to be applied; `Place` is the last."""
        world = self.world
        now_s = max(world.now_s, now_s)
        events: list[ev.TimeEvent] = [ev.LookAtNodes()]
        # Agents that come back while the master stands still are heard when it goes on, so only its listening counts.
        waited_s = world.listening_s - world.value("started_s")
        if not world.value("grace_over") and waited_s >= world.rules.reconnect_grace_s:
            events.append(ev.GraceOver())
        events += [ev.NewcomerDue(name) for name in world.newcomers if world.newcomers[name].until_s <= now_s]
        events += [ev.AttemptDue(a.id) for a in world.in_question() if handout.overdue(world, a, now_s)]
        events += [ev.GrantDue(g.job) for g in world.grants.rows() if publish.may_settle(world, g, now_s)]
        events += [ev.JobDue(number) for number in endings.due_jobs(world, now_s)]
        events.append(ev.Place())
        return events

    def _time(self, event: ev.TimeEvent) -> None:
        world = self.world
        if isinstance(event, ev.LookAtNodes):
            silence.look(world)
        elif isinstance(event, ev.GraceOver):
            silence.grace_over(world)
        elif isinstance(event, ev.NewcomerDue):
            sessions.no_sign(world, event.node)
        elif isinstance(event, ev.AttemptDue):
            attempt = world.attempts.get(event.attempt)
            if attempt is not None:
                handout.repeat(world, attempt)
        elif isinstance(event, ev.JobDue):
            job = world.jobs.get(event.job)
            if job is not None:
                endings.wait_over(world, job)
        elif isinstance(event, ev.GrantDue):
            grant = world.grants.get(event.job)
            if grant is not None:
                publish.settle_without_holder(world, grant)
        else:
            placement.place(world)


_USERS: dict[type, Callable[[World, Any], None]] = {
    ev.Submit: requests.submit,
    ev.Cancel: requests.cancel,
    ev.Stop: requests.stop,
    ev.Pause: requests.pause,
    ev.Resume: requests.resume,
    ev.Update: requests.update,
    ev.SetQueue: requests.set_queue,
    ev.AddNode: requests.add_node,
    ev.Invite: requests.invite,
    ev.DrainNode: requests.drain_node,
    ev.AcceptNode: requests.accept_node,
    ev.RemoveNode: requests.remove_node,
    ev.LabelNode: requests.label_node,
}
