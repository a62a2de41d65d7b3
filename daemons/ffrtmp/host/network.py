"""How this host reaches its master: the source address and interface of the route, link speed and counters, changes.

The kernel is asked, by netlink (pyroute2), which route it would take, so that rules, metrics and several interfaces are
judged as they will be for the connection itself. None of this needs a privilege. The kernel answers at once; only the
resolver may not, so names are looked up by a process that can be ended.

pyroute2's calls drive an event loop of their own: they are for a thread that has no asyncio loop running, which the
agent's is.
"""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
import struct
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from msgspec import Struct
from pyroute2 import IPRoute, NlEthtool  # type: ignore[import-untyped]
from pyroute2.netlink import rtnl  # type: ignore[import-untyped]
from pyroute2.netlink.exceptions import NetlinkError  # type: ignore[import-untyped]

from ffrtmp.errors import Exit, FarmError
from ffrtmp.host.address import as_number, master_host, plain
from ffrtmp.host.bounded import Batch

_UNKNOWN_SPEED = 0xFFFFFFFF
_ETHTOOL_SPEED = "ETHTOOL_A_LINKMODES_SPEED"


class Route(Struct, frozen=True):
    """The way to a master. `link_speed_mbps` is 0 where the link has none or does not tell."""

    source: str
    destination: str
    interface: str
    index: int
    link_speed_mbps: int = 0


class Counters(Struct, frozen=True):
    """Bytes that an interface has received and sent since it came up."""

    rx_bytes: int = 0
    tx_bytes: int = 0


def resolve(host: str, *, limit_s: float = 3.0) -> tuple[str, ...]:
    """The addresses of a host in the order of preference; raises FarmError when there are none within `limit_s`."""
    if as_number(host) is not None:
        return (host,)
    # getaddrinfo cannot be interrupted, and a silent name server holds it for minutes.
    batch = Batch({host: ("getent", "ahosts", "--", host)}, limit_s=limit_s, total_s=limit_s)
    ran = batch.run()[host]
    found = tuple(dict.fromkeys(line.split()[0] for line in ran.output.splitlines() if line.strip()))
    if not ran.ok or not found:
        why = f"no answer within {limit_s:g} s" if ran.how == "timed_out" else "no such name"
        hint = "check the master's name and this host's name servers (getent ahosts NAME)"
        raise FarmError(f"{host} cannot be resolved: {why}", hint=hint, code=Exit.NO_MASTER)
    return found


def route_to(master: str, *, limit_s: float = 3.0) -> Route:
    """The route to a master, which tells the node's address unless its owner gives one.

    A master on loopback gives 127.0.0.1 or ::1. Of several addresses of a name the first with a route counts. Raises
    FarmError when the name is not resolved within `limit_s`, or no address has a route.
    """
    host = master_host(master)
    complaint = ""
    with IPRoute() as kernel:
        for address in resolve(host, limit_s=limit_s):
            try:
                return _route(kernel, address)
            except (NetlinkError, OSError) as error:
                complaint = complaint or _words(error)
    hint = "check this host's links and routes (ip route get ADDRESS)"
    raise FarmError(f"there is no route to {host}: {complaint}", hint=hint, code=Exit.NO_MASTER)


def read_counters(interface: str) -> Counters:
    """What an interface has carried; zeros when it is gone."""
    try:
        with IPRoute() as kernel:
            stats = kernel.link("get", ifname=interface)[0].get_attr("IFLA_STATS64")
    except (NetlinkError, OSError):
        return Counters()
    return Counters(int(stats["rx_bytes"]), int(stats["tx_bytes"])) if stats else Counters()


class Watcher:
    """Tells that links, addresses or routes of this host changed, so that its address is measured again.

    A non-blocking netlink socket: put `fileno` into the poll loop and call `changed` when it is readable. What the
    messages say is not believed in part: the caller measures all anew, which takes a millisecond.
    """

    _GROUPS = (
        rtnl.RTMGRP_LINK
        | rtnl.RTMGRP_IPV4_IFADDR
        | rtnl.RTMGRP_IPV6_IFADDR
        | rtnl.RTMGRP_IPV4_ROUTE
        | rtnl.RTMGRP_IPV6_ROUTE
    )
    _KINDS = (
        (frozenset({rtnl.RTM_NEWLINK, rtnl.RTM_DELLINK}), "link"),
        (frozenset({rtnl.RTM_NEWADDR, rtnl.RTM_DELADDR}), "address"),
        (frozenset({rtnl.RTM_NEWROUTE, rtnl.RTM_DELROUTE}), "route"),
    )
    _HEADER = struct.Struct("=IHHII")  # length, type, flags, sequence, port

    def __init__(self) -> None:
        self._socket = socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE
        )
        try:
            self._socket.bind((0, self._GROUPS))
        except OSError:
            self._socket.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def fileno(self) -> int:
        """Readable when something changed."""
        return self._socket.fileno()

    def changed(self) -> frozenset[str]:
        """What changed since the last call: "link", "address", "route"; empty when nothing did. Never blocks."""
        kinds: set[str] = set()
        while True:
            try:
                data, sender = self._socket.recvfrom(1 << 16)
            except BlockingIOError:
                return frozenset(kinds)
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                kinds |= {kind for _, kind in self._KINDS}  # more happened than the socket holds
                continue
            if sender[0] == 0:  # the kernel; any process may send to a netlink socket
                kinds |= self._kinds(data)

    def close(self) -> None:
        """Stop watching."""
        self._socket.close()

    def _kinds(self, data: bytes) -> set[str]:
        kinds: set[str] = set()
        offset = 0
        while offset + self._HEADER.size <= len(data):
            length, number, *_ = self._HEADER.unpack_from(data, offset)
            kinds |= {kind for numbers, kind in self._KINDS if number in numbers}
            offset += max(self._HEADER.size, (length + 3) & ~3)
        return kinds


def _route(kernel: Any, address: str) -> Route:
    number = ipaddress.ip_address(address)
    question: dict[str, Any] = {"dst": plain(number)}
    question["family"] = socket.AF_INET6 if ":" in question["dst"] else socket.AF_INET
    if isinstance(number, ipaddress.IPv6Address) and number.scope_id:
        question["oif"] = socket.if_nametoindex(number.scope_id)
    answer = kernel.route("get", **question)[0]
    source, index = answer.get_attr("RTA_PREFSRC"), answer.get_attr("RTA_OIF")
    if not source or not index:
        raise OSError(errno.ENETUNREACH, "the host has no address of that kind")
    interface = socket.if_indextoname(index)
    return Route(str(source), address, interface, int(index), _link_speed_mbps(interface))


def _link_speed_mbps(interface: str) -> int:
    """By ethtool's netlink family; where the kernel or the driver has it not, by sysfs."""
    try:
        with NlEthtool() as ethtool:
            speed = ethtool.get_linkmode(interface)[0].get_attr(_ETHTOOL_SPEED)
    except (NetlinkError, OSError, KeyError, IndexError):
        speed = None
    if speed is None:
        try:
            speed = int((Path("/sys/class/net") / interface / "speed").read_text())
        except (OSError, ValueError):
            speed = 0
    return int(speed) if 0 < speed < _UNKNOWN_SPEED else 0


def _words(error: NetlinkError | OSError) -> str:
    code = error.code if isinstance(error, NetlinkError) else error.errno
    return os.strerror(code) if code else str(error)
