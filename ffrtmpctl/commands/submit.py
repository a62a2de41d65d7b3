"""Submit jobs."""

from __future__ import annotations

import sys
import uuid
from argparse import ArgumentTypeError, Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from ffrtmp.api import Submission, Submitted, SubmittedJob
from ffrtmp.errors import Exit, FarmError

from ..batch import outputs_of, read_batch
from ..context import Context
from ..local_inputs import refuse_absent
from ..parser_submit import ambient_traceparent

# The flag (as argparse names it) and the field of a Submission that it sets.
FIELDS = {
    "scenario": "scenario",
    "input": "input",
    "generate": "generate",
    "engine": "engine",
    "quality": "quality",
    "queue": "queue",
    "priority": "priority",
    "max_retries": "max_retries",
    "labels": "labels",
    "classification": "classification",
    "on_disconnect": "on_disconnect",
    "note": "note",
    "traceparent": "traceparent",
    "cpu": "cpu_milli",
    "memory": "memory_bytes",
    "scratch": "scratch_bytes",
    "file_size": "file_bytes",
    "time": "time_s",
    "nice": "nice",
    "io_weight": "io_weight",
}


def submit(args: Namespace, context: Context) -> int:
    """One job, or a batch from a file."""
    if args.batch is not None:
        return _send(args, context, _batch(args), batch=True)
    if not args.scenario:
        hint = "`ffrtmpctl scenarios list` shows them; for plain ffmpeg arguments there is `ffrtmpctl jobs run`"
        raise FarmError("which scenario? give --scenario NAME", hint=hint, code=Exit.USAGE)
    if args.input and args.generate:
        raise FarmError("--input and --generate are two inputs; give one of them", code=Exit.USAGE)
    return _send(args, context, [_single(_flags(args), args.outputs or [])])


def run(args: Namespace, context: Context) -> int:
    """One job of plain ffmpeg arguments."""
    if not args.arguments:
        hint = "ffrtmpctl jobs run --input media:in.mov --output media:out.mp4 -- -i {input} {output}"
        raise FarmError('ffmpeg\'s arguments are missing: they stand after "--"', hint=hint, code=Exit.USAGE)
    return _send(args, context, [_single({**_flags(args), "arguments": args.arguments}, args.outputs or [])])


def _flags(args: Namespace) -> dict[str, Any]:
    given = {field: getattr(args, flag, None) for flag, field in FIELDS.items()}
    fields = {field: value for field, value in given.items() if value is not None}
    fields.update({name: True for name in ("overwrite", "strict") if getattr(args, name)})
    if "traceparent" not in fields and (trace := ambient_traceparent()):
        fields["traceparent"] = trace
    return fields


def _single(fields: dict[str, Any], outputs: list[str]) -> Submission:
    try:
        return msgspec.convert({**fields, **outputs_of(outputs)}, Submission)
    except (ArgumentTypeError, ValueError) as error:
        raise FarmError(str(error), hint="`ffrtmpctl jobs submit --help` shows examples", code=Exit.USAGE) from error


def _batch(args: Namespace) -> list[Submission]:
    if args.input:
        raise FarmError("--input and --from are two inputs; give one of them", code=Exit.USAGE)
    if len(args.outputs or []) > 1:
        raise FarmError("with --from there is one --output, the template", code=Exit.USAGE)
    template = args.outputs[0] if args.outputs else ""
    try:
        text = sys.stdin.read() if args.batch == "-" else Path(args.batch).read_text("utf-8")
    except UnicodeDecodeError:
        raise FarmError(f"{args.batch} is not a text in UTF-8", code=Exit.USAGE) from None
    except OSError as error:
        raise FarmError(f"{args.batch} cannot be read: {error.strerror}", code=Exit.USAGE) from error
    return read_batch(text.splitlines(), _flags(args), template)


def _send(args: Namespace, context: Context, asked: Sequence[Submission], *, batch: bool = False) -> int:
    """Submit, once for certain: the key makes the master answer a repetition with what it did the first time."""
    _refuse_forgotten_inputs(asked)
    if not args.idempotency_key:  # with one it may have been taken before, and its input may be gone since
        refuse_absent(context.master, (job.input for job in asked))
    body: object = {"items": asked} if batch else asked[0]
    key = args.idempotency_key or str(uuid.uuid4())
    reply = context.master.call("POST", "/v1/jobs", body=body, headers={"Idempotency-Key": key}, repeatable=True)
    jobs = reply.into(Submitted).items
    if context.json and not args.wait:
        context.document(reply.body)
    if not context.json:
        for job in jobs:
            context.say(_told(job))
        _warn(context, jobs)
    rejected = any(job.state == "rejected" for job in jobs)
    if args.wait:
        from ..watch import watch

        context.out.flush()
        return watch(context, [job.job for job in jobs])
    return int(Exit.REFUSED if rejected else Exit.DONE)


def _refuse_forgotten_inputs(asked: Sequence[Submission]) -> None:
    """Without an input a job makes a test pattern, which may replace a film only where somebody said so."""
    for number, job in enumerate(asked, 1):
        if job.overwrite and not (job.input or job.generate or job.arguments):
            which = f"job {number} of {len(asked)}: " if len(asked) > 1 else ""
            hint = "give --input, or --generate where a test pattern is to replace what stands there"
            raise FarmError(f"{which}which input? --overwrite needs one", hint=hint, code=Exit.USAGE)


def _warn(context: Context, jobs: Sequence[SubmittedJob]) -> None:
    """Tell which jobs wait for a node that is not known yet; those of a batch that wait for the same in one line."""
    alike: dict[str, list[int]] = {}
    for job in jobs:
        if job.warning:
            alike.setdefault(job.warning, []).append(job.job)
    for why, numbers in alike.items():
        more = f" and {len(numbers) - 1} more wait" if len(numbers) > 1 else " waits"
        context.note(f"warning: job {numbers[0]}{more}: no known node could run it: {why}")
    if alike:
        if any("allow_run" in why for why in alike):
            who = (
                "an agent takes plain arguments where its configuration says `allow_run = true`, or it has --allow-run"
            )
            context.note(f"hint: {who}; --strict refuses such jobs")
        else:
            context.note("hint: --strict refuses such jobs; `ffrtmpctl nodes list` shows the nodes")


def _told(job: SubmittedJob) -> str:
    ways = " -> ".join(part for part in (job.input, job.output) if part)
    state = f"{job.state}: {job.reason}" if job.reason else job.state
    return f"job {job.job} {state}" + (f"  {ways}" if ways else "")
