"""The bodies of answers, made in one place: the API sends them, and the turn stores one with an idempotency key."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from msgspec.structs import replace

from ffrtmp import api
from ffrtmp.farm.effects import Answer
from ffrtmp.masking import mask_url

from ..rows import IdempotencyRow
from ..store.reader import Reader
from ..submit import PreparedJob, complete
from ..views import input_text, output_text, state_name
from .backend import Idempotency


def submitted(jobs: Sequence[PreparedJob], answer: Answer) -> api.Submitted:
    """The jobs of a submission that was consented to, in their order, with the names that were chosen for them."""
    return api.Submitted(
        jobs=tuple(
            api.SubmittedJob(
                job=number,
                uuid=job.new.uuid,
                state=state_name(state),
                input=input_text(job.spec),
                output=output_text(complete(job.spec, number)),
            )
            for job, number, state in zip(jobs, answer.jobs, answer.states, strict=True)
        )
    )


def with_reasons(body: api.Submitted, reader: Reader) -> api.Submitted:
    """The same with the reason of each rejection, which the store has."""
    return api.Submitted(jobs=tuple(_with_reason(each, reader) for each in body.jobs))


def _with_reason(told: api.SubmittedJob, reader: Reader) -> api.SubmittedJob:
    row = reader.job(told.job) if told.state == "rejected" else None
    return replace(told, reason=mask_url(row.failure.line)) if row is not None and row.failure is not None else told


def idempotency_row(asked: Idempotency, jobs: Sequence[PreparedJob], answer: Answer) -> IdempotencyRow:
    """What is stored in the turn of the submission, so that its repetition gets the same answer."""
    body = msgspec.json.encode(submitted(jobs, answer))
    return IdempotencyRow(scope=asked.scope, key=asked.key, body_digest=asked.body_digest, answer=body)
