"""A film that comes through a tap: attempts read it from an HTTP server of the test's, which says how far each one gets.

So a test decides which attempt is further and when one ends, and waits for nothing else: no film is played at its pace.
"""

from __future__ import annotations

import threading
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self

from clips import generated

FILM_S = 40.0
DRIP_BYTES, DRIP_S = 1024, 0.2  # enough for a picture now and then, so that the engine reports how far it is


class Tap:
    """Serves one film under any name. The n-th attempt at a name gets `heads[n - 1]` of it at once, then drops until `open`.

    Whoever asks after that (the verification looks at the source too) gets all of it.
    """

    def __init__(self, *heads: float) -> None:
        self._film = generated(FILM_S, 160, 90, 10.0, name="clip.mkv").read_bytes()
        self._heads = heads or (0.3,)
        self._lock = threading.Lock()
        self._asked: dict[str, int] = {}
        self._opened: set[tuple[str, int]] = set()
        self._all = threading.Event()
        tap = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                tap.pour(self)

            def log_message(self, *_words: object) -> None:
                """Tests say what they saw, not what they served."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.open_all()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def url(self, name: str) -> str:
        """The film under a name of its own, for one job."""
        return f"http://127.0.0.1:{self._server.server_port}/{name}.mkv"

    def open(self, name: str, attempt: int = 1) -> None:
        """Let one attempt have the rest."""
        with self._lock:
            self._opened.add((f"/{name}.mkv", attempt))

    def open_all(self) -> None:
        """Let everybody have the rest."""
        self._all.set()

    def pour(self, to: BaseHTTPRequestHandler) -> None:
        """Serve one who asks."""
        with self._lock:
            attempt = self._asked[to.path] = self._asked.get(to.path, 0) + 1
        to.send_response(200)
        to.send_header("Content-Type", "video/x-matroska")
        to.send_header("Content-Length", str(len(self._film)))
        to.end_headers()
        at = int(len(self._film) * self._heads[attempt - 1]) if attempt <= len(self._heads) else len(self._film)
        with suppress(OSError):  # it went away, as attempts that are given up do
            to.wfile.write(self._film[:at])
            while at < len(self._film) and not self._all.wait(DRIP_S) and not self._is_open(to.path, attempt):
                to.wfile.write(self._film[at : at + DRIP_BYTES])
                at += DRIP_BYTES
            to.wfile.write(self._film[at:])

    def _is_open(self, path: str, attempt: int) -> bool:
        with self._lock:
            return (path, attempt) in self._opened
