"""All routes in one table: the server makes its handlers of it, and a description of the API can be made of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ffrtmp import api
from ffrtmp.spec import Recipe

from . import farm, jobs, streams, submission
from .access import Role
from .call import Handler

TEXT = "text/plain"
LINES = "application/x-ndjson"
PAGED = ("after", "limit")


@dataclass(frozen=True, slots=True)
class Route:
    """`takes` and `gives` are the types of the bodies (a media type where it is none); `role` None: anybody."""

    method: str
    path: str
    role: Role | None
    handler: Handler
    gives: Any
    takes: Any = None
    query: tuple[str, ...] = ()
    status: int = 200


ROUTES: tuple[Route, ...] = (
    Route(
        "POST", "/v1/jobs", "operator", submission.submit, api.Submitted, api.Submission | submission.Batch, status=201
    ),
    Route("GET", "/v1/jobs", "viewer", jobs.list_jobs, api.Page[api.JobView], query=(*jobs.FILTERS, *PAGED, "order")),
    Route("POST", "/v1/jobs/cancel", "operator", jobs.cancel_many, api.Many, api.Selection, status=202),
    Route("POST", "/v1/jobs/retry", "operator", jobs.retry_many, api.Many, api.Selection, status=202),
    Route("GET", "/v1/jobs/{job}", "viewer", jobs.one_job, api.JobView),
    Route("PATCH", "/v1/jobs/{job}", "operator", jobs.update, api.Done, api.JobUpdate),
    Route("GET", "/v1/jobs/{job}/history", "viewer", jobs.history, api.Page[api.HistoryRow], query=PAGED),
    Route("GET", "/v1/jobs/{job}/why", "viewer", jobs.why, api.Why),
    Route("GET", "/v1/jobs/{job}/logs", "viewer", streams.logs, TEXT, query=("attempt", "tail", "offset", "follow")),
    Route("GET", "/v1/jobs/{job}/events", "viewer", streams.events, LINES),
    Route("POST", "/v1/jobs/{job}/cancel", "operator", jobs.cancel, api.Done, status=202),
    Route("POST", "/v1/jobs/{job}/stop", "operator", jobs.stop, api.Done, status=202),
    Route("POST", "/v1/jobs/{job}/pause", "operator", jobs.pause, api.Done, status=202),
    Route("POST", "/v1/jobs/{job}/resume", "operator", jobs.resume, api.Done, status=202),
    Route("POST", "/v1/jobs/{job}/retry", "operator", jobs.retry, api.Submitted, status=201),
    Route("GET", "/v1/queues", "viewer", farm.list_queues, api.Page[api.QueueView]),
    Route("POST", "/v1/queues/{queue}/pause", "operator", farm.pause_queue, api.Done),
    Route("POST", "/v1/queues/{queue}/resume", "operator", farm.resume_queue, api.Done),
    Route("GET", "/v1/nodes", "viewer", farm.list_nodes, api.Page[api.NodeView], query=PAGED),
    Route("POST", "/v1/nodes/invite", "admin", farm.invite, api.Invitation, api.InviteRequest, status=201),
    Route("POST", "/v1/nodes/enroll", "enroll", farm.enroll, api.Enrollment, api.EnrollRequest, status=201),
    Route("GET", "/v1/nodes/{node}", "viewer", farm.one_node, api.NodeView),
    Route("DELETE", "/v1/nodes/{node}", "admin", farm.remove_node, api.Done, query=("force",)),
    Route("POST", "/v1/nodes/{node}/accept", "admin", farm.accept_node, api.Done),
    Route("POST", "/v1/nodes/{node}/drain", "operator", farm.drain_node, api.Done),
    Route("POST", "/v1/nodes/{node}/resume", "operator", farm.resume_node, api.Done),
    Route("PUT", "/v1/nodes/{node}/labels", "operator", farm.label_node, api.Done, api.Labels),
    Route("GET", "/v1/scenarios", "viewer", farm.list_scenarios, api.Page[Recipe], query=PAGED),
    Route("GET", "/v1/scenarios/{name}", "viewer", farm.one_scenario, Recipe),
    Route("GET", "/v1/sla", "viewer", farm.sla, api.Sla, query=("since",)),
    Route("POST", "/v1/db/backup", "admin", farm.backup, api.Backup, api.BackupRequest, status=201),
    Route("GET", "/v1/version", None, farm.version, api.Version),
    Route("GET", "/v1/ready", None, farm.ready, api.Ready),
    Route("GET", "/v1/live", None, farm.live, api.Ready),
)
