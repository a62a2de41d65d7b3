"""POST /v1/jobs: one submission or a batch, once for each idempotency key.

A key belongs to a caller and to a body. While the first call with a key is being answered, another one with the same key
waits for that answer; afterwards the store has it. So a client that lost its connection sends the same again, as often as
it likes, and gets the same jobs.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import Sequence

import msgspec

from ffrtmp.api import Request, Submission

from ..refusal import Refusal
from ..submit import Known, PreparedJob, prepare
from .backend import Idempotency
from .call import Call, Reply, decode

PREPARES_S = 0.005  # the loop is shared: a batch lets others in between
_KEY = re.compile(r"[\x21-\x7e]{1,200}")


class _Peek(msgspec.Struct, frozen=True):
    """Tells a batch from a single submission."""

    items: msgspec.Raw = msgspec.Raw(b"")


class Batch(Request, frozen=True):
    """Several submissions that are accepted whole or not at all."""

    items: tuple[Submission, ...]


async def submit(call: Call) -> Reply:
    """201 with the jobs, when they are on disk."""
    key = call.request.headers.get("Idempotency-Key")
    if key is None:
        return await _submit(call, None)
    if not _KEY.fullmatch(key):
        raise Refusal(400, "Idempotency-Key is 1 to 200 printable characters without blanks")
    asked = Idempotency(call.caller.scope, key, hashlib.sha256(call.raw).hexdigest())
    return _known(call, asked) or await _once(call, asked)


def _known(call: Call, asked: Idempotency) -> Reply | None:
    """The answer that was given before."""
    row = call.backend.reader.idempotency(asked.scope, asked.key)
    if row is None:
        return None
    if row.body_digest != asked.body_digest:
        raise _other_body(asked.key)
    return Reply(raw=row.answer, status=201, headers={"Idempotency-Replayed": "true"})


async def _once(call: Call, asked: Idempotency) -> Reply:
    """Submit, or wait for the same submission that is under way."""
    in_flight, name = call.service.in_flight, (asked.scope, asked.key)
    if name in in_flight:
        digest, answer = in_flight[name]
        if digest != asked.body_digest:
            raise _other_body(asked.key)
        return await asyncio.shield(answer)
    answer = asyncio.get_running_loop().create_future()
    in_flight[name] = (asked.body_digest, answer)
    try:
        reply = await _submit(call, asked)
        answer.set_result(reply)
        return reply
    except BaseException as error:
        # Those who wait get the refusal too; anything else than a refusal is not theirs, and they may try again.
        answer.set_exception(
            error if isinstance(error, Refusal) else Refusal(503, "the same submission was broken off")
        )
        answer.exception()  # nobody may be waiting
        raise
    finally:
        del in_flight[name]


async def _submit(call: Call, asked: Idempotency | None) -> Reply:
    jobs = await _prepare_all(_submissions(call), call)
    return await put(call, jobs, asked)


async def put(call: Call, jobs: Sequence[PreparedJob], asked: Idempotency | None) -> Reply:
    """Have prepared jobs accepted: 201 with them; raises Refusal where the farm does not consent."""
    outcome = await call.backend.submit(jobs, call.caller, asked)
    answer = outcome.answer
    if not 200 <= answer.status < 300:
        raise Refusal(answer.status, answer.detail, hint=answer.hint)
    return Reply(raw=outcome.body, status=201)


def _submissions(call: Call) -> Sequence[Submission]:
    if not decode(call.raw, _Peek).items:
        return (decode(call.raw, Submission),)
    jobs = decode(call.raw, Batch).items
    if not jobs:
        raise Refusal(422, "the batch is empty")
    if len(jobs) > call.service.bounds.batch:
        raise Refusal(
            422,
            f"the batch has {len(jobs)} jobs; at most {call.service.bounds.batch} are taken",
            hint="send several batches",
        )
    return jobs


async def _prepare_all(submissions: Sequence[Submission], call: Call) -> list[PreparedJob]:
    known, jobs, loop = known_now(call), [], asyncio.get_running_loop()
    until_s = loop.time() + PREPARES_S
    for number, submission in enumerate(submissions, 1):
        try:
            jobs.append(prepare(submission, known))
        except Refusal as refusal:
            raise refusal.of(f"job {number} of {len(submissions)}") if len(submissions) > 1 else refusal from None
        if loop.time() >= until_s:
            await asyncio.sleep(0)
            until_s = loop.time() + PREPARES_S
    return jobs


def known_now(call: Call) -> Known:
    """What submissions are read against at this moment."""
    return Known(
        recipes=call.backend.recipes,
        roots=call.backend.live.roots(),
        max_retries=call.backend.max_retries,
        labels_max=call.service.bounds.labels,
    )


def _other_body(key: str) -> Refusal:
    return Refusal(
        422, f'Idempotency-Key "{key}" was used for another submission', hint="use a fresh key for each submission"
    )
