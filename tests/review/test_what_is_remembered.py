"""What a master must still know of an attempt when its grant, its node or its own memory is gone."""

from __future__ import annotations

import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from review.rogue import Rogue, rogue

from daemons import BIN, Farm, until
from ffrtmp import wire
from ffrtmp.spec import Fingerprint

PRINT = Fingerprint(12345, "ab" * 32)


def handed_out(farm: Farm, node: Rogue, output: str) -> wire.Assign:
    """A job that this node has taken."""
    number = farm.submit("--scenario", "720p-h264", "--output", f"media:{output}")
    assign = node.take()
    assert assign.job == number
    until("the job to run", lambda: farm.state(number) == "running")
    return assign


def test_p3_a_later_attempt_is_told_what_an_earlier_one_may_have_published(tmp_path: Path) -> None:
    with Farm(tmp_path, lost_after="30s", accept_timeout="30s") as farm:
        farm.start_master()
        with rogue(farm, "first") as first:
            first.come_in()
            assign = handed_out(farm, first, "out.mp4")
            assert assign.granted == ()
            first.say(wire.PublishRequest(first.session, assign.uuid, assign.attempt, 1, PRINT))
            first.wait_for(wire.Grant)
            assert farm.api("DELETE", "/v1/nodes/first?force=1")[0] == 200
        with rogue(farm, "second") as second:
            second.come_in(address="127.9.9.8")
            again = second.wait_for(wire.Assign)
            assert (again.uuid, again.attempt, again.granted) == (assign.uuid, 2, (PRINT,))


def test_p1_a_forgotten_job_is_adopted_although_somebody_has_asked_for_its_output_again(tmp_path: Path) -> None:
    with Farm(tmp_path, lost_after="30s", accept_timeout="30s") as farm:
        farm.start_master()
        backup = tmp_path / "master" / "backups" / "old"
        with rogue(farm) as node:
            node.come_in()
            assert farm.api("POST", "/v1/db/backup", {"path": str(backup)})[0] == 201
            assign = handed_out(farm, node, "out.mp4")
            seen = wire.Seen(assign.lineage, assign.turn + 5, assign.job)
            farm.master.signal(15)  # type: ignore[union-attr]
            until("the master's end", lambda: not farm.master.alive)  # type: ignore[union-attr]
            restore = [str(BIN / "ffrtmp-master"), "--state-dir", str(tmp_path / "master"), "--restore", str(backup)]
            subprocess.run(restore, check=True, capture_output=True)
            farm.start_master()
            node.session = 0
            until("a connection", lambda: node.link.receive() or node.link.connection, 30)
            welcome = node.come_in(attempts=node.runs, seen=seen)
            assert [d.action for d in welcome.directives] == ["offer"]
            other = farm.submit("--scenario", "720p-h264", "--output", "media:out.mp4")
            offer = (assign.uuid, assign.job, assign.attempt, assign.spec, assign.queue, assign.priority)
            node.say(wire.AdoptionOffer(node.session, *offer))
            order = node.wait_for(wire.Order)
            assert (order.uuid, order.attempt, order.want) == (assign.uuid, assign.attempt, "run")
            assert farm.state(other) != "failed"
            assert farm.job(assign.job)["uuid"] == assign.uuid
            assert farm.state(assign.job) == "running"


def test_p12_two_backups_at_a_time_to_one_place_make_one(tmp_path: Path) -> None:
    with Farm(tmp_path) as farm:
        farm.start_master()
        (tmp_path / "master" / "backups").mkdir()
        target = tmp_path / "master" / "backups" / "b"
        with ThreadPoolExecutor(6) as callers:
            calls = [callers.submit(farm.api, "POST", "/v1/db/backup", {"path": str(target)}) for _ in range(6)]
            assert sorted(call.result()[0] for call in calls) == [201] + [409] * 5
        taken = target.with_name("c.logs")
        taken.write_text("something else")
        assert farm.api("POST", "/v1/db/backup", {"path": str(target.with_name("c"))})[0] == 409
        assert taken.read_text() == "something else"


def test_a_node_that_refuses_again_and_again_is_asked_less_and_less(tmp_path: Path) -> None:
    with Farm(tmp_path, lost_after="60s") as farm:
        farm.start_master()
        with rogue(farm) as node:
            node.come_in()
            number = farm.submit("--scenario", "720p-h264", "--output", "media:out.mp4")
            assign = node.wait_for(wire.Assign)
            node.say(wire.Refused(node.session, assign.uuid, assign.attempt, "its disk is full"))
            again = node.wait_for(wire.Assign)
            assert again.attempt == 2
            node.say(wire.Refused(node.session, again.uuid, again.attempt, "its disk is full\n\x1b[31m"))
            until("the second refusal", lambda: farm.history(number)[-1]["kind"] == "refused")
            assert farm.history(number)[-1]["text"] == "rogue: its disk is full  [31m"
            assert "refused" in farm.get(f"/v1/jobs/{number}/why")["nodes"]["rogue"]
