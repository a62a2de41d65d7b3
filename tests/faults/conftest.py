"""What the tests of this folder share: how much of the faults is run, and where it is written down."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from faults.ledger import Ledger

FULL = os.environ.get("FAULTS", "sample") == "full"


@pytest.fixture(scope="session")
def full() -> bool:
    """Whether every point is run, or a sample."""
    return FULL


@pytest.fixture(scope="session")
def seed() -> int:
    """Chooses the sample; FAULTS_SEED repeats one."""
    return int(os.environ.get("FAULTS_SEED") or random.SystemRandom().randrange(1_000_000))


@pytest.fixture(scope="session")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ledger]:
    """The lines of this run."""
    given = os.environ.get("FAULTS_RESULTS")
    yield Ledger(Path(given) if given else tmp_path_factory.getbasetemp() / "faults.jsonl")
