"""P12: a node that is admitted and says nonsense harms nobody but itself."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from review.rogue import CAPACITY, Rogue, rogue

from daemons import Farm, until
from ffrtmp import wire
from ffrtmp.spec import Fingerprint, Progress, Results

UUID = "11111111-1111-4111-8111-111111111111"
FAR = 1 << 63


@pytest.fixture(scope="module")
def farm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Farm]:
    with Farm(tmp_path_factory.mktemp("farm"), lost_after="30s", accept_timeout="30s") as farm:
        farm.start_master()
        yield farm


@pytest.fixture(scope="module")
def node(farm: Farm) -> Iterator[Rogue]:
    with rogue(farm) as node:
        node.come_in(capacity=msgspec.structs.replace(CAPACITY, cpu_milli=100_000, slots=100))
        yield node


def given_job(farm: Farm, node: Rogue, output: str) -> wire.Assign:
    """A job that is handed out to the node and accepted by it."""
    number = farm.submit("--scenario", "720p-h264", "--output", f"media:{output}")
    assign = node.take()
    assert assign.job == number
    until("the job to run", lambda: farm.state(number) == "running")
    return assign


def works(farm: Farm) -> bool:
    """Whether something can still be committed."""
    status, answer = farm.api("POST", "/v1/queues/batch/resume")
    assert farm.master is not None and farm.master.alive
    return status == 200 and answer["detail"] == "queue batch is open"


def test_p12_a_log_chunk_at_a_place_beyond_all_numbers_ends_nothing(farm: Farm, node: Rogue) -> None:
    assign = given_job(farm, node, "chunks.mp4")
    for offset in (FAR, FAR - 1, -1, -FAR):
        node.say(wire.LogChunk(node.session, assign.uuid, assign.attempt, offset, b"nonsense"))
    node.say(wire.LogChunk(node.session, assign.uuid, assign.attempt, 0, b"a line\n"))
    until("the log", lambda: farm.log(assign.job) == "a line\n")
    assert works(farm)


@pytest.mark.parametrize(
    "fields",
    [
        {"incarnation": FAR},
        {"address": "x" * 70_000},
        {"address": "10.0.0.1\n2026 error: all is lost"},
        {"capacity": msgspec.structs.replace(CAPACITY, cpu_milli=FAR)},
        {"capacity": msgspec.structs.replace(CAPACITY, labels=tuple(map(str, range(100))))},
        {"capacity": msgspec.structs.replace(CAPACITY, encoders=tuple(map(str, range(9000))))},
        {"seen": wire.Seen("elsewhere", 1, FAR)},
    ],
    ids=["starts", "long address", "address of two lines", "cores", "labels", "encoders", "job number"],
)
def test_p12_a_hello_that_cannot_be_is_refused_and_nobody_else_is(farm: Farm, fields: dict[str, object]) -> None:
    with rogue(farm, "absurd") as other:
        other.say(other.hello(**fields))
        assert other.wait_for(wire.Sorry).status == 400
        assert works(farm)
    assert farm.api("DELETE", "/v1/nodes/absurd?force=1")[0] == 200


def test_p12_numbers_that_the_store_cannot_hold_spoil_no_turn(farm: Farm, node: Rogue) -> None:
    assign = given_job(farm, node, "numbers.mp4")
    huge = Fingerprint(FAR, "0" * 64)
    for message in (
        wire.PublishRequest(node.session, assign.uuid, assign.attempt, FAR, Fingerprint(1, "0" * 64)),
        wire.PublishRequest(node.session, assign.uuid, assign.attempt, 1, huge),
        wire.PublishRequest(node.session, assign.uuid, assign.attempt, 1, Fingerprint(1, "0" * 100_000)),
        wire.Published(node.session, "i", assign.uuid, assign.attempt, 1, huge, Results()),
        wire.Accepted(node.session, assign.uuid, FAR),
    ):
        node.say(message)
        assert works(farm)
    assert farm.state(assign.job) == "running"


def test_p12_progress_that_is_no_number_breaks_no_list(farm: Farm, node: Rogue) -> None:
    assign = given_job(farm, node, "nan.mp4")
    for value in (float("nan"), float("inf")):
        node.beat(
            wire.AttemptReport(assign.uuid, assign.job, assign.attempt, "running", "encoding", Progress(value, value)),
            load=(value, value, value),
        )
    assert works(farm)
    assert farm.ctl("jobs", "list").returncode == 0
    assert farm.ctl("nodes", "list").returncode == 0


def test_p12_a_node_changes_nothing_of_another_nodes_job(farm: Farm, node: Rogue) -> None:
    assign = given_job(farm, node, "mine.mp4")
    with rogue(farm, "other") as other:
        other.come_in(address="127.9.9.8")
        other.beat(
            wire.AttemptReport(
                assign.uuid, assign.job, assign.attempt, "running", "encoding", Progress(out_time_s=99.0)
            )
        )
        other.say(wire.Ended(other.session, "x", assign.uuid, assign.attempt, "failed"))
        other.say(wire.LogChunk(other.session, assign.uuid, assign.attempt, 0, b"forged"))
        other.wait_for(wire.Ack)
        assert farm.state(assign.job) == "running"
        assert (farm.job(assign.job).get("progress") or {}).get("out_time_s", 0.0) != 99.0
        assert farm.log(assign.job) == ""
    assert farm.api("DELETE", "/v1/nodes/other?force=1")[0] == 200


def test_p12_what_a_tool_said_is_one_bounded_line_wherever_it_is_shown(farm: Farm, node: Rogue) -> None:
    assign = given_job(farm, node, "words.mp4")
    line = "bad\x1b[2J\nline " + "x" * 60_000
    failure = wire.Failure("input_error", False, line, "hint\x07")
    node.say(wire.Ended(node.session, f"{assign.uuid}.1.ended", assign.uuid, assign.attempt, "failed", failure))
    job = farm.wait(assign.job, "failed")
    assert job["failure"]["line"].startswith("bad [2J line xxx")
    assert len(job["failure"]["line"]) <= 2000
    assert job["failure"]["hint"] == "hint"


@pytest.mark.parametrize("name", ["", "a b", "../x", "a\nb", "x" * 64, "ü"])
def test_p12_a_name_that_cannot_stand_in_a_path_is_no_nodes(farm: Farm, name: str) -> None:
    before = farm.nodes()
    status, answer = farm.api("POST", "/v1/nodes/enroll", {"public_key": "k" * 40, "name": name})
    assert (status, "name" in answer["detail"]) == (422, True)
    assert farm.api("POST", "/v1/nodes/enroll", {"public_key": "short", "name": "fine"})[0] == 422
    assert [n["node"] for n in farm.nodes()] == [n["node"] for n in before]


def test_a_node_that_goes_is_a_line_in_the_journal(farm: Farm) -> None:
    with rogue(farm, "brief") as brief:
        brief.come_in(address="127.9.9.7")
        assert farm.api("DELETE", "/v1/nodes/brief?force=1")[0] == 200
    log = Path(farm.folder / "master.log")
    until("the line", lambda: "node brief is removed [node=brief]" in log.read_text())
