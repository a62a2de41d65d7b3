"""What this host is, for people and for placement; and the two figures that every heartbeat carries.

`measure` takes some milliseconds and is asked at the start and when something changed; `read_load` is a few small
files and is asked with each heartbeat. Neither starts a process. What other parts of the agent know (the version of
ffmpeg, the route to the master, how jobs are confined) is handed in.
"""

from __future__ import annotations

import os
import platform
import socket
from dataclasses import dataclass
from pathlib import Path

import psutil

from ffrtmp import __version__
from ffrtmp.host import cgroup as cgroups
from ffrtmp.host import hardware
from ffrtmp.wire import Facts


@dataclass(frozen=True, slots=True)
class Usable:
    """What jobs could have of this host if all of it were theirs: cores in thousandths, and bytes of memory."""

    cpu_milli: int
    memory_bytes: int


@dataclass(frozen=True, slots=True)
class Load:
    """How busy the host is: run queue over 1, 5 and 15 minutes, and bytes that can be had without swapping."""

    average: tuple[float, float, float]
    free_memory_bytes: int


def usable(root: Path = Path("/"), cgroup: str | None = None) -> Usable:
    """The cores that affinity and quota leave, and the memory that the control groups leave.

    `cgroup` is where jobs run when that is not this process's own group, e.g. "/ffrtmp.slice".
    """
    bounds = cgroups.read_bounds(root, cgroup)
    cpu_milli = 1000 * len(os.sched_getaffinity(0))
    memory_bytes = int(psutil.virtual_memory().total)
    return Usable(
        cpu_milli=min(cpu_milli, bounds.cpu_milli or cpu_milli),
        memory_bytes=min(memory_bytes, bounds.memory_bytes or memory_bytes),
    )


def read_load(root: Path = Path("/"), cgroup: str | None = None) -> Load:
    """The load now; well under a millisecond."""
    free = int(psutil.virtual_memory().available)
    bound = cgroups.read_bounds(root, cgroup).free_memory_bytes
    return Load(average=os.getloadavg(), free_memory_bytes=free if bound is None else min(free, bound))


def measure(
    *,
    ffmpeg: str = "",
    runner: str = "",
    confinement: str = "",
    unenforced: tuple[str, ...] = (),
    interface: str = "",
    link_speed_mbps: int = 0,
    root: Path = Path("/"),
    cgroup: str | None = None,
) -> Facts:
    """The facts of this host. `root` is where /proc, /sys and /etc are looked for; a part that is not there is empty.

    `cpu_count` is of usable cores, a part of one counted as one.
    """
    room = usable(root, cgroup)
    return Facts(
        hostname=socket.gethostname(),
        system=system_name(),
        kernel=platform.release(),
        cpu_model=hardware.cpu_model(root),
        cpu_count=-(-room.cpu_milli // 1000),
        memory_bytes=room.memory_bytes,
        gpus=hardware.gpus(root),
        hardware=hardware.hardware_class(root),
        ffmpeg=ffmpeg,
        runner=runner,
        confinement=confinement,
        unenforced=unenforced,
        agent_version=__version__,
        link_speed_mbps=link_speed_mbps,
        interface=interface,
    )


def system_name() -> str:
    """The system's own name for itself, e.g. "Debian GNU/Linux 12 (bookworm)"."""
    try:
        release = platform.freedesktop_os_release()
    except OSError:
        return platform.system()
    return release.get("PRETTY_NAME") or release.get("NAME") or platform.system()
