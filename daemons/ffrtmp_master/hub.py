"""The hub: the one ZeroMQ socket at which all agents talk to the master.

Why it is built so
------------------
The socket is a ROUTER on the network, and everything that libzmq leaves open is closed here:

* CURVE always, and a ZAP domain that is *enforced*: without a handler libzmq would let every key in.
* libzmq numbers its peers from C's `rand()`, which starts the same in every process, and aborts the process when a peer
  claims the number that comes next. So `rand` is seeded from the system's entropy before the socket is made, and who
  claims a routing id at all is not listened to.
* A full peer blocks a sender, and no peer at all drops silently: so NOBLOCK and ROUTER_MANDATORY, and each send says
  which of the three it was.
* A frame may have any length: MAXMSGSIZE. A message may have any number of frames, a port any number of connections:
  `census`.
* ZAP judges handshakes, and ROUTER cannot close a connection afterwards. So a message's key is looked up anew each
  time, and a key that was revoked is not heard from that message on.

Nothing here relies on ZeroMQ for delivery; see `ffrtmp.wire`.
"""

from __future__ import annotations

import asyncio
import ctypes
import logging
import os
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

import msgspec
import zmq

from ffrtmp import wire
from ffrtmp.errors import Exit, FarmError
from ffrtmp.keys import KeyPair

from .census import Census
from .complaints import Complaints
from .drain import Drain
from .hub_auth import DOMAIN, Doorkeeper

CONNECTIONS_MAX = 2000
WATCH_EVERY_S = 0.1
WATCH_AGAIN_S = 0.02  # after memory has grown: one look says how much each connection received, the next how fast
REBIND_TRIES = 100
REBIND_EVERY_S = 0.02
_OWN_ID_LENGTH = 5  # a routing id that libzmq gave: a zero and four bytes

_log = logging.getLogger("ffrtmp.hub")

_OPTIONS: dict[int, int] = {
    zmq.LINGER: 0,
    zmq.ROUTER_MANDATORY: 1,
    zmq.MAXMSGSIZE: wire.MAX_FRAME_BYTES,
    zmq.SNDHWM: 256,  # messages that wait for one slow agent
    zmq.RCVHWM: 64,  # messages of one agent that wait for us; beyond them its own queue fills
    zmq.BACKLOG: 256,
    zmq.HANDSHAKE_IVL: 3_000,  # ms that a stranger may take up a connection
    # No HEARTBEAT_IVL: libzmq 4.3.5 ends the process when its own sign of life is due on a connection that broke while
    # messages waited to be read (its issues 4364 and 4767). Heartbeats of ours say more, and the kernel sees the rest.
    zmq.TCP_MAXRT: 20_000,  # ms that what was sent may stay without an acknowledgement
    zmq.TCP_KEEPALIVE: 1,
    zmq.TCP_KEEPALIVE_IDLE: 30,
    zmq.TCP_KEEPALIVE_INTVL: 10,
    zmq.TCP_KEEPALIVE_CNT: 3,
}

_BIND_HINTS: dict[int, str] = {
    zmq.EADDRINUSE: "is another master running? or choose another port",
    zmq.EADDRNOTAVAIL: "this host has no such address",
}


class SendResult(Enum):
    """What became of a send. SENT means on its way, not received."""

    SENT = "sent"
    UNREACHABLE = "unreachable"  # the connection is closed
    FULL = "full"  # the agent does not keep up; the message was dropped


@dataclass(frozen=True, slots=True)
class Received:
    """A message, the connection that it came by, and the key (Z85) that owns this connection."""

    connection: bytes
    key: str
    message: wire.FromAgent


