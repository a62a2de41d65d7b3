"""P12 at the hub: whatever strangers and admitted peers send, it serves the others, and neither dies nor grows."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import socket
import struct
import threading
import time

import psutil
import pytest
import zmq
from wire.wires import HubProcess, a_context, a_dealer, a_hub_process, a_link, connected, until

from ffrtmp import wire
from ffrtmp.keys import KeyPair
from ffrtmp_agent.link import Link

SERVER, NODE, ROGUE, STRANGER = (KeyPair.generate() for _ in range(4))
HUGE_BYTES = 300 << 20
GROWTH_MOST_BYTES = 160 << 20
BUSY_S = 7  # longer than libzmq waits with its own sign of life


def ids_of_an_unseeded_hub(count: int) -> list[bytes]:
    """The routing ids that an unseeded hub gives first: an attacker computes them from C's rand(), seed 1.

    The first two numbers go to the doorkeeper's socket (REP is a kind of ROUTER), the next two make the hub's first id.
    """
    libc = ctypes.CDLL(None)
    libc.srand(1)
    _, _, low, high = (libc.rand() for _ in range(4))
    first = low | (high << 31)
    return [b"\0" + struct.pack(">I", (first + n) & 0xFFFFFFFF) for n in range(count)]


def claim(context: zmq.Context, endpoint: str, ids: list[bytes]) -> list[zmq.Socket]:
    """One admitted client a claimed id, each connected before the next; to be kept, or they are closed."""
    claimers = []
    for one in ids:
        dealer = a_dealer(context, endpoint, ROGUE, SERVER.public, routing_id=one)
        dealer.send(wire.encode(wire.Heartbeat(1, 1)))
        assert dealer.poll(5000)  # it holds the id now
        claimers.append(dealer)
    return claimers


def serves(hub: HubProcess, link: Link) -> bool:
    return hub.answers(link, time.monotonic_ns() >> 10 & 0xFFFFFF)


@pytest.mark.parametrize("seeded", [True, False])
def test_p12_a_peer_that_claims_the_next_routing_id_does_not_abort_the_master(seeded):
    with a_hub_process(SERVER, admits=(NODE.public, ROGUE.public), seeded=seeded) as hub, a_context() as context:
        claimers = claim(context, hub.endpoint, ids_of_an_unseeded_hub(3))
        with a_link(hub.endpoint, SERVER.public, NODE) as link:
            if seeded:
                assert serves(hub, link) and claimers
            else:  # the attack is real: without the seed the same hub dies of it
                until(lambda: link.receive() or not hub.alive)
                assert hub.process.returncode == -signal.SIGABRT


@contextlib.contextmanager
def seen_to_its_end(dealer: zmq.Socket):
    """Do not leave before the hub has thrown the dealer out, or had the time to take everything."""
    with dealer.get_monitor_socket(zmq.EVENT_DISCONNECTED | zmq.EVENT_HANDSHAKE_FAILED_AUTH) as monitor:
        yield
        monitor.poll(5000)
        dealer.disable_monitor()


def huge_frame_of(keys: KeyPair):
    """Send a frame of 300 MB as the owner of `keys`."""

    def send(context: zmq.Context, endpoint: str) -> None:
        dealer = a_dealer(context, endpoint, keys, SERVER.public, sndtimeo=2000)
        with seen_to_its_end(dealer), contextlib.suppress(zmq.Again):
            dealer.send(b"\0" * HUGE_BYTES)

    return send


def huge_bytes_of_a_stranger(context: zmq.Context, endpoint: str) -> None:
    """The same as plain bytes by a stranger: a greeting that says CURVE, and then a frame that claims 300 MB."""
    host, _, port = endpoint.removeprefix("tcp://").rpartition(":")
    greeting = b"\xff" + b"\0" * 8 + b"\x7f\x03\x01" + b"CURVE".ljust(20, b"\0") + b"\0" * 32
    with socket.create_connection((host, int(port)), timeout=5) as stranger, contextlib.suppress(OSError):
        stranger.sendall(greeting + b"\x02" + struct.pack(">Q", HUGE_BYTES))
        for _ in range(HUGE_BYTES >> 20):
            stranger.sendall(b"\0" * (1 << 20))


def message_without_end(context: zmq.Context, endpoint: str) -> None:
    """300 MB in frames that are each small enough, all of one message that does not end in time."""
    dealer = a_dealer(context, endpoint, ROGUE, SERVER.public, sndtimeo=2000, immediate=1)
    with seen_to_its_end(dealer), contextlib.suppress(zmq.Again):
        for _ in range(HUGE_BYTES >> 19):
            dealer.send(b"\0" * (1 << 19), zmq.SNDMORE)
        dealer.send(b"")  # only now does this client's libzmq begin to send


def flood_of_messages(context: zmq.Context, endpoint: str) -> None:
    """Frames that are no messages, as many as the hub takes in two seconds."""
    dealer = a_dealer(context, endpoint, ROGUE, SERVER.public, sndhwm=10)
    until_s = time.monotonic() + 2
    while time.monotonic() < until_s:
        with contextlib.suppress(zmq.Again):
            dealer.send(os.urandom(64) * 8192, zmq.NOBLOCK)


@pytest.mark.parametrize(
    "attack",
    [
        pytest.param(huge_bytes_of_a_stranger, id="bytes-of-a-stranger"),
        pytest.param(huge_frame_of(STRANGER), id="frame-of-an-unknown-key"),
        pytest.param(huge_frame_of(ROGUE), id="frame-of-an-admitted-key"),
        pytest.param(message_without_end, id="message-without-end"),
        pytest.param(flood_of_messages, id="flood"),
    ],
)
def test_p12_300_mb_neither_grow_the_master_nor_stop_its_service(attack):
    with (
        a_hub_process(SERVER, admits=(NODE.public, ROGUE.public)) as hub,
        a_context() as context,
        a_link(hub.endpoint, SERVER.public, NODE) as link,
    ):
        assert serves(hub, link)
        before = most = hub.resident_bytes
        attacker = threading.Thread(target=attack, args=(context, hub.endpoint))
        attacker.start()
        settled = time.monotonic() + 0.5
        while attacker.is_alive() or time.monotonic() < settled:
            assert serves(hub, link)
            most = max(most, hub.resident_bytes)
        attacker.join()
        assert most - before < GROWTH_MOST_BYTES, f"{(most - before) >> 20} MiB"
        assert link.connection == 1  # the node in contact was not even interrupted


def test_p12_a_stopped_agent_does_not_block_the_master():
    with a_hub_process(SERVER, admits=(NODE.public, ROGUE.public)) as hub, a_context() as context:
        never_reads = a_dealer(context, hub.endpoint, ROGUE, SERVER.public, rcvhwm=1)
        with a_link(hub.endpoint, SERVER.public, NODE) as link:
            before = hub.resident_bytes
            ask = wire.encode(wire.Heartbeat(1, 1))
            for _ in range(200_000):
                with contextlib.suppress(zmq.Again):
                    never_reads.send(ask, zmq.NOBLOCK)
            assert serves(hub, link)
            assert hub.resident_bytes - before < GROWTH_MOST_BYTES


def test_p12_connections_without_number_leave_the_master_its_nodes():
    """Strangers take all descriptors; who is connected stays, and who was kept out comes in when they are gone."""
    with a_hub_process(SERVER, admits=(NODE.public, ROGUE.public), files_most=64) as hub:
        host, _, port = hub.endpoint.removeprefix("tcp://").rpartition(":")
        with a_link(hub.endpoint, SERVER.public, NODE) as link, contextlib.ExitStack() as strangers:
            assert serves(hub, link)
            for _ in range(100):
                strangers.enter_context(socket.create_connection((host, int(port)), timeout=5))
            assert serves(hub, link)
            strangers.close()
            with a_link(hub.endpoint, SERVER.public, ROGUE) as late:
                connected(late)
                assert serves(hub, late)


def break_off(dealer: zmq.Socket, endpoint: str) -> None:
    """Close its connection as a host does that is gone and back: with a reset."""
    port = int(endpoint.rpartition(":")[2])
    mine = [each.fd for each in psutil.Process().net_connections() if each.raddr and each.raddr.port == port]
    with socket.socket(fileno=os.dup(mine[0])) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    dealer.close(linger=0)


def test_p12_a_peer_that_breaks_off_while_the_master_has_other_things_to_do_does_not_abort_it():
    with a_hub_process(SERVER, admits=(NODE.public, ROGUE.public)) as hub, a_context() as context:
        dealer = a_dealer(context, hub.endpoint, ROGUE, SERVER.public)
        dealer.send(wire.encode(wire.Heartbeat(1, 1)))
        assert dealer.poll(5000)
        dealer.send(wire.encode(wire.Goodbye(BUSY_S)))
        for number in range(300):  # more than wait for the hub at its side
            dealer.send(wire.encode(wire.Heartbeat(1, number)))
        time.sleep(0.5)  # for what is not sent before the reset is lost, and then there is nothing to see
        break_off(dealer, hub.endpoint)
        with a_link(hub.endpoint, SERVER.public, NODE) as link:
            assert serves(hub, link)
