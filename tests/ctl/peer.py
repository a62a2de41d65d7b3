"""The other end of the connection: a real HTTP server on a Unix socket that answers as a test has laid out.

It stands for a master in the moments that a real one cannot be brought to on purpose: one that drops the connection in
the middle of an answer, that says nothing, or nothing sensible.
"""

from __future__ import annotations

import json
import socketserver
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qsl, urlsplit

import msgspec

from ffrtmp.api import Problem


@dataclass(frozen=True)
class Asked:
    """One request as it arrived."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Peer

    def answer(self) -> None:
        parts = urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.asked = Asked(self.command, parts.path, dict(parse_qsl(parts.query)), dict(self.headers), body)
        self.server.take(self.asked)(self)
        self.close_connection = True

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = answer

    def send(self, status: int, body: bytes, kind: str = "application/json") -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def start_chunks(self, **headers: str) -> None:
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.flush()

    def chunk(self, data: bytes) -> None:
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.flush()

    def log_message(self, format: str, *args: object) -> None:
        return None

    def address_string(self) -> str:
        return "peer"


Answer = Callable[[Handler], None]


class Peer(socketserver.ThreadingUnixStreamServer):
    """Serves while the `with` block runs. `asked` holds what was asked, in order."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, path: Path) -> None:
        self.path = path
        self.asked: list[Asked] = []
        self._answers: dict[str, list[Answer]] = {}
        self._lock = threading.Lock()
        super().__init__(str(path), Handler)

    def on(self, route: str, *answers: Answer) -> Self:
        """What `METHOD /path` is answered, one after the other; the last one from then on."""
        self._answers[route] = list(answers)
        return self

    def take(self, asked: Asked) -> Answer:
        with self._lock:
            self.asked.append(asked)
            answers = self._answers.get(f"{asked.method} {asked.path}")
            if answers is None:
                return problem(404, f"there is nothing at {asked.path}")
            return answers.pop(0) if len(answers) > 1 else answers[0]

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.shutdown()
        self._thread.join()
        self.server_close()
        self.path.unlink(missing_ok=True)

    def handle_error(self, request: Any, client_address: Any) -> None:
        return None  # a client that left


def gives(body: object, status: int = 200) -> Answer:
    """A JSON answer."""
    raw = body if isinstance(body, bytes) else msgspec.json.encode(body)
    return lambda handler: handler.send(status, raw)


def problem(status: int, detail: str, hint: str = "", choices: tuple[str, ...] = ()) -> Answer:
    """An error as the API tells it."""
    return gives(Problem(title="refused", status=status, detail=detail, hint=hint, choices=choices), status)


def hangs_up(handler: Handler) -> None:
    """The connection ends without an answer."""


def breaks_off(handler: Handler) -> None:
    """The connection ends in the middle of an answer."""
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.wfile.write(b'{"items": [')


def babbles(handler: Handler) -> None:
    """Something that is not HTTP."""
    handler.wfile.write(b"220 mail.example ESMTP ready\r\n")


def streams(parts: Iterable[bytes], *, cut: bool = False, **headers: str) -> Answer:
    """A chunked answer; `cut`: the connection ends before the answer does."""

    def answer(handler: Handler) -> None:
        handler.start_chunks(**headers)
        for part in parts:
            handler.chunk(part)
        if not cut:
            handler.wfile.write(b"0\r\n\r\n")

    return answer


def events(*views: object, cut: bool = False) -> Answer:
    """A job's views, a line each."""
    return streams([msgspec.json.encode(view) + b"\n" for view in views], cut=cut)
