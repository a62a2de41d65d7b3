"""P12: whatever arrives at the socket, the daemon answers or hangs up, and goes on serving."""

from __future__ import annotations

import os
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

import pytest
from api.desk import Desktop, served
from hypothesis import given, settings
from hypothesis import strategies as st

from ffrtmp.errors import FarmError
from ffrtmp_master.api.access import NOBODY, Caller, Peer, UnixPolicy, peer_of
from ffrtmp_master.api.call import Bounds
from ffrtmp_master.api.listening import unix_socket

BOUNDS = Bounds(connections=8, idle_s=0.4, body_s=0.4, stalled_s=0.2, body_bytes=100_000)


@pytest.fixture(scope="module")
def master() -> Iterator[Desktop]:
    with served(bounds=BOUNDS) as desktop:
        yield desktop


def answer(connection: socket.socket) -> bytes:
    """All that comes until the other end hangs up."""
    read = b""
    try:
        while part := connection.recv(65536):
            read += part
    except ConnectionError:
        pass
    return read


def serves(master: Desktop) -> bool:
    return master.get("/v1/live").status == 200


# ---- bodies ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"{", 400),
        (b"\xff\xfe{}", 400),
        (b'{"scenario": "\xff"}', 400),
        (b'{"scenario": "\\ud800"}', 400),
        (b"[]", 422),
        (b"null", 422),
        (b"[" * 50_000, 422),
        (b'{"scenario":' * 8_000, 400),
        (b'{"items":' + b"[" * 50_000, 400),
        (b'{"cpu_milli": 1e999}', 422),
        (b'{"scenario": "probe", "cpu_milli": 99999999999999999999999}', 422),
        (b'{"scenario": "probe", "input": "srv:\\u0000"}', 422),
    ],
)
def test_p12_a_body_that_is_garbage_is_refused_as_a_problem(master: Desktop, body: bytes, status: int) -> None:
    refused = master.call("POST", "/v1/jobs", body)
    assert (refused.status, refused.headers["Content-Type"]) == (status, "application/problem+json")
    assert refused.json["status"] == status
    assert serves(master)


@settings(max_examples=40)
@given(body=st.binary(max_size=200) | st.recursive(st.none(), lambda x: st.lists(x) | st.dictionaries(st.text(), x)))
def test_p12_any_body_is_answered(master: Desktop, body: object) -> None:
    assert master.call("POST", "/v1/jobs", body or b"x").status in (400, 422)


@settings(max_examples=40)
@given(name=st.text(min_size=1, max_size=40))
def test_p12_any_job_name_is_answered(master: Desktop, name: str) -> None:
    assert master.get(f"/v1/jobs/{quote(name, safe='')}").status in (404, 405)


def test_p12_a_body_that_is_too_large_is_413_however_it_is_announced(master: Desktop) -> None:
    assert master.call("POST", "/v1/jobs", b" " * 200_000).status == 413
    with master.raw() as connection:
        connection.sendall(b"POST /v1/jobs HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        try:
            for _ in range(50):
                connection.sendall(b"1000\r\n" + b" " * 4096 + b"\r\n")
        except ConnectionError:
            pass
        assert b" 413 " in answer(connection)
    assert master.call("POST", "/v1/jobs", b"x", {"Content-Encoding": "gzip"}).status == 415


# ---- HTTP ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "sent",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /v1/jobs HTTP/1.1\r\nHost: x\r\nX: " + b"y" * 100_000 + b"\r\n\r\n",
        b"GET /v1/jobs?" + b"y" * 100_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /v1/jobs HTTP/1.1\r\nHost: x\r\n" + b"X: y\r\n" * 10_000 + b"\r\n",
        b"POST /v1/jobs HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"POST /v1/jobs HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\nContent-Length: 8\r\n\r\n",
        b"POST /v1/jobs HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        bytes(range(256)) * 40,
    ],
)
def test_p12_what_is_no_http_is_refused_and_the_connection_closed(master: Desktop, sent: bytes) -> None:
    with master.raw() as connection:
        with suppress(ConnectionError):
            connection.sendall(sent)
        read = answer(connection)
    assert read.startswith((b"HTTP/1.0 4", b"HTTP/1.1 4")), read[:200]
    assert b"application/problem+json" in read
    assert serves(master)


def test_p12_a_client_that_says_nothing_is_hung_up_on(master: Desktop) -> None:
    for sent in (b"", b"GET /v1/jobs HTTP/1.1\r\nHost:"):
        with master.raw() as connection:
            connection.sendall(sent)
            assert answer(connection) == b""
    assert serves(master)


def test_p12_a_body_that_does_not_come_is_408(master: Desktop) -> None:
    with master.raw() as connection:
        connection.sendall(b"POST /v1/jobs HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n{")
        assert b" 408 " in answer(connection)


def test_p12_a_client_that_closes_in_mid_request_leaves_nothing(master: Desktop) -> None:
    for sent in (
        b"POST /v1/jobs HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n{",
        b"GET /v1/jobs HTTP/1.1\r\nHost: x\r\n\r\n",
    ):
        for _ in range(20):
            with master.raw() as connection:
                connection.sendall(sent)
    with master.raw() as half:
        half.sendall(b"GET /v1/jobs HTTP/1.1\r\nHost: x\r\n\r\n")
        half.shutdown(socket.SHUT_WR)
        answer(half)
    assert serves(master)


