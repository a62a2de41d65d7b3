"""Where the hub listens: as configured, or beyond loopback since an invitation opened it.

A farm of one host is open to nobody else. The first ticket for another host opens it, and it has to stay so over
restarts, or the nodes that have joined are locked out. `hub.open` in the state folder keeps that, with the configured
address that it was opened for: whoever configures another one has decided anew.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from ffrtmp.errors import Exit, FarmError

MARK = "hub.open"
LOOPBACK = ("127.0.0.1", "::1", "localhost")


@dataclass(frozen=True, slots=True)
class Doorway:
    """`configured` is an endpoint, `tcp://HOST:PORT`; `folder` the state folder."""

    configured: str
    folder: Path

    @property
    def endpoint(self) -> str:
        """Where to listen at a start. Raises FarmError when the mark cannot be read."""
        mark = self.folder / MARK
        try:
            opened = mark.read_bytes().strip() == self.configured.encode()
        except FileNotFoundError:
            opened = False
        except OSError as error:
            hint = "let the master's user read it; or remove it, and nodes of other hosts are locked out"
            raise FarmError(f"{mark} cannot be read: {error.strerror}", hint=hint, code=Exit.CONFIG) from error
        return beyond_loopback(self.configured) if opened else self.configured

    def keep_open(self) -> None:
        """Make it last; durable on return. Raises OSError."""
        mark = self.folder / MARK
        with mark.open("w") as file:
            file.write(self.configured + "\n")
            file.flush()
            os.fsync(file.fileno())
        folder = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def forget(self) -> None:
        """It could not be opened: the next start is to be as this one was."""
        (self.folder / MARK).unlink(missing_ok=True)


def is_loopback(endpoint: str) -> bool:
    """Whether only this host reaches an endpoint or a host name."""
    host = endpoint.removeprefix("tcp://")
    host = host.rsplit(":", 1)[0] if "tcp://" in endpoint else host
    return host.strip("[]") in LOOPBACK or host.startswith("127.")


def beyond_loopback(endpoint: str) -> str:
    """The same port on every interface."""
    return f"tcp://*:{endpoint.rsplit(':', 1)[1]}"
