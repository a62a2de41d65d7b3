"""`verified`: what the verification found, one JSON object in the attempt directory."""

from __future__ import annotations

from pathlib import Path

import msgspec
from msgspec import Struct

from ffrtmp.errors import FarmError
from ffrtmp.spec import Fingerprint, Results
from ffrtmp.wire import Failure
from ffrtmp_agent.jobfile import write_durably

NAME = "verified"


class Verdict(Struct, frozen=True, omit_defaults=True):
    """`ok` with fingerprint and results, or not with the failure (results may be there too)."""

    ok: bool
    fingerprint: Fingerprint | None = None
    results: Results | None = None
    failure: Failure | None = None


def read(folder: Path) -> Verdict | None:
    """The verdict in an attempt directory, None where there is none yet; raises FarmError for what is none.

    It is a claim of the job's user, as everything that a job writes.
    """
    try:
        verdict = msgspec.json.decode((folder / NAME).read_bytes(), type=Verdict)
    except FileNotFoundError:
        return None
    except msgspec.DecodeError as error:
        raise FarmError(f"{folder / NAME} is no verdict: {error}") from error
    if verdict.ok != (verdict.fingerprint is not None) or verdict.ok == (verdict.failure is not None):
        raise FarmError(f"{folder / NAME} says two things at once")
    return verdict


def write(folder: Path, verdict: Verdict) -> None:
    """Put it there, whole and durable; raises OSError."""
    write_durably(folder / NAME, msgspec.json.encode(verdict) + b"\n")
