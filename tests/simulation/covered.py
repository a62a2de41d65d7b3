"""Which branches of the rules, the turns, the store's commits and the session were taken in simulated worlds."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import coverage

HERE = Path(__file__).resolve().parents[2]
WATCHED = (
    "daemons/ffrtmp/farm/*",
    "daemons/ffrtmp_master/turn.py",
    "daemons/ffrtmp_master/cycle.py",
    "daemons/ffrtmp_master/callers.py",
    "daemons/ffrtmp_master/store/store.py",
    "daemons/ffrtmp_master/store/turns.py",
    "daemons/ffrtmp_master/store/database.py",
    "daemons/ffrtmp_agent/session.py",
)


@contextlib.contextmanager
def watching(*, asked: bool) -> Iterator[None]:
    """Watch what is imported and run in this block, where that is asked for, and tell what was not reached."""
    watch = coverage.Coverage(branch=True, data_file=None, include=[str(HERE / each) for each in WATCHED])
    if asked:
        watch.start()
    yield
    if asked:
        watch.stop()
        watch.report(show_missing=True, skip_covered=True)
