"""The doorkeeper: answers libzmq's question (ZAP, RFC 27) whether a key may come in.

It stands on the loop, beside the hub's socket, and its answer counts for the handshake only: what a key may *say* is
asked anew at every message. pyzmq's own authenticator is not used: an exception in its callback ends it, and every
later handshake then hangs; and it cannot answer 300, "not now", which makes libzmq's client try again, where after 400
it gives up for good.
"""

from __future__ import annotations

from collections.abc import Callable

import zmq
from zmq.utils import z85

from .complaints import Complaints
from .drain import Drain

ZAP_ENDPOINT = "inproc://zeromq.zap.01"
DOMAIN = b"ffrtmp"
_VERSION = b"1.0"


class Doorkeeper:
    """Bind it before the hub's socket: libzmq lets nobody in while a required ZAP handler is missing."""

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        admits: Callable[[str], bool],
        has_room: Callable[[], bool],
        complaints: Complaints,
    ) -> None:
        """`admits` says whether a public key (Z85) may come in, `has_room` whether one more connection may."""
        self._admits = admits
        self._has_room = has_room
        self._complaints = complaints
        self._socket = context.socket(zmq.REP)
        self._socket.linger = 0
        self._socket.bind(ZAP_ENDPOINT)
        self._drain = Drain(self._socket, self._take)

    def close(self) -> None:
        """From here on no handshake succeeds."""
        self._drain.close()
        self._socket.close()

    def _take(self) -> bool:
        try:
            request = self._socket.recv_multipart(zmq.NOBLOCK)
        except zmq.Again:
            return False
        status, user = self._judge(request)
        text = {b"200": b"OK", b"300": b"Not now"}.get(status, b"Not admitted")
        request_id = request[1] if len(request) > 1 else b""
        try:
            self._socket.send_multipart([_VERSION, request_id, status, text, user, b""], zmq.NOBLOCK)
        except zmq.ZMQError as error:
            self._complaints.note("an answer to a handshake was lost", str(error))
        return True

    def _judge(self, request: list[bytes]) -> tuple[bytes, bytes]:
        """(ZAP status, User-Id): 200, 300 for "not now", 400 for "never", 500 for "something is wrong here"."""
        try:
            _version, _id, domain, address, _routing_id, mechanism, credential = request
            if domain != DOMAIN or mechanism != b"CURVE" or len(credential) != 32:
                return b"400", b""
            key = z85.encode(credential).decode("ascii")
            where = address.decode("ascii", "replace")
            if not self._admits(key):
                self._complaints.note("an unknown key was turned away", f"{key} from {where}")
                return b"400", b""
            if not self._has_room():
                self._complaints.note(
                    "too many connections: a known key was turned away for now", f"{key} from {where}"
                )
                return b"300", b""
            return b"200", key.encode("ascii")
        except Exception as error:  # an unanswered request would block every later handshake
            self._complaints.note("a handshake could not be judged", repr(error))
            return b"500", b""
