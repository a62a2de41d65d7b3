"""From rows and live data to what the API shows. Pure, and the one place where secrets are masked on their way out."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime
from typing import cast

import msgspec
from msgspec.structs import replace

from ffrtmp import api
from ffrtmp.farm.job import Failure, Priority, Queue, State
from ffrtmp.farm.why import Why
from ffrtmp.masking import mask_url
from ffrtmp.spec import JobSpec, Progress

from .api.backend import LiveNode, LiveQueue
from .root_names import RootNames
from .store import AttemptRow, EventRow, JobRow, SlaCounts


def time_text(at_s: float | None) -> str:
    """Seconds since the epoch as ISO 8601 in UTC with milliseconds; empty for None."""
    if at_s is None:
        return ""
    return datetime.fromtimestamp(at_s, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def input_text(spec: JobSpec, names: RootNames) -> str:
    """What a job reads, in a few words and without secrets."""
    source = spec.source
    if source.path is not None:
        return names.path(source.path)
    if source.url:
        return mask_url(source.url)
    if source.pattern is None:
        return ""
    shown = source.pattern
    return f"pattern {shown.width}x{shown.height}@{shown.fps:g} {shown.duration_s:g} s"


def output_text(spec: JobSpec, names: RootNames) -> str:
    """Where a job writes, without secrets."""
    if spec.output is not None:
        return names.path(spec.output)
    return " ".join(mask_url(each) for each in spec.output_urls)


def masked(spec: JobSpec) -> JobSpec:
    """The specification as it may be shown."""
    return replace(
        spec,
        source=replace(spec.source, url=mask_url(spec.source.url)),
        output_urls=tuple(mask_url(each) for each in spec.output_urls),
        arguments=tuple(mask_url(each) for each in spec.arguments),
        note=mask_url(spec.note),
    )


def failure_view(failure: Failure | None, spec: JobSpec, names: RootNames) -> api.FailureView | None:
    """A failure; the telling line may quote a URL, or a media root of the job's `spec`."""
    if failure is None:
        return None
    line = names.named(failure.line, spec)
    return api.FailureView(reason=failure.reason.value, line=mask_url(line), hint=mask_url(failure.hint))


def job_view(row: JobRow, progress: Progress | None, phase: str, now_s: float, names: RootNames) -> api.JobView:
    """A job, without attempts and specification. Progress and phase are shown while an attempt can have them."""
    spec, state = row.spec, row.state
    shown = progress if state in (State.RUNNING, State.PAUSED, State.RESUMING) else None
    return api.JobView(
        job=row.number,
        uuid=row.uuid,
        state=state_name(state),
        queue=queue_name(row.queue),
        priority=priority_name(row.priority),
        scenario=row.scenario,
        classification=spec.classification,
        input=input_text(spec, names),
        output=output_text(spec, names),
        submitted=time_text(row.submitted_s),
        phase=phase if state is State.RUNNING else "",
        node=row.node,
        attempt=row.attempt,
        failures=row.failures,
        max_retries=row.max_retries,
        submitted_by=row.submitted_by,
        started=time_text(row.started_s),
        ended=time_text(row.ended_s),
        queue_s=queue_s(row, now_s),
        percent=_percent(state, shown),
        eta_s=shown.eta_s if shown and state is State.RUNNING else None,
        progress=shown,
        failure=failure_view(_last_failure(row), spec, names),
        results=row.results,
        retry_of=spec.retry_of,
        traceparent=spec.traceparent,
        note=mask_url(spec.note),
    )


def _last_failure(row: JobRow) -> Failure | None:
    """What a job failed with, and in its hint what follows. None for one that completed: its attempts tell of theirs."""
    failure = row.failure
    if failure is None or row.state is State.COMPLETED:
        return None
    return dataclasses.replace(
        failure, hint="; ".join(part for part in (failure.hint, _what_follows(row, failure)) if part)
    )


def _what_follows(row: JobRow, failure: Failure) -> str:
    """Whether a job that failed is tried again; empty where the failure itself says enough."""
    if not failure.transient:
        return ""
    if row.state in (State.RETRYING, State.QUEUED, State.ASSIGNED) and row.verdict is None:
        return "it is tried again by itself"
    if row.state in (State.FAILED, State.TIMED_OUT) and row.failures:
        tries = "1 try" if row.failures == 1 else f"{row.failures} tries"
        return f"given up after {tries}: `ffrtmpctl jobs retry {row.number}` submits it again"
    return ""


def queue_s(row: JobRow, now_s: float) -> float:
    """Seconds from submission to the first start, to the end where it never started, or until now."""
    until = next((each for each in (row.started_s, row.ended_s) if each is not None), now_s)
    return round(max(0.0, until - row.submitted_s), 3)


def _percent(state: State, progress: Progress | None) -> float | None:
    if state is State.COMPLETED:
        return 100.0
    return progress.percent if progress else None


