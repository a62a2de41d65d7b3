"""How long a call takes, on a machine that may be busy with something else."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil

LIMIT_S = 0.150
PATIENCE_S = 30.0


def cost_s(command: Sequence[str | Path], environment: Mapping[str, str], server_pid: int) -> float:
    """The processor time, in seconds, that a call takes of the client and the server together.

    The two take turns and wait for nothing else, so on an idle machine this is the wall time; on one that runs other
    tests beside this one it still is what the call takes.
    """
    server = psutil.Process(server_pid)
    before = server.cpu_times()
    with open(os.devnull, "wb") as nowhere:  # noqa: PTH123 - a descriptor for the child
        client = os.posix_spawn(
            command[0],
            [str(word) for word in command],
            dict(environment),
            file_actions=[(os.POSIX_SPAWN_DUP2, nowhere.fileno(), 1), (os.POSIX_SPAWN_DUP2, nowhere.fileno(), 2)],
        )
        _, status, used = os.wait4(client, 0)
    assert status == 0
    after = server.cpu_times()
    return used.ru_utime + used.ru_stime + after.user + after.system - before.user - before.system


def soon_enough(command: Sequence[str | Path], environment: Mapping[str, str], server_pid: int) -> bool:
    """Whether the call is done within the limit. On a machine that is busy it gets some more tries."""
    gives_up_s = time.monotonic() + PATIENCE_S
    while time.monotonic() < gives_up_s:
        if cost_s(command, environment, server_pid) < LIMIT_S:
            return True
    return False
