"""The agent's session against a master that is slow, restored, or repeats itself. Pure: messages and time in, actions out."""

from __future__ import annotations

from ffrtmp import wire
from ffrtmp.spec import Fingerprint, JobSpec, Recipe, Results, Source
from ffrtmp_agent.actions import Action, Control, Create, Lease, Offer, Publish, Remove, Send
from ffrtmp_agent.local import About, Local, Step
from ffrtmp_agent.session import Session

UUID = "11111111-1111-4111-8111-111111111111"
KEY = (UUID, 1)
CAPACITY = wire.Capacity(8000, 8 << 30, 4)
ABOUT = About("a", "10.0.0.1", "boot", 1, wire.Facts(), CAPACITY)
PRINT = Fingerprint(1, "0" * 64)
TIMING = wire.Timing(lost_after_s=15.0, lost_after_live_s=3.0, grant_ttl_s=10.0)


def welcome(session: int = 7, *directives: wire.Directive, lineage: str = "l", turn: int = 1) -> wire.Welcome:
    return wire.Welcome(session, lineage, turn, "a", TIMING, directives)


def in_contact() -> Session:
    session = Session(ABOUT, wire.Seen(), 0.0)
    session.tick(0.0)
    session.receive(welcome(), 0.0)
    return session


def assign(session: Session, now_s: float = 0.0, *, kind: str = "file", on_disconnect: str = "keep") -> list[Action]:
    spec = JobSpec(Recipe("x", kind), Source(url="http://x"), on_disconnect=on_disconnect)  # type: ignore[arg-type]
    return session.receive(wire.Assign(session.number, "l", 2, UUID, 42, 1, "default", "medium", spec), now_s)


def running(session: Session, **more: str) -> Session:
    assert isinstance(assign(session, **more)[-1], Create)  # type: ignore[arg-type]
    session.created(KEY, 0.0)
    session.seen_stage(KEY, "running", 0.0)
    return session


def said(actions: list[Action], kind: type) -> list[wire.Message]:
    return [a.message for a in actions if isinstance(a, Send) and isinstance(a.message, kind)]


def test_p1_a_master_that_takes_longer_than_the_repetition_still_grants():
    session = running(in_contact())
    requests = said(session.verified(KEY, PRINT, Results(), 1.0), wire.PublishRequest)
    for now_s in (3.5, 6.0):
        requests += said(session.tick(now_s), wire.PublishRequest)
    first, *later = [m.request for m in requests]  # type: ignore[attr-defined]
    assert later
    (published,) = session.receive(wire.Grant(7, UUID, 1, first, 10.0), 6.5)
    assert published == Publish(KEY, first, 11.0)  # it counts from the sending of the first request


def test_p2_a_grant_for_a_request_of_another_time_is_none():
    session = running(in_contact())
    (request,) = said(session.verified(KEY, PRINT, Results(), 1.0), wire.PublishRequest)
    assert session.receive(wire.Grant(7, UUID, 1, request.request + 1000, 10.0), 2.0) == []  # type: ignore[attr-defined]
    late = session.receive(wire.Grant(7, UUID, 1, request.request, 10.0), 11.5)  # type: ignore[attr-defined]
    assert said(late, wire.PublishRequest) and not [a for a in late if isinstance(a, Publish)]


def test_a_paused_job_stays_paused_when_its_agent_is_started_anew():
    session = Session(ABOUT, wire.Seen(), 0.0)
    session.found(Local(UUID, 42, 1, 1000, 0, step=Step.RUNNING, want=""))
    assert session.seen_stage(KEY, "paused", 0.0) == []
    session.tick(0.0)
    session.receive(welcome(7, wire.Directive(UUID, 1, "keep")), 1.0)
    assert session.receive(wire.Order(7, UUID, 1, "run"), 2.0) == [Control(KEY, "resume")]


def test_p1_an_offer_is_repeated_until_the_restored_master_says_what_is_to_be():
    session = Session(ABOUT, wire.Seen("old", 500, 42), 0.0)
    session.found(Local(UUID, 42, 1, step=Step.RUNNING))
    session.tick(0.0)
    directive = wire.Directive(UUID, 1, "offer")
    assert Offer(KEY) in session.receive(welcome(7, directive, lineage="new", turn=301), 1.0)
    assert session.seen == wire.Seen("old", 500, 42)
    session.receive(wire.HeartbeatAck(7, 1, "new", 302), 1.5)
    assert Offer(KEY) in session.tick(3.5)
    # The connection breaks before the master has kept it: it must ask again, so it must be told again.
    session.receive(wire.NoSession(7), 4.0)
    (hello,) = said(session.tick(7.0), wire.Hello)
    assert hello.seen.lineage == "old"  # type: ignore[attr-defined]
    assert Offer(KEY) in session.receive(welcome(8, directive, lineage="new", turn=303), 8.0)
    session.receive(wire.Order(8, UUID, 1, "run"), 9.0)
    assert Offer(KEY) not in session.tick(11.0)
    session.receive(wire.Ack(8, "x", "new", 305), 12.0)
    assert session.seen == wire.Seen("new", 305, 42)


def test_an_offer_goes_before_the_results_that_wait():
    session = Session(ABOUT, wire.Seen("old", 500, 42), 0.0)
    session.found(Local(UUID, 42, 1, step=Step.OVER))
    session.found_item("i", wire.Ended(0, "i", UUID, 1, "failed"))
    session.tick(0.0)
    actions = session.receive(welcome(7, wire.Directive(UUID, 1, "offer"), lineage="new"), 1.0)
    (ended,) = said(actions, wire.Ended)
    assert actions.index(Offer(KEY)) < actions.index(Send(ended))


def test_p6_a_change_of_what_a_node_offers_is_told_again_in_case_it_was_lost():
    session = in_contact()
    told = []
    for beat in range(1, 25):
        told += [m.capacity for m in said(session.tick(2.0 * beat), wire.Heartbeat)]  # type: ignore[attr-defined]
        session.receive(wire.HeartbeatAck(7, beat, "l", 1), 2.0 * beat)
    assert told.count(CAPACITY) == 2


def test_a_lease_ends_when_the_master_gives_the_node_up_and_counts_from_the_sending():
    for kind, lease_s in (("file", 15.0), ("live", 3.0)):
        session = running(in_contact(), kind=kind, on_disconnect="stop")
        session.tick(2.0)
        beat = session._beat
        assert Lease(KEY, 2.0 + lease_s) in session.receive(wire.HeartbeatAck(7, beat, "l", 1), 2.9)
        assert session.reached_s == 2.0


def test_what_is_over_goes_only_when_its_item_and_its_log_are_at_the_master():
    session = running(in_contact())
    session.item_kept("i", wire.Ended(7, "i", UUID, 1, "failed"))
    session.ended(KEY, "failed")
    assert session.receive(wire.Ack(7, "i", "l", 3), 1.0)[1:] == []
    assert session.log_shipped(KEY) == [Remove(KEY, "i")]
