"""The agent's state folder: its key, its enrolment, how often it has started, and how far it has seen the master get.

One agent owns one folder and holds a lock on it: two agents with one key would take each other's session away (P9). Each
file is replaced as a whole and synced, so that a crash leaves the old one or the new one. The lock is the kernel's and
goes with the process, whatever ends it.
"""

from __future__ import annotations

import errno
import fcntl
import os
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import TypeVar

import msgspec

from ffrtmp import wire
from ffrtmp.errors import Exit, FarmError
from ffrtmp.keys import KeyPair, load_or_make_keys

from .jobfile import clear_drafts, write_durably

_PASSING = (errno.ENOSPC, errno.EDQUOT, errno.EIO)
_FOLDER_MODE = 0o711  # jobs reach their own folders below, and list nothing


class NodeIdentity(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What enrolment has given: the hub (tcp://HOST:PORT), its public key (Z85), and the node's name.

    `address` is the node's, as `join --address` was told it; empty: the one of its route to the master.
    """

    hub: str
    server_key: str
    name: str
    address: str = ""


_IDENTITY = msgspec.json.Decoder(NodeIdentity)
_COUNTER = msgspec.json.Decoder(int)
_SEEN = msgspec.json.Decoder(wire.Seen)
T = TypeVar("T")


class StateFolder:
    """The folder, locked from construction until `close`."""

    def __init__(self, path: Path) -> None:
        """Make the folder if need be and lock it. Raises FarmError (REFUSED) when another agent has it."""
        self.path = path
        try:
            path.mkdir(mode=_FOLDER_MODE, parents=True, exist_ok=True)
            self._lock = os.open(path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            what = f"cannot use the state folder {path}: {error.strerror}"
            raise FarmError(what, hint="it has to belong to the user who runs the agent", code=Exit.CONFIG) from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._lock)
            hint = (
                "stop it first (systemctl stop ffrtmp-agent where it is a service), "
                "or give this one a folder of its own"
            )
            raise FarmError(f"another agent uses the state folder {path}", hint=hint, code=Exit.REFUSED) from None
        with suppress(OSError):
            clear_drafts(path)

    def __enter__(self) -> StateFolder:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the lock."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def keys(self) -> KeyPair:
        """The agent's own key pair, which is made when there is none, and never leaves this folder."""
        return load_or_make_keys(self.path / "agent.key")

    def identity(self) -> NodeIdentity | None:
        """What enrolment has given; None before it."""
        return self._load("identity.json", _IDENTITY)

    def save_identity(self, identity: NodeIdentity) -> None:
        """Keep it, durably."""
        self._save("identity.json", identity)

    def next_incarnation(self) -> int:
        """Count one more start, durably, and give its number: 1 for the first."""
        incarnation = (self._load("incarnation", _COUNTER) or 0) + 1
        self._save("incarnation", incarnation)
        return incarnation

    def seen(self) -> wire.Seen:
        """The newest state of the master that was noted."""
        return self._load("seen.json", _SEEN) or wire.Seen()

    def save_seen(self, seen: wire.Seen) -> None:
        """Note it, durably; costs nothing when it is what is noted already."""
        if seen != self.seen():
            self._save("seen.json", seen)

    def _load(self, name: str, decoder: msgspec.json.Decoder[T]) -> T | None:
        path = self.path / name
        try:
            return decoder.decode(path.read_bytes())
        except FileNotFoundError:
            return None
        except OSError as error:
            raise FarmError(f"cannot read {path}: {error.strerror}", code=Exit.CONFIG) from error
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            hint = f"remove {path}; if the master then refuses this node, see `ffrtmpctl nodes accept`"
            raise FarmError(f"{path} is damaged: {error}", hint=hint, code=Exit.CONFIG) from error

    def _save(self, name: str, content: object) -> None:
        try:
            write_durably(self.path / name, msgspec.json.encode(content) + b"\n")
        except OSError as error:
            # A full disk may have room again, so the service manager should try again, which it does not after CONFIG.
            code = Exit.FAILED if error.errno in _PASSING else Exit.CONFIG
            raise FarmError(f"cannot write {self.path / name}: {error.strerror}", code=code) from error
