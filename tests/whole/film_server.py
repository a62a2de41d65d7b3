"""An HTTP server with a film, on loopback, that can have a bad day."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from clips import generated

FILM_S = 4.0


class FilmServer(http.server.ThreadingHTTPServer):
    """Serves one film; the first requests go as `bad` says.

    A number is a status, "half" a connection that breaks off, "silent" one on which no more comes after the half.
    """

    daemon_threads = True

    def __init__(self, film: bytes, bad: list[int | str]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.film = film
        self.bad = bad
        self.asked = 0
        self.over = threading.Event()

    @property
    def url(self) -> str:
        """Where the film is."""
        return f"http://127.0.0.1:{self.server_port}/film.mkv"


class _Handler(http.server.BaseHTTPRequestHandler):
    server: FilmServer

    def do_GET(self) -> None:
        self.server.asked += 1
        bad = self.server.bad.pop(0) if self.server.bad else ""
        if isinstance(bad, int):
            self.send_error(bad)
            return
        film = self.server.film
        self.send_response(200)
        self.send_header("Content-Length", str(len(film)))
        self.end_headers()
        self.wfile.write(film[: len(film) // 2] if bad else film)
        if bad == "silent":
            self.server.over.wait(60.0)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@contextmanager
def serving(*bad: int | str) -> Iterator[FilmServer]:
    """An HTTP server on loopback while the block lasts."""
    with FilmServer(generated(FILM_S, 160, 90, 10.0, name="film.mkv").read_bytes(), list(bad)) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield server
        finally:
            server.over.set()
            server.shutdown()
            thread.join()
