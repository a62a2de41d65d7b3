"""A host becomes a node by a ticket or beside its master; no private key travels, and each refusal says why (P9)."""

from __future__ import annotations

import contextlib
import http.server
import socket
import socketserver
import subprocess
import sys
import threading
import time
from pathlib import Path

import msgspec
import pytest
from wire.wires import a_hub_process, a_link

from ffrtmp.api import Enrollment, EnrollRequest, Problem
from ffrtmp.errors import Exit, FarmError
from ffrtmp.keys import KeyPair, Ticket
from ffrtmp_agent.enrol import enrol_beside, join
from ffrtmp_agent.link import Link
from ffrtmp_agent.main import how_to_start
from ffrtmp_agent.state import NodeIdentity, StateFolder

SERVER, ONCE = KeyPair.generate(), KeyPair.generate()

JOIN = """
import sys, time
from pathlib import Path
from ffrtmp.errors import FarmError
from ffrtmp.keys import Ticket
from ffrtmp_agent.enrol import join
from ffrtmp_agent.state import StateFolder
try:
    with StateFolder(Path(sys.argv[1])) as state:
        print(join(Ticket.parse(sys.argv[2], time.time()), state, sys.argv[3], "192.0.2.7").name)
except FarmError as error:
    print(error.what, error.hint, sep="\\n")
    sys.exit(error.code)
"""


def ticket_for(hub: str, **other) -> Ticket:
    of = {"hub": hub, "server_key": SERVER.public, "keys": ONCE, "expires_at": int(time.time()) + 60}
    return Ticket(**(of | other))


def join_in_a_process(folder: Path, ticket: Ticket, name: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", JOIN, str(folder), ticket.text, name]
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)


def test_a_host_joins_by_ticket_and_its_new_key_is_admitted(tmp_path):
    with a_hub_process(SERVER, invited=(ONCE.public,)) as hub:
        done = join_in_a_process(tmp_path / "a", ticket_for(hub.endpoint), "camera")
        assert (done.stdout, done.returncode) == ("camera\n", 0)
        with StateFolder(tmp_path / "a") as state:
            assert state.identity() == NodeIdentity(hub.endpoint, SERVER.public, "camera", "192.0.2.7")
            with a_link(hub.endpoint, SERVER.public, state.keys()) as link:
                assert hub.answers(link, 1)

        again = join_in_a_process(tmp_path / "a", ticket_for(hub.endpoint), "camera")
        assert again.returncode == 0  # the same host may ask again
        other = join_in_a_process(tmp_path / "b", ticket_for(hub.endpoint), "camera")
        assert other.returncode == Exit.REFUSED
        assert "the ticket was used already, by another host" in other.stdout and "nodes invite" in other.stdout


def refused(tmp_path: Path, ticket: Ticket, timeout_s: float = 10) -> FarmError:
    with StateFolder(tmp_path / "state") as state, pytest.raises(FarmError) as error:
        join(ticket, state, "camera", timeout_s=timeout_s)
    with StateFolder(tmp_path / "state") as state:
        assert state.identity() is None
    return error.value


def test_a_ticket_that_the_master_does_not_know_any_more_is_refused_at_the_door(tmp_path):
    with a_hub_process(SERVER, invited=()) as hub:
        error = refused(tmp_path, ticket_for(hub.endpoint))
    assert "used, has expired, or was revoked" in error.what and error.code == Exit.REFUSED
    assert "nodes invite" in error.hint


def test_a_ticket_of_another_master_is_said_to_be_that(tmp_path):
    with a_hub_process(SERVER, invited=(ONCE.public,)) as hub:
        error = refused(tmp_path, ticket_for(hub.endpoint, server_key=KeyPair.generate().public))
    assert "is not the master of this ticket" in error.what and error.code == Exit.REFUSED


