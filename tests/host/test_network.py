"""A node knows the address by which it reaches its master, and notices when that changes."""

from __future__ import annotations

import json
import select
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from ffrtmp.errors import Exit, FarmError
from ffrtmp.host.address import master_host, node_address
from ffrtmp.host.network import Watcher, read_counters, resolve, route_to

PROBE = Path(__file__).with_name("namespace_probe.py")


@pytest.mark.parametrize(
    "master", ["127.0.0.1", "127.0.0.2:8081", "tcp://127.0.0.1:8081", "unix:/run/ffrtmp/master.sock"]
)
def test_beside_a_master_on_loopback_a_nodes_address_is_loopback(master: str):
    found = route_to(master)
    assert (found.source, found.interface, found.link_speed_mbps) == ("127.0.0.1", "lo", 0)


def has_ipv6_loopback() -> bool:
    shown = Path("/proc/net/if_inet6")
    return shown.exists() and f"{1:032x}" in shown.read_text()


@pytest.mark.parametrize("master", ["::1", "[::1]:8081", "https://[::1]:8080"])
def test_a_master_on_ipv6_loopback_gives_an_ipv6_address(master: str):
    if has_ipv6_loopback():
        assert route_to(master).source == "::1"
    else:
        with pytest.raises(FarmError, match="there is no route to ::1"):
            route_to(master)


def test_a_masters_name_is_resolved():
    assert route_to("https://localhost:8080").source in ("127.0.0.1", "::1")
    assert resolve("localhost")[0] in ("127.0.0.1", "::1")


def test_a_name_that_nobody_knows_is_an_error_in_words():
    started = time.monotonic()
    with pytest.raises(FarmError, match=r"no-such-master\.invalid cannot be resolved") as refused:
        route_to("https://no-such-master.invalid:8080", limit_s=3.0)
    assert time.monotonic() - started < 5.0
    assert refused.value.code is Exit.NO_MASTER
    assert refused.value.hint


def namespace_command() -> tuple[str, ...]:
    """What starts a program in a network namespace of its own; nothing where this user may not have one."""
    for command in (("unshare", "-rn"), ("unshare", "-n")):
        try:
            if subprocess.run([*command, "true"], capture_output=True, check=False, timeout=10).returncode == 0:
                return command
        except OSError:
            return ()
    return ()


def test_a_node_measures_anew_when_its_links_addresses_or_routes_change():
    command = namespace_command()
    if command:
        ran = subprocess.run([*command, sys.executable, PROBE], capture_output=True, text=True, check=False, timeout=60)
        assert ran.returncode == 0, ran.stderr
        judge(json.loads(ran.stdout))
    else:
        with Watcher() as watcher:
            assert watcher.changed() == frozenset()
            assert select.select([watcher], [], [], 0)[0] == []


def judge(seen: dict[str, Any]) -> None:
    assert seen["before"] == "there is no route to 192.0.2.1: Network is unreachable"
    assert seen["heard_link"]
    assert seen["heard_address"]
    assert seen["first"][:2] == ["192.0.2.7", "farm0"]
    assert seen["first"][2] >= 1000, "a veth says how fast it is"
    assert seen["first6"][:2] == ["2001:db8::7", "farm0"]
    assert seen["behind_a_router_before"] == "there is no route to 198.51.100.1: Network is unreachable"
    assert seen["heard_route"]
    assert seen["behind_a_router"][:2] == ["192.0.2.7", "farm0"]
    assert seen["heard_change"]
    assert seen["changed"][:2] == ["192.0.2.8", "farm0"]
    assert seen["own_address"][:2] == ["192.0.2.8", "lo"]
    assert seen["gone"] == 0
    assert "address" in seen["flooded"]
    assert seen["quiet"] == []


def test_measuring_the_network_needs_no_privilege():
    code = (
        "from ffrtmp.host.network import *\n"
        "with Watcher() as watcher: print(route_to('127.0.0.1').source, read_counters('lo').rx_bytes >= 0)"
    )
    # In a user namespace of its own a process has no right over the host's network, whoever it was.
    powerless = subprocess.run(["unshare", "-U", "true"], capture_output=True, check=False).returncode == 0
    command = [*(("unshare", "-U") if powerless else ()), sys.executable, "-c", code]
    ran = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    assert ran.stdout == "127.0.0.1 True\n", ran.stderr


def test_the_bytes_that_an_interface_carries_are_counted():
    before = read_counters("lo")
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as to,
    ):
        to.bind(("127.0.0.1", 0))
        sender.sendto(b"x" * 10_000, to.getsockname())
        to.recv(1 << 16)
    after = read_counters("lo")
    assert after.rx_bytes - before.rx_bytes >= 10_000
    assert after.tx_bytes - before.tx_bytes >= 10_000


def open_files() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def test_measuring_leaves_no_descriptor_open():
    route_to("127.0.0.1")
    before = open_files()
    for _ in range(20):
        route_to("127.0.0.1")
        read_counters("lo")
        Watcher().close()
    assert open_files() == before


@pytest.mark.parametrize(
    ("given", "address"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("192.0.2.7:9000", "192.0.2.7"),
        ("127.0.0.2", "127.0.0.2"),
        ("::1", "::1"),
        ("[2001:DB8:0:0::7]", "2001:db8::7"),
        ("[2001:db8::7]:9000", "2001:db8::7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("fe80::1%eth0", "fe80::1"),
        ("Encoder7.Example.ORG.", "encoder7.example.org"),
        (" encoder7:9000 ", "encoder7"),
    ],
)
def test_p9_one_host_has_one_address_however_it_is_written(given: str, address: str):
    assert node_address(given) == address


@pytest.mark.parametrize(
    "given",
    [
        "",
        ":9000",
        "http://192.0.2.7",
        "192.0.2.7/24",
        "192.0.2",
        "192.0.2.777",
        "[192.0.2.7]",
        "[::1",
        "::1]:80",
        "host:port",
        "-x",
        "a b",
        "0.0.0.0",
        "[::]:80",
        "224.0.0.1",
        "ff02::1",
        "x" * 64,
        "ho\x00st",
    ],
)
def test_what_is_no_address_of_a_host_is_refused_with_a_hint(given: str):
    with pytest.raises(FarmError) as refused:
        node_address(given)
    assert refused.value.code is Exit.USAGE
    assert "2001:db8::7" in refused.value.hint


@pytest.mark.parametrize(
    ("master", "host"),
    [
        ("https://master.example.org:8080", "master.example.org"),
        ("https://[2001:db8::1]:8080/", "2001:db8::1"),
        ("tcp://192.0.2.1:8081", "192.0.2.1"),
        ("192.0.2.1:8081", "192.0.2.1"),
        ("2001:db8::1", "2001:db8::1"),
        ("/run/ffrtmp/master.sock", "127.0.0.1"),
    ],
)
def test_the_masters_host_is_found_in_each_form_of_its_address(master: str, host: str):
    assert master_host(master) == host


@pytest.mark.parametrize("master", ["", "https://", "https://[::1", "a b", "tcp://:8081", "--help"])
def test_what_is_no_address_of_a_master_is_refused(master: str):
    with pytest.raises(FarmError):
        master_host(master)
