"""The bodies of answers, made in one place: the API sends them, and the turn stores one with an idempotency key."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from ffrtmp import api
from ffrtmp.farm.effects import Answer, Effect, Record
from ffrtmp.farm.job import State
from ffrtmp.masking import mask_url

from ..root_names import RootNames
from ..rows import IdempotencyRow
from ..submit import PreparedJob, complete
from ..views import input_text, output_text, state_name
from .backend import Idempotency, Outcome


def outcome(jobs: Sequence[PreparedJob], effects: Iterable[Effect], names: RootNames) -> Outcome:
    """What a submission's caller is told, from what `Farm.apply` of its Submit returned. `names`: of the media roots now."""
    answer = None
    rejections: dict[int, str] = {}
    for effect in effects:
        if isinstance(effect, Answer):
            answer = effect
        elif isinstance(effect, Record) and effect.after is State.REJECTED:
            rejections[effect.job] = effect.text
    assert answer is not None, "a Submit is always answered"
    if not 200 <= answer.status < 300:
        return Outcome(answer)
    return Outcome(answer, msgspec.json.encode(_submitted(jobs, answer, rejections, names)))


def idempotency_row(asked: Idempotency, given: Outcome) -> IdempotencyRow:
    """What is stored in the turn of the submission, so that its repetition gets the same answer."""
    return IdempotencyRow(scope=asked.scope, key=asked.key, body_digest=asked.body_digest, answer=given.body)


def _submitted(
    jobs: Sequence[PreparedJob], answer: Answer, rejections: Mapping[int, str], names: RootNames
) -> api.Submitted:
    """The jobs in their order, with the names that were chosen for them."""
    return api.Submitted(
        items=tuple(
            api.SubmittedJob(
                job=number,
                uuid=job.new.uuid,
                state=state_name(state),
                input=input_text(job.spec, names),
                output=output_text(complete(job.spec, number), names),
                reason=mask_url(names.named(rejections.get(number, ""), job.spec)),
                warning=mask_url(names.named(warning, job.spec)),
            )
            for job, number, state, warning in zip(jobs, answer.jobs, answer.states, answer.warnings, strict=True)
        )
    )
