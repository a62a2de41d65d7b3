"""Who starts first: queue, priority, arrival; ageing; reservation; and whom nobody may delay (P7)."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from farm.stage import ROOM, Stage, terms

from ffrtmp.farm import effects as fx
from ffrtmp.farm import events as ev
from ffrtmp.farm.job import Priority, Queue, State
from ffrtmp.farm.queue import Lanes

ONE_SLOT = replace(ROOM, slots=1)
GPU = frozenset({"h264_nvenc"})


def starts(stage: Stage) -> list[int]:
    """The jobs in the order in which they were handed out for the first time."""
    return list(dict.fromkeys(r.job for r in stage.history.rows if r.kind == "assigned"))


def run_all(stage: Stage, node: str = "a") -> None:
    """Let a node with one slot finish one job after the other."""
    host = stage.hosts[node]
    while host.locals:
        host.verified(next(iter(host.locals.values())).job)


def test_p7_jobs_start_in_exact_order_of_queue_priority_and_arrival():
    stage = Stage()
    stage.look = lambda: None  # with so many jobs it takes long, and other tests look
    ranks = [(q, p) for q in Queue for p in Priority] * 34
    random.Random(7).shuffle(ranks)
    wanted = []
    for number, (queue, priority) in enumerate(ranks[:300], 1):
        assert stage.submit(terms(queue=queue, priority=priority)) == number
        wanted.append((queue, priority, number))
    stage.node("a", ONE_SLOT)
    run_all(stage)
    assert starts(stage) == [number for _queue, _priority, number in sorted(wanted)]


def test_ageing_lifts_a_job_one_step_an_interval_but_never_into_live():
    stage = Stage(ageing_interval_s=3600.0)
    old = stage.submit(terms(queue=Queue.BATCH, priority=Priority.LOW))
    stage.now_s += 3 * 3600.0
    three_steps_up = stage.submit(terms(queue=Queue.DEFAULT, priority=Priority.LOW))
    better = stage.submit(terms(queue=Queue.DEFAULT, priority=Priority.MEDIUM))
    stage.node("a", ONE_SLOT)
    run_all(stage)
    assert starts(stage) == [better, old, three_steps_up]  # old has come level with the others and arrived first

    stage = Stage(ageing_interval_s=3600.0)
    ancient = stage.submit(terms(queue=Queue.BATCH))
    stage.now_s += 1000 * 3600.0
    new_high = stage.submit(terms(priority=Priority.HIGH))
    live = stage.submit(terms(queue=Queue.LIVE, priority=Priority.LOW))
    stage.node("a", ONE_SLOT)
    run_all(stage)
    assert starts(stage) == [live, ancient, new_high]


@pytest.mark.parametrize("first_s", [3600.0, -3600.0])
def test_p7_jobs_keep_their_order_over_a_restart_also_where_the_clock_was_wrong_meanwhile(first_s):
    stage = Stage(ageing_interval_s=10.0)
    first, second = stage.submit(terms(priority=Priority.LOW)), stage.submit(terms(priority=Priority.LOW))
    later = stage.submit(terms(priority=Priority.HIGH))
    stored = stage.stored()
    jobs = [replace(job, arrival_s=job.arrival_s + first_s * (job.number == first)) for job in stored.fields["jobs"]]
    stage.restart(backup=replace(stored, fields={**stored.fields, "jobs": jobs}))
    stage.now_s += 15.0
    stage.node("a", ONE_SLOT)
    run_all(stage)
    order = starts(stage)
    assert order.index(first) < order.index(second) and later in order
    assert all(job.arrival_s <= stage.now_s for job in stage.ended.values())


def test_without_ageing_a_batch_job_waits_for_all_others():
    stage = Stage(ageing_interval_s=0.0)
    batch = stage.submit(terms(queue=Queue.BATCH))
    stage.now_s += 1e6
    default = stage.submit(terms(priority=Priority.LOW))
    stage.node("a", ONE_SLOT)
    run_all(stage)
    assert starts(stage) == [default, batch]


def test_p7_a_gpu_job_at_the_head_delays_no_cpu_job():
    stage = Stage()
    gpu = stage.submit(terms(encoders=GPU, queue=Queue.LIVE, priority=Priority.HIGH))
    cpu = stage.submit(terms(queue=Queue.BATCH, priority=Priority.LOW))
    stage.node("a")
    assert stage.state(cpu) is State.RUNNING
    assert stage.state(gpu) is State.QUEUED
    stage.node("g", replace(ROOM, encoders=GPU))
    assert stage.where(gpu) == "g"


def test_a_retried_job_keeps_its_place_before_later_ones():
    stage = Stage()
    a = stage.node("a", ONE_SLOT)
    first, second, third = stage.submit(), stage.submit(), stage.submit()
    a.fail(first)
    assert stage.state(second) is State.RUNNING
    stage.pass_s(6)
    a.verified(second)
    assert stage.state(first) is State.RUNNING
    assert stage.state(third) is State.QUEUED


def test_a_paused_queue_starts_nothing_and_delays_no_other():
    stage = Stage()
    stage.ask(ev.SetQueue(0, Queue.DEFAULT, True))
    held = stage.submit()
    batch = stage.submit(terms(queue=Queue.BATCH))
    stage.node("a")
    assert stage.state(held) is State.QUEUED
    assert stage.state(batch) is State.RUNNING
    assert "queue default is paused" in stage.why(held)
    assert stage.ask(ev.SetQueue(0, Queue.DEFAULT, True)).status == 200
    assert stage.state(held) is State.QUEUED, "to pause it again changes nothing"
    stage.ask(ev.SetQueue(0, Queue.DEFAULT, False))
    assert stage.state(held) is State.RUNNING


def test_a_waiting_job_can_be_moved_to_another_queue_or_priority():
    stage = Stage()
    a = stage.node("a", ONE_SLOT)
    running, first, second = stage.submit(), stage.submit(), stage.submit()
    assert stage.ask(ev.Update(0, second, priority=Priority.HIGH)).status == 200
    assert stage.ask(ev.Update(0, running, priority=Priority.HIGH)).status == 409
    a.verified(running)
    assert stage.state(second) is State.RUNNING
    assert stage.ask(ev.Update(0, first, queue=Queue.BATCH)).status == 200
    assert stage.job(first).terms.queue is Queue.BATCH
    assert stage.ask(ev.Update(0, 999)).status == 404


# ---- reservation -------------------------------------------------------------------------------------------------


def crowd(stage: Stage, node: str = "a", small: int = 4) -> int:
    """A node that is busy with small jobs; the number of a wide job that waits for all of its cores."""
    stage.node(node)
    for _ in range(small):
        stage.submit()
    return stage.submit(terms(4000))


def starve(stage: Stage) -> None:
    """Time passes, and then better-ranked small jobs come."""
    stage.pass_s(906, 6.0)
    for _ in range(20):
        stage.submit(terms(priority=Priority.HIGH))


def finish_one(stage: Stage, node: str = "a") -> None:
    host = stage.hosts[node]
    host.verified(next(x.job for x in host.locals.values() if x.stage == "running"))


def test_a_wide_job_that_starves_gets_one_node_to_itself_in_the_end():
    stage = Stage(reserve_after_s=900.0)
    wide = crowd(stage)
    stage.submit(terms(priority=Priority.HIGH))
    finish_one(stage)
    assert len(stage.hosts["a"].locals) == 4, "before it starves, others go first"
    starve(stage)
    assert stage.world.reservation is not None and stage.world.reservation.job == wide
    for _ in range(4):
        finish_one(stage)
    assert stage.state(wide) is State.RUNNING
    assert stage.world.reservation is None
    finish_one(stage)
    assert len(stage.hosts["a"].locals) == 4, "the reservation has ended with its job's waiting"


def test_a_live_job_is_never_held_up_by_a_reservation():
    stage = Stage(reserve_after_s=900.0)
    wide = crowd(stage)
    starve(stage)
    finish_one(stage)
    assert len(stage.hosts["a"].locals) == 3, "nothing else starts on the reserved node"
    live = stage.submit(terms(queue=Queue.LIVE))
    assert stage.state(live) is State.RUNNING
    assert stage.state(wide) is State.QUEUED
    assert stage.world.reservation is not None and stage.world.reservation.job == wide, "it is still helped"
    assert sum(row.kind == "reserved" for row in stage.history.rows) == 1, "and has been all the time"


def test_only_one_node_is_reserved_at_a_time():
    stage = Stage(reserve_after_s=900.0)
    wide = crowd(stage)
    for _ in range(4):
        stage.submit(terms(priority=Priority.HIGH))
    other = stage.submit(terms(4000, queue=Queue.BATCH))
    stage.node("b")
    starve(stage)
    kept = stage.world.reservation
    assert kept is not None and kept.job == wide
    free = "b" if kept.node == "a" else "a"
    finish_one(stage, free)
    assert len(stage.hosts[free].locals) == 4, "the other node goes on taking small jobs"
    assert stage.state(other) is State.QUEUED


def test_a_wide_job_that_was_held_does_not_wait_for_ever_behind_small_ones():
    stage = Stage(reserve_after_s=900.0)
    a = stage.node("a")
    wide = stage.submit(terms(4000))
    stage.pause(wide)
    for _ in range(5):
        stage.submit(terms(priority=Priority.HIGH))
    stage.resume(wide)
    finish_one(stage)
    assert len(a.locals) == 5, "before it has waited long, others go first"
    starve(stage)
    for _ in range(4):
        finish_one(stage)
    assert stage.state(wide) is State.RUNNING
    assert stage.world.reservation is None
    a.verified(wide)
    assert len(a.locals) == 4


def test_a_starving_job_that_no_node_can_run_keeps_nobody_from_being_helped():
    stage = Stage(reserve_after_s=900.0)
    stage.submit(terms(encoders=GPU, priority=Priority.HIGH))
    wide = crowd(stage)
    stage.pass_s(906, 6.0)
    assert stage.world.reservation is not None and stage.world.reservation.job == wide


def test_a_reservation_does_not_bar_an_older_job_of_the_same_kind():
    stage = Stage(reserve_after_s=900.0)
    first = stage.submit(terms(4000))
    stage.node("x")
    assert stage.where(first) == "x"
    wide = crowd(stage)
    starve(stage)
    assert stage.world.reservation is not None and stage.world.reservation.job == wide
    stage.lose(stage.hosts["x"])
    assert stage.state(first) is State.QUEUED
    for _ in range(4):
        finish_one(stage)
    assert stage.state(first) is State.RUNNING, "it arrived first, and its lane has the node"
    finish_one(stage)
    assert stage.state(wide) is State.RUNNING


def test_a_reservation_ends_when_its_queue_is_paused():
    stage = Stage(reserve_after_s=900.0)
    wide = crowd(stage)
    stage.ask(ev.Update(0, wide, queue=Queue.BATCH))
    starve(stage)
    assert stage.world.reservation is not None
    stage.ask(ev.SetQueue(0, Queue.BATCH, True))
    assert stage.world.reservation is None
    finish_one(stage)
    assert len(stage.hosts["a"].locals) == 4


def test_a_reservation_ends_with_its_job_or_its_node():
    stage = Stage(reserve_after_s=900.0)
    wide = crowd(stage)
    starve(stage)
    stage.ask(ev.DrainNode(0, "a", True))
    assert stage.world.reservation is None
    stage.ask(ev.DrainNode(0, "a", False))
    stage.pass_s(6)
    assert stage.world.reservation is not None and stage.world.reservation.job == wide
    finish_one(stage)
    assert len(stage.hosts["a"].locals) == 3
    stage.cancel(wide)
    assert stage.world.reservation is None
    assert len(stage.hosts["a"].locals) == 4, "its node takes other work at once"


def test_a_reserved_node_is_open_to_all_as_soon_as_its_job_starts_elsewhere():
    stage = Stage(reserve_after_s=900.0)
    wide = crowd(stage)
    stage.pass_s(906, 6.0)
    waits = stage.submit(terms(queue=Queue.BATCH))
    finish_one(stage)
    assert len(stage.hosts["a"].locals) == 3
    stage.node("b")
    assert (stage.where(wide), stage.where(waits)) == ("b", "a")


def test_the_node_that_is_reserved_is_the_one_that_lacks_least():
    stage = Stage(reserve_after_s=900.0)
    for name, cores, used in (("a", 4000, 250), ("b", 8900, 5000), ("c", 9000, 7000)):
        stage.node(name, replace(ROOM, cpu_milli=cores))
        assert stage.where(stage.submit(terms(used))) == name
    wide = stage.submit(terms(4000))
    stage.pass_s(906, 6.0)
    kept = stage.world.reservation
    assert kept is not None and (kept.job, kept.node) == (wide, "b")


def test_what_a_waiting_job_costs_does_not_grow_with_those_that_wait():
    there: set[int] = set()
    looks = 0
    key = (Queue.DEFAULT, Priority.MEDIUM, terms().requirements)

    def lane_now(number):
        nonlocal looks
        looks += 1
        return key if number in there else None

    lanes = Lanes(lane_now)
    stale = 0
    for number in range(1000):
        there.add(number)
        lanes.entered(key, number)
    for number in range(999, 0, -1):
        there.remove(number)
        lanes.left(key)
        stale = max(stale, len(lanes._heaps[key]) - 2 * lanes.waiting(key))
    assert lanes.head(key) == 0 and lanes.waiting(key) == 1
    assert stale == 64 and looks < 3000


@pytest.mark.parametrize(("own", "other"), [("a", "b"), ("b", "a")])
def test_a_job_that_was_held_is_helped_on_its_own_node_and_on_no_other(own, other):
    stage = Stage(reserve_after_s=900.0)
    stage.node(own)
    held = stage.submit(terms(4000))
    stage.pause(held)
    for _ in range(4):
        stage.submit(terms(priority=Priority.HIGH))
    stage.resume(held)
    stage.node(other)
    stage.pass_s(906, 6.0)
    assert stage.state(held) is State.RESUMING
    kept = stage.world.reservation
    assert kept is not None and (kept.job, kept.node) == (held, own)


def test_a_reserved_node_is_closed_to_an_older_job_of_another_kind():
    stage = Stage(reserve_after_s=900.0)
    older = stage.submit(terms(1000))
    stage.pause(older)
    wide = crowd(stage)
    starve(stage)
    assert stage.world.reservation is not None and stage.world.reservation.job == wide
    stage.resume(older)
    finish_one(stage)
    assert stage.state(older) is State.QUEUED and len(stage.hosts["a"].locals) == 3


# ---- reservations, looked at closely -----------------------------------------------------------------------------


@pytest.mark.parametrize(("kept", "free"), [("a", "b"), ("b", "a")])
def test_a_node_that_is_not_reserved_goes_on_taking_work_whatever_its_name(kept, free):
    stage = Stage(reserve_after_s=900.0)
    older = stage.submit(terms(encoders=GPU))
    wide = crowd(stage, kept)
    stage.pass_s(906, 6.0)
    assert stage.world.reservation is not None and stage.world.reservation.node == kept
    younger = stage.submit()
    stage.node(free, replace(ROOM, cpu_milli=3000, encoders=GPU))
    assert stage.where(older) == stage.where(younger) == free and stage.state(wide) is State.QUEUED
    assert sum(row.kind == "reserved" for row in stage.history.rows) == 1, "an older job that starts there ends nothing"


def test_a_live_job_gets_no_reservation():
    stage = Stage(reserve_after_s=900.0)
    stage.node("a")
    stage.submit(terms(queue=Queue.LIVE, live=True))
    wide = stage.submit(terms(4000, queue=Queue.LIVE, live=True))
    stage.pass_s(920, 6.0)
    assert stage.state(wide) is State.QUEUED and stage.world.reservation is None


def test_a_reservation_ends_when_its_job_is_held():
    stage = Stage(reserve_after_s=900.0)
    wide = crowd(stage)
    starve(stage)
    stage.pause(wide)
    assert stage.world.reservation is None


@pytest.mark.parametrize("helped", [0, 1])
def test_a_reservation_for_a_job_that_waits_for_its_cores_ends_with_that_and_not_with_the_waiting_of_others(helped):
    stage = Stage(reserve_after_s=900.0, starved_every_s=50.0)
    stage.node("a", replace(ROOM, slots=2))
    held = [stage.submit(terms(2000)) for _ in range(2)]
    for job in held:
        stage.pause(job)
    for _ in range(2):
        stage.submit(terms(2000, queue=Queue.LIVE, live=True))
    stage.resume(held[helped])
    stage.pass_s(960, 6.0)
    kept = stage.world.reservation
    assert kept is not None and kept.job == held[helped]
    stage.resume(held[1 - helped])
    assert stage.state(held[1 - helped]) is State.RESUMING and stage.world.reservation == kept
    stage.turn(ev.Pause(9, held[helped]))
    assert stage.world.reservation is None


@pytest.mark.parametrize(("own", "other"), [("a", "b"), ("b", "a")])
def test_a_reservation_ends_when_an_older_attempt_comes_back_elsewhere_and_waits_there(own, other):
    stage = Stage(reserve_after_s=900.0)
    host = stage.node(own, replace(ROOM, slots=1))
    wide = stage.submit(terms(4000))
    stage.pause(wide)
    stage.submit(terms(1000, queue=Queue.LIVE, live=True))
    stage.lose(host)
    stage.resume(wide)
    stage.node(other, replace(ROOM, slots=1))
    assert stage.state(wide) is State.QUEUED
    stage.pass_s(906, 6.0)
    kept = stage.world.reservation
    assert kept is not None and (kept.job, kept.node) == (wide, other)
    stage.turn(host.hello_event(connection=b"back", incarnation=2))
    assert stage.state(wide) is State.RESUMING
    stage.turn()
    assert stage.world.reservation is None or stage.world.reservation.node == own


@pytest.mark.parametrize("bound", [2, 3, 4])
def test_a_turn_hands_out_as_many_as_it_may_also_after_a_reservation_has_ended_in_it(bound):
    stage = Stage(handouts_per_turn=bound, reserve_after_s=60.0)
    a = stage.node("a", replace(ROOM, slots=8))
    small = [stage.submit() for _ in range(4)]
    stage.submit(terms(4000))
    stage.pass_s(66, 6.0)
    for job in small[:3]:
        a.verified(job)
    stage.node("b", replace(ROOM, cpu_milli=3000, slots=8), hello=False)
    for _ in range(8):
        stage.submit(terms(250))
    effects = stage.turn(a.published_event(a.local(small[3])), stage.hosts["b"].hello_event())
    assert sum(isinstance(effect, fx.SendAssign) for effect in effects) == bound


def test_a_reserved_node_is_open_to_all_in_the_very_turn_in_which_its_job_starts_elsewhere():
    stage = Stage(reserve_after_s=900.0)
    wide = crowd(stage)
    stage.pass_s(906, 6.0)
    waits = stage.submit(terms(queue=Queue.BATCH))
    finish_one(stage)
    b = stage.node("b", hello=False)
    effects = stage.turn(b.hello_event())
    assert {effect.attempt[0] for effect in effects if isinstance(effect, fx.SendAssign)} == {wide, waits}


def test_a_turn_that_hands_out_as_many_as_it_may_reserves_nothing_for_what_may_start_in_the_next():
    stage = Stage(handouts_per_turn=1, reserve_after_s=60.0)
    first, second = stage.submit(), stage.submit(terms(2000))
    stage.pass_s(70, 6.0)
    a = stage.node("a", hello=False)
    stage.turn(a.hello_event())
    assert stage.state(first) is State.ASSIGNED and stage.world.reservation is None
    stage.turn()
    assert stage.state(second) is State.ASSIGNED
    assert not any(row.kind == "reserved" for row in stage.history.rows)


def test_very_many_jobs_are_handed_out_in_one_turn_up_to_its_bound():
    stage = Stage(handouts_per_turn=300, reserve_after_s=0.0, starved_every_s=0.0)
    stage.look = lambda: None  # it takes long with so many, and others look
    stage.turn(ev.Submit(1, tuple(stage.new(terms(250)) for _ in range(301))))
    a = stage.node("a", replace(ROOM, cpu_milli=400_000, slots=400), hello=False)
    a.accepts = False
    effects = stage.turn(a.hello_event())
    assert sum(isinstance(effect, fx.SendAssign) for effect in effects) == 300
    assert len(stage.world.lanes) == 1 and stage.world.reservation is None, "it may start in the next"


def test_no_job_waits_in_a_lane_that_is_not_there():
    assert Lanes(lambda _number: None).waiting((Queue.LIVE, Priority.LOW, terms().requirements)) == 0


def test_jobs_that_are_handed_out_in_one_turn_each_go_to_the_node_that_then_has_the_most_room():
    stage = Stage()
    hosts = [stage.node("a", hello=False), stage.node("b", replace(ROOM, cpu_milli=5000, slots=8), hello=False)]
    stage.turn(ev.Submit(1, tuple(stage.new(terms(1000)) for _ in range(7))))
    effects = stage.turn(*(host.hello_event() for host in hosts))
    assert [effect.node for effect in effects if isinstance(effect, fx.SendAssign)] == [
        "b",
        "a",
        "b",
        "a",
        "b",
        "a",
        "b",
    ]
