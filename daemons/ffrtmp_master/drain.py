"""Reading ZeroMQ sockets on an asyncio loop, although their descriptor does not say what it seems to say.

A ZeroMQ socket's descriptor becomes readable when libzmq's I/O thread has something to tell the socket: a message, a
new connection, or room to send. It is *edge-triggered*: any call on the socket, a send too, may take the signal away,
and while messages are left unread no new signal comes. So whoever reads must read until there is nothing left, and
whoever sends must look for messages afterwards. `Drain` does both: it reads a bounded number of messages, lets the loop
do other work, and goes on; and `nudge`, called after each send, has it look again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import zmq

BURST = 256  # messages read before the loop gets its turn,
BURST_S = 0.02  # or as many as take so long to be handled


class Drain:
    """Calls `take` until it says that nothing is left, whenever something may be there."""

    def __init__(self, socket: zmq.Socket[bytes], take: Callable[[], bool]) -> None:
        """`take` handles one message without waiting, returns whether there was one, and never raises.

        Must be made on the running loop.
        """
        self._take = take
        self._loop = asyncio.get_running_loop()
        self._descriptor = int(socket.get(zmq.FD))
        self._next: asyncio.Handle | None = None
        self._held = False
        self._loop.add_reader(self._descriptor, self._read)
        self.nudge()

    def nudge(self) -> None:
        """Look for messages soon: the signal may have been taken away."""
        if self._next is None and not self._held:
            self._next = self._loop.call_soon(self._go_on)

    def hold(self, held: bool) -> None:
        """Stop reading, or go on. What peers send meanwhile fills their own queues and then stops them."""
        if held == self._held:
            return
        self._held = held
        if held:
            self._loop.remove_reader(self._descriptor)
            self._forget_next()
        else:
            self._loop.add_reader(self._descriptor, self._read)
            self.nudge()

    def close(self) -> None:
        """Before the socket is closed."""
        self._held = True
        self._loop.remove_reader(self._descriptor)
        self._forget_next()

    def _forget_next(self) -> None:
        if self._next is not None:
            self._next.cancel()
            self._next = None

    def _go_on(self) -> None:
        self._next = None
        self._read()

    def _read(self) -> None:
        if self._held:
            return
        until_s = self._loop.time() + BURST_S
        for _ in range(BURST):
            if not self._take():
                return
            if self._held:  # taking this one made somebody hold us
                return
            if self._loop.time() >= until_s:
                break
        self.nudge()