def test_a_master_that_is_down_is_said_to_be_that(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    error = refused(tmp_path, ticket_for(f"tcp://127.0.0.1:{port}"), timeout_s=1)
    assert f"nothing answers at 127.0.0.1:{port}" in error.what and error.code == Exit.NO_MASTER


def test_a_master_that_comes_up_in_time_is_waited_for(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as server:
        endpoint = f"tcp://127.0.0.1:{server.getsockname()[1]}"
    with contextlib.ExitStack() as later, StateFolder(tmp_path) as state:

        def start() -> None:
            later.enter_context(a_hub_process(SERVER, invited=(ONCE.public,), endpoint=endpoint))

        thread = threading.Thread(target=start)
        with Link(endpoint, SERVER.public, ONCE):
            thread.start()
            assert join(ticket_for(endpoint), state, "camera").name == "camera"
        thread.join()


# ---- beside the master -------------------------------------------------------------------------------------------


class Answers(http.server.BaseHTTPRequestHandler):
    """The master's side of the route, as `ffrtmp.api` describes it."""

    def do_POST(self) -> None:
        wish = msgspec.json.decode(self.rfile.read(int(self.headers["Content-Length"])), type=EnrollRequest)
        self.server.asked.append((self.path, wish))
        status, answer = self.server.answer
        body = answer if isinstance(answer, bytes) else msgspec.json.encode(answer)
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def address_string(self) -> str:
        return "unix"

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextlib.contextmanager
def a_master_beside(path: Path, status: int, answer: object):
    """Answer each call on a Unix socket; gives the list of what was asked."""
    with socketserver.UnixStreamServer(str(path), Answers) as server:
        server.asked, server.answer = [], (status, answer)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield server.asked
        finally:
            server.shutdown()
            thread.join()


def test_an_agent_beside_its_master_enrols_by_the_socket(tmp_path):
    answer = Enrollment("here", "tcp://127.0.0.1:8081", SERVER.public)
    with a_master_beside(tmp_path / "sock", 201, answer) as asked, StateFolder(tmp_path / "state") as state:
        identity = enrol_beside(tmp_path / "sock", state, "here", "192.0.2.7", "old")
        assert asked == [("/v1/nodes/enroll", EnrollRequest(state.keys().public, "here", "192.0.2.7", "old"))]
        assert identity == state.identity() == NodeIdentity("tcp://127.0.0.1:8081", SERVER.public, "here")


@pytest.mark.parametrize(
    ("status", "answer", "words", "code"),
    [
        (
            409,
            Problem("Conflict", 409, "there is a node named here", "--replace here"),
            r"\(409\).*named",
            Exit.REFUSED,
        ),
        (503, Problem("Busy", 503), r"\(503\): Busy", Exit.NO_MASTER),
        (200, b"<html>", "is no ffrtmp-master", Exit.NO_MASTER),
        (201, b"[]", "is no ffrtmp-master", Exit.NO_MASTER),
    ],
)
def test_each_refusal_of_the_master_beside_is_told(tmp_path, status, answer, words, code):
    with a_master_beside(tmp_path / "sock", status, answer), StateFolder(tmp_path / "state") as state:
        with pytest.raises(FarmError, match=words) as refused:
            enrol_beside(tmp_path / "sock", state, "here")
        assert refused.value.code == code and state.identity() is None


def test_no_master_beside_is_said_with_what_to_do(tmp_path):
    with StateFolder(tmp_path / "state") as state, pytest.raises(FarmError, match="no master answers at") as missing:
        enrol_beside(tmp_path / "none.sock", state, "here")
    assert missing.value.code == Exit.NO_MASTER and "where it is installed as a service" in missing.value.hint


def test_a_host_that_has_joined_is_told_how_its_agent_starts_and_of_media_roots_only_where_it_has_none():
    given = {"config": "/etc/own.toml", "state_dir": "/srv/agent"}
    started = "start the agent: ffrtmp-agent --config /etc/own.toml --state-dir /srv/agent"
    assert how_to_start(given, has_roots=True) == [started]
    assert how_to_start(given, has_roots=False)[-1] == f"{started} --media-root NAME=/path/to/videos"
    service, command = how_to_start({}, has_roots=True)
    assert service.endswith("as a service: systemctl start ffrtmp-agent") and command.endswith(": ffrtmp-agent")
    assert "name its media_roots in /etc/ffrtmp/agent.toml" in how_to_start({}, has_roots=False)[0]
