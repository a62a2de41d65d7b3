"""Who calls, and what they may do.

On the Unix socket the kernel says who is at the other end (SO_PEERCRED, SO_PEERGROUPS), so there is nothing to prove. A
`Policy` makes a `Caller` of a connection; another way in (keys over TLS) is another policy, and nothing else changes.
"""

from __future__ import annotations

import os
import pwd
import socket
import struct
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, Protocol

Role = Literal["viewer", "operator", "admin", "enroll"]
# What each role includes. `enroll` is a door of its own: it may make a node and see nothing.
GRANTS: dict[Role, frozenset[Role]] = {
    "viewer": frozenset({"viewer"}),
    "operator": frozenset({"viewer", "operator"}),
    "admin": frozenset({"viewer", "operator", "admin", "enroll"}),
    "enroll": frozenset({"enroll"}),
}
SO_PEERGROUPS = 59  # not in Python's socket module
_CREDENTIALS = struct.Struct("iII")
_GROUPS_BYTES = 1024  # the most that getsockopt of Python reads


@dataclass(frozen=True, slots=True)
class Peer:
    """The process at the other end of a Unix socket, as it was when it connected."""

    pid: int
    uid: int
    gid: int
    groups: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class Caller:
    """`scope` tells callers apart (idempotency keys belong to one); `label` is for logs, audit and `submitted_by`."""

    scope: str
    label: str
    roles: frozenset[Role]
    pid: int = 0

    def may(self, role: Role) -> bool:
        """Whether one of the caller's roles includes `role`."""
        return any(role in GRANTS[each] for each in self.roles)


NOBODY = Caller(scope="", label="unknown", roles=frozenset())


class Policy(Protocol):
    """Computed once a connection. Never raises: who is unknown is `NOBODY`."""

    def caller(self, connection: socket.socket) -> Caller:
        """Who is at the other end of this connection."""
        ...


@dataclass(frozen=True, slots=True)
class UnixPolicy:
    """Root, the daemon's own user and members of `admin_gid` are admin; `agent_uid` may enrol; nobody else anything."""

    own_uid: int
    admin_gid: int | None = None
    agent_uid: int | None = None

    def caller(self, connection: socket.socket) -> Caller:
        """The caller behind a Unix socket."""
        peer = peer_of(connection)
        return NOBODY if peer is None else self.judge(peer)

    def judge(self, peer: Peer) -> Caller:
        """What a peer may do."""
        roles: set[Role] = set()
        if peer.uid in (0, self.own_uid) or (self.admin_gid is not None and self.admin_gid in peer.groups):
            roles.add("admin")
        if peer.uid == self.agent_uid:
            roles.add("enroll")
        name = user_name(peer.uid)
        label = f"uid {peer.uid}" + (f" ({name})" if name else "")
        return Caller(scope=f"uid {peer.uid}", label=label, roles=frozenset(roles), pid=peer.pid)


def peer_of(connection: socket.socket) -> Peer | None:
    """The process that connected; None where the socket has no such peer."""
    try:
        raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    except OSError:
        return None
    pid, uid, gid = _CREDENTIALS.unpack(raw)
    return Peer(pid, uid, gid, frozenset({gid, *_groups(connection, uid, gid)}))


def _groups(connection: socket.socket, uid: int, gid: int) -> tuple[int, ...]:
    """The peer's further groups: the process's own, or those of its user where they are more than Python can be told."""
    try:
        raw = connection.getsockopt(socket.SOL_SOCKET, SO_PEERGROUPS, _GROUPS_BYTES)
    except OSError:
        name = user_name(uid)
        return tuple(os.getgrouplist(name, gid)) if name else ()
    return struct.unpack(f"{len(raw) // 4}I", raw)


@lru_cache(maxsize=1024)
def user_name(uid: int) -> str:
    """The user's name, or nothing."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return ""
