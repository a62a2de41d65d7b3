"""A peer on a fresh socket, and ffrtmpctl run against it."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from ctl.peer import Peer

from ffrtmp.api import JobView
from ffrtmpctl import client
from ffrtmpctl.main import main

PROGRAM = Path(sys.executable).with_name("ffrtmpctl")


@dataclass(frozen=True)
class Run:
    """What a run of ffrtmpctl left: its exit code and its words."""

    code: int
    out: str
    err: str


Ctl = Callable[..., Run]


@pytest.fixture
def socket() -> Iterator[Path]:
    """A path that is short enough for a Unix socket, wherever the tests run."""
    with TemporaryDirectory(prefix="ffrtmp-ctl-") as folder:
        yield Path(folder) / "master.sock"


@pytest.fixture
def peer(socket: Path) -> Iterator[Peer]:
    with Peer(socket) as serving:
        yield serving


@pytest.fixture
def ctl(socket: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Ctl:
    """Run ffrtmpctl in this process. The pauses between two tries are kept, only shorter."""
    monkeypatch.setenv("FFRTMP_MASTER", str(socket))
    monkeypatch.setattr(client, "PAUSES_S", tuple(pause / 20 for pause in client.PAUSES_S))

    def run(*words: object) -> Run:
        code = main([str(word) for word in words])
        out, err = capfd.readouterr()
        return Run(code, out, err)

    return run


@pytest.fixture
def environment(socket: Path) -> dict[str, str]:
    """For ffrtmpctl as a process of its own."""
    return {**os.environ, "FFRTMP_MASTER": str(socket), "TERM": "xterm", "COLUMNS": "100"}


def a_job(**fields: Any) -> JobView:
    """A job's view, running unless told otherwise."""
    known: dict[str, Any] = {
        "job": 42,
        "uuid": "7d1f0a52-55a5-4d43-9d77-0c3b1fb9b0aa",
        "state": "running",
        "queue": "default",
        "priority": "medium",
        "scenario": "720p-h264",
        "classification": "production",
        "input": "media:in.mov",
        "output": "media:out.mp4",
        "submitted": "2026-01-31T12:00:00.000Z",
    }
    return JobView(**{**known, **fields})
