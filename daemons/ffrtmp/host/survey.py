"""The survey of this host's ffmpeg: what it was built with, and which encoders were proved, kept on disk.

Trials cost some seconds of CPU, so their outcomes are kept in a file and hold as long as the binary, the kernel and the
drivers are the same: a day for what worked in software, ten minutes for hardware (cards fall off the bus, drivers hang,
sessions run out) and for what failed. What timed out says little on a busy host: a binary that is the same as before is
taken to have the same lists, and a software encoder that was proved with it keeps its offer, and is tried again soon.

The agent's loop drives a `Surveyor` beside its jobs; `survey` is the same to wait for. No error of ffmpeg is an
exception here: what does not work is not offered, and the survey says why.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Generator, Iterable
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec
from msgspec import Struct

from ffrtmp.host import encoders, ffmpeg, hardware
from ffrtmp.host.bounded import Batch, Ran
from ffrtmp.host.encoders import CANDIDATES, Proof
from ffrtmp.host.ffmpeg import Abilities

DAY_S = 86_400.0
SOON_S = 600.0
_FORMAT = 1  # of the file


class Terms(Struct, frozen=True):
    """How long proofs hold and what trials may take, in seconds."""

    software_s: float = DAY_S
    hardware_s: float = SOON_S  # also for what failed
    question_limit_s: float = 5.0
    trial_limit_s: float = 10.0
    total_s: float = 60.0  # of all questions, and again of all trials


DEFAULT_TERMS = Terms()


class Survey(Struct, frozen=True):
    """What was found. `abilities.problem` says why nothing works, where nothing does."""

    program: str
    identity: str = ""  # of the binary, the kernel and the drivers
    abilities: Abilities = Abilities()
    proofs: tuple[Proof, ...] = ()
    engines: tuple[str, ...] = ()
    format: int = _FORMAT

    @property
    def encoders(self) -> tuple[str, ...]:
        """The encoders that are offered."""
        return tuple(proof.encoder for proof in self.proofs if proof.offered)

    def why_not(self, encoder: str) -> str | None:
        """Why an encoder is not offered, in words; None when it is."""
        for proof in self.proofs:
            if proof.encoder == encoder:
                return None if proof.offered else proof.reason
        return self.abilities.problem or "it is none of the encoders that are tried"

    def device(self, encoder: str) -> str:
        """The device through which a VA-API encoder was proved, else empty."""
        return next((proof.device for proof in self.proofs if proof.encoder == encoder), "")

    def due_s(self, terms: Terms = DEFAULT_TERMS) -> float:
        """The wall-clock time at which the first proof is stale; 0 where there is none."""
        return min((_due_s(proof, terms) for proof in self.proofs), default=0.0)


class Surveyor:
    """Makes a survey step by step: `result` is there when `step` returns True. Always `close` it.

    `program` is a name or a path, `now_s` the wall clock. With `force` all is tried anew, whatever the cache has.
    """

    def __init__(
        self,
        program: str = "ffmpeg",
        *,
        now_s: float,
        cache: Path | None = None,
        force: bool = False,
        terms: Terms = DEFAULT_TERMS,
        candidates: Iterable[str] = tuple(CANDIDATES),
    ) -> None:
        self.result: Survey | None = None
        self.unsaved = ""  # why the survey could not be kept, where it could not
        self._cache = cache
        earlier = read_cache(cache) if cache else None
        self._work = _survey(program, tuple(candidates), earlier, force=force, now_s=now_s, terms=terms)
        self._batch: Batch | None = None
        self._go_on(None)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def step(self, wait_s: float = 0.0) -> bool:
        """Go on, waiting at most `wait_s`; whether the survey is finished."""
        if self._batch is not None and self._batch.step(wait_s):
            self._batch.close()
            self._go_on(self._batch.results)
        return self.result is not None

    def close(self) -> None:
        """End what runs."""
        if self._batch is not None:
            self._batch.close()

    def _go_on(self, results: dict[str, Ran] | None) -> None:
        try:
            self._batch = next(self._work) if results is None else self._work.send(results)
        except StopIteration as end:
            self._batch = None
            self.result = end.value
            self._keep(end.value)

    def _keep(self, found: Survey) -> None:
        try:
            if self._cache and found.proofs:
                write_cache(self._cache, found)
        except OSError as error:
            self.unsaved = f"{self._cache}: {error.strerror}"


def survey(
    program: str = "ffmpeg",
    *,
    now_s: float,
    cache: Path | None = None,
    force: bool = False,
    terms: Terms = DEFAULT_TERMS,
    candidates: Iterable[str] = tuple(CANDIDATES),
) -> Survey:
    """As `Surveyor`, to wait for."""
    with Surveyor(program, now_s=now_s, cache=cache, force=force, terms=terms, candidates=candidates) as surveyor:
        while not surveyor.step(1.0):
            pass
        assert surveyor.result is not None
        return surveyor.result


def read_cache(cache: Path) -> Survey | None:
    """The survey of last time, or None where there is none that can be read."""
    try:
        found = msgspec.json.decode(cache.read_bytes(), type=Survey)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return found if found.format == _FORMAT else None


def write_cache(cache: Path, found: Survey) -> None:
    """Keep a survey for the next start; a reader meets the old one or the new one. Raises OSError."""
    draft = cache.with_name(f"{cache.name}.{os.getpid()}.new")
    try:
        draft.write_bytes(msgspec.json.format(msgspec.json.encode(found), indent=1) + b"\n")
        draft.replace(cache)
    except OSError:
        with contextlib.suppress(OSError):
            draft.unlink(missing_ok=True)
        raise


def _survey(
    asked: str, candidates: tuple[str, ...], earlier: Survey | None, *, force: bool, now_s: float, terms: Terms
) -> Generator[Batch, dict[str, Ran], Survey]:
    """The work: gives out batches, gets their results, returns the survey."""
    program = ffmpeg.find(asked)
    try:
        identity = f"{ffmpeg.identity(program)}; {hardware.drivers()}" if program else ""
    except OSError:
        identity = ""  # removed just now
    if not program or not identity:
        return Survey(asked, abilities=Abilities(problem=f"{asked} is not installed"), engines=_engines(False))
    known = {proof.encoder: proof for proof in earlier.proofs} if earlier and earlier.identity == identity else {}
    stale = [name for name in candidates if force or name not in known or _is_stale(known[name], now_s, terms)]
    if earlier and known and not stale:
        return msgspec.structs.replace(earlier, engines=_engines(True))
    answers = yield Batch(ffmpeg.questions(program), limit_s=terms.question_limit_s, total_s=terms.total_s)
    abilities = ffmpeg.read_answers(answers)
    if earlier and known and any(ran.how in ("timed_out", "not_reached") for ran in answers.values()):
        abilities = earlier.abilities
    if abilities.problem:
        return Survey(str(program), identity, abilities, engines=_engines(False))
    nodes = hardware.render_nodes()
    listed = [name for name in stale if name in abilities.listed]
    commands = {name: encoders.trials(name, str(program), nodes) for name in listed}
    flat = {f"{name} {device}": command for name in listed for device, command in commands[name].items()}
    results = yield Batch(flat, limit_s=terms.trial_limit_s, total_s=terms.total_s)
    proofs = dict(known)
    for name in stale:
        ran = {device: results[f"{name} {device}"] for device in commands.get(name, ())}
        proofs[name] = _prove(name, name in abilities.listed, ran, known.get(name), now_s)
    ordered = tuple(proofs[name] for name in CANDIDATES if name in proofs)
    return Survey(str(program), identity, abilities, ordered, _engines(True))


def _prove(encoder: str, listed: bool, ran: dict[str, Ran], before: Proof | None, now_s: float) -> Proof:
    """The proof of an encoder from its trials by device: the first that worked, else what the last one said."""
    if not listed:
        return Proof(encoder, False, "this ffmpeg was built without it", tried_at_s=now_s)
    if not ran:
        return Proof(encoder, False, "there is no render node (/dev/dri/renderD*)", tried_at_s=now_s)
    proofs = [encoders.judge(encoder, result, device=device, now_s=now_s) for device, result in ran.items()]
    best = next((proof for proof in proofs if proof.offered), proofs[-1])
    if before and before.offered and not best.certain and not encoders.is_hardware(encoder):
        return msgspec.structs.replace(best, offered=True, reason=f"proved before; {best.reason}")
    return best


def _is_stale(proof: Proof, now_s: float, terms: Terms) -> bool:
    """A proof of the future is stale too: the clock was put back."""
    return proof.tried_at_s > now_s or _due_s(proof, terms) <= now_s


def _due_s(proof: Proof, terms: Terms) -> float:
    lasting = proof.offered and proof.certain and not encoders.is_hardware(proof.encoder)
    return proof.tried_at_s + (terms.software_s if lasting else terms.hardware_s)


def _engines(ffmpeg_works: bool) -> tuple[str, ...]:
    gstreamer = ("gstreamer",) if shutil.which("gst-launch-1.0") else ()
    return (("ffmpeg",) if ffmpeg_works else ()) + gstreamer
