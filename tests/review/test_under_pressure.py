"""P12: much at once, or more than a turn takes, neither ends a master nor keeps it from ending."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import msgspec
import psutil
from review.rogue import CAPACITY, Rogue, rogue

from daemons import Farm, until
from ffrtmp import wire
from ffrtmp.farm import events as ev
from ffrtmp.farm.effects import Effect, SendSorry
from ffrtmp.farm.farm import Farm as Rules_of_the_farm
from ffrtmp.farm.node import Node
from ffrtmp.farm.rules import Rules
from ffrtmp_master import translate
from ffrtmp_master.turn import Input, Turns

RESIDENT_MOST_BYTES = 600 << 20


@contextmanager
def flood(node: Rogue, *reports: wire.AttemptReport) -> Iterator[None]:
    """Heartbeats as fast as they are taken, as long as the block runs."""
    ends = threading.Event()

    def talk() -> None:
        while not ends.is_set():
            node.beats += 1
            node.link.send(wire.Heartbeat(node.session, node.beats, attempts=reports))
            node.link.receive()

    thread = threading.Thread(target=talk)
    thread.start()
    try:
        yield
    finally:
        ends.set()
        thread.join(20)


def test_p12_a_master_ends_on_request_while_its_nodes_go_on_talking(tmp_path: Path) -> None:
    with Farm(tmp_path) as farm:
        master = farm.start_master()
        with rogue(farm) as node:
            node.come_in()
            with flood(node):
                master.signal(signal.SIGTERM)
                until("the master's end", lambda: not master.alive, 20)
        assert master.process.returncode == 0, master.tail()


def test_p12_what_waits_for_a_turn_is_bounded(tmp_path: Path) -> None:
    with Farm(tmp_path) as farm:
        master = farm.start_master()
        with rogue(farm) as node:
            node.come_in()
            reports = [wire.AttemptReport(f"{n:036d}", n + 1, 1, "running") for n in range(2000)]
            process = psutil.Process(master.process.pid)
            with flood(node, *reports):
                most = 0
                for _ in range(5):
                    assert farm.api("GET", "/v1/live")[0] == 200
                    most = max(most, process.memory_info().rss)
            assert most < RESIDENT_MOST_BYTES


def test_p12_a_batch_of_more_outputs_than_one_question_holds_is_taken(tmp_path: Path) -> None:
    with Farm(tmp_path) as farm:
        farm.start_master("--batch-max", "20000", "--body-max", "64MiB")
        with rogue(farm) as node:
            node.come_in(capacity=msgspec.structs.replace(CAPACITY, slots=0))
            jobs = [{"scenario": "probe", "input": "media:in.mov", "output": f"media:{n}.json"} for n in range(10_001)]
            status, answer = farm.api("POST", "/v1/jobs", {"items": jobs})
            assert (status, len(answer["items"])) == (201, 10_001)
            assert farm.api("POST", "/v1/jobs", {"items": jobs[-2:]})[0] == 409


def test_p11_nobody_is_lost_whose_sign_of_life_waits_for_its_turn() -> None:
    farm = Rules_of_the_farm(Rules(), lineage="l", now_s=1.0)
    farm.world.nodes.restore("a", Node("a", "key"))
    turns = Turns(farm, 0)
    capacity = translate.capacity(CAPACITY)
    hello = ev.Hello("a", b"c", 7, "m", 1, "boot", "10.0.0.1", capacity)
    for now_s in (1.0, *(float(n) / 2 for n in range(2, 80))):
        given = [Input(hello)] if now_s == 1.0 else []
        turns.keep(turns.decide(given, now_s, now_s, taken=lambda keys: {}, unheard=True))
    assert farm.world.in_contact("a") is not None
    turns.keep(turns.decide([], 40.0, 40.0, taken=lambda keys: {}))
    assert farm.world.in_contact("a") is not None  # for all that time it was not listened to
    for half_seconds in range(1, 40):
        turns.keep(turns.decide([], 40.0 + half_seconds / 2, 40.0, taken=lambda keys: {}))
    assert farm.world.in_contact("a") is None


def test_p9_nobody_takes_the_place_of_a_node_whose_sign_of_life_waits_for_its_turn() -> None:
    farm = Rules_of_the_farm(Rules(), lineage="l", now_s=1.0)
    farm.world.nodes.restore("a", Node("a", "key"))
    turns = Turns(farm, 0)

    def turn(now_s: float, *events: ev.Event, unheard: bool = False) -> list[Effect]:
        decision = turns.decide(map(Input, events), now_s, now_s, taken=lambda keys: {}, unheard=unheard)
        turns.keep(decision)
        return decision.effects

    hello = ev.Hello("a", b"c", 7, "m", 1, "boot", "10.0.0.1", translate.capacity(CAPACITY))
    turn(1.0, hello)
    turn(1.1, replace(hello, connection=b"copy", token=8, incarnation=2))
    for tenths in range(12, 60):
        turn(tenths / 10, unheard=True)  # it was asked, and what it says stands in the line
    told = turn(6.0, ev.Heartbeat("a", b"c", 7, 1))
    assert [(each.connection, each.status) for each in told if isinstance(each, SendSorry)] == [(b"copy", 409)]
    contact = farm.world.in_contact("a")
    assert contact is not None and contact.session == 7
