"""The edges of a job's life that crashes of a single program do not take: what users ask for, nodes that are lost and come
back, nodes whose disk hangs, a master that was put back to a backup. All with real daemons.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import pytest
from faults.ledger import Ledger
from faults.neighbour import Neighbour
from faults.story import Story, out_time_s

from daemons import until
from ffrtmp import wire

pytestmark = pytest.mark.timeout(300)
Tell = Callable[..., Story]


@pytest.fixture
def tell(tmp_path: Path, ledger: Ledger, request: pytest.FixtureRequest) -> Tell:
    """A story with these times."""
    return lambda **times: Story(tmp_path, ledger, request.node.name, **times)


def test_p1_users_hold_release_and_cancel_jobs_that_wait_and_that_run(tell: Tell):
    with tell() as story:
        farm = story.farm
        farm.start_master()
        story.agent("a")
        lonely = {"scenario": "720p-h264", "output": "media:x.mp4", "labels": ["nowhere"], "strict": True}
        status, answer = farm.api("POST", "/v1/jobs", lonely)
        assert (status, answer["items"][0]["state"]) == (201, "rejected")

        farm.ctl("queues", "pause", "batch", check=True)
        first, second = story.copy("short", "--queue", "batch"), story.copy("short", "--queue", "batch")
        story.ask("pause", first, second)
        story.ask("resume", first)
        assert farm.state(first) == "queued"
        story.ask("cancel", first, second)
        assert [farm.state(first), farm.state(second)] == ["canceled", "canceled"]

        (farm.media / "text.mp4").write_text("no film at all\n" * 1000)
        (farm.media / "way-out.mkv").symlink_to("/etc/hostname")
        text = farm.run("media:text.mp4", "media:t.mkv", "-i", "{input}", "{output}")
        out = farm.run("media:way-out.mkv", "media:w.mkv", "-i", "{input}", "{output}")
        slow = story.copy("long", "--time", "1s")
        farm.wait(text, "failed")
        farm.wait(out, "failed")
        assert story.took(out, "assigned", "failed")
        farm.wait(slow, "timed_out")

        third, fourth = story.copy(), story.copy()
        story.paused(third, fourth)
        story.ask("cancel", third)
        story.ask("resume", fourth)
        farm.wait(fourth, "running")
        story.ask("cancel", fourth)
        farm.wait(third, "canceled")
        farm.wait(fourth, "canceled")


def test_p8_attempts_end_while_their_jobs_are_paused(tell: Tell):
    with tell(backoff="30s") as story:
        farm = story.farm
        farm.start_master()
        story.agent("a")
        final, again, whole = story.copy("long", "--max-retries", "0"), story.copy(), story.copy("short")
        slow = story.copy("long", "--time", "4s")
        story.paused(whole, slow, final, again)
        story.kill_guard(final)
        story.kill_guard(again)
        farm.wait(final, "failed")
        until("the held job to be tried again later", lambda: story.took(again, "paused", "retrying"))
        story.ask("cancel", again)
        assert farm.state(again) == "canceled"
        story.continue_by_hand(whole, "completed")
        story.continue_by_hand(slow, "timed_out")
        for job, end in ((final, "failed"), (again, "retrying"), (whole, "completed"), (slow, "timed_out")):
            assert story.took(job, "paused", end)


def test_p8_attempts_end_while_their_jobs_wait_for_room_to_go_on(tell: Tell):
    # A node that a busy machine makes lost for a moment would have its jobs start anew, and there is no room for them.
    with tell(backoff="30s", lost_after="8s") as story:
        farm = story.farm
        farm.start_master()
        story.agent("a", slots=1)

        def next_one(film: str, *words: str) -> int:
            job = story.copy(film, *words)
            story.paused(job)
            return job

        whole, slow = next_one("short"), next_one("long", "--time", "4s")
        final, again, dropped = next_one("long", "--max-retries", "0"), next_one("long"), next_one("long")
        held, ended, left = next_one("long"), next_one("long"), next_one("long")
        story.running(story.copy())  # takes the only slot
        story.ask("resume", whole, slow, final, again, dropped, held, ended, left)
        assert farm.state(left) == "resuming"
        story.ask("pause", held)
        assert farm.state(held) == "paused"
        story.ask("cancel", ended)
        farm.wait(ended, "canceled")
        for job in (final, again, dropped):
            story.kill_guard(job)
        farm.wait(final, "failed")
        farm.wait(again, "retrying")
        farm.wait(dropped, "retrying")
        story.ask("pause", again)
        story.ask("cancel", dropped)
        assert [farm.state(again), farm.state(dropped)] == ["paused", "canceled"]
        story.continue_by_hand(whole, "completed")
        story.continue_by_hand(slow, "timed_out")
        ends = ((whole, "completed"), (slow, "timed_out"), (final, "failed"), (again, "retrying"), (ended, "canceling"))
        for job, end in ends:
            assert story.took(job, "resuming", end)

        story.silence("a")
        farm.wait(left, "queued")
        story.ask("cancel", left)
        assert farm.state(left) == "canceling"
        story.voice("a")
        farm.wait(left, "canceled")


def test_p4_a_lost_node_comes_back_while_its_jobs_wait(tell: Tell):
    with tell() as story:
        farm = story.farm
        farm.start_master()
        story.agent("a")
        moving, standing = story.copy(), story.copy()
        story.running(moving)
        story.paused(standing)
        story.silence("a")
        farm.wait(moving, "queued")
        assert farm.state(standing) == "paused"
        story.ask("resume", standing)
        farm.wait(standing, "queued")
        story.voice("a")
        farm.wait(moving, "running")
        farm.wait(standing, "running")
        assert story.took(moving, "queued", "running")
        assert story.took(standing, "queued", "resuming")


def test_p4_a_lost_node_comes_back_while_its_jobs_are_being_handed_out_anew(tell: Tell):
    """The second node's disk hangs, so it is in contact and accepts nothing."""
    with tell(accept_timeout="4s") as story:
        farm = story.farm
        farm.start_master()
        story.agent("a")
        moving, standing = story.copy(), story.copy()
        story.running(moving)
        story.paused(standing)
        disk = story.watched_agent("b")
        disk.hold("fsync")
        story.silence("a")
        story.ask("resume", standing)
        farm.wait(moving, "assigned")
        farm.wait(standing, "assigned")
        late = story.copy()
        farm.wait(late, "assigned")
        story.voice("a")
        farm.wait(moving, "running")
        farm.wait(standing, "running")
        assert story.took(moving, "assigned", "running")
        assert story.took(standing, "assigned", "resuming")
        until("an offer that nobody takes to run out", lambda: story.took(late, "assigned", "queued"))
        disk.release()


