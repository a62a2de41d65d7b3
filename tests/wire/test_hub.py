"""The hub: who is heard, what is said to whom, and that it never waits (P9, P12)."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import AsyncIterator, Callable

import pytest
import zmq
from hypothesis import given, settings
from hypothesis import strategies as st
from wire.wires import a_context, a_dealer, comes_true

from ffrtmp import wire
from ffrtmp.errors import FarmError
from ffrtmp.keys import KeyPair
from ffrtmp_agent.link import Link
from ffrtmp_master.hub import Hub, Received, SendResult

SERVER, NODE, OTHER, TICKET, STRANGER = (KeyPair.generate() for _ in range(5))


class Farm:
    """A hub with what it heard, and who may come in."""

    def __init__(self, **options) -> None:
        self.nodes = {NODE.public, OTHER.public}
        self.tickets = {TICKET.public}
        self.heard: list[Received] = []
        self.hub = Hub(
            options.pop("endpoint", "tcp://127.0.0.1:0"),
            SERVER,
            lambda key: key in self.nodes,
            self.heard.append,
            invited=lambda key: key in self.tickets,
            **options,
        )

    async def hears(self, count: int = 1) -> Received:
        await comes_true(lambda: len(self.heard) >= count)
        return self.heard[count - 1]

    async def complains(self, kind: str) -> None:
        await comes_true(lambda: any(kind in each for each in self.hub.counts))


@contextlib.asynccontextmanager
async def a_farm(**options) -> AsyncIterator[tuple[Farm, Callable[[KeyPair], Link]]]:
    """A farm, and how to connect a link to it."""
    farm = Farm(**options)
    with contextlib.ExitStack() as links:
        try:
            yield farm, lambda keys: links.enter_context(Link(farm.hub.endpoint, SERVER.public, keys))
        finally:
            farm.hub.close()


async def up(link: Link) -> Link:
    await comes_true(lambda: link.receive() or link.connection)
    return link


async def says(link: Link, message: wire.Message) -> None:
    await up(link)
    assert link.send(message)


def runs(test):
    """A test that is a coroutine, without a plugin."""

    def run() -> None:
        asyncio.run(asyncio.wait_for(test(), 30))

    run.__name__, run.__doc__ = test.__name__, test.__doc__
    return run


@runs
async def test_a_message_comes_with_the_key_of_its_sender_and_can_be_answered():
    async with a_farm() as (farm, connect):
        link = connect(NODE)
        await says(link, wire.Goodbye(7))
        received = await farm.hears()
        assert (received.key, received.message) == (NODE.public, wire.Goodbye(7))
        assert farm.hub.send(received.connection, wire.NoSession(7)) is SendResult.SENT
        assert await comes_true(link.receive) == [wire.NoSession(7)]


@runs
async def test_a_thousand_messages_in_both_directions_at_once_all_arrive():
    """Reading and sending share one edge-triggered descriptor: this hangs when a signal is lost."""
    async with a_farm() as (farm, connect):
        link = await up(connect(NODE))
        sent, answered = 0, []

        def turn() -> bool:
            nonlocal sent
            for _ in range(20):
                sent += sent < 1000 and link.send(wire.Heartbeat(1, sent + 1))
            for received in farm.heard:
                farm.hub.send(received.connection, wire.HeartbeatAck(1, received.message.number, "", 0))
            farm.heard.clear()
            answered.extend(each.number for each in link.receive())
            return len(answered) == 1000

        await comes_true(turn)
        assert answered == list(range(1, 1001))


@runs
async def test_p12_clients_without_curve_or_with_unknown_keys_get_nowhere():
    async with a_farm() as (farm, _):
        with a_context() as context:
            plain = context.socket(zmq.DEALER)
            plain.connect(farm.hub.endpoint)
            password = context.socket(zmq.DEALER)
            password.plain_username, password.plain_password = b"admin", b"admin"
            password.connect(farm.hub.endpoint)
            unknown = a_dealer(context, farm.hub.endpoint, STRANGER, SERVER.public)
            for each in (plain, password, unknown):
                each.linger = 0
                each.send(wire.encode(wire.Goodbye(1)))
            known = a_dealer(context, farm.hub.endpoint, NODE, SERVER.public)
            known.send(wire.encode(wire.Goodbye(2)))
            await farm.complains("an unknown key was turned away")
            await farm.hears()
            assert [each.message for each in farm.heard] == [wire.Goodbye(2)]


@runs
async def test_p9_from_the_moment_a_key_is_revoked_its_open_connection_is_not_heard():
    async with a_farm() as (farm, connect):
        link, other = connect(NODE), connect(OTHER)
        await says(link, wire.Goodbye(1))
        await farm.hears()
        farm.nodes.remove(NODE.public)
        await says(link, wire.Goodbye(2))
        await farm.complains("not admitted any more")
        await says(other, wire.Goodbye(3))
        assert (await farm.hears(2)).message == wire.Goodbye(3)
        assert len(farm.heard) == 2


@runs
async def test_p9_a_ticket_may_say_enroll_and_nothing_else_and_a_node_everything_else():
    async with a_farm() as (farm, connect):
        ticket, node = connect(TICKET), connect(NODE)
        await says(ticket, wire.Goodbye(1))
        await says(ticket, wire.Enroll(NODE.public, "camera"))
        assert (await farm.hears()).message == wire.Enroll(NODE.public, "camera")
        await says(node, wire.Enroll(STRANGER.public, "mine"))
        await says(node, wire.Goodbye(2))
        assert (await farm.hears(2)).message == wire.Goodbye(2)
        assert farm.hub.counts["a message that its key may not say was dropped"] == 2


@settings(max_examples=5)
@given(st.lists(st.binary(max_size=300), min_size=1, max_size=40))
def test_p12_garbage_is_dropped_counted_and_stops_nothing(frames):
    @runs
    async def check():
        async with a_farm() as (farm, _):
            with a_context() as context:
                rogue = a_dealer(context, farm.hub.endpoint, OTHER, SERVER.public)
                for frame in frames:
                    rogue.send(frame)
                    rogue.send_multipart([frame, frame, b""])
                rogue.send(wire.encode(wire.Goodbye(1))[:-1])
                rogue.send(b"\x91" * 100_000)  # nested without end
                rogue.send(wire.encode(wire.Goodbye(2)))
                await comes_true(lambda: any(each.message == wire.Goodbye(2) for each in farm.heard))
                assert farm.hub.counts["a message of several frames was dropped"] == len(frames)
                assert farm.hub.counts["a frame that is no message was dropped"] >= 2

    check()


@runs
async def test_p12_who_claims_a_routing_id_is_not_heard():
    async with a_farm() as (farm, _):
        with a_context() as context:
            claimer = a_dealer(context, farm.hub.endpoint, OTHER, SERVER.public, routing_id=b"master")
            claimer.send(wire.encode(wire.Goodbye(1)))
            await farm.complains("claimed routing id")
            assert farm.heard == []


@runs
async def test_p12_an_agent_that_does_not_read_is_full_and_the_next_one_is_served():
    async with a_farm() as (farm, connect):
        with a_context() as context:
            deaf = a_dealer(context, farm.hub.endpoint, OTHER, SERVER.public, rcvhwm=1, rcvbuf=4096)
            deaf.send(wire.encode(wire.Goodbye(1)))
            received = await farm.hears()
            filler = wire.Deny(1, "u", 1, 1, "x" * 100_000)
            sent = [farm.hub.send(received.connection, filler)]
            while sent[-1] is SendResult.SENT:
                sent.append(farm.hub.send(received.connection, filler))
                await asyncio.sleep(0)
                assert len(sent) < 5000
            assert sent[-1] is SendResult.FULL
            link = connect(NODE)
            await says(link, wire.Goodbye(2))
            assert farm.hub.send((await farm.hears(2)).connection, wire.NoSession(2)) is SendResult.SENT
            assert await comes_true(link.receive) == [wire.NoSession(2)]


@runs
async def test_a_closed_connection_is_told_to_who_sends():
    async with a_farm() as (farm, connect):
        link = connect(NODE)
        await says(link, wire.Goodbye(1))
        received = await farm.hears()
        link.close()
        await comes_true(lambda: farm.hub.send(received.connection, wire.NoSession(1)) is SendResult.UNREACHABLE)
        assert farm.hub.send(b"nobody", wire.NoSession(1)) is SendResult.UNREACHABLE


@runs
async def test_a_message_too_large_for_the_wire_is_an_error_of_ours_and_not_sent():
    async with a_farm() as (farm, connect):
        huge = wire.Sorry(500, "x" * wire.MAX_FRAME_BYTES)
        with pytest.raises(ValueError, match="too large to send"):
            farm.hub.send(b"\0\0\0\0\1", huge)
        link = await up(connect(NODE))
        with pytest.raises(ValueError, match="too large to send"):
            link.send(huge)


@runs
async def test_p12_an_error_in_what_the_hub_calls_stops_neither_door_nor_ear():
    """As a fault of the master's own would: the first question and the first message end in an exception."""
    heard, faults = [], iter([True])

    def faulty(*_: object) -> bool:
        if next(faults, False):
            raise ZeroDivisionError
        return True

    def hear(received: Received) -> None:
        heard.append(received.message)
        if len(heard) == 1:
            raise ZeroDivisionError

    hub = Hub("tcp://127.0.0.1:0", SERVER, faulty, hear)
    try:
        with Link(hub.endpoint, SERVER.public, NODE) as unlucky, Link(hub.endpoint, SERVER.public, OTHER) as link:
            await comes_true(lambda: unlucky.receive() or hub.counts["a handshake could not be judged"])
            await says(link, wire.Goodbye(1))
            await says(link, wire.Goodbye(2))
            await comes_true(lambda: heard == [wire.Goodbye(1), wire.Goodbye(2)])
            assert hub.counts["a message could not be handled"] == 1
    finally:
        hub.close()


