"""Grants: the right to put an output at its place.

Two attempts of a job may encode at once (its node was lost, and was not dead); one may publish (P2). An attempt that has
verified its output asks; the farm commits a grant and says so; only then does the agent rename. Until the grant is
*settled* no other attempt of the job gets one, and the job cannot be canceled.

| a grant is settled by | for then |
|---|---|
| `Published` | the output is at its place, and the job is completed |
| `NotPublished` | the rename was not made and will not be: the grant ran out by the agent's own clock, or it failed |
| `Ended`, or its node is back without the attempt | there is nothing that could rename |
| an operator who removes the node | the node is not listened to any more |
| another node, where the storage is shared | its holder is lost and the grant has run out: `Settle` |

To settle for a lost node, the other one renames the staging folder away, so that a late rename of an agent that was merely
stopped fails, and then looks at the target. Where no node shares the storage, the job waits for its node, or for the
operator: nobody else can tell whether the output is at its place, or may still be put there.

A live attempt holds a grant as a lease on its target from before its engine starts. It does not run out while the node is
in contact; on a lost node it ends with the node's lease.
"""

from __future__ import annotations

from dataclasses import replace

from .effects import SendDeny, SendGrant, SendSettle
from .endings import ended, other_gone
from .events import NotPublished, Published, PublishRequest, Settled
from .job import Attempt, Grant, State
from .recovery import replace_doubted
from .world import World


def requested(world: World, event: PublishRequest, attempt: Attempt | None) -> None:
    """An attempt asks for its grant, or asks again because an earlier one ran out."""
    refusal = _refusal(world, attempt)
    if refusal is not None or attempt is None:
        world.effects.append(SendDeny(event.node, event.uuid, event.number, event.request, refusal or ""))
        if attempt is not None and attempt.given_up:
            world.order(attempt)
        return
    job = world.jobs[attempt.job]
    held = world.grants.get(job.number)
    if held is None or event.request != held.request:
        until_s = world.now_s + world.rules.grant_ttl_s
        world.grants.put(job.number, Grant(job.number, attempt.number, event.request, event.fingerprint, until_s))
        if held is None:
            world.note(job, "granted", f"attempt {attempt.number} may publish", node=attempt.node)
    world.effects.append(SendGrant(event.node, event.uuid, event.number, event.request))


def _refusal(world: World, attempt: Attempt | None) -> str | None:
    if attempt is None:
        return "no such attempt"
    job = world.jobs.get(attempt.job)
    if job is None or attempt.given_up:
        return "the attempt was given up"
    held = world.grants.get(job.number)
    if held is not None and held.attempt != attempt.number:
        return f"attempt {held.attempt} holds the grant"
    if job.current != attempt.number:
        return f"attempt {job.current} is the one that counts"
    return None


def published(world: World, event: Published, attempt: Attempt) -> None:
    """The output is at its place.

    Told by an attempt that was given up it changes nothing (P4), with one exception: a restored master may have canceled a
    job whose grant it has forgotten, and then the truth is that the job is completed. Without a grant on record the
    master was restored since; the file is there all the same.
    """
    world.forget(attempt, "published")
    job = world.jobs.get(attempt.job)
    if job is None:
        return
    held = world.grants.get(job.number)
    if held is not None and held.attempt == attempt.number:
        world.grants.put(job.number, None)
    counts = job.current == attempt.number and not attempt.given_up
    if not counts and not (job.state is State.CANCELING and len(world.ancestors)):
        other_gone(world, job)
        return
    text = f"attempt {attempt.number} published {event.fingerprint.size_bytes} bytes"
    world.move(job, State.COMPLETED, "completed", text, about=attempt.number, node=event.node)


def not_published(world: World, event: NotPublished, attempt: Attempt) -> None:
    """A grant was not used. With a failure the attempt is over; without one it will ask again."""
    held = world.grants.get(attempt.job)
    if held is not None and held.attempt == attempt.number and held.request <= event.request:
        world.grants.put(attempt.job, None)
        job = world.jobs[attempt.job]
        world.note(job, "not_published", event.detail, about=attempt.number, node=event.node)
    if event.failure is not None:
        ended(world, attempt, "failed", event.failure, event.jitter)


def may_settle(world: World, grant: Grant, now_s: float) -> bool:
    """Whether the grant's holder is lost and its right is over by any clock."""
    attempt = world.attempts.get((grant.job, grant.attempt))
    if attempt is None or not attempt.doubted:
        return False
    rules = world.rules
    if attempt.live:
        return now_s >= world.last_heard_s(attempt.node) + rules.lost_after_live_s + rules.lease_margin_s
    if now_s - world.sent_s.get(attempt.id, 0.0) < rules.resend_s:
        return False
    return now_s >= grant.until_s + rules.grant_margin_s


def settle_without_holder(world: World, grant: Grant) -> None:
    """Settle the grant of a lost node as far as that can be done without it; else its return is waited for."""
    attempt = world.attempts.get((grant.job, grant.attempt))
    job = world.jobs[grant.job]
    if attempt is None or not attempt.doubted:
        return
    world.sent_s[attempt.id] = world.now_s
    if attempt.live:
        world.grants.put(grant.job, None)
        world.note(
            job, "lease_over", f"the lease of attempt {grant.attempt} on its target ran out", about=grant.attempt
        )
        return
    helper = _sharing_node(world, attempt)
    if helper is not None:
        if grant.settling != helper:
            world.grants.put(grant.job, replace(grant, settling=helper))
            world.note(job, "settling", f"{helper} looks whether attempt {grant.attempt} published", node=helper)
        world.effects.append(SendSettle(helper, attempt.id))


def _sharing_node(world: World, attempt: Attempt) -> str | None:
    """A node in contact that can write where the attempt writes."""
    targets = {r for r in attempt.requirements.roots if r.endswith(":w")}
    for node in sorted(world.nodes):
        if node != attempt.node and world.in_contact(node) and targets and targets <= world.nodes[node].capacity.roots:
            return node
    return None


def settled(world: World, event: Settled) -> None:
    """Another node moved the staging folder away and looked at the target."""
    key = world.by_identity.get((event.uuid, event.number))
    if key is None:
        return
    attempt = world.attempts[key]
    grant = world.grants.get(attempt.job)
    job = world.jobs.get(attempt.job)
    if grant is None or job is None or grant.attempt != attempt.number or grant.settling != event.node:
        return
    if not attempt.doubted:
        return  # its node is back and speaks for itself
    world.grants.put(job.number, None)
    if event.fingerprint is not None and event.fingerprint == grant.fingerprint:
        text = f"attempt {attempt.number} had published before {attempt.node} was lost, as {event.node} sees"
        world.move(job, State.COMPLETED, "completed", text, about=attempt.number, node=event.node)
        return
    world.give_up(attempt)
    text = f"{attempt.node} was lost before attempt {attempt.number} published, as {event.node} sees"
    replace_doubted(world, job, attempt, text)
