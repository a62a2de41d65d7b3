"""P9, P12: somebody who is enrolled and claims what is another node's disturbs neither it nor its jobs."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import msgspec
import pytest
from review.rogue import CAPACITY, Rogue, rogue
from whole.pace import lay_clip, paced

from daemons import Farm, until
from ffrtmp import wire
from ffrtmp.spec import Fingerprint, Results
from ffrtmp_master.complaints import Pace

LOOT = wire.RootFact("loot", "33333333-3333-4333-8333-333333333333", "/nowhere")
ADDRESS = "127.0.0.2"
LINES_MOST = 40


@pytest.fixture(scope="module")
def farm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Farm]:
    """A master and a real agent `a` at ADDRESS."""
    with Farm(tmp_path_factory.mktemp("farm")) as farm:
        lay_clip(farm, 5.0)
        farm.start_master()
        farm.start_agent("a", "--allow-run", address=ADDRESS)
        yield farm


@contextmanager
def claiming(thieves: list[Rogue]) -> Iterator[list[int]]:
    """Hellos with the address of `a` as fast as they are taken, as long as the block runs; how many were sent."""
    ends, sent = threading.Event(), [0]

    def talk() -> None:
        while not ends.is_set():
            for thief in thieves:
                sent[0] += thief.link.send(thief.hello(address=ADDRESS, incarnation=sent[0] + 1))
                thief.heard += thief.link.receive()

    thread = threading.Thread(target=talk)
    thread.start()
    try:
        yield sent
    finally:
        ends.set()
        thread.join(20)


def test_p9_a_flood_of_hellos_with_another_nodes_address_disturbs_neither_it_nor_the_log(farm: Farm) -> None:
    log = farm.folder / "master.log"
    before = farm.get("/v1/nodes/a")
    with ExitStack() as stack:
        thieves = [stack.enter_context(rogue(farm, name)) for name in ("thief", "robber")]
        lines = len(log.read_text().splitlines())
        with claiming(thieves) as sent:
            job = farm.wait(paced(farm, "flood.mp4"), "completed")
            until("many more", lambda: sent[0] > 2000)
        assert (job["attempt"], job["node"]) == (1, "a")
        told = log.read_text().splitlines()[lines:]
        assert len([line for line in told if "thief" in line or "robber" in line]) < LINES_MOST, told
        assert any("says Hello without end" in line for line in told)
        assert all(message.status == 409 for each in thieves for message in each.heard), "none of them was let in"
        assert any(each.heard for each in thieves)
    after = farm.get("/v1/nodes/a")
    assert (after["state"], after["incarnation"]) == ("ready", before["incarnation"])
    assert not any("node a is lost" in line for line in told)


def test_p12_what_a_node_says_that_is_refused_counts_for_nothing(farm: Farm) -> None:
    with rogue(farm, "liar") as liar:
        capacity = msgspec.structs.replace(CAPACITY, roots=(LOOT,))
        liar.say(liar.hello(address=ADDRESS, capacity=capacity, facts=wire.Facts(hostname="lies")))
        assert liar.wait_for(wire.Sorry).status == 409
        told = farm.get("/v1/nodes/liar")
        assert told["state"] == "unheard" and not told.get("roots") and not told.get("encoders")
        assert "lies" not in str(told) and not {"facts", "cpu_milli", "memory_bytes", "slots"} & set(told)
        listed = next(line for line in farm.ctl("nodes", "list").stdout.splitlines() if line.startswith("liar "))
        assert listed.split() == ["liar", "unheard", *"-------"], "what it offers is not known"
        assert " 0" not in farm.ctl("nodes", "describe", "liar").stdout
        words = ("--scenario", "probe", "--input", "loot:in.mov", "--output", "media:loot.json")
        answer = farm.ctl("jobs", "submit", *words)
        assert answer.returncode != 0 and "is in no media root that a node announces" in answer.stderr, answer
        liar.come_in(address="127.9.9.9", capacity=capacity)
        until("its word to count", lambda: farm.get("/v1/nodes/liar").get("roots"))


def test_p12_only_the_node_that_has_an_attempt_speaks_for_it(farm: Farm) -> None:
    job = paced(farm, "mine.mp4")
    until("the job to run", lambda: farm.state(job) == "running")
    uuid, output = farm.job(job)["uuid"], Fingerprint(1, "0" * 64)
    failure = wire.Failure("input_error", False, "forged")
    with rogue(farm, "forger") as forger:
        forger.come_in(address="127.9.9.8", capacity=msgspec.structs.replace(CAPACITY, slots=0))
        at = (uuid, 1)
        forger.say(wire.Accepted(forger.session, *at))
        forger.say(wire.Refused(forger.session, *at, "forged", failure))
        forger.say(wire.PublishRequest(forger.session, *at, 1, output))
        assert forger.wait_for(wire.Deny).detail == "no such attempt"
        for item, message in (
            ("p", wire.Published(forger.session, "p", *at, 1, output, Results(output_bytes=1))),
            ("n", wire.NotPublished(forger.session, "n", *at, 1, "forged", failure)),
            ("e", wire.Ended(forger.session, "e", *at, "failed", failure)),
        ):
            forger.say(message)
            assert forger.wait_for(wire.Ack).item == item
        forger.say(wire.Settled(forger.session, *at, output))
        forger.beat(wire.AttemptReport(uuid, job, 1, "ended"))
        assert forger.wait_for(wire.Order).want == "discard"
        assert farm.state(job) == "running"
    assert farm.api("DELETE", "/v1/nodes/forger?force=1")[0] == 200
    ended = farm.wait(job, "completed")
    assert (ended["attempt"], ended["node"]) == (1, "a")
    assert not [row for row in farm.history(job) if "forge" in str(row)]


def test_a_node_is_told_of_when_it_is_enrolled_and_a_guarded_disk_when_it_takes_no_job(farm: Farm) -> None:
    log = farm.folder / "master.log"
    assert log.read_text().count("node a is enrolled, with the key ") == 1
    tight = farm.start_agent("tight", "--disk-free", "1000TiB", "--label", "tight")
    words = ("--scenario", "probe", "--input", "media:in.mkv", "--output")
    job = farm.submit(*words, "media:tight.json", "--label", "tight")
    until("the guard to be told", lambda: tight.said(f"attempt {job}.1 is refused: {farm.media}: "))
    assert tight.said("must stay free [attempt=")
    farm.ctl("jobs", "cancel", str(job), check=True)
    assert tight.stop() == 0
    assert farm.master is not None and farm.master.stop() == 0
    guarded = farm.start_master("--disk-free", "1000TiB")
    for _ in range(3):
        assert farm.ctl("jobs", "submit", *words, "media:full.json").returncode != 0
    assert guarded.said("no job is taken: ") and log.read_text().count("no job is taken: ") == 1


def test_a_pace_allows_some_at_once_and_then_one_after_the_other() -> None:
    now_s = 100.0
    pace = Pace(3, 1.0, lambda: now_s, known_most=2)
    assert [pace.allows("a") for _ in range(5)] == [True] * 3 + [False] * 2
    assert pace.allows("b"), "each for itself"
    now_s += 1.0
    assert [pace.allows("a") for _ in range(2)] == [True, False]
    now_s += 60.0
    assert [pace.allows("a") for _ in range(4)] == [True] * 3 + [False]
