"""A node tells what it is: measured here, read from kernels' files that are laid out in a folder, and bounded."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import ffrtmp
from ffrtmp.host import facts, hardware
from ffrtmp.host.cgroup import Bounds, read_bounds

GIB = 1 << 30


def lay_out(root: Path, files: dict[str, str]) -> Path:
    """Files with their content under `root`, as a kernel would show them."""
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return root


def test_a_node_tells_the_facts_of_this_very_host():
    found = facts.measure(
        ffmpeg="5.1.9",
        runner="plain",
        confinement="landlock",
        unenforced=("tasks",),
        interface="lo",
        link_speed_mbps=10,
    )
    total_kib = next(int(line.split()[1]) for line in Path("/proc/meminfo").read_text().splitlines())
    assert found.hostname == socket.gethostname()
    assert found.kernel == platform.release()
    assert found.system.startswith(platform.freedesktop_os_release()["NAME"])
    assert found.cpu_model
    assert 1 <= found.cpu_count <= len(os.sched_getaffinity(0))
    assert 0 < found.memory_bytes <= total_kib * 1024
    assert found.hardware in ("laptop", "desktop", "server")
    assert found.agent_version == ffrtmp.__version__
    told = (found.ffmpeg, found.runner, found.confinement, found.unenforced, found.interface, found.link_speed_mbps)
    assert told == ("5.1.9", "plain", "landlock", ("tasks",), "lo", 10)


def test_the_load_in_each_heartbeat_is_cheap_to_read():
    started = time.perf_counter()
    for _ in range(100):
        load = facts.read_load()
    assert (time.perf_counter() - started) / 100 < 0.05
    assert len(load.average) == 3
    assert 0 < load.free_memory_bytes <= facts.usable().memory_bytes


def measured_elsewhere(setup: str) -> facts.Usable:
    """What a process of its own measures after `setup`, which is Python."""
    code = (
        f"import json, os, sys\n{setup}\nfrom ffrtmp.host import facts\n"
        "room = facts.usable()\nprint(json.dumps([room.cpu_milli, room.memory_bytes]))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30)
    return facts.Usable(*json.loads(ran.stdout))


def test_cores_that_affinity_takes_away_are_not_offered():
    one = min(os.sched_getaffinity(0))
    assert measured_elsewhere(f"os.sched_setaffinity(0, {{{one}}})").cpu_milli <= 1000


@contextlib.contextmanager
def memory_group(limit_bytes: int) -> Iterator[Path | None]:
    """A real control group with a memory limit, or None where this user or kernel cannot make one."""
    folder, limit = Path("/sys/fs/cgroup/memory"), "memory.limit_in_bytes"
    if not folder.is_dir():
        folder, limit = Path("/sys/fs/cgroup"), "memory.max"
    group = folder / f"ffrtmp-test-{os.getpid()}"
    try:
        group.mkdir()
    except OSError:
        yield None
        return
    try:
        try:
            (group / limit).write_text(str(limit_bytes))
        except OSError:
            yield None
        else:
            yield group
    finally:
        group.rmdir()


def test_memory_that_a_real_control_group_takes_away_is_not_offered(tmp_path: Path):
    with memory_group(GIB) as group:
        if group is None:
            root = lay_out(tmp_path, {**V2, "sys/fs/cgroup/a/memory.max": str(GIB)})
            assert facts.usable(root).memory_bytes == GIB
        else:
            enter = f"open({str(group / 'cgroup.procs')!r}, 'w').write(str(os.getpid()))"
            assert measured_elsewhere(enter).memory_bytes == GIB


V2 = {
    "proc/self/cgroup": "0::/a/b\n",
    "proc/self/mountinfo": "25 20 0:22 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n",
}
V1 = {
    "proc/self/cgroup": "4:memory:/docker/7\n3:cpu,cpuacct:/docker/7\n1:name=systemd:/docker/7\n0::/\n",
    "proc/self/mountinfo": (
        "30 20 0:25 /docker/7 /sys/fs/cgroup/cpu,cpuacct ro - cgroup cgroup rw,cpu,cpuacct\n"
        "31 20 0:26 /docker/7 /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n"
        "32 20 0:27 / /sys/fs/cgroup/unified ro - cgroup2 cgroup2 rw\n"
    ),
}


def test_the_tightest_bound_of_all_ancestors_counts_under_cgroup_v2(tmp_path: Path):
    root = lay_out(
        tmp_path,
        {
            **V2,
            "sys/fs/cgroup/a/cpu.max": "150000 100000\n",
            "sys/fs/cgroup/a/b/cpu.max": "max 100000\n",
            "sys/fs/cgroup/a/memory.max": f"{3 * GIB}\n",
            "sys/fs/cgroup/a/memory.current": f"{GIB}\n",
            "sys/fs/cgroup/a/memory.stat": f"anon {GIB // 2}\ninactive_file {GIB // 2}\n",
            "sys/fs/cgroup/a/b/memory.max": "max\n",
        },
    )
    assert read_bounds(root) == Bounds(1500, 3 * GIB, 3 * GIB - GIB // 2)


def test_a_container_under_cgroup_v1_is_bounded_though_its_path_is_the_hosts(tmp_path: Path):
    root = lay_out(
        tmp_path,
        {
            **V1,
            "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "50000\n",
            "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000\n",
            "sys/fs/cgroup/memory/memory.limit_in_bytes": f"{2 * GIB}\n",
            "sys/fs/cgroup/memory/memory.usage_in_bytes": f"{GIB}\n",
            "sys/fs/cgroup/memory/memory.stat": f"inactive_file 0\ntotal_inactive_file {GIB // 4}\n",
        },
    )
    assert read_bounds(root) == Bounds(500, 2 * GIB, 2 * GIB - GIB + GIB // 4)


@pytest.mark.parametrize("unlimited", ["9223372036854771712", "", "nonsense"])
def test_no_limit_is_no_bound(tmp_path: Path, unlimited: str):
    files = {
        **V1,
        "sys/fs/cgroup/memory/memory.limit_in_bytes": unlimited,
        "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "-1",
    }
    assert read_bounds(lay_out(tmp_path, files)) == Bounds()


def test_the_slice_of_the_jobs_is_measured_and_not_the_agents_own_group(tmp_path: Path):
    root = lay_out(
        tmp_path,
        {
            **V2,
            "sys/fs/cgroup/a/memory.max": str(GIB),
            "sys/fs/cgroup/ffrtmp.slice/memory.max": str(8 * GIB),
        },
    )
    assert read_bounds(root, cgroup="/ffrtmp.slice").memory_bytes == 8 * GIB
    assert read_bounds(root, cgroup="/ffrtmp.slice/not-there-yet").memory_bytes == 8 * GIB
    assert read_bounds(root).memory_bytes == GIB


def test_a_host_that_shows_nothing_of_its_groups_is_measured_all_the_same(tmp_path: Path):
    assert read_bounds(tmp_path) == Bounds()
    assert facts.measure(root=tmp_path).memory_bytes > 0


@pytest.mark.parametrize(
    ("files", "kind"),
    [
        ({"sys/class/dmi/id/chassis_type": "10\n"}, "laptop"),
        ({"sys/class/dmi/id/chassis_type": "3\n"}, "desktop"),
        ({"sys/class/dmi/id/chassis_type": "23\n"}, "server"),
        ({"sys/class/power_supply/BAT0/type": "Battery\n"}, "laptop"),
        (
            {
                "sys/class/dmi/id/chassis_type": "3",
                "sys/class/power_supply/mouse/type": "Battery\n",
                "sys/class/power_supply/mouse/scope": "Device\n",
            },
            "desktop",
        ),
        ({"sys/class/dmi/id/chassis_type": "10", "proc/cpuinfo": "flags\t\t: fpu hypervisor sse\n"}, "server"),
        ({"sys/class/dmi/id/chassis_type": "1", "sys/class/dmi/id/sys_vendor": "QEMU\n"}, "server"),
        ({}, "server"),
    ],
)
def test_hardware_is_told_as_laptop_desktop_or_server(tmp_path: Path, files: dict[str, str], kind: str):
    assert hardware.hardware_class(lay_out(tmp_path, files)) == kind


def card(root: Path, number: int, address: str, vendor: str, driver: str, *, renders: bool) -> None:
    """A graphics card as sysfs shows it, links and all."""
    device = root / "sys/devices" / address
    lay_out(device, {"vendor": vendor, "device": "0x1234"})
    (device / "drm" / (f"renderD{128 + number}" if renders else f"card{number}")).mkdir(parents=True)
    drivers = root / "sys/bus/pci/drivers" / driver
    drivers.mkdir(parents=True, exist_ok=True)
    (device / "driver").symlink_to(drivers)
    shown = root / f"sys/class/drm/card{number}"
    shown.mkdir(parents=True)
    (shown / "device").symlink_to(device)
    (root / f"sys/class/drm/card{number}-HDMI-A-1").mkdir()


def test_graphics_processors_are_listed_once_and_display_chips_are_not(tmp_path: Path):
    card(tmp_path, 0, "0000:00:02.0", "0x8086\n", "i915", renders=True)
    card(tmp_path, 1, "0000:01:00.0", "0x10de\n", "nvidia", renders=True)
    card(tmp_path, 2, "0000:02:00.0", "0x1a03\n", "ast", renders=False)
    lay_out(
        tmp_path,
        {"proc/driver/nvidia/gpus/0000:01:00.0/information": "Model: \t\t NVIDIA GeForce RTX 3060\nIRQ:   95\n"},
    )
    assert hardware.gpus(tmp_path) == ("NVIDIA GeForce RTX 3060", "Intel 0x1234 (i915)")


def test_a_new_driver_or_device_makes_proofs_of_hardware_void(tmp_path: Path):
    before = hardware.drivers(tmp_path)
    lay_out(tmp_path, {"proc/driver/nvidia/version": "NVRM version: 550.1\nGCC version: 12\n"})
    with_driver = hardware.drivers(tmp_path)
    lay_out(tmp_path, {"dev/dri/renderD128": ""})
    assert len({before, with_driver, hardware.drivers(tmp_path)}) == 3
    assert hardware.render_nodes(tmp_path) == (str(tmp_path / "dev/dri/renderD128"),)
