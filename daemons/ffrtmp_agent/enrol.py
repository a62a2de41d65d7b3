"""Becoming a node: how the master learns an agent's key, and the agent the master's.

Two ways lead in. `join` uses a ticket, on any host; `enrol_beside` the master's Unix socket, on the master's own host,
where the kernel says who asks. In both the agent's key pair is made here and its secret half stays here, and in both
asking again is harmless: an answer may be lost. What goes wrong is told from what is known on this side, because a
master that does not know a key does not talk to it.
"""

from __future__ import annotations

import http.client
import select
import socket
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from ffrtmp import wire
from ffrtmp.api import Enrollment, EnrollRequest, Problem
from ffrtmp.errors import Exit, FarmError
from ffrtmp.keys import Ticket, check_key

from .link import Link, Trouble
from .state import NodeIdentity, StateFolder

TIMEOUT_S = 20.0
REPEAT_S = 2.0
HANDSHAKES_MOST = 3  # that break off before the master is taken for another one
ANSWER_MOST_BYTES = 1 << 20
_NEW_TICKET = "ask for a new ticket: ffrtmpctl nodes invite"


def join(
    ticket: Ticket,
    state: StateFolder,
    name: str,
    address: str = "",
    replace: str = "",
    *,
    timeout_s: float = TIMEOUT_S,
    clock: Callable[[], float] = time.monotonic,
) -> NodeIdentity:
    """Enrol by a ticket, and keep what came of it in the state folder, the address too.

    `replace` names the node whose place this host takes. Raises FarmError: REFUSED when the master or its door says no
    or it is another master, NO_MASTER when nobody answers within `timeout_s`.
    """
    wish = wire.Enroll(state.keys().public, name, address, replace)
    with Link(ticket.hub, ticket.server_key, ticket.keys, clock=clock) as link:
        answer = _ask(link, wish, timeout_s, clock)
    if isinstance(answer, wire.Sorry):
        raise FarmError(f"the master refuses: {answer.detail}", hint=answer.hint, code=Exit.REFUSED)
    return _keep(state, NodeIdentity(ticket.hub, ticket.server_key, answer.name, address))


def enrol_beside(
    socket_path: Path, state: StateFolder, name: str, address: str = "", replace: str = "", timeout_s: float = TIMEOUT_S
) -> NodeIdentity:
    """Enrol at the master on this host by its Unix socket, and keep what came of it in the state folder.

    `address` is told and not kept: the daemon has it in its configuration. One that `join` kept stays.

    Raises FarmError: REFUSED when the master says no, NO_MASTER when there is none.
    """
    wish = EnrollRequest(state.keys().public, name, address, replace)
    status, body = _post(socket_path, "/v1/nodes/enroll", msgspec.json.encode(wish), timeout_s)
    try:
        if status != http.client.CREATED:
            raise _refusal(status, msgspec.json.decode(body, type=Problem))
        answer = msgspec.json.decode(body, type=Enrollment)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        what = f"what answers at {socket_path} is no ffrtmp-master (status {status}, {error})"
        raise FarmError(what, code=Exit.NO_MASTER) from error
    before = state.identity()
    kept = before.address if before is not None else ""
    return _keep(state, NodeIdentity(answer.hub, check_key(answer.server_key), answer.name, kept))


def _keep(state: StateFolder, identity: NodeIdentity) -> NodeIdentity:
    state.save_identity(identity)
    return identity


# ---- by ticket ---------------------------------------------------------------------------------------------------


def _ask(link: Link, wish: wire.Enroll, timeout_s: float, clock: Callable[[], float]) -> wire.Enrolled | wire.Sorry:
    deadline = clock() + timeout_s
    asked_on, ask_at = 0, 0.0
    while (now := clock()) < deadline:
        for message in link.receive():
            if isinstance(message, wire.Enrolled) or (isinstance(message, wire.Sorry) and not message.retry):
                return message
        _give_up_if_hopeless(link)
        if link.connection and (link.connection != asked_on or now >= ask_at) and link.send(wish):
            asked_on, ask_at = link.connection, now + REPEAT_S
        select.select([link], [], [], min(0.25, deadline - now))
    reason = link.troubles() or f"the master at {link.hub.removeprefix('tcp://')} does not answer"
    hint = "check on the master's host that ffrtmp-master runs there, and that its port is open to this host"
    raise FarmError(f"not enrolled: {reason}", hint=hint, code=Exit.NO_MASTER)


def _give_up_if_hopeless(link: Link) -> None:
    """Raise for what waiting does not cure: it is the ticket that is wrong."""
    if link.trouble is Trouble.NOT_ADMITTED:
        what = "the master does not admit this ticket: it was used, has expired, or was revoked"
        raise FarmError(what, hint=_NEW_TICKET, code=Exit.REFUSED)
    if link.trouble is Trouble.WRONG_MASTER and link.failures >= HANDSHAKES_MOST:
        what = f"what answers at {link.hub.removeprefix('tcp://')} is not the master of this ticket"
        hint = f"was the master installed anew, or is its address another host's now? {_NEW_TICKET}"
        raise FarmError(what, hint=hint, code=Exit.REFUSED)


# ---- by the Unix socket ------------------------------------------------------------------------------------------


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: Path, timeout_s: float) -> None:
        super().__init__("localhost", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def _post(socket_path: Path, route: str, body: bytes, timeout_s: float) -> tuple[int, bytes]:
    connection = _UnixConnection(socket_path, timeout_s)
    try:
        connection.request("POST", route, body, {"Content-Type": "application/json"})
        response = connection.getresponse()
        return response.status, response.read(ANSWER_MOST_BYTES)
    except PermissionError as error:
        hint = "run the agent as user ffrtmp-agent, or as a member of group ffrtmp"
        raise FarmError(f"{socket_path} may not be used by this user", hint=hint, code=Exit.REFUSED) from error
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        hint = (
            "start ffrtmp-master (systemctl start ffrtmp-master where it is installed as a service); "
            "on another host enrol by a ticket: ffrtmp-agent join"
        )
        raise FarmError(f"no master answers at {socket_path}: {reason}", hint=hint, code=Exit.NO_MASTER) from error
    finally:
        connection.close()


def _refusal(status: int, problem: Problem) -> FarmError:
    code = Exit.NO_MASTER if status >= http.client.INTERNAL_SERVER_ERROR else Exit.REFUSED
    return FarmError(f"the master refuses ({status}): {problem.detail or problem.title}", hint=problem.hint, code=code)
