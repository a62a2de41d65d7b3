"""What a daemon says to the service manager, and the sockets that it gets from it. All of it is quiet without one.

The package sdnotify does the sending. It encodes as latin-1 and drops what does not fit, hence `_utf8`.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Mapping, MutableMapping

import sdnotify

_FIRST_FD = 3


class Notifier:
    """sd_notify: readiness, a sentence of status, the watchdog.

    `beat` is to be called by the loop that does the work, each time round: it says WATCHDOG=1 when the manager asked
    for it (WATCHDOG_USEC) and a third of the time has passed. Nobody else says it, so a loop that hangs is noticed.
    """

    def __init__(
        self, environ: Mapping[str, str], pid: int | None = None, clock_s: Callable[[], float] = time.monotonic
    ) -> None:
        """The socket's address (NOTIFY_SOCKET) is read from the process's own environment by sdnotify."""
        self._notifier = sdnotify.SystemdNotifier()
        self._clock_s = clock_s
        self._status = ""
        self.watchdog_s = _watchdog_s(environ, os.getpid() if pid is None else pid)
        self._beat_due_s = 0.0

    def ready(self, status: str = "") -> None:
        """READY=1: it serves."""
        self._say("READY=1", *self._changed(status))

    def status(self, sentence: str) -> None:
        """STATUS=: shown by `systemctl status`; said again only when it changed."""
        changed = self._changed(sentence)
        if changed:
            self._say(*changed)

    def reloading(self) -> None:
        """RELOADING=1, with the time that Type=notify-reload wants; `ready` ends it."""
        self._say("RELOADING=1", f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")

    def stopping(self, status: str = "") -> None:
        """STOPPING=1: an orderly end has begun."""
        self._say("STOPPING=1", *self._changed(status))

    def beat(self) -> None:
        """The loop works."""
        now_s = self._clock_s()
        if self.watchdog_s and now_s >= self._beat_due_s:
            self._beat_due_s = now_s + self.watchdog_s / 3
            self._say("WATCHDOG=1")

    def close(self) -> None:
        """Free the socket."""
        if self._notifier.socket is not None:
            self._notifier.socket.close()

    def _changed(self, sentence: str) -> list[str]:
        sentence = " ".join(sentence.split())
        if not sentence or sentence == self._status:
            return []
        self._status = sentence
        return [f"STATUS={sentence}"]

    def _say(self, *lines: str) -> None:
        self._notifier.notify(_utf8("\n".join(lines)))


def take_sockets(environ: MutableMapping[str, str], pid: int | None = None) -> dict[str, socket.socket]:
    """The listening sockets of socket activation by their FileDescriptorName=, empty without activation.

    They are not inherited by children, and the variables are removed from `environ`, so that no child takes them for
    its own. Sockets of one name: the first has it, the next are NAME.1, NAME.2.
    """
    meant_for = environ.pop("LISTEN_PID", "")
    wanted = environ.pop("LISTEN_FDS", "0")
    names = environ.pop("LISTEN_FDNAMES", "").split(":")
    if meant_for != str(os.getpid() if pid is None else pid) or not wanted.isdigit():
        return {}
    taken: dict[str, socket.socket] = {}
    for index in range(int(wanted)):
        name = (names[index] if index < len(names) else "") or "unknown"
        os.set_inheritable(_FIRST_FD + index, False)
        taken[name if name not in taken else f"{name}.{index}"] = socket.socket(fileno=_FIRST_FD + index)
    return taken


def _watchdog_s(environ: Mapping[str, str], pid: int) -> float:
    meant_for = environ.get("WATCHDOG_PID", str(pid))
    wanted = environ.get("WATCHDOG_USEC", "")
    return int(wanted) / 1e6 if meant_for == str(pid) and wanted.isdigit() else 0.0


def _utf8(text: str) -> str:
    return text.encode().decode("latin-1")
