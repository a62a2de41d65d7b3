"""How long things take with default settings, on the same kind of network: measured anew in each run, beside its goal.

What is measured is what a user sees: by the API, by the jobs' history, and by calls that are made one after the other.
A goal that is missed is told, and fails nothing: others may use the machine. What takes over a minute fails.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from chaos.site import AGENTS, Site
from whole.scene import one_history

from daemons import until

CALL_PAUSE_S = 0.02
DEFAULTS = {
    "heartbeat": "2s",
    "heartbeat_live": "1s",
    "lost_after": "15s",
    "lost_after_live": "5s",
    "self_doubt": "10s",
    "reconnect_grace": "20s",
    "grant_ttl": "10s",
    "accept_timeout": "5s",
}


@dataclass(frozen=True, slots=True)
class Measure:
    """One figure in seconds and what it should be; goal 0: none was set."""

    what: str
    seconds: float
    goal_s: float = 0.0

    def line(self) -> str:
        """For the record."""
        missed = ": MISSED" if self.seconds > self.goal_s else ""
        goal = f" (goal {self.goal_s:g} s{missed})" if self.goal_s else ""
        return f"{self.what}: {self.seconds:.2f} s{goal}"


def measures(folder: Path, seed: int) -> Iterator[Measure]:
    """All figures, one after the other, on one farm; AssertionError where one does not come."""
    with Site(folder, seed, **DEFAULTS) as site:
        site.up()
        yield from _restarts(site)
        yield from _dead_host(site)
        yield from _partition(site)


def _restarts(site: Site) -> Iterator[Measure]:
    """The longest time without an answer while the master is stopped in order and started again, and killed and so on."""
    for how in ("stopped", "killed"):
        yield Measure(f"no answer of the API, master {how} and started again", _gap_s(site, how), 2.0)
        until("all agents", site.all_ready)  # all is as before, the grace for silent nodes too


def _gap_s(site: Site, how: str) -> float:
    """End the master and start it at once, and call until it answers; the seconds between the last answer and the next."""
    assert site.get("/v1/queues")
    last_s = time.monotonic()
    if how == "killed":
        site.daemon("m").kill()
    else:
        site.daemon("m").stop()
    site.master_up(wait=False)
    until("the API to answer", lambda: _answers(site))
    return time.monotonic() - last_s


def _answers(site: Site) -> bool:
    try:
        return site.api("GET", "/v1/jobs?limit=1")[0] == 200
    except OSError:
        time.sleep(CALL_PAUSE_S)
        return False


# The goal of 8 s for live work is one for live kinds of jobs, which are noticed by `lost_after_live`. There is none yet:
# a file job in the live queue goes by `lost_after`, as any other.
def _dead_host(site: Site) -> Iterator[Measure]:
    """Kill a host with a job: when the node is told to be lost, and when the job runs on another."""
    job = _copying(site, "dead")
    until("the job to get on", lambda: (site.job(job).get("progress") or {}).get("out_time_s", 0.0) > 0)
    dead = site.job(job)["node"]
    died_s = time.time()
    site.wanted.discard(dead)
    site.kill_host(dead)
    until("the node to be lost", lambda: site.get(f"/v1/nodes/{dead}")["state"] == "lost")
    yield Measure("a dead host is noticed", time.time() - died_s)
    site.wait(job, "completed")
    rows = one_history(site, job)
    again = next(row for row in rows if row["attempt"] == 2 and row["after"] == "running")
    yield Measure("its job runs elsewhere", _at_s(again["at"]) - died_s, 20.0)
    site.agent_up(dead)


def _partition(site: Site) -> Iterator[Measure]:
    """Part all agents from the master, let jobs gather, and see how soon one of them runs when the parting ends."""
    site.net.rules(site.net.both_ways(["m"], AGENTS, cut=True))
    until("nobody to be in contact", lambda: not any(node["state"] == "ready" for node in site.nodes()), 90)
    jobs = [_copying(site, f"backlog-{count}") for count in range(8)]
    site.net.rules({})
    ended_s = time.time()
    for job in jobs:
        site.wait(job, "completed", deadline_s=90)
    starts = sorted(
        next(_at_s(row["at"]) for row in site.history(job) if row["after"] == "running") - ended_s for job in jobs
    )
    yield Measure("the first job of the backlog runs after a partition", starts[0])
    yield Measure("all 8 of them run", starts[-1])


def _copying(site: Site, name: str) -> int:
    """Submit a copy of the short film at its own pace."""
    words = ("-re", "-i", "{input}", "-c", "copy", "{output}")
    return site.run("media:film4.mkv", f"media:{name}.mp4", *words)


def _at_s(at: str) -> float:
    return datetime.fromisoformat(at).timestamp()