def attempt_view(row: AttemptRow, spec: JobSpec, names: RootNames) -> api.AttemptView:
    """One attempt, with what it is doing or how it ended."""
    return api.AttemptView(
        attempt=row.number,
        node=row.node,
        state=row.state,
        started=time_text(row.started_s),
        ended=time_text(row.ended_s),
        how=row.how,
        failure=failure_view(row.failure, spec, names),
        log_bytes=row.log_bytes,
    )


def history_row(row: EventRow, spec: JobSpec, names: RootNames) -> api.HistoryRow:
    """One row of the history of a job."""
    return api.HistoryRow(
        seq=row.seq,
        at=time_text(row.at_s),
        job=row.job,
        attempt=row.attempt,
        after=state_name(row.after),
        kind=row.kind,
        text=mask_url(names.named(row.text, spec)),
        before=None if row.before is None else state_name(row.before),
        node=row.node,
        failure=failure_view(row.failure, spec, names),
    )


def why(row: JobRow, explained: Why | None, names: RootNames) -> api.Why:
    """Why a job is where it is: the rules' own words while it is open, its end when it has ended."""
    if explained is not None:
        sentence, hint, nodes = explained.sentence, explained.hint, dict(explained.nodes)
    else:
        failure = _last_failure(row)
        sentence, hint, nodes = _ending(row), failure.hint if failure else "", {}
    return api.Why(
        job=row.number,
        state=state_name(row.state),
        sentence=mask_url(names.named(sentence, row.spec)),
        hint=mask_url(hint),
        ended=time_text(row.ended_s),
        nodes={node: names.named(text, row.spec) for node, text in nodes.items()},
    )


_ENDED = {
    State.COMPLETED: "it completed",
    State.FAILED: "it failed",
    State.TIMED_OUT: "it timed out",
    State.CANCELED: "it was canceled",
    State.REJECTED: "it was rejected",
}


def _ending(row: JobRow) -> str:
    """How a job ended, in a sentence; when, `Why.ended` says."""
    text = _ENDED.get(row.state, f"it is {row.state.value}")
    if row.state is State.COMPLETED:
        return f"{text} on {row.node or 'its node'}, with attempt {row.attempt}"
    if row.failure is None:
        return text
    tries = f" after {row.failures} failed attempt{'' if row.failures == 1 else 's'}" if row.failures else ""
    return f"{text}{tries}, with {row.failure.reason.value}" + (f": {row.failure.line}" if row.failure.line else "")


def node_view(live: LiveNode) -> api.NodeView:
    """A node, with what it offers and what of it is used."""
    node, capacity = live.node, live.capacity
    view = api.NodeView(
        node=node.name,
        state=live.state,
        address=node.address,
        key=node.key,
        labels=tuple(sorted({*node.labels, *(capacity.labels if capacity else ())})),
        jobs=live.jobs,
        cpu_used_milli=live.cpu_used_milli,
        memory_used_bytes=live.memory_used_bytes,
        slots_used=live.slots_used,
        load=live.load,
        free_memory_bytes=live.free_memory_bytes,
        heard_s=live.heard_s,
        incarnation=node.incarnation,
    )
    if capacity is None:
        return view
    return replace(
        view,
        facts=msgspec.structs.asdict(live.facts),
        cpu_milli=capacity.cpu_milli,
        memory_bytes=capacity.memory_bytes,
        slots=capacity.slots,
        encoders=capacity.encoders,
        engines=capacity.engines,
        protocols=capacity.protocols,
        roots=tuple(
            api.RootView(
                name=root.name,
                identity=root.identity,
                path=root.path,
                readable=root.readable,
                writable=root.writable,
                free_bytes=root.free_bytes,
            )
            for root in capacity.roots
        ),
    )


def sla(counts: SlaCounts) -> api.Sla:
    """The service level; without jobs it has no percentage."""
    return api.Sla(
        jobs=counts.jobs,
        met=counts.met,
        queue_missed=counts.queue_missed,
        processing_missed=counts.processing_missed,
        platform_failed=counts.platform_failed,
        percent=round(100.0 * counts.met / counts.jobs, 3) if counts.jobs else None,
    )


def queue_view(live: LiveQueue) -> api.QueueView:
    """A queue."""
    return api.QueueView(
        queue=queue_name(live.queue.label),
        paused=live.paused,
        waiting=live.waiting,
        running=live.running,
        oldest_s=round(live.oldest_s, 3),
    )


# Rows have words where the API has closed sets of them; the store's CHECKs hold them to the same words.


def state_name(state: State | str) -> api.StateName:
    """A state as the API writes it."""
    return State(state).value


def queue_name(queue: Queue | str) -> api.QueueName:
    """A queue as the API writes it."""
    return cast(api.QueueName, queue.label if isinstance(queue, Queue) else queue)


def priority_name(priority: Priority | str) -> api.PriorityName:
    """A priority as the API writes it."""
    return cast(api.PriorityName, priority.label if isinstance(priority, Priority) else priority)
