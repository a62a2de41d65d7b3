"""The bodies of answers, made in one place: the API sends them, and the turn stores one with an idempotency key."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from ffrtmp import api
from ffrtmp.farm.effects import Answer
from ffrtmp.masking import mask_url

from ..rows import IdempotencyRow
from ..submit import PreparedJob, complete
from ..views import input_text, output_text, state_name
from .backend import Idempotency


def submitted(jobs: Sequence[PreparedJob], answer: Answer) -> api.Submitted:
    """The body of a consenting answer to a submission: the jobs in their order, with the names that were chosen."""
    rejected = mask_url(answer.detail)
    return api.Submitted(
        jobs=tuple(
            api.SubmittedJob(
                job=number,
                uuid=job.new.uuid,
                state=state_name(state),
                input=input_text(job.spec),
                output=output_text(complete(job.spec, number)),
                reason=rejected if state.value == "rejected" else "",
            )
            for job, number, state in zip(jobs, answer.jobs, answer.states, strict=True)
        )
    )


def idempotency_row(asked: Idempotency, jobs: Sequence[PreparedJob], answer: Answer) -> IdempotencyRow:
    """What is stored in the turn of the submission, so that its repetition gets the same answer."""
    return IdempotencyRow(
        scope=asked.scope,
        key=asked.key,
        body_digest=asked.body_digest,
        answer=msgspec.json.encode(submitted(jobs, answer)),
    )
