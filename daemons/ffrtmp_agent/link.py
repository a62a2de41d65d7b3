"""The agent's line to the master: one ZeroMQ DEALER that heals itself, and says in words what is wrong with it.

Why it is built so
------------------
libzmq reconnects by itself, except when it does not: after a refusal (ZAP 400) and after a peer that does not speak its
protocol it gives up for good, silently. And it never says why there is no connection. So a monitor socket tells the
`Link` all that happens below; from it comes the `Trouble`, and a new socket where the old one has given up.

`IMMEDIATE=1`: without a connection `send` says no. Otherwise messages of an old session would wait in the socket, and be
the first to arrive in the next one.

The descriptors of ZeroMQ sockets are edge-triggered (any call may take the signal away). `fileno` is an epoll descriptor
above them all, with an eventfd that is raised whenever messages are known to be left; so a loop may treat it as an
ordinary one: readable while there is something to do, the same one after a reconnection.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import select
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from types import TracebackType

import msgspec
import zmq

from ffrtmp import wire
from ffrtmp.keys import KeyPair, fingerprint

BATCH = 64  # messages given out at a time
SILENCE_S = 12.0  # without a connection and without a sign from libzmq: it has given up
RENEW_FIRST_S = 1.0  # after a refusal, doubled up to RENEW_MOST_S
RENEW_MOST_S = 30.0
UNANSWERED_MOST = 5  # tries at a name before its other kind of address (IPv4, IPv6) is tried
_SLOW_HANDSHAKE_S = 2.0
_EVENT = struct.Struct("=Hi")

_OPTIONS: dict[int, int] = {
    zmq.LINGER: 0,
    zmq.IMMEDIATE: 1,
    zmq.MAXMSGSIZE: wire.MAX_FRAME_BYTES,
    zmq.SNDHWM: 256,
    zmq.RCVHWM: 256,
    zmq.CONNECT_TIMEOUT: 3_000,  # ms
    zmq.RECONNECT_IVL: 100,
    zmq.RECONNECT_IVL_MAX: 2_000,
    zmq.HANDSHAKE_IVL: 10_000,
    zmq.TCP_MAXRT: 20_000,  # no HEARTBEAT_IVL: see hub.py
    zmq.TCP_KEEPALIVE: 1,
    zmq.TCP_KEEPALIVE_IDLE: 30,
    zmq.TCP_KEEPALIVE_INTVL: 10,
    zmq.TCP_KEEPALIVE_CNT: 3,
}
_EVENTS = (
    zmq.EVENT_CONNECTED
    | zmq.EVENT_CONNECT_RETRIED
    | zmq.EVENT_CLOSED
    | zmq.EVENT_DISCONNECTED
    | zmq.EVENT_HANDSHAKE_SUCCEEDED
    | zmq.EVENT_HANDSHAKE_FAILED_AUTH
    | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
    | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
)


class Trouble(Enum):
    """Why there is no connection."""

    UNREACHABLE = "nothing answers at {where}: the master is down, or its address or port is another one"
    NOT_ADMITTED = "the master at {where} does not admit the key {key}: it is unknown, or was revoked, used or expired"
    WRONG_MASTER = "what answers at {where} is not the master that this ticket or enrolment is for: its key is another"
    NO_HANDSHAKE = "what answers at {where} does not finish the handshake: the master has no room, or it is no master"
    LOST = "the connection to the master at {where} was lost; trying again"


@dataclass(slots=True)
class _Wires:
    """One DEALER and its monitor, made and closed together."""

    dealer: zmq.Socket[bytes]
    monitor: zmq.Socket[bytes]


class Link:
    """A line to the hub at `hub` (tcp://HOST:PORT) that has the key `server_key`, as the owner of `keys`."""

    def __init__(
        self, hub: str, server_key: str, keys: KeyPair, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Connects at once, without waiting. `clock` gives monotonic seconds."""
        self.hub = hub
        self.connection = 0  # the number of the connection that stands, counted from 1; 0: none
        self.trouble: Trouble | None = None
        self.failures = 0  # handshakes in a row that failed
        self.undecodable = 0  # frames that were no message
        self._server_key = server_key
        self._keys = keys
        self._clock = clock
        self._connections = itertools.count(1)
        self._monitors = itertools.count(1)
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._poll = select.epoll()
        self._nudge = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._poll.register(self._nudge, select.EPOLLIN)
        self._renew_after_s = RENEW_FIRST_S
        self._named, self._ipv6 = _family(hub)
        self._wires = self._wire()

    def __enter__(self) -> Link:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def fileno(self) -> int:
        """A descriptor that is readable while `receive` has something to do."""
        return self._poll.fileno()

    def due_s(self) -> float | None:
        """When `receive` is to be called at the latest, on the clock; None while the connection stands."""
        return None if self.connection else self._due

    def troubles(self) -> str | None:
        """Why there is no connection, in a sentence; None when there is one, or when it is too early to say."""
        if self.trouble is None:
            return None
        return self.trouble.value.format(where=self.hub.removeprefix("tcp://"), key=fingerprint(self._keys.public))

    def advice(self) -> str:
        """What somebody can do about the trouble; empty where waiting is all."""
        if self.trouble is not Trouble.NOT_ADMITTED:
            return ""
        return (
            "if this node was removed, stop its agent and join again: ffrtmpctl nodes invite on the master's host, "
            "ffrtmp-agent join TICKET here; beside the master a start with --register does it"
        )

    def send(self, message: wire.Message) -> bool:
        """Send without waiting; False when there is no connection or too much is unsent (the message is dropped).

        Raises ValueError for a message that is too large for the wire.
        """
        frame = wire.encode(message)
        if len(frame) > wire.MAX_FRAME_BYTES:
            raise ValueError(f"a {type(message).__name__} of {len(frame)} bytes is too large to send")
        try:
            self._wires.dealer.send(frame, zmq.NOBLOCK)
        except zmq.Again:
            return False
        finally:
            self._look_for_more()
        return True

    def receive(self) -> list[wire.FromMaster]:
        """What has arrived, at most BATCH messages (`fileno` stays readable while there is more); heals the line."""
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._nudge)
        self._watch()
        if not self.connection and self._clock() >= self._due:
            self.reset()
        messages = []
        for _ in range(BATCH):
            try:
                frames = self._wires.dealer.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                break
            try:
                (frame,) = frames
                messages.append(wire.decode_from_master(frame))
            except (ValueError, msgspec.DecodeError):
                self.undecodable += 1
        self._look_for_more()
        return messages

    def reset(self) -> None:
        """Throw the connection away, with all that is under way on it, and make a fresh one."""
        self._unwire()
        self.connection = 0
        if self._named and self.trouble is Trouble.UNREACHABLE:
            self._ipv6 = not self._ipv6  # libzmq tries one address of a name only, by this option
        self._wires = self._wire()

    def close(self) -> None:
        """Close the line; what was not sent yet is dropped."""
        if self._poll.closed:
            return
        self.connection = 0
        self._unwire()
        self._context.term()
        self._poll.close()
        os.close(self._nudge)

    # ---- the sockets ---------------------------------------------------------------------------------------------

    def _wire(self) -> _Wires:
        self._due = self._clock() + SILENCE_S
        self._gave_up = False
        self._unanswered = 0  # tries to connect in a row
        self._connected_at: float | None = None
        dealer = self._context.socket(zmq.DEALER)
        for option, value in _OPTIONS.items():
            dealer.set(option, value)
        dealer.set(zmq.IPV6, int(self._ipv6))
        dealer.set(zmq.CURVE_SERVERKEY, self._server_key.encode("ascii"))
        dealer.set(zmq.CURVE_PUBLICKEY, self._keys.public.encode("ascii"))
        dealer.set(zmq.CURVE_SECRETKEY, self._keys.secret.encode("ascii"))
        place = f"inproc://monitor-{next(self._monitors)}"
        dealer.monitor(place, _EVENTS)
        monitor = self._context.socket(zmq.PAIR)
        monitor.set(zmq.LINGER, 0)
        monitor.connect(place)
        for each in (dealer, monitor):
            self._poll.register(int(each.get(zmq.FD)), select.EPOLLIN)
        dealer.connect(self.hub)
        os.eventfd_write(self._nudge, 1)
        return _Wires(dealer, monitor)

    def _unwire(self) -> None:
        dealer, monitor = self._wires.dealer, self._wires.monitor
        for each in (dealer, monitor):
            self._poll.unregister(int(each.get(zmq.FD)))
        # libzmq's thread waits for room in a monitor that nobody reads: stop it first, with the reader still there.
        while monitor.poll(0):
            monitor.recv_multipart(zmq.NOBLOCK)
        dealer.disable_monitor()
        dealer.close()
        monitor.close()

    def _look_for_more(self) -> None:
        if int(self._wires.dealer.get(zmq.EVENTS)) & zmq.POLLIN:
            os.eventfd_write(self._nudge, 1)

    # ---- what happens below --------------------------------------------------------------------------------------

    def _watch(self) -> None:
        while True:
            try:
                frames = self._wires.monitor.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            event, _ = _EVENT.unpack(frames[0])
            self._note(event, self._clock())

    def _note(self, event: int, now: float) -> None:
        """One event of libzmq: what it means for the connection and for the words about it."""
        if not self._gave_up:
            self._due = now + SILENCE_S
        if event == zmq.EVENT_HANDSHAKE_SUCCEEDED:
            self.connection = next(self._connections)
            self.trouble = None
            self.failures = 0
            self._renew_after_s = RENEW_FIRST_S
        elif event == zmq.EVENT_CONNECTED:
            self._connected_at = now
            self._unanswered = 0
        elif event == zmq.EVENT_DISCONNECTED:
            self.trouble = Trouble.LOST if self.connection else self.trouble or Trouble.NO_HANDSHAKE
            self.connection = 0
        elif event in (zmq.EVENT_HANDSHAKE_FAILED_AUTH, zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL):
            self._given_up(event, now)
        elif event == zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL:
            self.failures += 1
            slow = self._connected_at is not None and now - self._connected_at > _SLOW_HANDSHAKE_S
            self.trouble = Trouble.NO_HANDSHAKE if slow else Trouble.WRONG_MASTER
        elif event in (zmq.EVENT_CLOSED, zmq.EVENT_CONNECT_RETRIED):
            self._no_answer(event, now)

    def _given_up(self, event: int, now: float) -> None:
        """libzmq will not try again. We do, more and more slowly: keys can be admitted later."""
        refused = event == zmq.EVENT_HANDSHAKE_FAILED_AUTH
        self.failures += 1
        self.trouble = Trouble.NOT_ADMITTED if refused else Trouble.NO_HANDSHAKE
        self._gave_up = True
        self._due = now + self._renew_after_s
        self._renew_after_s = min(RENEW_MOST_S, 2 * self._renew_after_s)

    def _no_answer(self, event: int, now: float) -> None:
        """A try to connect has failed (CLOSED), or the next one is to come, which says it of names without address."""
        if event == zmq.EVENT_CLOSED or (self.trouble is None and self._connected_at is None):
            self.trouble = Trouble.UNREACHABLE
            self._unanswered += 1
        self._connected_at = None
        if self._named and self._unanswered >= UNANSWERED_MOST:
            self._due = now


def _family(hub: str) -> tuple[bool, bool]:
    """Whether tcp://HOST:PORT has a name for HOST, and whether to begin with IPv6."""
    host = hub.removeprefix("tcp://").rpartition(":")[0]
    ipv6 = host.startswith("[")
    return not ipv6 and not host.replace(".", "").isdigit(), ipv6
