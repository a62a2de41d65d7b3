"""Pages of the list of jobs, at a cost that does not grow with the table.

Paging is by key: a page begins after a job number. One index serves the first condition that has one (state, node,
scenario, else the number itself), and the rest is looked at row by row, at most SCAN_ROWS rows a page: a condition that is
met by one job in a million gives short pages with a `next`, not a long wait. Several states are several ordered streams,
merged; a stream that stopped early bounds how far the others may be believed.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
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


@dataclass(frozen=True, slots=True)
class Span:
    """Which part of a list: beyond the number `after`, at most `limit` jobs, at the cost of `scan_rows` rows looked at."""

    after: int | None = None
    limit: int = 100
    newest_first: bool = True
    scan_rows: int = SCAN_ROWS


def page(connection: apsw.Connection, wanted: JobFilter, span: Span) -> JobPage:
    """Jobs in the order of their numbers; never more than PAGE_ROWS_MAX."""
    limit = max(1, min(span.limit, PAGE_ROWS_MAX))
    found: list[JobRow] = []
    frontiers: list[int] = []
    for stream in _streams(wanted):
        # One more than asked for tells whether there is a following page.
        jobs, frontier = _run(connection, stream, replace(span, limit=limit + 1))
        found += jobs
        if frontier is not None:
            frontiers.append(frontier)
    found.sort(key=lambda job: job.number, reverse=span.newest_first)
    edge: int | None = None
    if frontiers:
        edge = max(frontiers) if span.newest_first else min(frontiers)
        found = [job for job in found if (job.number >= edge if span.newest_first else job.number <= edge)]
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


def _run(connection: apsw.Connection, stream: _Stream, span: Span) -> tuple[list[JobRow], int | None]:
    """At most `limit` rows, and the number up to which was looked if there may be more beyond."""
    order = "DESC" if span.newest_first else "ASC"
    beyond = "" if span.after is None else f"number {'<' if span.newest_first else '>'} :after"
    run = f"FROM jobs {_where([stream.lead, beyond])} ORDER BY number {order}"
    bindings = {
        **stream.bindings,
        "after": span.after,
        "limit": span.limit,
        "scan": span.scan_rows if stream.rest else span.limit,
    }
    inner = f"SELECT number, queue, priority, classification, scenario, node {run} LIMIT :scan"
    sql = (
        f"SELECT {_qualified(JOB_ROW_COLUMNS)}"
        f" FROM (SELECT number AS found FROM ({inner}) {_where(stream.rest)} ORDER BY number {order} LIMIT :limit)"
        f" JOIN jobs ON jobs.number = found ORDER BY found {order}"
    )
    jobs = [job_row(row) for row in rows(connection, sql, bindings)]
    if len(jobs) == span.limit:
        return jobs, jobs[-1].number
    last = rows(connection, f"SELECT number {run} LIMIT 1 OFFSET :scan - 1", bindings) if stream.rest else []
    return jobs, int(last[0][0]) if last else None


def _where(conditions: list[str]) -> str:
    given = [condition for condition in conditions if condition]
    return f"WHERE {' AND '.join(given)}" if given else ""


def _qualified(columns: str) -> str:
    return ", ".join(f"jobs.{name.strip()}" for name in columns.split(","))
