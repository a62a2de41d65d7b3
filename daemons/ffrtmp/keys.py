"""Keys and tickets: who may speak on the wire, in files and in one line of text.

A *key pair* is a CURVE pair. The public half, 40 characters of Z85, is a node's identity; the secret half never leaves
the machine that made it, and its file is readable by its owner only. A file that others can read is refused, not
repaired: whoever could read it may have done so already.

A *ticket* lets one host in. It is the one secret that travels, from `ffrtmpctl nodes invite` to `ffrtmp-agent join`,
so it is good for little: a one-time key that the master's hub admits for `Enroll` only and until it expires. Its text
has a checksum, because people copy it by hand, from screens and through mail programs that break lines.
"""

from __future__ import annotations

import hashlib
import os
import stat
from base64 import urlsafe_b64decode, urlsafe_b64encode
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import msgspec
import zmq
from zmq.utils import z85

from ffrtmp.errors import Exit, FarmError

Z85_LENGTH = 40
TICKET_PREFIX = "ffrtmp"
TICKET_VERSION = 1
TICKET_MAX_CHARACTERS = 2000
_CHECKSUM_BYTES = 5
_OTHERS = stat.S_IRWXG | stat.S_IRWXO


@dataclass(frozen=True, slots=True)
class KeyPair:
    """A CURVE key pair in Z85. The secret stays out of logs and traces: `repr` does not show it."""

    public: str
    secret: str = field(repr=False)

    @classmethod
    def generate(cls) -> KeyPair:
        """A new pair from the system's entropy."""
        public, secret = zmq.curve_keypair()
        return cls(public.decode("ascii"), secret.decode("ascii"))

    @classmethod
    def of_secret(cls, secret: str) -> KeyPair:
        """The pair that a secret key (Z85) belongs to. Raises FarmError when it is no key."""
        check_key(secret)
        return cls(zmq.curve_public(secret.encode("ascii")).decode("ascii"), secret)


def check_key(text: str) -> str:
    """Give `text` back if it is a CURVE key in Z85; raise FarmError otherwise."""
    try:
        if len(text) == Z85_LENGTH and len(z85.decode(text.encode("ascii"))) == 32:
            return text
    except (ValueError, KeyError, UnicodeEncodeError):
        pass  # said below
    raise FarmError("this is not a CURVE key", hint="a key is 40 characters of Z85", code=Exit.USAGE)


def fingerprint(public: str) -> str:
    """A public key for people: `9f3a-02c1-...`, 128 bits of SHA-256 over the key's 32 bytes, safe in shells."""
    digest = hashlib.sha256(z85.decode(check_key(public).encode("ascii"))).hexdigest()[:32]
    return "-".join(digest[i : i + 4] for i in range(0, len(digest), 4))


# ---- key files ---------------------------------------------------------------------------------------------------


def load_keys(path: Path) -> KeyPair:
    """The key pair in a file. Raises FarmError when it is missing, damaged, or readable by others."""
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            text = file.read(200)
    except OSError as error:
        raise FarmError(f"cannot read the key file {path}: {error.strerror}", code=Exit.CONFIG) from error
    _check_private(path, status)
    try:
        return KeyPair.of_secret(text.decode("ascii").strip())
    except (FarmError, UnicodeDecodeError) as error:
        hint = "restore it from a backup, or remove it and enrol again"
        raise FarmError(f"the key file {path} is damaged", hint=hint, code=Exit.CONFIG) from error


def load_or_make_keys(path: Path) -> KeyPair:
    """The key pair in a file, which is made when there is none.

    The file appears whole and private or not at all, and of two programs that make it at the same time both get the
    same key. Raises FarmError as `load_keys` does.
    """
    if not path.exists():
        _make_file(path, KeyPair.generate())
    for left in path.parent.glob(f".{path.name}.*.new"):  # by a program that died while it made one: nobody needs it
        with suppress(OSError):
            left.unlink()
    return load_keys(path)


