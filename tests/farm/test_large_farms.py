"""What the rules cost does not grow with the farm where nothing is asked of it: the processor's time, many against few."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import replace

from farm.stage import ROOM, terms

from ffrtmp.farm import events as ev
from ffrtmp.farm.effects import Effect, SendAssign
from ffrtmp.farm.farm import Farm
from ffrtmp.farm.rules import Rules

FEW, MANY = 20, 1000
ONE_SLOT = replace(ROOM, slots=1)


def turn(farm: Farm, now_s: float, *given: ev.Event) -> list[Effect]:
    effects = [effect for event in given for effect in farm.apply(event, now_s)]
    for event in farm.due(now_s):
        effects += farm.apply(event, now_s)
    farm.keep_turn(1)
    return effects


def hellos(nodes: int) -> Iterable[ev.Event]:
    for n in range(1, nodes + 1):
        yield ev.AddNode(0, f"n{n}", f"key {n}", f"10.0.{n // 256}.{n % 256}")
        yield ev.Hello(f"n{n}", b"%d" % n, n, "l", 1, "boot", f"10.0.{n // 256}.{n % 256}", ONE_SLOT)


def submission(jobs: int) -> ev.Submit:
    return ev.Submit(1, tuple(ev.NewJob(f"uuid {n}", terms(250)) for n in range(1, jobs + 1)))


def farm_at_work(nodes: int) -> Farm:
    """Each node runs a job, and as many wait."""
    farm = Farm(Rules(handouts_per_turn=nodes), lineage="l", now_s=0.0)
    turn(farm, 0.0, *hellos(nodes))
    offered = [e for e in turn(farm, 0.0, submission(2 * nodes)) if isinstance(e, SendAssign)]
    assert len(offered) == nodes
    sessions = {f"n{n}": (b"%d" % n, n) for n in range(1, nodes + 1)}
    for each in offered:
        attempt = farm.world.attempts[each.attempt]
        farm.apply(ev.Accepted(each.node, *sessions[each.node], attempt.uuid, attempt.number), 0.0)
    turn(farm, 0.0)
    return farm


def took_s(work: Callable[[], object]) -> float:
    """The processor's time, of the best of three goes."""
    best_s = float("inf")
    for _ in range(3):
        began_s = time.process_time()
        work()
        best_s = min(best_s, time.process_time() - began_s)
    return best_s


def test_a_turn_in_which_nothing_changes_costs_a_large_farm_what_it_costs_a_small_one() -> None:
    few, many = farm_at_work(FEW), farm_at_work(MANY)

    def quiet(farm: Farm) -> None:
        for _ in range(200):
            assert turn(farm, 1.5) == []

    assert took_s(lambda: quiet(many)) < 3 * took_s(lambda: quiet(few))


def test_to_hand_out_a_hundred_jobs_costs_a_few_times_what_one_costs() -> None:
    def filled(jobs: int) -> Callable[[], None]:
        farms = []
        for _ in range(3):
            farm = Farm(Rules(), lineage="l", now_s=0.0)
            turn(farm, 0.0, *hellos(MANY))
            farm.apply(submission(jobs), 0.0)
            farms.append(farm)

        def place() -> None:
            effects = farms.pop().apply(ev.Place(), 0.0)
            assert sum(isinstance(effect, SendAssign) for effect in effects) == jobs

        return place

    assert took_s(filled(100)) < 20 * took_s(filled(1))


def test_nodes_that_come_together_are_not_held_against_each_other() -> None:
    def come(nodes: int) -> float:
        return took_s(lambda: turn(Farm(Rules(), lineage="l", now_s=0.0), 0.0, *hellos(nodes))) / nodes

    assert come(3 * MANY) < 3 * come(FEW)
