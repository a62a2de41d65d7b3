"""Who is connected to the hub's port, as the kernel knows it, for two bounds that libzmq does not have.

*Connections.* libzmq accepts as many as there are descriptors, and the store and the API need some too. So keys are
admitted while there is room only; connections of strangers end with their handshake, which is short.

*Unfinished messages.* `MAXMSGSIZE` bounds a frame, and the high-water mark counts finished messages; but a message may
have any number of frames, and until the last one has come its frames are kept and counted by nothing. An admitted key
could fill the memory with one message that never ends. ROUTER cannot close one connection; but the connection is a TCP
socket of this process, and the kernel counts its bytes. When the process grows, each connection that received more than
`HOARD_BYTES` without finishing a message is shut down. libzmq then throws the frames away.

A descriptor may be closed and given anew between two looks. So it is duplicated first, and everything, shutting down
too, is asked of the duplicate, which stays the same socket.
"""

from __future__ import annotations

import os
import socket
import stat
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from ffrtmp.wire import MAX_FRAME_BYTES

HOARD_BYTES = 8 * MAX_FRAME_BYTES
GROWTH_BYTES = 16 << 20  # look again when the process has grown by this much
_RECEIVED = struct.Struct("=Q")
_RECEIVED_AT = 128  # offset of tcpi_bytes_received in Linux's struct tcp_info
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class _Line:
    """One connection: its descriptor and the peer's address and port."""

    descriptor: int
    peer: str


class Census:
    """Counts and watches the connections to one local TCP port of this process."""

    def __init__(self, port: int) -> None:
        """`port`: where the hub listens."""
        self.port = port
        self.connections = 0
        self._since: dict[_Line, int] = {}  # bytes received when a message was last finished, or first seen
        self._floor_bytes = resident_bytes()

    def look(self, finished: set[int]) -> tuple[str, ...]:
        """Count the connections and shut down those that hoard; their peers, for the log.

        `finished`: the descriptors from which finished messages came since the last look.
        """
        since: dict[_Line, int] = {}
        cut = []
        for line, duplicate in self._lines():
            received = _received_bytes(duplicate)
            before = since[line] = received if line.descriptor in finished else self._since.get(line, received)
            if received - before > HOARD_BYTES:
                duplicate.shutdown(socket.SHUT_RDWR)
                cut.append(line.peer)
        self._since = since
        self.connections = len(since)
        return tuple(cut)

    def grown(self) -> bool:
        """Whether this process needs notably more memory than when it was asked last (or at its least since)."""
        resident = resident_bytes()
        grown = resident - self._floor_bytes > GROWTH_BYTES
        self._floor_bytes = resident if grown else min(self._floor_bytes, resident)
        return grown

    def _lines(self) -> Iterator[tuple[_Line, socket.socket]]:
        for name in os.listdir("/proc/self/fd"):  # noqa: PTH208  - numbers, no paths
            with _duplicate(int(name)) as duplicate:
                peer = _peer_at(duplicate, self.port) if duplicate is not None else ""
                if duplicate is not None and peer:
                    yield _Line(int(name), peer), duplicate


def resident_bytes() -> int:
    """The memory of this process that is in RAM."""
    with open("/proc/self/statm", "rb") as file:  # noqa: PTH123  - ten times a second for ever: no Path is made
        return int(file.read().split()[1]) * _PAGE_BYTES


@contextmanager
def _duplicate(descriptor: int) -> Iterator[socket.socket | None]:
    """A second descriptor of the same socket; None if it is no socket, or gone."""
    try:
        if not stat.S_ISSOCK(os.fstat(descriptor).st_mode):
            yield None
            return
        duplicate = socket.socket(fileno=os.dup(descriptor))
    except OSError:
        yield None
        return
    with duplicate:
        yield duplicate


def _peer_at(duplicate: socket.socket, port: int) -> str:
    """The peer's address and port, if this is a TCP connection that was made to `port` here; else nothing."""
    if duplicate.family not in (socket.AF_INET, socket.AF_INET6) or duplicate.type != socket.SOCK_STREAM:
        return ""
    try:
        if duplicate.getsockname()[1] != port:
            return ""
        address = duplicate.getpeername()
    except OSError:  # it listens, or was closed by the peer
        return ""
    return f"{address[0]} port {address[1]}"


def _received_bytes(duplicate: socket.socket) -> int:
    information = duplicate.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _RECEIVED_AT + _RECEIVED.size)
    return int(_RECEIVED.unpack_from(information, _RECEIVED_AT)[0])
