"""What kind of machine this is, its processor and its graphics processors, from what the kernel shows in files."""

from __future__ import annotations

import platform
import re
from pathlib import Path

# DMI's chassis types (SMBIOS 3.7, table 17).
_LAPTOP_CHASSIS = frozenset({8, 9, 10, 11, 14, 30, 31, 32})
_DESKTOP_CHASSIS = frozenset({3, 4, 5, 6, 7, 13, 15, 16, 24, 33, 34, 35, 36})
_SERVER_CHASSIS = frozenset({17, 22, 23, 25, 27, 28, 29})
_VIRTUAL_VENDORS = (
    "qemu",
    "kvm",
    "vmware",
    "virtualbox",
    "innotek",
    "xen",
    "bochs",
    "parallels",
    "bhyve",
    "amazon ec2",
)
_GPU_VENDORS = {"0x8086": "Intel", "0x10de": "NVIDIA", "0x1002": "AMD"}


def hardware_class(root: Path = Path("/")) -> str:
    """laptop, desktop or server. A virtual machine is a server, and so is what says nothing of itself."""
    if is_virtual(root):
        return "server"
    chassis = _text(root / "sys/class/dmi/id/chassis_type")
    kind = int(chassis) if chassis.isdigit() else 0
    if kind in _LAPTOP_CHASSIS or _has_battery(root):
        return "laptop"
    if kind in _SERVER_CHASSIS:
        return "server"
    return "desktop" if kind in _DESKTOP_CHASSIS else "server"


def is_virtual(root: Path = Path("/")) -> bool:
    """Whether a hypervisor is beneath: by the processor's flag, Xen's folder, or the maker that DMI names."""
    if "hypervisor" in _cpuinfo(root).get("flags", "").split():
        return True
    if (root / "sys/hypervisor/type").exists() or (root / "proc/device-tree/hypervisor").exists():
        return True
    maker = " ".join(_text(root / "sys/class/dmi/id" / name) for name in ("sys_vendor", "product_name")).lower()
    return any(vendor in maker for vendor in _VIRTUAL_VENDORS)


def cpu_model(root: Path = Path("/")) -> str:
    """The processor's name; where /proc/cpuinfo has none (ARM), the board's, else the architecture."""
    info = _cpuinfo(root)
    board = _text(root / "proc/device-tree/model").rstrip("\0")
    return info.get("model name") or info.get("cpu") or board or info.get("Hardware") or platform.machine()


def gpus(root: Path = Path("/")) -> tuple[str, ...]:
    """The graphics processors that can compute, each as "NVIDIA GeForce RTX 3060" or "Intel 0x3e92 (i915)".

    A card counts when it has a render node; the plain display chips of servers have none. NVIDIA's own driver may
    show its cards in /proc only.
    """
    named = {folder.name: _nvidia_model(folder) for folder in sorted((root / "proc/driver/nvidia/gpus").glob("*"))}
    found = list(named.values())
    for card in sorted((root / "sys/class/drm").glob("card*")):
        device = (card / "device").resolve()
        if card.name[4:].isdigit() and device.name not in named and any((device / "drm").glob("renderD*")):
            found.append(_card_name(device))
    return tuple(found)


def render_nodes(root: Path = Path("/")) -> tuple[str, ...]:
    """The device files through which VA-API and Quick Sync reach a graphics processor."""
    nodes = (root / "dev/dri").glob("renderD*")
    return tuple(str(node) for node in sorted(nodes, key=lambda node: (len(node.name), node.name)))


def drivers(root: Path = Path("/")) -> str:
    """Kernel and graphics drivers in one line: when it changes, what was proved of hardware encoders is void."""
    versions = [platform.release()]
    versions.append(" ".join(_text(root / "proc/driver/nvidia/version").split("\n")[:1]))
    versions += [
        f"{path.parent.name} {_text(path)}"
        for path in sorted((root / "sys/module").glob("*/version"))
        if path.parent.name in ("nvidia", "i915", "xe", "amdgpu")
    ]
    versions += [Path(node).name for node in render_nodes(root)]
    return "; ".join(version for version in versions if version)


def _has_battery(root: Path) -> bool:
    """Whether the machine itself has a battery; a mouse's has the scope "Device"."""
    for supply in (root / "sys/class/power_supply").glob("*"):
        if _text(supply / "type") == "Battery" and _text(supply / "scope") != "Device":
            return True
    return False


def _nvidia_model(folder: Path) -> str:
    found = re.search(r"^Model:\s*(.+?)\s*$", _text(folder / "information"), re.MULTILINE)
    model = found[1] if found else folder.name
    return model if model.startswith("NVIDIA") else f"NVIDIA {model}"


def _card_name(device: Path) -> str:
    vendor, number = _text(device / "vendor"), _text(device / "device")
    driver = (device / "driver").resolve().name if (device / "driver").exists() else ""
    name = f"{_GPU_VENDORS.get(vendor, vendor)} {number}".strip()
    return f"{name} ({driver})" if name and driver else name or driver or device.name


def _cpuinfo(root: Path) -> dict[str, str]:
    """The first processor's fields of /proc/cpuinfo, and those after the last one (ARM's Hardware)."""
    found: dict[str, str] = {}
    for line in _text(root / "proc/cpuinfo").splitlines():
        name, colon, value = line.partition(":")
        if colon:
            found.setdefault(name.strip(), value.strip())
    return found


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
