"""A farm that is old goes on as one that is new: high numbers, longer names, and all of it read from the disk or the wire again.

Each story is told twice, with the master started anew between its steps: once with nodes of one letter and numbers from one on,
once with names that are longer and sort the other way, and with numbers in the thousands. Both histories must be the same.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest
from farm.stage import BROKEN, ROOM, Host, Stage, terms

from ffrtmp.farm import effects as fx
from ffrtmp.farm import events as ev
from ffrtmp.farm.job import OnDisconnect, Queue, State
from ffrtmp.farm.node import Capacity

LIVE = terms(queue=Queue.LIVE, live=True)
STRICT = terms(on_disconnect=OnDisconnect.STOP)
Row = tuple[str, State | None, State, int, str]


@dataclass
class Farm:
    """A stage whose nodes have these names, whose jobs and attempts are numbered from there on."""

    names: tuple[str, ...]
    first: int

    def __post_init__(self) -> None:
        self.stage = Stage(reserve_after_s=30.0, lost_after_s=4.0, accept_timeout_s=3.0)
        self._numbered(next_job=self.first + 1)

    def node(self, which: int, capacity: Capacity = ROOM) -> Host:
        host = self.stage.node(self.names[which], capacity, address=f"10.0.0.{which + 1}")
        host.beat_number = self.first
        return host

    def _numbered(self, **fields) -> None:
        stored = self.stage.stored()
        jobs = [
            replace(job, attempt=self.first) if not job.current and not job.attempt else job
            for job in stored.fields["jobs"]
        ]
        stored = replace(stored, fields={**stored.fields, "jobs": jobs, **fields})
        self.stage.restart(0.5, backup=stored)

    def submit(self, of=None) -> int:
        """A job whose first attempt has the first number; its nodes are back in contact."""
        stage = self.stage
        nodes = [host for host in stage.hosts.values() if host.up]
        for host in nodes:
            stage.ask(ev.DrainNode(0, host.name, True))
        number = stage.submit(of)
        self._numbered()
        for host in nodes:
            host.hello()
        for host in nodes:
            stage.ask(ev.DrainNode(0, host.name, False))
        return number

    def again(self) -> None:
        """The master is started anew, and hears whoever is up."""
        self.stage.restart(0.5)
        for host in self.stage.hosts.values():
            if host.up:
                host.hello()

    def told(self) -> list[Row]:
        """The history, as it would be with other names and numbers."""
        return [
            (row.kind, row.before, row.after, max(0, row.attempt - self.first), self._which(row.node))
            for row in self.stage.history.rows
        ]

    def _which(self, node: str) -> str:
        return str(self.names.index(node)) if node in self.names else node


Story = Callable[[Farm], None]
STORIES: list[Story] = []


def story(tell: Story) -> Story:
    STORIES.append(tell)
    return tell


@story
def a_grant_is_asked_for_again_given_back_and_used(farm: Farm) -> None:
    a = farm.node(0)
    job = farm.submit()
    a.publishes = False
    request = farm.first + 40
    a.request(job, request)
    grant = farm.stage.grant(job)
    farm.again()
    assert any(isinstance(e, fx.SendGrant) for e in a.request(job, request))
    kept = farm.stage.grant(job)
    assert grant is not None and kept is not None and kept.request == request
    local = a.local(job)
    a.say(ev.NotPublished(*a._at(), "x", local.uuid, local.number, request, "too late", None))
    assert farm.stage.grant(job) is None
    a.request(job)
    farm.again()
    a.publish(job)
    assert farm.stage.state(job) is State.COMPLETED


@story
def a_grant_that_is_held_is_not_made_anew_by_the_same_request(farm: Farm) -> None:
    a = farm.node(0)
    job = farm.submit()
    a.publishes = False
    a.request(job, farm.first + 7)
    grant = farm.stage.grant(job)
    farm.stage.now_s += 1.0
    a.request(job, farm.first + 7)
    assert grant is not None and farm.stage.grant(job) == grant


@story
def an_attempt_ends_with_a_grant(farm: Farm) -> None:
    a = farm.node(0)
    job = farm.submit()
    a.publishes = False
    a.request(job)
    farm.again()
    a.end(job, "absent")
    assert farm.stage.grant(job) is None and farm.stage.state(job) is State.RETRYING


@story
def a_node_comes_back_behind_and_ahead(farm: Farm) -> None:
    a = farm.node(0)
    job = farm.submit()
    b = farm.node(1)
    farm.stage.lose(a)
    b.progress(job, 50.0)
    a.local(job).out_time_s = 10.0
    a.back()
    farm.again()
    assert farm.stage.where(job) == b.name
    farm.stage.lose(b)
    farm.again()
    assert farm.stage.where(job) == a.name
    a.progress(job, 99.0)
    b.back()
    assert farm.stage.where(job) == a.name and not b.has(job)
    a.fail(job)
    assert farm.stage.state(job) is State.RETRYING


@story
def a_node_that_may_publish_is_lost_and_comes_back(farm: Farm) -> None:
    a = farm.node(0)
    job = farm.submit()
    farm.node(1, replace(ROOM, roots=frozenset()))
    a.publishes = False
    a.request(job)
    farm.again()
    farm.stage.lose(a)
    farm.again()
    a.back()
    farm.again()
    a.publish(job)
    assert farm.stage.state(job) is State.COMPLETED


@story
def another_node_settles_a_grant(farm: Farm) -> None:
    a = farm.node(0)
    job = farm.submit()
    b = farm.node(1)
    b.obeys = False
    a.publishes = False
    a.request(job)
    farm.stage.lose(a)
    farm.again()
    farm.stage.until(lambda: any(isinstance(e, fx.SendSettle) for e in b.heard))
    farm.stage.pass_s(3)
    b.obeys = True
    farm.stage.until(lambda: farm.stage.where(job) == b.name)


@story
def a_job_is_paused_and_goes_on(farm: Farm) -> None:
    a = farm.node(0, replace(ROOM, slots=1))
    job = farm.submit()
    farm.again()
    farm.stage.pause(job)
    farm.again()
    assert farm.stage.state(job) is State.PAUSED
    other = farm.submit(LIVE)
    farm.stage.resume(job)
    farm.again()
    assert farm.stage.state(job) is State.RESUMING
    a.end(other, "completed")
    assert farm.stage.state(job) is State.RUNNING


@story
def an_offer_is_refused_left_and_taken(farm: Farm) -> None:
    a = farm.node(0)
    a.accepts = False
    job = farm.submit(STRICT)
    assert farm.stage.state(job) is State.ASSIGNED
    farm.again()
    farm.stage.pass_s(8.0)
    a.obeys = False
    farm.stage.until(lambda: farm.stage.state(job) is State.ASSIGNED)
    attempt = farm.stage.attempt(job)
    farm.stage.turn(ev.Refused(*a._at(), attempt.uuid, attempt.number, "no room", BROKEN))
    assert farm.stage.state(job) is State.RETRYING


@story
def an_acceptance_that_was_lost_with_the_master_is_told_by_the_next_hello(farm: Farm) -> None:
    a = farm.node(0)
    a.accepts = False
    job = farm.submit()
    a._accepted(farm.stage.attempt(job))
    farm.stage.mail.clear()
    farm.again()
    assert farm.stage.state(job) is State.RUNNING
    assert any(row.kind == "running" for row in farm.stage.history.rows)


@story
def an_attempt_that_is_there_is_offered_again(farm: Farm) -> None:
    a = farm.node(0)
    job = farm.submit()
    farm.again()
    local = a.local(job)
    answers = a.say(ev.Adopt(*a._at(), local.uuid, job, local.number, terms()))
    assert any(isinstance(e, fx.SendOrder) for e in answers)


@story
def a_node_is_removed(farm: Farm) -> None:
    a = farm.node(0)
    job = farm.submit()
    farm.again()
    b = farm.node(1)
    farm.stage.ask(ev.RemoveNode(0, a.name, force=True))
    del farm.stage.hosts[a.name]
    assert farm.stage.where(job) == b.name
    farm.again()
    farm.stage.cancel(job)
    assert farm.stage.state(job) is State.CANCELED


@story
def a_node_is_kept_for_a_job_that_was_held_there(farm: Farm) -> None:
    farm.node(0)
    job = farm.submit(terms(4000))
    farm.node(1)
    farm.stage.pause(job)
    live = [farm.submit(LIVE) for _ in range(8)]
    farm.again()
    farm.stage.resume(job)
    farm.stage.pass_s(60.0)
    kept = farm.stage.world.reservation
    assert kept is not None and (kept.job, kept.node) == (job, farm.names[0])
    assert sum(row.kind == "reserved" for row in farm.stage.history.rows) == 1
    for number in live:
        host = farm.stage.hosts[farm.stage.where(number)]
        host.end(number, "completed")
    assert farm.stage.state(job) is State.RUNNING


@story
def a_node_is_kept_for_a_wide_job(farm: Farm) -> None:
    a = farm.node(0)
    small = [farm.submit() for _ in range(2)]
    wide = farm.submit(terms(4000))
    farm.again()
    farm.stage.pass_s(40.0)
    assert farm.stage.world.reservation is not None
    for job in small:
        a.verified(job)
    assert farm.stage.state(wide) is State.RUNNING and farm.stage.world.reservation is None


@story
def a_copy_and_a_neighbour_are_refused(farm: Farm) -> None:
    a = farm.node(0)
    b = farm.node(1)
    farm.again()
    for hello in (a.hello_event(connection=b"copy", reports=()), b.hello_event(address=a.address, reports=())):
        farm.stage.turn(hello)
        farm.stage.now_s += 0.5
        effects = farm.stage.turn(a.beat_event())
        refusal = next(e for e in effects if isinstance(e, fx.SendSorry))
        copy = hello.connection == b"copy"
        assert ("this is a copy" in refusal.detail) is copy
        assert (f"belongs to node {a.name}" in refusal.detail) is not copy
    assert farm.stage.world.in_contact(a.name) is not None


@story
def newcomers_say_again_what_they_want(farm: Farm) -> None:
    a, b = farm.node(0), farm.node(1)
    farm.again()
    stage = farm.stage
    for _ in range(2):
        said = stage.turn(a.hello_event(connection=b"next", incarnation=9))
        assert not any(isinstance(e, fx.SendSorry) for e in said)
        stage.mail.clear()
    effects = stage.turn(ev.Unreachable(a.connection))
    assert any(isinstance(e, fx.SendWelcome) for e in effects)
    a.connection, a.incarnation, a.session = b"next", 9, stage.world.contacts[a.name].session
    stage.turn(ev.Goodbye(*b._at()))
    for number in (3, 4):
        said = stage.turn(b.hello_event(connection=b"%d" % number, incarnation=9, address=a.address))
        assert not any(isinstance(e, fx.SendSorry) for e in said)
        stage.mail.clear()
    effects = stage.turn(b.hello_event(connection=b"5", incarnation=9))
    assert any(isinstance(e, fx.SendWelcome) for e in effects), "nobody has its own address but itself"


@story
def a_silent_life_gives_way_to_the_next(farm: Farm) -> None:
    a = farm.node(0)
    farm.again()
    farm.stage.turn(a.hello_event(connection=b"next", incarnation=9))
    farm.stage.mail.clear()
    farm.stage.now_s += farm.stage.rules.sign_s
    effects = farm.stage.turn()
    assert any(isinstance(e, fx.SendWelcome) for e in effects)


@story
def a_loss_that_was_none_is_taken_back_by_the_next_master_too(farm: Farm) -> None:
    a = farm.node(0)
    job = farm.submit()
    farm.stage.lose(a)
    farm.again()
    assert farm.stage.job(job).lost == (farm.first + 1,)
    a.back()
    assert farm.stage.state(job) is State.RUNNING and farm.stage.job(job).lost == ()


@story
def a_node_is_back_over_another_connection_just_before_it_would_be_lost(farm: Farm) -> None:
    a = farm.node(0)
    farm.submit()
    a.leave()
    farm.stage.pass_s(3.5)
    a.back()
    farm.stage.pass_s(4.0)
    assert a.session and not any(row.kind == "node_lost" for row in farm.stage.history.rows)


@story
def a_heartbeat_that_was_overtaken_misses_nothing(farm: Farm) -> None:
    a = farm.node(0)
    a.accepts = False
    job = farm.submit()
    early = a.beat_event()
    local = farm.stage.attempt(job)
    farm.stage.turn(a._accepted(local), early)
    farm.stage.turn(replace(early, reports=()))
    assert farm.stage.state(job) is State.RUNNING


YOUNG = (("a", "b"), 0)
OLD = (("node-b", "node-a"), 3000)


@pytest.mark.parametrize("tell", STORIES, ids=[tell.__name__ for tell in STORIES])
def test_an_old_farm_goes_on_as_a_young_one(tell: Story):
    histories = []
    for names, first in (YOUNG, OLD):
        farm = Farm(names, first)
        tell(farm)
        histories.append(farm.told())
    assert histories[0] == histories[1]
