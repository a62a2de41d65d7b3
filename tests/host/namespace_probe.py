"""Run in a network namespace of its own, as root of it: makes links, and prints as JSON what ffrtmp saw of them.

The namespace ends with this process, and all that was made in it.
"""

from __future__ import annotations

import json
import select
import sys
import time
from typing import Any

from pyroute2 import IPRoute  # type: ignore[import-untyped]

from ffrtmp.errors import FarmError
from ffrtmp.host.network import Watcher, read_counters, route_to

MASTER, MASTER6 = "192.0.2.1", "2001:db8::1"


def heard(watcher: Watcher, kind: str, limit_s: float = 5.0) -> bool:
    """Whether the watcher tells of `kind` in time, its descriptor being polled as the agent does."""
    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline:
        if select.select([watcher], [], [], 0.2)[0] and kind in watcher.changed():
            return True
    return False


def route_or_complaint(master: str) -> Any:
    try:
        found = route_to(master)
    except FarmError as error:
        return error.what
    return [found.source, found.interface, found.link_speed_mbps]


def main() -> None:
    seen: dict[str, Any] = {"before": route_or_complaint(MASTER)}
    with IPRoute() as kernel, Watcher() as watcher:
        kernel.link("add", ifname="farm0", kind="veth", peer="farm1")
        farm0, farm1 = kernel.link_lookup(ifname="farm0")[0], kernel.link_lookup(ifname="farm1")[0]
        kernel.link("set", index=farm0, state="up")
        kernel.link("set", index=farm1, state="up")
        seen["heard_link"] = heard(watcher, "link")

        kernel.addr("add", index=farm0, address="192.0.2.7", prefixlen=24)
        kernel.addr("add", index=farm0, address="2001:db8::7", prefixlen=64, flags=2)  # without duplicate detection
        seen["heard_address"] = heard(watcher, "address")
        seen["first"] = route_or_complaint(f"https://{MASTER}:8080")
        seen["first6"] = route_or_complaint(f"tcp://[{MASTER6}]:8081")
        seen["behind_a_router_before"] = route_or_complaint("198.51.100.1")

        watcher.changed()
        kernel.route("add", dst="default", gateway=MASTER)
        seen["heard_route"] = heard(watcher, "route")
        seen["behind_a_router"] = route_or_complaint("198.51.100.1")

        watcher.changed()
        kernel.addr("del", index=farm0, address="192.0.2.7", prefixlen=24)
        kernel.addr("add", index=farm0, address="192.0.2.8", prefixlen=24)
        seen["heard_change"] = heard(watcher, "address")
        seen["changed"] = route_or_complaint(MASTER)

        seen["own_address"] = route_or_complaint("192.0.2.8")
        seen["gone"] = read_counters("farm9").tx_bytes

        watcher.changed()
        for number in range(2000):  # more than the socket holds
            kernel.addr("add", index=farm0, address=f"10.{number >> 8}.{number & 255}.1", prefixlen=32)
        seen["flooded"] = sorted(watcher.changed())
        seen["quiet"] = sorted(watcher.changed())
    json.dump(seen, sys.stdout)


main()
