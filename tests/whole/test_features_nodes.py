"""Feature 6: a node is there once. And what an operator sees of nodes and does with them."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import psutil
import pytest
from whole.pace import lay_clip, paced
from whole.scene import engines, out_time_s

from daemons import BIN, Daemon, Farm, strace, until
from ffrtmp.errors import Exit

REFUSED = 4


def refused(agent: Daemon, *words: str) -> None:
    """The agent ended with the exit code of a refusal, and its log says 409 and these words."""
    assert agent.process.wait(30) == REFUSED
    line = next(line for line in agent.tail().splitlines() if " error " in line)
    assert "(409)" in line, line
    for word in words:
        assert word in line, line


def states(farm: Farm) -> dict[str, str]:
    """The nodes and their states."""
    return {node["node"]: node["state"] for node in farm.nodes()}


@pytest.fixture(scope="module")
def farm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Farm]:
    """A master and node a at 127.0.0.2."""
    with Farm(tmp_path_factory.mktemp("farm")) as farm:
        lay_clip(farm, 5.0)
        farm.start_master()
        farm.start_agent("a", "--allow-run")
        yield farm


def test_p9_a_second_agent_with_the_same_address_is_refused_with_409_and_told_what_to_do(farm: Farm) -> None:
    second = farm.start_agent("b", address="127.0.0.2", wait=False)
    refused(second, "127.0.0.2", "belongs to node a", "ffrtmp-agent --address HOST")
    assert second.tail().count("belongs to node a") == 1, "once is enough"
    assert "remove" not in second.tail(), "nobody is told to remove a node that is healthy"
    assert states(farm)["a"] == "ready"
    assert "409" in (farm.folder / "master.log").read_text()
    farm.start_agent("b", address="127.0.0.3")
    assert states(farm)["a"] == states(farm)["b"] == "ready"
    farm.agents["b"].stop()


def test_p9_an_ipv6_address_and_a_name_of_it_are_one_address(farm: Farm) -> None:
    farm.start_agent("six", address="::1")
    seventh = farm.start_agent("seven", address="0:0:0:0:0:0:0:1", wait=False)
    refused(seventh, "belongs to node six")
    farm.agents["six"].stop()


def test_p9_a_copied_state_folder_is_refused_with_409_while_the_first_lives(farm: Farm) -> None:
    shutil.copytree(farm.folder / "agent-a", farm.folder / "agent-copy", ignore=shutil.ignore_patterns(".*"))
    copy = farm.start_agent("copy", "--name", "a", address="127.0.0.2", wait=False)
    refused(copy, "copy of it", "ffrtmpctl nodes invite", "ffrtmp-agent join")
    assert states(farm)["a"] == "ready" and farm.agents["a"].alive
    assert [node["node"] for node in farm.nodes()].count("a") == 1


def test_p9_a_second_agent_on_one_state_folder_is_refused_by_its_lock(farm: Farm) -> None:
    second = farm.start_agent("twin", "--name", "a", wait=False, state=farm.folder / "agent-a")
    assert second.process.wait(30) == REFUSED
    assert "another agent uses the state folder" in second.tail() and "hint: " in second.tail()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_p11_a_restarted_agent_is_no_duplicate_and_finds_its_running_job(farm: Farm, number: signal.Signals) -> None:
    life = farm.get("/v1/nodes/a")["incarnation"]
    job = paced(farm, f"{number.name}.mp4")
    until("the job to get on", lambda: out_time_s(farm, job) > 0)
    engine = engines(farm, job)
    farm.agents["a"].signal(number)
    farm.agents["a"].process.wait(30)
    assert engines(farm, job) == engine, "its engine goes on without the agent"
    if number == signal.SIGTERM:
        tells_of_the_goodbye(farm, job)
    farm.start_agent("a", "--allow-run")
    assert states(farm)["a"] == "ready"
    assert farm.get("/v1/nodes/a")["incarnation"] == life + 1
    assert engines(farm, job) in (engine, [])
    assert farm.wait(job, "completed")["attempt"] == 1


def tells_of_the_goodbye(farm: Farm, job: int) -> None:
    """Node a is not called ready, and the job there is not said to be running as if nothing were."""
    until("the goodbye", lambda: states(farm)["a"] == "away")
    assert re.search(r"^a +away ", farm.ctl("nodes", "list").stdout, re.MULTILINE)
    assert "node a is away, heard " in farm.ctl("nodes", "describe", "a").stdout
    waited = farm.ctl("nodes", "list", "--wait", "--timeout", "0.3s")
    assert waited.returncode == 1 and "1 should be ready" in waited.stderr
    why = farm.ctl("jobs", "why", str(job)).stdout
    assert "attempt 1 is on a, whose agent said goodbye " in why and " is given 60 s to be back" in why


def test_nodes_are_listed_described_drained_resumed_labelled_and_removed(farm: Farm) -> None:
    view = farm.get("/v1/nodes/a")
    assert view["cpu_milli"] == 8000 and view["memory_bytes"] > 1 << 28 and view["free_memory_bytes"] > 0
    assert "libx264" in view["encoders"] and view["engines"] == ["ffmpeg"]
    assert view["facts"]["hardware"] in ("laptop", "desktop", "server") and view["facts"]["cpu_count"] > 0
    described = farm.ctl("nodes", "describe", "a", check=True).stdout
    assert "node a is ready" in described and "libx264" in described and str(farm.media) in described

    farm.ctl("nodes", "drain", "a", check=True)
    job = farm.submit("--scenario", "probe", "--input", "media:in.mkv", "--output", "media:p.json")
    assert "drained" in farm.ctl("jobs", "why", str(job)).stdout
    assert re.search(r"^a +drained ", farm.ctl("nodes", "list").stdout, re.MULTILINE)
    farm.ctl("nodes", "resume", "a", check=True)
    farm.wait(job, "completed")

    wanted = ("--scenario", "probe", "--input", "media:in.mkv", "--output", "media:l.json", "--label", "fast")
    job = farm.submit(*wanted)
    assert farm.state(job) == "queued" and "fast" in farm.ctl("jobs", "why", str(job)).stdout
    farm.ctl("nodes", "label", "a", "fast", "eu", check=True)
    farm.wait(job, "completed")
    farm.ctl("nodes", "label", "a", "--clear", check=True)
    assert farm.get("/v1/nodes/a")["labels"] == []


def test_a_node_that_is_removed_is_gone_from_the_list_and_its_key_is_refused(farm: Farm) -> None:
    gone = farm.start_agent("gone")
    held = farm.ctl("nodes", "remove", "gone", "--yes")
    assert held.returncode == REFUSED and "in contact" in held.stderr and "ffrtmpctl nodes drain gone" in held.stderr
    farm.ctl("nodes", "remove", "gone", "--force", "--yes", check=True)
    assert "gone" not in states(farm)
    until("the agent to say why it is alone", lambda: gone.said("does not admit the key"))
    assert gone.said("jobs go on; if this node was removed, stop its agent and join again: ffrtmpctl nodes invite")
    assert gone.stop() == 0
    assert farm.ctl("nodes", "describe", "gone").returncode == 3
    assert farm.start_agent("gone").stop() == 0, "a start with --register lets it in again, as its log has said"


def test_two_hosts_that_call_different_folders_media_are_told_apart_by_their_names(farm: Farm) -> None:
    own = farm.folder / "own"
    own.mkdir()
    shutil.copyfile(farm.media / "in.mkv", own / "in.mkv")
    farm.start_agent("other", media=own)
    words = ("jobs", "submit", "--scenario", "probe", "--input")
    refused = farm.ctl(*words, "media:in.mkv", "--output", "media:x.json")
    assert refused.returncode == REFUSED and "media@a:in.mkv, media@other:in.mkv" in refused.stderr
    run = farm.ctl(*words, "media@other:in.mkv", "--output", "media@other:x.json", "--wait", check=True)
    first, *_, last = run.stdout.splitlines()
    assert first.endswith("media@other:in.mkv -> media@other:x.json") and "completed: media@other:x.json" in last
    assert (own / "x.json").exists() and not (farm.media / "x.json").exists()
    assert "media@other:x.json" in farm.ctl("jobs", "list").stdout
    hint = farm.ctl(*words, "elsewhere:in.mkv").stderr
    assert f"media@a ({farm.media}), media@other ({own})" in hint and "ROOT@NODE:path" in hint
    farm.agents["other"].kill()
    farm.ctl("nodes", "remove", "other", "--force", "--yes", check=True)
    assert "media@" not in farm.ctl("jobs", "list").stdout, "without it the name has one meaning"


def test_a_job_runs_only_where_its_media_root_its_memory_and_its_cores_are(farm: Farm) -> None:
    vault = farm.folder / "vault"
    vault.mkdir()
    shutil.copyfile(farm.media / "in.mkv", vault / "in.mkv")
    farm.start_agent("keeper", "--media-root", f"vault={vault}", "--memory", "1GiB", cpu=2)
    words = ("--scenario", "probe", "--input", "vault:in.mkv", "--output")
    assert farm.wait(farm.submit(*words, "vault:a.json"), "completed")["node"] == "keeper"
    assert farm.wait(farm.submit(*words, "media:b.json"), "completed")["node"] == "keeper"
    for need in (("--memory", "2GiB"), ("--cpu", "3")):
        strict = farm.ctl("jobs", "submit", *words, "vault:c.json", *need, "--strict")
        assert strict.returncode == REFUSED and "no media root vault (to read)" in strict.stdout, strict
    farm.agents["keeper"].kill()
    until("the node to be lost", lambda: states(farm)["keeper"] == "lost")
    waits = farm.submit(*words, "vault:d.json")
    why = farm.ctl("jobs", "why", str(waits)).stdout
    assert farm.state(waits) == "queued"
    assert why.startswith("it waits for keeper, the only node that could run it") and "media root vault" in why, why
    farm.start_agent("keeper", "--media-root", f"vault={vault}", "--memory", "1GiB", cpu=2)
    farm.wait(waits, "completed")
    farm.agents["keeper"].stop()


def test_an_agent_that_is_started_before_its_master_waits_for_it(tmp_path: Path) -> None:
    with Farm(tmp_path) as farm:
        agent = farm.start_agent("early", wait=False)
        until("the agent to look for its master", lambda: agent.said("waiting for the master"))
        farm.start_master()
        until("the agent to enrol", lambda: states(farm).get("early") == "ready")


def test_another_host_joins_by_a_ticket_that_is_good_for_one_host(farm: Farm) -> None:
    invited = farm.ctl("nodes", "invite", "--name", "guest", "--address", "127.0.0.1", check=True)
    ticket = invited.stdout.split()[-1]

    def state(name: str) -> list[str]:
        return ["--state-dir", str(farm.folder / f"agent-{name}")]

    def join(name: str) -> subprocess.CompletedProcess[str]:
        words = [BIN / "ffrtmp-agent", "join", "-", "--address", "127.0.0.98", *state(name)]
        return subprocess.run(words, input=ticket + "\n", text=True, capture_output=True, check=False, timeout=60)

    joined = join("guest")
    assert joined.returncode == 0 and "this host is node guest" in joined.stdout, joined
    command = joined.stdout.splitlines()[-1].removeprefix("start the agent: ")
    assert command == " ".join(["ffrtmp-agent", *state("guest"), "--media-root", "NAME=/path/to/videos"])
    command = command.removesuffix(" --media-root NAME=/path/to/videos")  # its configuration names one
    again = join("thief")
    assert again.returncode == REFUSED and "ask for a new ticket" in again.stderr, again
    settings = farm.folder / "guest.toml"
    settings.write_text(
        f'state_dir = "/nowhere"\nrunner = "plain"\nlabels = ["guest"]\n'
        f'disk_free = "16MiB"\ndisk_free_percent = 0.1\n[media_roots]\nmedia = "{farm.media}"\n'
    )
    started = [*command.split()[1:], "--config", str(settings)]
    for more, address in (([], "127.0.0.98"), (["--address", "127.0.0.99"], "127.0.0.99")):
        guest = farm.agents["guest"] = Daemon("ffrtmp-agent", [*started, *more], farm.folder / "guest.log")
        until("the guest to be in contact", partial(guest.said, "in contact with the master"))
        assert farm.get("/v1/nodes/guest")["address"] == address
        assert not more or states(farm)["guest"] == "ready"
        assert more or guest.stop() == 0
    words = ("--scenario", "probe", "--input", "media:in.mkv", "--output", "media:guest.json", "--label", "guest")
    assert farm.wait(farm.submit(*words), "completed")["node"] == "guest"
    assert farm.agents["guest"].stop() == 0


def test_a_hub_that_an_invitation_opened_stays_open_over_restarts_until_somebody_closes_it(tmp_path: Path) -> None:
    with Farm(tmp_path) as farm:

        def listens() -> set[str]:
            master = farm.start_master()
            process = psutil.Process(master.process.pid)
            return {each.laddr.ip for each in process.net_connections("tcp") if each.status == psutil.CONN_LISTEN}

        farm.start_master().stop()  # now the harness asks for one port, always the same
        assert listens() == {"127.0.0.1"}
        farm.ctl("nodes", "invite", "--address", "127.0.0.9", check=True)
        wish = {"address": "192.0.2.7"}
        with ThreadPoolExecutor(6) as people:
            told = list(people.map(lambda _: farm.api("POST", "/v1/nodes/invite", wish), range(6)))
        assert {status for status, _ in told} == {201}, told
        assert len([answer for _, answer in told if answer.get("opened")]) == 1, "one of them opened it"
        assert farm.master is not None
        farm.master.kill()
        assert not listens() & {"127.0.0.1"}
        farm.master.stop()
        mark = farm.folder / "master" / "hub.open"
        mark.unlink()
        assert listens() == {"127.0.0.1"}
        farm.master.stop()
        mark.mkdir()
        master = farm.start_master(wait=False)
        assert master.process.wait(30) == Exit.CONFIG
        assert master.said("hub.open cannot be read: Is a directory\nhint: ") and not master.said("Traceback")


def test_a_media_root_that_hangs_while_an_agent_reloads_stops_no_heartbeat(farm: Farm) -> None:
    slow = farm.folder / "slow"
    slow.mkdir()
    settings = farm.folder / "b.toml"
    settings.write_text("")
    hanging = [*strace(farm.folder / "strace.log", "openat:delay_enter=2000000"), "-P", str(slow)]
    agent = farm.start_agent("b", "--config", str(settings), under=hanging)
    settings.write_text(f'[media_roots]\nslow = "{slow}"\n')
    agent.signal(signal.SIGHUP)
    heard_s = []

    def reloaded() -> bool:
        heard_s.append(farm.get("/v1/nodes/b")["heard_s"])
        return agent.said("reloaded")

    until("the reload", reloaded)
    assert "DELAYED" in (farm.folder / "strace.log").read_text(), "it did hang"
    assert max(heard_s) < 1.5, "it was heard all the time"
    until("the new root to be told", lambda: "slow" in farm.ctl("nodes", "describe", "b").stdout)
    settings.write_text('[media_roots]\nslow = "/nowhere"\n')
    agent.signal(signal.SIGHUP)
    until("the refusal", lambda: agent.said("not reloaded: media root slow: /nowhere is no folder"))
    with a_reload_that_hangs(agent, settings):
        settings.write_text('labels = ["mended"]\n')
        agent.signal(signal.SIGHUP)
        until("the next reload", lambda: "mended" in farm.get("/v1/nodes/b")["labels"])
    assert agent.stop() == 0


@contextmanager
def a_reload_that_hangs(agent: Daemon, settings: Path) -> Iterator[None]:
    """The agent reloads, and reads its configuration from a pipe to which nobody writes as long as the block runs."""
    settings.unlink()
    os.mkfifo(settings)
    agent.signal(signal.SIGHUP)

    def reads() -> int | None:
        with suppress(OSError):  # nobody has it open yet
            return os.open(settings, os.O_WRONLY | os.O_NONBLOCK)
        return None

    pipe = until("the reload to read", reads)
    settings.unlink()
    try:
        yield
    finally:
        os.close(pipe)


def test_load_and_free_memory_of_a_node_are_measured_again_with_its_heartbeats(farm: Farm) -> None:
    before = farm.get("/v1/nodes/a")
    until("another measure", lambda: farm.get("/v1/nodes/a")["free_memory_bytes"] != before["free_memory_bytes"])
    assert farm.get("/v1/nodes/a")["heard_s"] < 5.0