def test_p5_jobs_are_canceled_and_nodes_are_lost_while_they_are_handed_out(tell: Tell):
    with tell(accept_timeout="20s") as story:
        farm = story.farm
        farm.start_master()
        disk = story.watched_agent("a")
        disk.hold("fsync")
        unwanted, strict = story.copy(), story.copy("long", "--on-disconnect", "stop")
        farm.wait(unwanted, "assigned")
        farm.wait(strict, "assigned")
        story.ask("cancel", unwanted)
        assert farm.state(unwanted) in ("canceling", "canceled")
        story.silence("a")
        farm.wait(strict, "retrying")
        story.voice("a")
        disk.release()
        farm.wait(unwanted, "canceled")
        farm.wait(strict, "running")
        assert story.took(strict, "assigned", "retrying")


def test_p8_the_successor_of_a_doubted_attempt_fails_and_the_verdict_waits(tell: Tell):
    with tell(doubt_patience="8s") as story:
        farm = story.farm
        farm.start_master()
        story.agent("a")
        once = ("--max-retries", "0")
        alive, standing, ahead = story.copy("long", *once), story.copy("long", *once), story.copy("long", *once)
        unwanted, gone, slow = story.copy("long", *once), story.copy("long", *once), story.copy("long", "--time", "5s")
        jobs = (alive, standing, ahead, unwanted, gone, slow)
        story.running(*jobs)
        until("the one to be ahead", lambda: out_time_s(farm, ahead) > 2)
        story.paused(standing, ahead)
        story.silence("a")
        story.ask("resume", standing, ahead)
        story.agent("b")
        for job in jobs:
            until(f"job {job} to be elsewhere", lambda job=job: farm.job(job)["attempt"] == 2)
            farm.wait(job, "running")
        story.suspend_engine(ahead)
        story.kill_guard(gone)
        farm.wait(gone, "retrying")
        farm.wait(slow, "retrying")
        farm.wait(gone, "failed")
        farm.wait(slow, "timed_out")
        for job in (alive, standing, unwanted):
            story.kill_guard(job)
            farm.wait(job, "retrying")
        story.ask("cancel", unwanted)
        assert farm.state(unwanted) == "canceling"
        story.voice("a")
        farm.wait(unwanted, "canceled")
        for job, way in ((alive, "running"), (standing, "resuming")):
            until(f"retrying -> {way}", lambda job=job, way=way: story.took(job, "retrying", way))
        until("running -> resuming", lambda: story.took(ahead, "running", "resuming"))


def test_p1_a_master_put_back_adopts_what_runs_and_hears_what_was_published(tell: Tell):
    with tell(grant_ttl="20s", reconnect_grace="20s") as story:
        farm = story.farm
        farm.start_master()
        agent = story.watched_agent("a")
        known = story.copy("short")
        story.running(known)
        backup = story.backup()
        forgotten = story.copy("long")
        uuid = farm.job(forgotten)["uuid"]
        story.running(forgotten)
        agent.hold("renameat2")
        until("the output to be about to be put at its place", lambda: agent.holds)
        story.put_back(backup, lambda: farm.agents["a"].signal(19))
        story.ask("cancel", known)
        assert farm.state(known) == "canceling"
        story.voice("a")
        story.ready("a")
        until("the forgotten job to be adopted", lambda: farm.api("GET", f"/v1/jobs/{uuid}")[0] == 200)
        agent.release()
        farm.wait(known, "completed")
        assert (farm.media / "1.mkv").exists()
        assert story.took(farm.job(uuid)["job"], None, "running")


def test_p1_an_attempt_ends_of_which_nothing_was_heard_before(tell: Tell, tmp_path: Path):
    with tell(accept_timeout="30s") as story:
        farm = story.farm
        farm.start_master()
        root = wire.RootFact("media", str(uuid4()), str(farm.media))
        with Neighbour(tmp_path / "neighbour", farm.socket, root) as node:
            for says, state in ((node.published, "completed"), (node.timed_out, "timed_out")):
                made = ["--generate", "64x64@5:1", "--output", f"media:{state}.mp4"]
                job = farm.submit("--scenario", "720p-h264", *made)
                says(node.takes())
                farm.wait(job, state)
                assert story.took(job, "assigned", state)
