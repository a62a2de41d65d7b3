"""What must be true when all is quiet again, in the manner of Jepsen's total-queue: what went in came out, once and whole.

It reads three things that know nothing of each other: the observer's notes, the master's store, and the file system.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections import Counter
from collections.abc import Iterator
from http.client import HTTPException
from pathlib import Path
from typing import Any

from chaos.observer import ENDED, Ask, Notes
from chaos.site import AGENTS, Site
from whole.scene import attempt_folders, decodes, replay

from daemons import until
from ffrtmp.farm.job import IllegalTransition, State, check

LENGTH_TOLERANCE_S = 0.5


def at_rest(site: Site, deadline_s: float) -> None:
    """Wait until every job has ended and no process and no draft of one is left; fails with what is still there."""

    def open_jobs() -> list[Any]:
        site.tend()
        try:
            return list(site.get("/v1/jobs?state=open&limit=50")["items"])
        except (OSError, HTTPException, AssertionError) as error:
            return [f"the master is not ready: {error}"]

    try:
        until("the last job to end", lambda: not open_jobs(), deadline_s)
        until("the last process of a job to end", lambda: not site.job_processes(), 60)
        until("the drafts to be cleared", lambda: not drafts(site), 60)
        until("the attempts to be forgotten", lambda: not attempt_folders(site), 60)
    except AssertionError as error:
        left = [str(one) for one in (*open_jobs(), *site.job_processes(), *drafts(site), *attempt_folders(site))]
        raise AssertionError("\n".join([str(error), *left])) from None


def roots(site: Site) -> list[Path]:
    """All media roots."""
    return [site.media, *(site.own_media(name) for name in AGENTS)]


def drafts(site: Site) -> list[Path]:
    """What attempts have left of unpublished outputs."""
    return [path for root in roots(site) for path in (root / ".ffrtmp").glob("*") if path.name != "root-id"]


def wrongs(site: Site, notes: Notes) -> list[str]:
    """Everything that is not as it must be, in words; stops the master. `at_rest` goes before."""
    jobs = _jobs(site)
    crashed = [f"{count} calls were answered with 500" for count in [notes.counts["answers 500"]] if count]
    found = [*notes.wrong, *crashed, *_queue(notes, jobs), *_outputs(site, notes, jobs)]
    for number in jobs:
        found += [f"job {number}: {fault}" for fault in _timeline(site, number)]
    replay(site)  # fails by itself
    found += _store(site, jobs)
    return found


def _jobs(site: Site) -> dict[int, dict[str, Any]]:
    jobs: dict[int, dict[str, Any]] = {}
    after = ""
    while True:
        page = site.get(f"/v1/jobs?order=oldest&limit=200{after and f'&after={after}'}")
        jobs |= {int(item["job"]): item for item in page["items"]}
        after = page.get("next", "")
        if not after:
            return jobs


def _queue(notes: Notes, jobs: dict[int, dict[str, Any]]) -> Iterator[str]:
    """Accepted = ended; nothing was accepted twice, and nothing is there that nobody asked for."""
    numbers = Counter(ask.number for ask in notes.asks if ask.number)
    for number, times in numbers.items():
        if times > 1:
            yield f"job {number} was the answer to {times} submissions"
        if number not in jobs:
            yield f"job {number} was answered and is lost"
        elif jobs[number]["state"] not in ENDED:
            yield f"job {number} is still {jobs[number]['state']}"
    for ask in notes.asks:
        job = jobs.get(ask.number)
        if ask.refused:
            yield f"{ask.key} was refused: {ask.refused}"
        if job and ask.told and job["state"] != ask.told:
            yield f"job {ask.number} was told to be {ask.told} and is {job['state']}"
        if job and ask.cancel and job["state"] != "canceled":
            yield f"job {ask.number}: its cancel was taken, and it is {job['state']}"
    phantoms = set(jobs) - set(numbers)
    unanswered = sum(1 for ask in notes.asks if not ask.number and not ask.refused)
    if len(phantoms) > unanswered:
        yield f"jobs {sorted(phantoms)} were not asked for"


def _outputs(site: Site, notes: Notes, jobs: dict[int, dict[str, Any]]) -> Iterator[str]:
    """A completed job's output is at its place and whole; no other job has one; nothing else is there."""
    wanted: set[Path] = set()
    judged: dict[str, str] = {}
    for ask in notes.asks:
        state = jobs.get(ask.number, {}).get("state", "")
        if state == "completed":
            wanted.add(ask.output)
            yield from (f"job {ask.number}: {fault}" for fault in _whole(ask, judged))
        elif ask.output.exists():
            yield f"job {ask.number} is {state} and has an output"
    for root in roots(site):
        there = {path for path in root.rglob("*") if path.is_file() and ".ffrtmp" not in path.parts}
        strangers = [path for path in there - wanted if not path.name.startswith(("film", "filler"))]
        yield from (f"{path} is nobody's output" for path in strangers)


def _whole(ask: Ask, judged: dict[str, str]) -> Iterator[str]:
    """Decode an output, but each content only once."""
    if not ask.output.exists():
        yield f"its output is not at {ask.output}"
        return
    content = hashlib.sha256(ask.output.read_bytes()).hexdigest() + f" {ask.length_s}"
    if content not in judged:
        try:
            length_s = decodes(ask.output)
            right = abs(length_s - ask.length_s) < LENGTH_TOLERANCE_S
            judged[content] = "" if right else f"its output is {length_s:g} s long instead of {ask.length_s:g} s"
        except AssertionError as error:
            judged[content] = f"its output does not decode: {error}"
    if judged[content]:
        yield judged[content]


def _timeline(site: Site, number: int) -> Iterator[str]:
    """Each step is in the table of transitions, follows the one before, and the end comes once."""
    rows = site.history(number)
    state: str | None = None
    for row in rows:
        before, after = row.get("before"), row["after"]
        if before is not None and state is not None and before != state:
            yield f"row {row['seq']} goes on from {before} after {state}"
        if after != state:
            try:
                check(State(state) if state else None, State(after))
            except IllegalTransition as error:
                yield f"row {row['seq']}: {error}"
            if state in ENDED:
                yield f"row {row['seq']}: {state} was the end, and {after} came after it"
        state = after
    if state not in ENDED:
        yield f"its history ends with {state}"
    granted = [row["attempt"] for row in rows if row["kind"] == "granted"]
    if state == "completed" and not granted:
        yield "it was completed without a grant"


def _store(site: Site, jobs: dict[int, dict[str, Any]]) -> Iterator[str]:
    """The stopped master's database holds what its API told, and nothing is wrong with the file."""
    with sqlite3.connect(site.folder / "master" / "farm.db") as database:
        (verdict,) = database.execute("PRAGMA integrity_check").fetchone()
        if verdict != "ok":
            yield f"the database: {verdict}"
        (count,) = database.execute("SELECT count(*) FROM jobs").fetchone()
        if count != len(jobs):
            yield f"the database has {count} jobs, and the API told {len(jobs)}"


def ends(site: Site) -> Counter[str]:
    """How many jobs are in which state."""
    return Counter(str(job["state"]) for job in _jobs(site).values())
