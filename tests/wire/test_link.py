"""The agent's line to its master heals itself, never waits, and says in words what is wrong (P11, P12)."""

from __future__ import annotations

import contextlib
import select
import socket
import threading
import time
from pathlib import Path

import pytest
from wire.wires import a_hub_process, a_link, answer, connected, until

from ffrtmp import wire
from ffrtmp.keys import KeyPair, fingerprint
from ffrtmp_agent.link import Link, Trouble

SERVER, NODE, STRANGER = (KeyPair.generate() for _ in range(3))


@contextlib.contextmanager
def a_listener(answer_with: bytes | None = None):
    """Something on a port that is no master: it says `answer_with` to each caller, or nothing and stays."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        callers: list[socket.socket] = []

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    caller, _ = server.accept()
                    callers.append(caller)
                    if answer_with is not None:
                        caller.sendall(answer_with)
                        caller.shutdown(socket.SHUT_RDWR)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"tcp://127.0.0.1:{server.getsockname()[1]}"
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join()
            for each in callers:
                each.close()


def a_free_port() -> str:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"tcp://127.0.0.1:{server.getsockname()[1]}"


def in_trouble(link: Link, trouble: Trouble, within_s: float = 10) -> str:
    until(lambda: link.receive() or link.trouble is trouble, within_s)
    return link.troubles()


def test_without_a_connection_nothing_is_sent_and_nothing_is_kept_for_later():
    endpoint = a_free_port()
    with a_link(endpoint, SERVER.public, NODE) as link:
        assert not link.send(wire.Heartbeat(1, 1))
        assert "nothing answers at 127.0.0.1" in in_trouble(link, Trouble.UNREACHABLE)
        assert not link.send(wire.Heartbeat(1, 2))
        with a_hub_process(SERVER, admits=(NODE.public,), endpoint=endpoint):
            connected(link)
            assert link.troubles() is None
            assert answer(link, wire.Heartbeat(1, 3)).number == 3


def test_p11_the_line_comes_back_when_the_master_is_started_again_on_its_port():
    with a_hub_process(SERVER, admits=(NODE.public,)) as first, a_link(first.endpoint, SERVER.public, NODE) as link:
        assert first.answers(link, 1) and link.connection == 1
        first.process.kill()
        first.process.wait()
        assert "was lost" in in_trouble(link, Trouble.LOST)
        assert not link.send(wire.Heartbeat(1, 2))
        with a_hub_process(SERVER, admits=(NODE.public,), endpoint=first.endpoint) as second:
            assert second.answers(link, 3) and link.connection == 2


def test_a_key_that_is_not_admitted_is_told_so_and_let_in_once_it_is():
    with a_hub_process(SERVER, admits=()) as closed, a_link(closed.endpoint, SERVER.public, NODE) as link:
        words = in_trouble(link, Trouble.NOT_ADMITTED)
        assert "does not admit the key" in words and fingerprint(NODE.public) in words
        assert link.due_s() - time.monotonic() < 1.1
        closed.process.kill()
        closed.process.wait()
        with a_hub_process(SERVER, admits=(NODE.public,), endpoint=closed.endpoint) as opened:
            assert opened.answers(link, 1)
            assert link.troubles() is None and link.due_s() is None


def test_refusals_are_asked_about_more_and_more_rarely():
    now = 1000.0
    with a_hub_process(SERVER, admits=()) as hub, Link(hub.endpoint, SERVER.public, NODE, clock=lambda: now) as link:
        waits = []
        for _ in range(7):
            in_trouble(link, Trouble.NOT_ADMITTED)
            waits.append(link.due_s() - now)
            link.trouble = None
            now = link.due_s()
    assert waits == [1, 2, 4, 8, 16, 30, 30]


def test_another_master_than_the_expected_one_is_named_as_that():
    with a_hub_process(SERVER, admits=(NODE.public,)) as hub, a_link(hub.endpoint, STRANGER.public, NODE) as link:
        assert "its key is another" in in_trouble(link, Trouble.WRONG_MASTER)


@pytest.mark.parametrize("said", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"SSH-2.0-OpenSSH_9.2\r\n", b""])
def test_p12_what_speaks_another_language_does_not_make_the_line_give_up(said):
    with a_listener(said) as endpoint, a_link(endpoint, SERVER.public, NODE) as link:
        until(lambda: link.receive() or link.troubles())
        assert link.due_s() is not None and not link.connection
        link.reset()
        until(lambda: link.receive() or link.troubles())


def test_when_libzmq_falls_silent_the_line_is_made_anew():
    now = 1000.0
    with a_listener() as endpoint, Link(endpoint, SERVER.public, NODE, clock=lambda: now) as link:
        until(lambda: link.receive() or link.due_s())
        before = link._wires

        def anew() -> bool:
            """A minute later; what libzmq said just before it fell silent puts it off."""
            nonlocal now
            now += 60
            link.receive()
            return link._wires is not before

        until(anew)


def test_a_master_can_be_named_and_its_name_is_tried_by_both_kinds_of_addresses():
    with a_hub_process(SERVER, admits=(NODE.public,)) as hub:
        port = hub.endpoint.rpartition(":")[2]
        with a_link(f"tcp://localhost:{port}", SERVER.public, NODE) as link:
            assert hub.answers(link, 1)
            hub.process.kill()
            tried = set()
            until(lambda: link.receive() or tried.add(link._wires.dealer.ipv6) or tried == {0, 1})


def test_its_descriptor_wakes_an_ordinary_poll_loop_for_every_message():
    """Select only, and read one message's worth at each wake-up: a lost signal would hang this."""
    with a_hub_process(SERVER, admits=(NODE.public,)) as hub, a_link(hub.endpoint, SERVER.public, NODE) as link:
        poller = select.poll()
        poller.register(link, select.POLLIN)
        asked, answered, deadline = 0, 0, time.monotonic() + 100
        while answered < 500:
            assert time.monotonic() < deadline
            if link.connection and asked - answered < 100 and asked < 500:
                asked += link.send(wire.Heartbeat(1, asked + 1))
                continue
            assert poller.poll(5000), "asleep although answers are due"
            answered += len(link.receive())
            if answered == 250:
                link.reset()
                asked = answered


def test_nothing_to_do_means_asleep():
    with a_hub_process(SERVER, admits=(NODE.public,)) as hub, a_link(hub.endpoint, SERVER.public, NODE) as link:
        assert hub.answers(link, 1)
        link.receive()
        assert select.select([link], [], [], 0.3)[0] == []


def test_closing_leaves_no_descriptor_behind():
    def descriptors() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    before = descriptors()
    for _ in range(3):
        with a_link(a_free_port(), SERVER.public, NODE) as link:
            in_trouble(link, Trouble.UNREACHABLE)
            link.reset()
        link.close()
    assert descriptors() <= before