def _check_private(path: Path, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise FarmError(f"the key file {path} is not a regular file", code=Exit.CONFIG)
    if status.st_mode & _OTHERS:
        hint = f"make a new key if others may have read it; else: chmod 600 {path}"
        raise FarmError(f"the key file {path} can be read or written by others", hint=hint, code=Exit.CONFIG)
    if status.st_uid not in (0, os.geteuid()):
        hint = f"it belongs to user id {status.st_uid}, and this runs as {os.geteuid()}"
        raise FarmError(f"the key file {path} belongs to somebody else", hint=hint, code=Exit.CONFIG)


def _make_file(path: Path, keys: KeyPair) -> None:
    fresh = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(descriptor, 0o600)
            file.write(keys.secret.encode("ascii") + b"\n")
            file.flush()
            os.fsync(descriptor)
        _link_if_absent(fresh, path)
        _sync_folder(path.parent)
    except OSError as error:
        raise FarmError(f"cannot make the key file {path}: {error.strerror}", code=Exit.CONFIG) from error
    finally:
        fresh.unlink(missing_ok=True)


def _link_if_absent(fresh: Path, path: Path) -> None:
    try:
        path.hardlink_to(fresh)  # unlike a rename, never replaces the key that another program just made
    except FileExistsError:
        return
    except FileNotFoundError:  # cleared by one that found a key at its place
        if not path.exists():
            raise


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


# ---- tickets -----------------------------------------------------------------------------------------------------


class _Payload(NamedTuple):
    hub: str
    server_key: bytes
    secret: bytes
    expires_at: int
    name: str


@dataclass(frozen=True, slots=True)
class Ticket:
    """What a host needs to enrol: where the master is, its public key, and a one-time key to knock with.

    `hub` is tcp://HOST:PORT; `expires_at` unix seconds; `name` the node's name if the inviter chose one.
    """

    hub: str
    server_key: str
    keys: KeyPair
    expires_at: int
    name: str = ""

    @property
    def text(self) -> str:
        """One line: `ffrtmp1.` and the rest in letters that no shell and no mail program touches."""
        payload = _Payload(
            self.hub,
            z85.decode(self.server_key.encode("ascii")),
            z85.decode(self.keys.secret.encode("ascii")),
            self.expires_at,
            self.name,
        )
        body = msgspec.msgpack.encode(payload)
        return f"{TICKET_PREFIX}{TICKET_VERSION}.{_letters(_checksum(body) + body)}"

    @classmethod
    def parse(cls, text: str, now: float) -> Ticket:
        """The ticket that `text` is; `now` in unix seconds.

        Raises FarmError saying that it is no ticket, of another version, damaged, or expired (code REFUSED).
        """
        payload = _unpack("".join(text[:TICKET_MAX_CHARACTERS].split()))
        ticket = cls(
            hub=payload.hub,
            server_key=z85.encode(payload.server_key).decode("ascii"),
            keys=KeyPair.of_secret(z85.encode(payload.secret).decode("ascii")),
            expires_at=payload.expires_at,
            name=payload.name,
        )
        if now >= ticket.expires_at:
            minutes = max(1, round((now - ticket.expires_at) / 60))
            what = f"the ticket expired {minutes} min ago, by this host's clock"
            raise FarmError(what, hint="ask for a new one: ffrtmpctl nodes invite", code=Exit.REFUSED)
        return ticket


def _checksum(body: bytes) -> bytes:
    return hashlib.sha256(body).digest()[:_CHECKSUM_BYTES]


def _letters(blob: bytes) -> str:
    return urlsafe_b64encode(blob).decode("ascii").rstrip("=")


def _unpack(text: str) -> _Payload:
    head, dot, rest = text.partition(".")
    version = head.removeprefix(TICKET_PREFIX)
    if not (dot and head.startswith(TICKET_PREFIX) and version.isascii() and version.isdigit()):
        what = f"this is not a ticket: it does not begin with {TICKET_PREFIX}{TICKET_VERSION}."
        raise FarmError(what, hint="get one from the master: ffrtmpctl nodes invite", code=Exit.USAGE)
    if int(version) != TICKET_VERSION:
        what = f"the ticket is of version {version}, this program knows version {TICKET_VERSION}"
        raise FarmError(what, hint="bring both hosts to the same release of ffrtmp", code=Exit.REFUSED)
    damaged = FarmError("the ticket is damaged", hint="copy it again, from first to last letter", code=Exit.REFUSED)
    try:
        blob = urlsafe_b64decode(rest + "=" * (-len(rest) % 4))
        body = blob[_CHECKSUM_BYTES:]
        # The decoder passes over letters that it does not know, so what it read must also be what was written.
        if blob[:_CHECKSUM_BYTES] != _checksum(body) or _letters(blob) != rest:
            raise damaged
        payload = msgspec.msgpack.decode(body, type=_Payload)
    except (ValueError, msgspec.DecodeError, RecursionError):
        raise damaged from None
    if len(payload.server_key) != 32 or len(payload.secret) != 32 or not payload.hub.startswith("tcp://"):
        raise damaged
    return payload