def test_p12_floods_fill_the_counts_and_not_the_journal(caplog):
    @runs
    async def check():
        async with a_farm() as (farm, _):
            with a_context() as context, caplog.at_level(logging.WARNING):
                rogue = a_dealer(context, farm.hub.endpoint, OTHER, SERVER.public)
                for _ in range(500):
                    rogue.send(b"garbage")
                await comes_true(lambda: farm.hub.counts["a frame that is no message was dropped"] == 500)

    check()
    assert len(caplog.records) == 1


@runs
async def test_p12_too_many_connections_wait_outside_until_there_is_room():
    async with a_farm(connections_max=1) as (farm, connect):
        first = await up(connect(NODE))
        late = connect(OTHER)
        await farm.complains("too many connections")
        assert first.send(wire.Goodbye(1)) and not late.connection
        await farm.hears()
        first.close()
        await comes_true(lambda: late.receive() or late.connection, within_s=15)


@runs
async def test_while_the_master_has_enough_to_do_it_hears_nothing_and_loses_nothing():
    async with a_farm() as (farm, connect):
        link = connect(NODE)
        await says(link, wire.Goodbye(1))
        await farm.hears()
        farm.hub.hold(True)
        for number in range(2, 102):
            await comes_true(lambda number=number: link.send(wire.Goodbye(number)))
        await asyncio.sleep(0.05)
        assert len(farm.heard) == 1
        farm.hub.hold(False)
        assert [each.message.session for each in farm.heard] == [1] and (await farm.hears(101)).message.session == 101


