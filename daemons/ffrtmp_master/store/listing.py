"""Pages of the list of jobs, at a cost that does not grow with the table.

Paging is by key: a page begins after a job number. One index serves the first condition that has one (state, node,
scenario, else the number itself), and the rest is looked at row by row, at most SCAN_ROWS rows a page: a condition that is
met by one job in a million gives short pages with a `next`, not a long wait. Several states are several ordered streams,
merged; a stream that stopped early bounds how far the others may be believed.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import apsw

from ..rows import JobFilter
from .database import rows
from .records import JOB_ROW_COLUMNS, JobPage, JobRow, job_row

SCAN_ROWS = 5000
PAGE_ROWS_MAX = 1000


@dataclass(slots=True)
class _Stream:
    """One ordered run through an index: the condition it follows, and those to be looked at."""

    lead: str = ""
    rest: list[str] = field(default_factory=list)
    bindings: dict[str, Any] = field(default_factory=dict)


def page(connection: apsw.Connection, wanted: JobFilter, after: int | None, limit: int, newest_first: bool) -> JobPage:
    """Jobs in the order of their numbers, beyond the number `after`; at most `limit` (and PAGE_ROWS_MAX)."""
    limit = max(1, min(limit, PAGE_ROWS_MAX))
    found: list[JobRow] = []
    frontiers: list[int] = []
    for stream in _streams(wanted):
        jobs, frontier = _run(connection, stream, after, limit + 1, newest_first)
        found += jobs
        if frontier is not None:
            frontiers.append(frontier)
    found.sort(key=lambda job: job.number, reverse=newest_first)
    edge: int | None = None
    if frontiers:
        edge = max(frontiers) if newest_first else min(frontiers)
        found = [job for job in found if (job.number >= edge if newest_first else job.number <= edge)]
    if len(found) > limit:
        return JobPage(tuple(found[:limit]), found[limit - 1].number)
    return JobPage(tuple(found), edge)


def _streams(wanted: JobFilter) -> list[_Stream]:
    base = _Stream()
    for column in ("queue", "priority", "classification", "scenario", "node"):
        value = getattr(wanted, column)
        if value:
            base.rest.append(f"{column} = :{column}")
            base.bindings[column] = value
    if wanted.states:
        return [
            _Stream("state = :state", base.rest, {**base.bindings, "state": state})
            for state in sorted(set(wanted.states))
        ]
    for column, lead in (("node", "node = :node AND node <> ''"), ("scenario", "scenario = :scenario")):
        if column in base.bindings:
            base.lead = lead
            base.rest = [condition for condition in base.rest if not condition.startswith(column)]
            break
    return [base]


def _run(
    connection: apsw.Connection, stream: _Stream, after: int | None, limit: int, newest_first: bool
) -> tuple[list[JobRow], int | None]:
    """At most `limit` rows, and the number up to which was looked if there is more beyond."""
    order = "DESC" if newest_first else "ASC"
    conditions = [condition for condition in (stream.lead, _beyond(after, newest_first)) if condition]
    run = f"FROM jobs {'WHERE ' + ' AND '.join(conditions) if conditions else ''} ORDER BY number {order}"
    scan = SCAN_ROWS if stream.rest else limit
    bindings = {**stream.bindings, "after": after, "limit": limit, "scan": scan}
    inner = f"SELECT number, queue, priority, classification, scenario, node {run} LIMIT :scan"
    sql = (
        f"SELECT {_qualified(JOB_ROW_COLUMNS)} FROM (SELECT number AS found FROM ({inner})"
        f" {'WHERE ' + ' AND '.join(stream.rest) if stream.rest else ''} LIMIT :limit) JOIN jobs ON jobs.number = found"
        f" ORDER BY found {order}"
    )
    jobs = [job_row(row) for row in rows(connection, sql, bindings)]
    if not stream.rest or len(jobs) == limit:
        return jobs, None if len(jobs) < limit else jobs[-1].number
    last = rows(connection, f"SELECT number {run} LIMIT 1 OFFSET :scan - 1", bindings)
    return jobs, int(last[0][0]) if last else None


def _beyond(after: int | None, newest_first: bool) -> str:
    if after is None:
        return ""
    return "number < :after" if newest_first else "number > :after"


def _qualified(columns: str) -> str:
    return ", ".join(f"jobs.{name.strip()}" for name in columns.split(","))
