"""The planted bugs: what a tired engineer could have written, one to three lines each.

They were thought of from the design, the rules and the programs alone, and written down before any test was read or run on
them, so that they say what the simulator finds and not what it was built to find. Each breaks what a promise names, in a way
that production can reach; many of them show only when two things go wrong together.
"""

from __future__ import annotations

from dataclasses import dataclass

FARM = "daemons/ffrtmp/farm"
MASTER = "daemons/ffrtmp_master"
AGENT = "daemons/ffrtmp_agent"


@dataclass(frozen=True)
class Edit:
    """In this file this text stands exactly once; the other one takes its place."""

    path: str
    there: str
    instead: str


@dataclass(frozen=True)
class Plant:
    """One bug: what it is in a sentence, and the promise that it breaks."""

    name: str
    promise: str
    edits: tuple[Edit, ...]


PLANTS = (
    # ---- P1: a job whose submission was answered is not lost ----
    Plant(
        "callers are answered before the turn is on disk",
        "P1",
        (
            Edit(
                f"{MASTER}/cycle.py",
                "            await self._commit(decision)\n",
                "            self.callers.answer(decision)\n            await self._commit(decision)\n",
            ),
        ),
    ),
    Plant(
        "commits are not synced one by one, to spare the disk",
        "P1",
        (Edit(f"{MASTER}/store/database.py", '"synchronous = FULL"', '"synchronous = NORMAL"'),),
    ),
    Plant(
        "an outbox item is repeated under the number of the session in which it was made",
        "P1",
        (
            Edit(
                f"{AGENT}/session.py",
                "actions += [Send(self._in_session(m)) for m in self.items.values()]",
                "actions += [Send(m) for m in self.items.values()]",
            ),
        ),
    ),
    Plant(
        "after a restore the numbers of jobs go on where the backup left off",
        "P1",
        (
            Edit(
                f"{MASTER}/store/loading.py",
                "max(next_job, mark.below if mark is not None else next_job + numbers.block)",
                "max(next_job, next_job if mark is not None else next_job + numbers.block)",
            ),
        ),
    ),
    # ---- P2: at most one attempt may publish ----
    Plant(
        "agents are told before the turn is on disk",
        "P2",
        (
            Edit(
                f"{MASTER}/cycle.py",
                "            await self._commit(decision)\n",
                "            self.board.act(decision.effects)\n            await self._commit(decision)\n",
            ),
            Edit(
                f"{MASTER}/cycle.py",
                "        self.board.act(decision.effects)\n        self.callers.answer(decision)\n",
                "        self.callers.answer(decision)\n",
            ),
        ),
    ),
    Plant(
        "a lost node's grant that has run out keeps nobody from taking its job",
        "P2",
        (
            Edit(
                f"{FARM}/recovery.py",
                "if grant is not None and grant.attempt == attempt.number and not attempt.live:",
                "if grant is not None and grant.attempt == attempt.number and not attempt.live"
                " and grant.until_s > world.now_s:",
            ),
        ),
    ),
    # ---- P3: no partial, unverified or foreign file ----
    Plant(
        "whatever stands at the target of a lost node's grant is taken for its output",
        "P3",
        (
            Edit(
                f"{FARM}/publish.py",
                "if event.fingerprint is not None and event.fingerprint == grant.fingerprint:",
                "if event.fingerprint is not None:",
            ),
        ),
    ),
    # ---- P4: an attempt that was given up changes nothing any more ----
    Plant(
        "the end of an attempt that was superseded sends its job back to the queue",
        "P4",
        (
            Edit(
                f"{FARM}/endings.py",
                "if attempt.given_up or job.current != attempt.number or job.state is State.CANCELING:",
                "if attempt.given_up or job.state is State.CANCELING:",
            ),
        ),
    ),
    Plant(
        "whoever names an attempt writes its log",
        "P4",
        (Edit(f"{MASTER}/switchboard.py", "return owner[0] if owner[1] == node else None", "return owner[0]"),),
    ),
    Plant(
        "a backup that is put back twice gives out the same attempt numbers twice",
        "P4",
        (Edit(f"{MASTER}/store/loading.py", "(ATTEMPTS_RAISED * restores,)", "(ATTEMPTS_RAISED,)"),),
    ),
    Plant(
        "a strict job does not wait for what its old engine may take to stop",
        "P4",
        (
            Edit(
                f"{FARM}/endings.py", "rules.lost_after_s) + rules.lease_stop_s + rules", "rules.lost_after_s) + rules"
            ),
        ),
    ),
    Plant(
        "a lease counts from when the answer came, not from when was asked",
        "P4",
        (Edit(f"{AGENT}/session.py", "Lease(local.key, sent_s + ", "Lease(local.key, self._answered_s + "),),
    ),
    # ---- P5: a canceled job has no process and no file ----
    Plant(
        "a job whose grant has run out can be canceled though its output may be at its place",
        "P5",
        (
            Edit(
                f"{FARM}/requests.py",
                "if grant is None or job.terms.live:",
                "if grant is None or grant.until_s < world.now_s or job.terms.live:",
            ),
        ),
    ),
    Plant(
        "an attempt that was given up still gets its grant",
        "P5",
        (
            Edit(
                f"{FARM}/publish.py",
                "if job is None or attempt.given_up:\n        return",
                "if job is None:\n        return",
            ),
        ),
    ),
    Plant(
        "the order to end an attempt is sent once and never repeated",
        "P5",
        (Edit(f"{FARM}/handout.py", "attempt.want in (Want.DISCARD, Want.STOP)", "attempt.want is Want.STOP"),),
    ),
    Plant(
        "a master that starts forgets the attempts that were given up",
        "P5",
        (
            Edit(
                f"{MASTER}/store/loading.py",
                "FROM attempts WHERE there = 1 ORDER BY",
                "FROM attempts WHERE there = 1 AND want <> 'discard' ORDER BY",
            ),
        ),
    ),
    # ---- P6: a node never holds more than it offers ----
    Plant(
        "a job that is resumed asks for cores and not for a slot",
        "P6",
        (
            Edit(
                f"{FARM}/placement.py",
                "if usage.slots + 1 <= capacity.slots and usage.cpu_milli + attempt",
                "if usage.cpu_milli + attempt",
            ),
        ),
    ),
    Plant(
        "the memory of a job that stands still is counted as free",
        "P6",
        (
            Edit(
                f"{FARM}/world.py",
                "self.memory_bytes + sign * need.memory_bytes",
                "self.memory_bytes + awake * need.memory_bytes",
            ),
        ),
    ),
    # ---- P7: no job starts before one of higher rank that fits ----
    Plant(
        "a node that takes work again after a refusal is not looked at",
        "P7",
        (
            Edit(
                f"{FARM}/world.py",
                "(old.lost, old.away, old.hold_until_s) != (new.lost, new.away, new.hold_until_s)",
                "(old.lost, old.away) != (new.lost, new.away)",
            ),
        ),
    ),
    Plant(
        "ageing lifts a job into the live queue",
        "P7",
        (
            Edit(
                f"{FARM}/queue.py",
                "level = max(int(Queue.DEFAULT) * _STEPS, level - steps)",
                "level = max(0, level - steps)",
            ),
        ),
    ),
    Plant(
        "a job that fits nowhere ends the look at all that rank behind it",
        "P7",
        (
            Edit(
                f"{FARM}/placement.py",
                "        if node is None:\n            continue\n        handout",
                "        if node is None:\n            break\n        handout",
            ),
        ),
    ),
    # ---- P8: attempts end ----
    Plant(
        "a restarted master has forgotten how often a job has failed",
        "P8",
        (
            Edit(
                f"{MASTER}/store/turns.py",
                "attempt, current, failures, lost, max_retries",
                "attempt, current, lost, max_retries",
            ),
        ),
    ),
    Plant(
        "a loss is counted also when the attempt comes back and is kept",
        "P8",
        (
            Edit(
                f"{FARM}/recovery.py",
                '"lost": tuple(n for n in job.lost if n != attempt.number),',
                '"lost": job.lost,',
            ),
        ),
    ),
    # ---- P9: one live session a key, one node an address ----
    Plant(
        "what an agent said before it was killed counts as the sign that it is alive",
        "P9",
        (Edit(f"{FARM}/sessions.py", "if waiting is None or world.now_s <= waiting.asked_s:", "if waiting is None:"),),
    ),
    Plant(
        "a node that takes over from its own former life may bring the address of another",
        "P9",
        (
            Edit(
                f"{FARM}/sessions.py",
                "        _admit_or_ask(world, waiting.hello, _holder(world, waiting.hello))\n",
                "        admit(world, waiting.hello)\n",
            ),
        ),
    ),
    # ---- P10: every change of state is a row of history ----
    Plant(
        "a turn that the disk did not take is not taken back",
        "P10",
        (
            Edit(
                f"{MASTER}/cycle.py",
                "        self.turns.undo()\n        if not self.callers.refusing:\n",
                "        if not self.callers.refusing:\n",
            ),
        ),
    ),
    # ---- P11: a restart stops no running job and costs it no progress ----
    Plant(
        "a master that was restarted waits five seconds for its agents instead of twenty",
        "P11",
        (Edit(f"{FARM}/farm.py", ">= world.rules.reconnect_grace_s", ">= world.rules.lost_after_live_s"),),
    ),
    Plant(
        "a live job makes its node lost after five seconds, also while its agent is being upgraded",
        "P11",
        (
            Edit(
                f"{FARM}/silence.py",
                "rules.away_after_s if contact.away else rules.lost_after_live_s if live else rules.lost_after_s",
                "rules.lost_after_live_s if live else rules.away_after_s if contact.away else rules.lost_after_s",
            ),
        ),
    ),
    Plant(
        "silence is counted also while the master did not listen",
        "P11",
        (
            Edit(
                f"{FARM}/silence.py",
                "return world.listening_s - contact.heard_s > allowed_s",
                "return world.now_s - contact.heard_at_s > allowed_s",
            ),
        ),
    ),
    Plant(
        "Hello does not name what is over and not acknowledged",
        "P11",
        (
            Edit(
                f"{AGENT}/session.py",
                "            about.capacity,\n"
                "            tuple(a.report() for a in self.attempts.values() if a.step is not Step.CREATING),",
                "            about.capacity,\n"
                "            tuple(a.report() for a in self.attempts.values() if a.step not in (Step.CREATING, Step.OVER)),",
            ),
        ),
    ),
    # ---- P12: nothing that is said makes a daemon hang; and PARITY's "logs dropped" ----
    Plant(
        "old jobs are retired though an attempt of theirs may still be alive",
        "P12",
        (
            Edit(
                f"{MASTER}/store/retention.py",
                " AND NOT EXISTS (SELECT 1 FROM attempts WHERE job = jobs.number AND there = 1) ORDER BY ended_s",
                " ORDER BY ended_s",
            ),
        ),
    ),
    Plant(
        "a piece of a log says that it follows what was acknowledged, not what was sent before it",
        "logs",
        (Edit(f"{AGENT}/shipping.py", "last=at_end, after=after)", "last=at_end, after=log.acked)"),),
    ),
)