@runs
async def test_the_first_invitation_opens_the_hub_and_agents_come_back():
    async with a_farm() as (farm, connect):
        link = await up(connect(NODE))
        port = farm.hub.endpoint.rpartition(":")[2]
        await farm.hub.open(f"tcp://0.0.0.0:{port}")
        assert farm.hub.endpoint == f"tcp://0.0.0.0:{port}"
        await comes_true(lambda: link.receive() or link.connection == 2)
        with socket.create_connection(("127.0.0.2", int(port)), timeout=5):
            pass


@runs
async def test_when_it_cannot_be_opened_it_goes_on_where_it_was():
    async with a_farm() as (farm, connect):
        before = farm.hub.endpoint
        with pytest.raises(FarmError, match="cannot listen for agents at"):
            await farm.hub.open("tcp://192.0.2.1:0")  # an address of no host
        assert farm.hub.endpoint == before
        await up(connect(NODE))


@runs
async def test_a_taken_port_is_said_with_a_hint_and_nothing_stays_behind():
    async with a_farm() as (farm, _):
        with pytest.raises(FarmError, match="Address already in use") as taken:
            Hub(farm.hub.endpoint, SERVER, lambda key: True, lambda received: None)
        assert "another master" in taken.value.hint and taken.value.what.count(farm.hub.endpoint) == 1
        assert "addr=" not in taken.value.what


@pytest.mark.parametrize("endpoint", ["tcp://[::1]:0", "tcp://*:0"])
def test_agents_come_by_ipv6_too(endpoint):
    @runs
    async def check():
        async with a_farm(endpoint=endpoint) as (farm, _):
            port = farm.hub.endpoint.rpartition(":")[2]
            with Link(f"tcp://[::1]:{port}", SERVER.public, NODE) as link:
                await says(link, wire.Goodbye(1))
                await farm.hears()

    check()
