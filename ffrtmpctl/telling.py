"""Jobs in words."""

from __future__ import annotations

from typing import TextIO

from ffrtmp.api import TERMINAL_STATES, AttemptView, FailureView, JobView
from ffrtmp.spec import Results

from .render import clean, details, duration, local_time, rate, size


def ended(view: JobView) -> bool:
    """Whether a job has ended, also in a way that this ffrtmpctl has no word for."""
    return view.state in TERMINAL_STATES or bool(view.ended)


def headline(view: JobView) -> str:
    """What a job is doing, in one line: "job 42 is running on a (encoding), 43 %, 2.1x, 1 min 20 s left"."""
    parts = [f"job {view.job} {_verb(view)}", *_advance(view)]
    return clean(", ".join(parts))


def _verb(view: JobView) -> str:
    where = f" on {view.node}" if view.node else ""
    match view.state:
        case "queued":
            return f"is queued ({view.queue}, {view.priority})"
        case "assigned":
            return "is being handed out" + (f" to {view.node}" if view.node else "")
        case "running":
            return f"is running{where}" + (f" ({view.phase})" if view.phase else "")
        case "paused" | "retrying" | "resuming":
            return f"is {view.state}" + (f" after {view.failure.reason}" if view.failure else "")
        case "canceling":
            return f"is being canceled{where}"
        case "completed":
            return f"completed: {view.output}" if view.output else "completed"
        case "failed":
            return "failed"
        case "timed_out":
            return "timed out"
        case "canceled" | "rejected":
            return f"was {view.state}"
    return f"is {view.state}{where}"


def _advance(view: JobView) -> list[str]:
    if view.state not in ("running", "paused", "resuming"):
        return []
    words = [] if view.percent is None else [f"{view.percent:.0f} %"]
    if view.progress is not None:
        if view.progress.fps:
            words.append(f"{view.progress.fps:.0f} fps")
        if view.progress.speed:
            words.append(f"{view.progress.speed:.2g}x")
    if view.eta_s is not None and view.state == "running":
        words.append(f"{duration(view.eta_s)} left")
    return words


def reason_of(failure: FailureView) -> str:
    """The reason and the telling line."""
    return f"{failure.reason}: {failure.line}" if failure.line else failure.reason


def tell_job(out: TextIO, view: JobView) -> None:
    """A job in full."""
    out.write(headline(view) + "\n")
    if view.failure is not None:
        out.write(f"  {clean(reason_of(view.failure))}\n")
        if view.failure.hint:
            out.write(f"  hint: {clean(view.failure.hint)}\n")
    details(out, _facts(view))
    if view.attempts:
        out.write("  attempts\n")
        for attempt in view.attempts:
            out.write(f"    {_attempt(attempt)}\n")
    if view.results is not None:
        out.write("  results\n")
        details(out, results_of(view.results), indent="    ")


def _facts(view: JobView) -> list[tuple[str, str]]:
    submitted = local_time(view.submitted) + (f" by {view.submitted_by}" if view.submitted_by else "")
    return [
        ("uuid", view.uuid),
        ("scenario", view.scenario),
        ("queue", f"{view.queue}, priority {view.priority}"),
        ("counts as", view.classification),
        ("input", view.input),
        ("output", view.output),
        ("submitted", submitted),
        ("started", local_time(view.started)),
        ("ended", local_time(view.ended)),
        ("waited", duration(view.queue_s)),
        ("failures", f"{view.failures} of at most {view.max_retries + 1}" if view.failures else ""),
        ("retry of", f"job {view.retry_of}" if view.retry_of else ""),
        ("trace", view.traceparent),
        ("note", view.note),
    ]


def _attempt(attempt: AttemptView) -> str:
    words = f"{attempt.attempt} on {attempt.node}: {attempt.how or attempt.state}"
    if attempt.failure is not None:
        words += f", {reason_of(attempt.failure)}"
    times = " to ".join(local_time(time) for time in (attempt.started, attempt.ended) if time)
    return clean(words + (f" ({times})" if times else ""))


def results_of(results: Results) -> list[tuple[str, str]]:
    """What was measured, name and value."""
    fps = "" if results.fps is None else f" ({results.fps:.1f} fps)"
    return [
        ("length", duration(results.media_s)),
        ("encoded in", duration(results.encode_s)),
        ("frames", "" if results.frames is None else f"{results.frames}{fps}"),
        ("input", _amount(results.input_bytes, results.input_bps)),
        ("output", _amount(results.output_bytes, results.output_bps)),
        ("PSNR", "" if results.psnr_db is None else f"{results.psnr_db:.2f} dB"),
        ("SSIM", "" if results.ssim is None else f"{results.ssim:.4f}"),
        ("VMAF", "" if results.vmaf is None else f"{results.vmaf:.2f}"),
        ("CPU time", duration(results.cpu_s)),
        ("peak memory", size(results.peak_memory_bytes)),
        ("energy", "" if results.energy_j is None else f"{results.energy_j:.0f} J"),
    ]


def _amount(count_bytes: int | None, count_bps: int | None) -> str:
    if count_bytes is None:
        return ""
    return size(count_bytes) + (f", {rate(count_bps)}" if count_bps else "")