def test_p12_connections_are_bounded_and_one_too_many_is_told(master: Desktop) -> None:
    held = [socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) for _ in range(BOUNDS.connections + 4)]
    try:
        for connection in held:
            connection.settimeout(10)
            connection.connect(str(master.path))
        assert b"503 Service Unavailable" in answer(held[-1])
    finally:
        for connection in held:
            connection.close()
    ends_s = time.monotonic() + 10
    while True:
        try:
            if serves(master):
                break
        except OSError:
            pass
        assert time.monotonic() < ends_s, "the places of connections that are gone stay taken"
        time.sleep(0.05)


def test_p12_a_thousand_pipelined_requests_are_answered_in_turn(master: Desktop) -> None:
    with master.raw() as connection:
        sender = threading.Thread(target=connection.sendall, args=(b"GET /v1/live HTTP/1.1\r\nHost: x\r\n\r\n" * 1000,))
        sender.start()
        read = b""
        while read.count(b"HTTP/1.1 200 OK") < 1000:
            part = connection.recv(1 << 20)
            assert part
            read += part
        sender.join()


def test_unknown_paths_and_methods_are_problems_too(master: Desktop) -> None:
    missing = master.get("/v2/jobs")
    assert (missing.status, missing.headers["Content-Type"]) == (404, "application/problem+json")
    wrong = master.call("DELETE", "/v1/jobs/1")
    assert (wrong.status, wrong.json["hint"]) == (405, "possible: GET, PATCH")
    assert wrong.headers["Allow"] == "GET, PATCH"


def test_p12_a_fault_of_the_master_is_500_with_a_number_and_the_next_call_works(
    master: Desktop, caplog: pytest.LogCaptureFixture
) -> None:
    def fault() -> None:
        raise ZeroDivisionError("a fault of ours")

    master.desk.before_submit = fault
    try:
        refused = master.call("POST", "/v1/jobs", {"scenario": "probe"}, {"Idempotency-Key": "crash"})
    finally:
        master.desk.before_submit = lambda: None
    number = refused.json["detail"].rpartition(" ")[2]
    assert refused.status == 500
    assert number in caplog.text
    assert "a fault of ours" not in refused.body.decode()
    accepted = master.call("POST", "/v1/jobs", {"scenario": "probe"}, {"Idempotency-Key": "crash"})
    assert accepted.status == 201


# ---- who -------------------------------------------------------------------------------------------------------------


def test_the_kernel_says_who_is_at_the_other_end() -> None:
    one, other = socket.socketpair(socket.AF_UNIX)
    with one, other:
        peer = peer_of(one)
    assert peer is not None
    assert (peer.pid, peer.uid, peer.gid) == (os.getpid(), os.getuid(), os.getgid())
    assert peer.groups == {os.getgid(), *os.getgroups()}


def test_root_the_daemons_user_and_the_group_are_admin_and_the_agent_may_only_enrol() -> None:
    policy = UnixPolicy(own_uid=990, admin_gid=991, agent_uid=992)

    def roles(uid: int, *groups: int) -> frozenset[str]:
        return policy.judge(Peer(1, uid, uid, frozenset({uid, *groups}))).roles

    assert roles(0) == roles(990) == roles(1000, 991) == {"admin"}
    assert roles(992) == {"enroll"}
    assert roles(1000, 27) == frozenset()


class _As:
    """A policy under which everybody is the same."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    def caller(self, connection: socket.socket) -> Caller:
        return self._caller


def test_the_agents_user_may_enrol_and_do_nothing_else() -> None:
    agent = Caller(scope="uid 992", label="uid 992 (ffrtmp-agent)", roles=frozenset({"enroll"}))
    with served(policy=_As(agent)) as master:
        assert master.call("POST", "/v1/nodes/enroll", {"public_key": "k", "name": "c"}).status == 201
        for method, target in (
            ("GET", "/v1/jobs"),
            ("POST", "/v1/jobs"),
            ("POST", "/v1/nodes/invite"),
            ("GET", "/v1/nodes"),
        ):
            refused = master.call(method, target, {} if method == "POST" else None)
            assert (refused.status, refused.json["title"]) == (403, "Forbidden")


def test_a_viewer_sees_and_changes_nothing_and_a_stranger_sees_nothing() -> None:
    viewer = Caller(scope="v", label="viewer", roles=frozenset({"viewer"}))
    with served(policy=_As(viewer)) as master:
        assert master.get("/v1/jobs").status == 200
        assert master.call("POST", "/v1/jobs", {"scenario": "probe"}).status == 403
    with served(policy=_As(NOBODY)) as master:
        assert master.get("/v1/jobs").status == 403
        assert master.get("/v1/live").status == 200


# ---- the socket ------------------------------------------------------------------------------------------------------


def test_the_socket_is_for_its_group_only_and_a_dead_masters_is_replaced(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    with tempfile.TemporaryDirectory(prefix="ffrtmp-s-") as folder:
        path = Path(folder) / "m.sock"
        unix_socket(path).close()
        with unix_socket(path, os.getgid()):
            assert path.stat().st_mode & 0o777 == 0o660
            with pytest.raises(FarmError, match="another master"):
                unix_socket(path)
        path.unlink()
        path.write_text("not a socket")
        with pytest.raises(FarmError, match="no socket"):
            unix_socket(path)
        assert [each.name for each in Path(folder).iterdir()] == ["m.sock"]
