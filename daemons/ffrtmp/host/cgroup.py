"""What the control groups above a process leave it: cores and memory, under cgroup v1, v2 and the two side by side.

A container, a slice or a service may have far less than the machine, and nothing but the cgroup files says so. A bound
on any ancestor counts, so each controller's tree is walked from the process up to the mount. Inside a container the
path in /proc/self/cgroup may be the host's while the mount shows only the container's part of the tree; what the mount
shows is then the top.

Where jobs run in a cgroup other than ours (`ffrtmp.slice` under systemd), that one is asked about by name; as long as
it does not exist its nearest ancestor answers.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

_V1_NO_LIMIT = 1 << 62  # v1 writes "no limit" as the largest multiple of a page


@dataclass(frozen=True, slots=True)
class Bounds:
    """What the control groups allow. None: no bound."""

    cpu_milli: int | None = None
    memory_bytes: int | None = None
    free_memory_bytes: int | None = None  # what is left below the tightest memory bound, page cache counted as free


def read_bounds(root: Path = Path("/"), cgroup: str | None = None) -> Bounds:
    """The bounds on this process, or on the cgroup path `cgroup` (such as "/ffrtmp.slice")."""
    cpus = [milli for folder in _folders(root, "cpu", cgroup) if (milli := _cpu_milli(folder)) is not None]
    limits: list[int] = []
    free: list[int] = []
    for folder in _folders(root, "memory", cgroup):
        limit = _memory_limit(folder)
        if limit is not None:
            limits.append(limit)
            free.append(max(0, limit - _memory_in_use(folder)))
    return Bounds(min(cpus, default=None), min(limits, default=None), min(free, default=None))


def _folders(root: Path, controller: str, cgroup: str | None) -> Iterator[Path]:
    """The folders of the process's group and of all its ancestors, in each hierarchy that may hold `controller`."""
    paths = _paths(root, controller)
    for hierarchy, mount_root, mount_point in _mounts(root, controller):
        path = cgroup if cgroup is not None else paths.get(hierarchy)
        if path is None:
            continue
        top = root / mount_point.lstrip("/")
        below = PurePosixPath(path)
        inside = below.relative_to(mount_root) if below.is_relative_to(mount_root) else PurePosixPath()
        if ".." in inside.parts:
            inside = PurePosixPath()
        for depth in range(len(inside.parts), -1, -1):
            yield top.joinpath(*inside.parts[:depth])


def _paths(root: Path, controller: str) -> dict[str, str]:
    """hierarchy ("" for v2, else the controller) -> the process's path in it."""
    found: dict[str, str] = {}
    for line in _text(root / "proc/self/cgroup").splitlines():
        number, controllers, path = line.split(":", 2)
        if number == "0" and not controllers:
            found[""] = path
        elif controller in controllers.split(","):
            found[controller] = path
    return found


def _mounts(root: Path, controller: str) -> Iterator[tuple[str, str, str]]:
    """(hierarchy, root of the mount, mount point) of v2 and of the controller's v1 hierarchy, where mounted."""
    for line in _text(root / "proc/self/mountinfo").splitlines():
        before, _, after = line.partition(" - ")
        kind, _, options = after.split(" ", 2) if after.count(" ") >= 2 else ("", "", "")
        fields = before.split(" ")
        if len(fields) < 5:
            continue
        if kind == "cgroup2":
            yield "", fields[3], fields[4]
        elif kind == "cgroup" and controller in options.split(","):
            yield controller, fields[3], fields[4]


def _cpu_milli(folder: Path) -> int | None:
    quota, _, period = _text(folder / "cpu.max").strip().partition(" ")  # v2: "max 100000" or "150000 100000"
    if not quota:
        quota, period = _text(folder / "cpu.cfs_quota_us").strip(), _text(folder / "cpu.cfs_period_us").strip()
    if not quota.isdigit() or not period.isdigit() or not int(period):
        return None  # no file, "max", or "-1"
    return max(1, int(quota) * 1000 // int(period))


def _memory_limit(folder: Path) -> int | None:
    value = _text(folder / "memory.max").strip() or _text(folder / "memory.limit_in_bytes").strip()
    return int(value) if value.isdigit() and int(value) < _V1_NO_LIMIT else None


def _memory_in_use(folder: Path) -> int:
    """Bytes used less those of files that were not used lately, which the kernel takes back when asked."""
    used = _text(folder / "memory.current").strip() or _text(folder / "memory.usage_in_bytes").strip()
    stat = dict(line.split(" ", 1) for line in _text(folder / "memory.stat").splitlines() if " " in line)
    reclaimable = stat.get("total_inactive_file", stat.get("inactive_file", "0"))
    return max(0, int(used) - int(reclaimable)) if used.isdigit() and reclaimable.isdigit() else 0


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
