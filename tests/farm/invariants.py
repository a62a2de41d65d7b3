"""What must be true of the farm after every turn, whatever has happened. Each check names the promise that it guards."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import inf

from ffrtmp.farm import effects as fx
from ffrtmp.farm import handout
from ffrtmp.farm.farm import Farm
from ffrtmp.farm.job import TERMINAL, Job, OnDisconnect, State, Want
from ffrtmp.farm.job import check as edge
from ffrtmp.farm.world import NOTHING, World, lane_of

WITH_ATTEMPT = {State.ASSIGNED, State.RUNNING, State.RESUMING}
WITHOUT = {State.QUEUED, State.RETRYING}


@dataclass
class History:
    """The rows of history, replayed as they come (P10), and the edges of the table that they took."""

    states: dict[int, State] = field(default_factory=dict)
    rows: list[fx.Record] = field(default_factory=list)
    edges: set[tuple[State | None, State]] = field(default_factory=set)

    def add(self, effects: list[fx.Effect]) -> None:
        """Take the rows of an event. A job that has ended never moves again (P1)."""
        for row in effects:
            if not isinstance(row, fx.Record):
                continue
            self.rows.append(row)
            assert row.text and row.kind
            if row.before is row.after:
                assert self.states[row.job] is row.after, f"a note says {row.after}, the history {self.states[row.job]}"
                continue
            assert self.states.get(row.job) is row.before, f"{row} does not follow {self.states.get(row.job)}"
            edge(row.before, row.after)
            self.states[row.job] = row.after
            self.edges.add((row.before, row.after))


def check(farm: Farm, history: History) -> None:
    """Everything below."""
    world = farm.world
    replayed(world, history)
    derived(world)
    for job in world.jobs.rows():
        whole(world, job)
    attempts(world)
    sessions(world)


def answered(effects: list[fx.Effect]) -> None:
    """What is refused is refused with a status that clients know, a reason, and for a node with what to do."""
    for effect in effects:
        if isinstance(effect, fx.Answer):
            assert effect.status in (200, 201, 202, 404, 409, 503), effect
            assert effect.detail or effect.status == 201, effect
            assert len(effect.jobs) == len(effect.states)
        elif isinstance(effect, fx.SendSorry):
            assert effect.status in (403, 409) and effect.detail, effect
            assert effect.retry is not bool(effect.hint), (
                f"either there is something to do, or it is tried again: {effect}"
            )
        elif isinstance(effect, fx.SendDeny):
            assert effect.detail, effect


def replayed(world: World, history: History) -> None:
    """P10: the history gives the state of every job. P1: a job is open, or has ended."""
    open_jobs = {number for number, state in history.states.items() if state not in TERMINAL}
    assert open_jobs == set(world.jobs), "the open jobs are those that the history says"
    for job in world.jobs.rows():
        assert history.states[job.number] is job.state


def whole(world: World, job: Job) -> None:
    """A job's fields agree with each other and with its attempts."""
    there = world.attempts_of(job.number)
    current = world.current(job)
    assert not job.terminal
    assert job.current <= job.attempt
    assert job.attempt >= max((a.number for a in there), default=0), "a number may be used twice"
    if job.state in WITH_ATTEMPT:
        assert current is not None, f"job {job.number} is {job.state} without an attempt"
    if job.state in WITHOUT:
        assert job.current == 0, f"job {job.number} is {job.state} and counts on attempt {job.current}"
    if job.current and job.state is not State.CANCELING:
        assert current is not None, f"job {job.number} counts on attempt {job.current}, which is not there"
        assert not current.given_up or job.state is State.CANCELING
        assert (
            not current.doubted
            or job.number in world.grants
            or job.state in (State.PAUSED, State.CANCELING)
            or (current.want is Want.STOP)
        ), f"job {job.number} counts on a doubted attempt"
    if job.state is State.ASSIGNED:
        assert current is not None and not current.accepted
    if job.state is State.PAUSED and current is not None:
        assert current.want is Want.PAUSE
    if job.state is State.RESUMING and current is not None:
        assert current.paused == (current.want is Want.PAUSE), "it waits for room, or was told to go on"
    if job.state is State.CANCELING:
        assert there, "P5: nothing is left of it, and it is not canceled"  # and the other way round in `attempts`
        assert all(a.given_up for a in there)
    if job.verdict is not None:
        assert job.state is State.RETRYING and world.doubted(job.number), "a verdict waits for a doubted attempt"
    # P8
    assert job.failures <= job.terms.max_retries + 1
    assert len(job.lost) < world.rules.poison_losses or job.verdict is State.FAILED or job.state is State.CANCELING
    assert not job.current or job.current not in job.lost, "an attempt that is counted on is counted as lost"
    grant = world.grants.get(job.number)
    if grant is not None:  # P2
        holder = world.attempts.get((job.number, grant.attempt))
        assert holder is not None, "a grant without its attempt is never settled"
        assert job.state is not State.CANCELING
        if not holder.live:
            assert grant.attempt == job.current and not holder.given_up


