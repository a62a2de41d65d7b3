"""Where a master is, and how a connection to it is opened."""

from __future__ import annotations

import http.client
import socket
from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlsplit

from ffrtmp.errors import Exit, FarmError

DEFAULT_SOCKET = "/run/ffrtmp/master.sock"


@dataclass(frozen=True)
class Address:
    """Where a master listens: a Unix socket (`path`), or `host` and `port`."""

    scheme: Literal["unix", "http", "https"]
    path: str = ""
    host: str = ""
    port: int = 0

    def __str__(self) -> str:
        if self.scheme == "unix":
            return self.path
        return f"{self.scheme}://{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"

    @classmethod
    def parse(cls, text: str) -> Address:
        """From `/path`, `unix:///path`, `unix:/path` or `http(s)://host[:port]`; raises FarmError (usage)."""
        if text.startswith("unix:"):
            text = "/" + text.removeprefix("unix:").lstrip("/")
        if "://" not in text:
            return cls("unix", path=text or DEFAULT_SOCKET)
        try:
            parts = urlsplit(text)
            port = parts.port or 8080
        except ValueError as error:
            raise _bad_address(str(error).lower()) from None
        if parts.username or parts.password:
            raise _bad_address("a secret does not belong into an address, where others can see it")
        if parts.scheme == "http" and parts.hostname:
            return cls("http", host=parts.hostname, port=port)
        if parts.scheme == "https" and parts.hostname:
            return cls("https", host=parts.hostname, port=port)
        raise _bad_address("it is neither a socket's path nor http:// or https:// with a host")

    def connect(self, timeout_s: float) -> http.client.HTTPConnection:
        """A connection that opens at its first request."""
        if self.scheme == "unix":
            return _UnixConnection(self.path, timeout_s)
        if self.scheme == "https":
            return http.client.HTTPSConnection(self.host, self.port, timeout=timeout_s)
        return http.client.HTTPConnection(self.host, self.port, timeout=timeout_s)


def _bad_address(why: str) -> FarmError:
    return FarmError(
        f"the master's address cannot be used: {why}",
        hint="give --master (or $FFRTMP_MASTER) as /run/ffrtmp/master.sock or http://127.0.0.1:8080",
        code=Exit.USAGE,
    )


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str, timeout_s: float) -> None:
        super().__init__("localhost", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)