class Hub:
    """Listens at `endpoint` from the moment it is made. Belongs to the running loop and its thread."""

    def __init__(
        self,
        endpoint: str,
        server_keys: KeyPair,
        admits: Callable[[str], bool],
        on_message: Callable[[Received], None],
        *,
        invited: Callable[[str], bool] = lambda key: False,
        connections_max: int = CONNECTIONS_MAX,
    ) -> None:
        """`admits`: whether a public key (Z85) is a node's; `invited`: whether it is an open ticket's.

        Both are asked at every message and have to be quick. A node says all but `Enroll`, a ticket `Enroll` only;
        `on_message` gets what is left. Raises FarmError when `endpoint` (tcp://HOST:PORT) cannot be had.
        """
        self._admits = admits
        self._invited = invited
        self._on_message = on_message
        self._connections_max = connections_max
        self._loop = asyncio.get_running_loop()
        self._complaints = Complaints(_log, self._loop.time)
        self._finished: set[int] = set()  # descriptors of connections that finished a message, see census
        self._entering = 0  # admitted since the connections were counted
        _seed_rand()
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._doorkeeper = Doorkeeper(self._context, self._may_enter, self._has_room, self._complaints)
        self._socket = _router(self._context, server_keys)
        try:
            self._bind(endpoint)
        except FarmError:
            self._end()
            raise
        self._census = Census(_port(self.endpoint))
        self._drain = Drain(self._socket, self._take)
        self._watch = self._loop.call_later(WATCH_EVERY_S, self._watch_memory)

    @property
    def counts(self) -> Counter[str]:
        """How often what went wrong, by kind, since the start."""
        return self._complaints.counts

    def send(self, connection: bytes, message: wire.Message) -> SendResult:
        """Send without waiting. Raises ValueError for a message that is too large for the wire."""
        frame = wire.encode(message)
        if len(frame) > wire.MAX_FRAME_BYTES:
            raise ValueError(f"a {type(message).__name__} of {len(frame)} bytes is too large to send")
        try:
            self._socket.send_multipart([connection, frame], zmq.NOBLOCK)
        except zmq.Again:
            self._complaints.note("a message was dropped: an agent does not keep up", type(message).__name__)
            return SendResult.FULL
        except zmq.ZMQError as error:
            if error.errno != zmq.EHOSTUNREACH:
                raise
            self._complaints.counts["a message was dropped: its connection is closed"] += 1
            return SendResult.UNREACHABLE
        finally:
            self._drain.nudge()
        return SendResult.SENT

    def hold(self, held: bool) -> None:
        """Stop reading (the master has enough to do), or go on; what agents say meanwhile waits at their side."""
        self._drain.hold(held)

    async def open(self, endpoint: str) -> None:
        """Listen at another address instead, as the first invitation does to leave loopback.

        Closes all connections (libzmq ties them to the listener); agents come back by themselves. Raises FarmError,
        and listens where it did before, when the new one cannot be had.
        """
        before = self.endpoint
        self._socket.unbind(self._bound)
        try:
            await self._bind_soon(endpoint)
        except FarmError:
            await self._bind_soon(before)
            raise
        finally:
            self._census.port = _port(self.endpoint)
            self._drain.nudge()

    def close(self) -> None:
        """Close the socket and all connections; what was not sent yet is dropped."""
        if self._socket.closed:
            return
        self._watch.cancel()
        self._drain.close()
        self._end()

    def _end(self) -> None:
        self._doorkeeper.close()
        self._socket.close()
        self._context.term()

    # ---- who may come in -----------------------------------------------------------------------------------------

    def _may_enter(self, key: str) -> bool:
        return self._admits(key) or self._invited(key)

    def _has_room(self) -> bool:
        self._entering += 1
        if self._census.connections + self._entering <= self._connections_max:
            return True
        self._look_round()  # this counts the connection that is at the door, too
        return self._census.connections <= self._connections_max

    def _may_say(self, key: str, message: wire.FromAgent) -> bool:
        return self._invited(key) if isinstance(message, wire.Enroll) else self._admits(key)

    # ---- what comes in -------------------------------------------------------------------------------------------

    def _take(self) -> bool:
        """Handle one message, whatever it is; False when there was none."""
        try:
            head = self._socket.recv(zmq.NOBLOCK, copy=False)
        except zmq.Again:
            return False
        try:
            body, further = self._rest_of_message()
            if body is not None:
                self._finished.add(int(body.get(zmq.SRCFD)))
                self._hear(head.bytes, body, further)
        except Exception:
            self._complaints.counts["a message could not be handled"] += 1
            _log.exception("a message could not be handled")
        return True

    def _rest_of_message(self) -> tuple[zmq.Frame | None, int]:
        """The second frame, and how many more there were: of a message of many, only one is kept."""
        body: zmq.Frame | None = None
        further = 0
        while self._socket.get(zmq.RCVMORE):
            frame = self._socket.recv(zmq.NOBLOCK, copy=False)
            if body is None:
                body = frame
            else:
                further += 1
        return body, further

    def _hear(self, connection: bytes, body: zmq.Frame, further: int) -> None:
        key = str(body.get("User-Id"))
        if not self._may_enter(key):
            return self._complaints.note("a message of a key that is not admitted any more was dropped", key)
        if further:
            return self._complaints.note("a message of several frames was dropped", f"{further + 1} frames of {key}")
        if len(connection) != _OWN_ID_LENGTH or connection[0] != 0:
            return self._complaints.note("a message under a claimed routing id was dropped", key)
        try:
            message = wire.decode_from_agent(body.bytes)
        except msgspec.DecodeError as error:
            return self._complaints.note("a frame that is no message was dropped", f"{error} (key {key})")
        if not self._may_say(key, message):
            kind = "a message that its key may not say was dropped"
            return self._complaints.note(kind, f"{type(message).__name__} of {key}")
        return self._on_message(Received(connection, key, message))

    # ---- bounds --------------------------------------------------------------------------------------------------

    def _watch_memory(self, look: bool = False) -> None:
        grown = self._census.grown()
        self._watch = self._loop.call_later(WATCH_AGAIN_S if grown else WATCH_EVERY_S, self._watch_memory, grown)
        if grown or look:
            self._look_round()

    def _look_round(self) -> None:
        for peer in self._census.look(self._finished):
            self._complaints.note("a connection was cut: its message did not end", peer)
        self._finished.clear()
        self._entering = 0

    # ---- where it listens ----------------------------------------------------------------------------------------

    def _bind(self, endpoint: str) -> None:
        """Listen, and set `endpoint` (with the port that was taken) and `_bound` (as libzmq calls it)."""
        host = endpoint.rpartition(":")[0].removeprefix("tcp://")
        # With IPv6 on, libzmq makes an IPv6 socket for an IPv4 address too, which a host may not have.
        self._socket.set(zmq.IPV6, int(not host.replace(".", "").isdigit()))
        try:
            self._socket.bind(endpoint)
        except zmq.ZMQError as error:
            why = zmq.strerror(error.errno or 0)  # the exception's own words repeat the address
            what = f"cannot listen for agents at {endpoint}: {why}"
            raise FarmError(what, hint=_BIND_HINTS.get(error.errno or 0, ""), code=Exit.CONFIG) from error
        bound = self._socket.get(zmq.LAST_ENDPOINT)
        assert isinstance(bound, bytes)
        self._bound = bound.decode("ascii").rstrip("\0")
        self.endpoint = f"tcp://{host}:{_port(self._bound)}"

    async def _bind_soon(self, endpoint: str) -> None:
        """Bind to a port that libzmq's other thread may not have let go yet."""
        for _ in range(REBIND_TRIES):
            try:
                return self._bind(endpoint)
            except FarmError as error:
                if not isinstance(error.__cause__, zmq.ZMQError) or error.__cause__.errno != zmq.EADDRINUSE:
                    raise
                await asyncio.sleep(REBIND_EVERY_S)
        return self._bind(endpoint)


def _router(context: zmq.Context[zmq.Socket[bytes]], keys: KeyPair) -> zmq.Socket[bytes]:
    router = context.socket(zmq.ROUTER)
    for option, value in _OPTIONS.items():
        router.set(option, value)
    router.set(zmq.ZAP_DOMAIN, DOMAIN)
    router.set(zmq.ZAP_ENFORCE_DOMAIN, 1)
    router.set(zmq.CURVE_SECRETKEY, keys.secret.encode("ascii"))
    router.set(zmq.CURVE_PUBLICKEY, keys.public.encode("ascii"))
    router.set(zmq.CURVE_SERVER, 1)
    return router


def _port(endpoint: str) -> int:
    return int(endpoint.rpartition(":")[2])


def _seed_rand() -> None:
    ctypes.CDLL(None).srand(ctypes.c_uint(int.from_bytes(os.urandom(4), "little")))