def attempts(world: World) -> None:
    """Each attempt that is there has its place: it counts, it is doubted, or it was given up (P4)."""
    for attempt in world.attempts.rows():
        job = world.jobs.get(attempt.job)
        assert attempt.node in world.nodes, "an attempt on a node that is not known never ends"
        if job is None:
            assert attempt.given_up, f"attempt {attempt.id} of a job that has ended goes on"
            continue
        assert attempt.uuid == job.uuid
        assert attempt.number == job.current or attempt.doubted or attempt.given_up
        if attempt.fence_s:
            assert attempt.given_up and job.terms.on_disconnect is OnDisconnect.STOP
    assert set(world.grants) <= set(world.jobs)


def sessions(world: World) -> None:
    """P9: one live session for each key and address; what a node in contact holds is known from itself."""
    there = [world.nodes[name] for name in world.contacts if world.in_contact(name) is not None]
    assert len({n.key for n in world.nodes.rows()}) == len(world.nodes), "two nodes have one key"
    assert len({n.address for n in there}) == len(there), "two nodes in contact have one address"
    assert len({world.contacts[n.name].session for n in there}) == len(there)
    for name in world.contacts:
        assert name in world.nodes
        for attempt in world.attempts_on(name):
            in_contact = world.in_contact(name)
            if in_contact is None:
                assert attempt.doubted
            else:
                assert not attempt.doubted
                assert not attempt.accepted or attempt.id in in_contact.beats, "it could vanish unseen"
    for asked in world.newcomers:
        assert asked in world.nodes and world.newcomers[asked].hello.node in world.nodes


def derived(world: World) -> None:
    """What is derived from the tables is as it would be if it were made anew."""
    fresh = World(world.rules, world.lineage, 0.0)
    for attempt in world.attempts.rows():
        fresh.attempts.restore(attempt.id, attempt)
    for job in world.jobs.rows():
        fresh.jobs.restore(job.number, job)
    for node in world.nodes.rows():
        fresh.nodes.restore(node.name, node)
    for name in world.contacts:
        fresh.contacts.restore(name, world.contacts[name])
    assert fresh.usage == world.usage
    assert _sets(fresh.on_node) == _sets(world.on_node)
    assert _sets(fresh.of_job) == _sets(world.of_job)
    assert fresh.by_identity == world.by_identity
    assert fresh.by_uuid == world.by_uuid
    assert _sets(fresh.at_address) == _sets(world.at_address)
    assert set(fresh.resuming) == set(world.resuming)
    assert set(fresh.there) == set(world.there) == {n for n in world.contacts if world.in_contact(n) is not None}
    assert set(fresh.held_off) == set(world.held_off)
    assert all(world.contacts[name].heard_s >= world.quietest_s for name in world.there), "its silence is not noticed"
    assert {lane: fresh.lanes.waiting(lane) for lane in fresh.lanes} == {
        lane: world.lanes.waiting(lane) for lane in world.lanes
    }
    for lane in world.lanes:
        assert world.lanes.head(lane) == min(j.number for j in world.jobs.rows() if lane_of(j) == lane)
        assert len(world.lanes._heaps[lane]) <= 2 * world.lanes.waiting(lane) + 64
    assert set(world.sent_s) <= set(world.attempts), "what was sent to attempts that are gone is remembered"
    for attempt in world.attempts.rows():
        assert attempt.id in world.unsettled or not handout.overdue(world, attempt, inf), "no order of it is repeated"


def _sets(index) -> dict:
    return {key: set(of) for key, of in index.items()}


def overfull(world: World, handed: list[tuple[int, str]]) -> str | None:
    """P6: the node that was just handed out a job for which it has no room, if there is one.

    A node that shrank, or at which a restored master finds attempts that it had forgotten, may hold more scratch space than
    it has. That stops no job that takes none of it.
    """
    for job, node in handed:
        if not within_capacity(world, node, scratch=world.jobs[job].terms.requirements.scratch_bytes > 0):
            return node
    return None


def within_capacity(world: World, node: str, *, scratch: bool = True) -> bool:
    """P6: what is held of a node is not more than it has; of `scratch` space only where that is asked."""
    usage, capacity = world.usage.get(node, NOTHING), world.nodes[node].capacity
    return (
        usage.cpu_milli <= capacity.cpu_milli
        and usage.memory_bytes <= capacity.memory_bytes
        and (usage.scratch_bytes <= capacity.scratch_bytes or not scratch)
        and usage.slots <= capacity.slots
    )
