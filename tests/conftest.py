"""What holds for all tests: how they find each other, how hypothesis runs, and that they leave no process behind.

Helpers that several directories share are modules beside this file (`tests/` is on the path: `import clips`,
`from runner.engines import ...`). Files of one name in two directories do not collide (import mode importlib).
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from hypothesis import HealthCheck, settings

settings.register_profile(
    "house", deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
settings.register_profile("long", settings.get_profile("house"), max_examples=2000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "house"))

_GRACE_S = 5.0  # for what has been told to end and is about to


@pytest.fixture(scope="session", autouse=True)
def nothing_is_left_running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Ends and reports what a test left running: its children, and daemonized processes that work in its folders."""
    base = tmp_path_factory.getbasetemp()
    yield
    deadline = time.monotonic() + _GRACE_S
    while (left := _left_over(base)) and time.monotonic() < deadline:
        psutil.wait_procs(left, timeout=0.1)
    named = [_name(process) for process in left]
    for process in left:
        _kill(process)
    assert not named, f"tests left processes running: {named}"


def _left_over(base: Path) -> list[psutil.Process]:
    children = set(psutil.Process().children(recursive=True))
    return [
        process
        for process in psutil.process_iter()
        if process.pid != os.getpid()
        and (process in children or _works_in(process, base))
        and process.is_running()
        and _status(process) != psutil.STATUS_ZOMBIE
    ]


def _works_in(process: psutil.Process, base: Path) -> bool:
    try:
        words = [*process.cmdline(), process.cwd()]
    except psutil.Error:
        return False
    return any(word == str(base) or f"{base}/" in word for word in words)


def _status(process: psutil.Process) -> str:
    try:
        return process.status()
    except psutil.Error:
        return psutil.STATUS_ZOMBIE


def _name(process: psutil.Process) -> str:
    try:
        return f"{process.pid}: {' '.join(process.cmdline())[:200]}"
    except psutil.Error:
        return str(process.pid)


def _kill(process: psutil.Process) -> None:
    try:
        process.kill()
    except psutil.Error:
        return
