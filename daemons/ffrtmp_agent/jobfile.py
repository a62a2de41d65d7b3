"""`job.json`: what an attempt was asked to do, written once by the agent before anything of the attempt starts.

It is all that the guard, the verification and an agent that starts anew need to know, so it is complete on disk
(contents and name) when `write` returns.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct, field

from ffrtmp.errors import FarmError
from ffrtmp.spec import Fingerprint, JobSpec

_DRAFT = re.compile(r"\..+\.[0-9]+")


class Paths(Struct, frozen=True):
    """The real places of an attempt on this node."""

    input: str  # a file or a URL; empty for a generated pattern
    staging: str  # ROOT/.ffrtmp/42.1-FARM
    output: str  # where the result is to stand in the end
    staged: str  # the same name inside staging: a file, or a folder of pictures


class JobFile(Struct, frozen=True):
    """The contents of `job.json`. Unknown fields are ignored: another version may have written it."""

    uuid: str
    job: int
    attempt: int
    queue: str
    priority: str
    spec: JobSpec
    paths: Paths
    guard: dict[str, Any] = field(default_factory=dict)  # the runner's own
    granted: tuple[Fingerprint, ...] = ()  # of earlier attempts: a target that equals one *is* the output


def read(path: Path) -> JobFile:
    """The job file at `path`; raises FarmError when it is not there or is none."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=JobFile)
    except OSError as error:
        raise FarmError(f"cannot read {path}: {error.strerror}") from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise FarmError(f"{path} is no job file: {error}") from error


def write(path: Path, jobfile: JobFile) -> None:
    """Put `jobfile` at `path`, whole or not at all, and durable on return; raises OSError."""
    write_durably(path, msgspec.json.format(msgspec.json.encode(jobfile), indent=1) + b"\n")


def write_durably(path: Path, content: bytes) -> None:
    """Write a small file beside its place, fsync it, rename it and fsync the folder; raises OSError."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with beside.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        beside.rename(path)
    except OSError:
        beside.unlink(missing_ok=True)
        raise
    fsync(path.parent)


def clear_drafts(folder: Path) -> None:
    """Remove what `write_durably` left half written when its process died; for the one that alone writes in `folder`."""
    for path in folder.iterdir():
        if _DRAFT.fullmatch(path.name):
            path.unlink(missing_ok=True)


def fsync(path: Path) -> None:
    """Make what was written to a file, or the names in a folder, durable; raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
