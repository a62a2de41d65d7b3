"""One call, as handlers see it: who, what was asked, and how to answer. Handlers know nothing of aiohttp but streams."""

from __future__ import annotations

import difflib
import re
import time
from asyncio import Future
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import msgspec
from aiohttp import web

from ffrtmp import api

from ..refusal import Refusal
from ..root_names import RootNames
from .access import Caller
from .backend import Backend

T = TypeVar("T")
NUMBER = re.compile(r"[1-9][0-9]{0,17}")
UUID = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
PAGE_DEFAULT = 100


@dataclass(frozen=True, slots=True)
class Bounds:
    """What one call, and all calls together, may take."""

    body_bytes: int = 8 << 20
    batch: int = 10_000
    labels: int = 32
    page: int = 1000
    selection: int = 10_000
    connections: int = 512
    header_bytes: int = 16 << 10
    idle_s: float = 30.0  # an open connection without a request
    body_s: float = 30.0  # the arrival of a body
    stalled_s: float = 30.0  # a client that reads nothing of what was sent


@dataclass(slots=True)
class Service:
    """What all calls share. `in_flight`: submissions with a key that are not answered yet."""

    backend: Backend
    bounds: Bounds = field(default_factory=Bounds)
    now: Callable[[], float] = time.time
    log_grace_s: float = (
        10.0  # how long after an attempt's end its log may still grow, where the agent has not said that it is whole
    )
    in_flight: dict[tuple[str, str], tuple[str, Future[Reply]]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer with a JSON body; `raw` is one that is encoded already."""

    body: msgspec.Struct | None = None
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    raw: bytes = b""

    def response(self) -> web.Response:
        """As aiohttp sends it."""
        kind = "application/problem+json" if isinstance(self.body, api.Problem) else "application/json"
        body = self.raw or msgspec.json.encode(self.body)
        return web.Response(body=body, status=self.status, headers={**self.headers, "Content-Type": kind})


@dataclass(slots=True)
class Call:
    """One request after it was admitted. `query` holds only parameters that the route knows, each at most once."""

    service: Service
    caller: Caller
    request: web.Request
    query: Mapping[str, str]
    raw: bytes = b""
    _names: RootNames | None = None

    @property
    def names(self) -> RootNames:
        """The names of media roots, as they are when they are first asked for: one call tells all its paths alike."""
        if self._names is None:
            self._names = self.backend.live.names()
        return self._names

    @property
    def backend(self) -> Backend:
        """The master."""
        return self.service.backend

    def param(self, name: str) -> str:
        """A part of the path."""
        return self.request.match_info[name]

    def body(self, kind: type[T]) -> T:
        """The body; raises Refusal: 400 for what is no JSON, 422 for what does not fit."""
        return decode(self.raw, kind)

    def whole(self, name: str, default: int, least: int, most: int) -> int:
        """A whole number from the query; raises Refusal (400) for anything else."""
        text = self.query.get(name)
        if text is None:
            return default
        if not re.fullmatch(r"[0-9]{1,18}", text) or not least <= int(text) <= most:
            raise Refusal(400, f"{name} must be a whole number between {least} and {most}")
        return int(text)

    def flag(self, name: str) -> bool:
        """A switch from the query: 1 or true, 0 or false."""
        text = self.query.get(name, "0")
        if text not in ("0", "1", "true", "false"):
            raise Refusal(400, f"{name} must be 1 or 0")
        return text in ("1", "true")

    def limit(self) -> int:
        """The size of a page."""
        return self.whole("limit", min(PAGE_DEFAULT, self.service.bounds.page), 1, self.service.bounds.page)


Handler = Callable[[Call], Awaitable[Reply | web.StreamResponse]]


def decode(raw: bytes, kind: type[T]) -> T:
    """JSON as `kind`; raises Refusal."""
    if not raw:
        raise Refusal(400, "the request has no body", hint="send a JSON object")
    try:
        return msgspec.json.decode(raw, type=kind)
    except msgspec.ValidationError as error:
        raise Refusal(422, f"the body does not fit: {error}") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Refusal(400, f"the body is no JSON: {error}") from None
    except RecursionError:
        raise Refusal(400, "the body is nested too deeply") from None


def read_query(request: web.Request, known: tuple[str, ...]) -> dict[str, str]:
    """The parameters of the query; raises Refusal (400) for one that the route does not know, and for one given twice."""
    found: dict[str, str] = {}
    for name, value in request.query.items():
        if name not in known:
            hint = near(name, known) or f"known here: {', '.join(known) or 'none'}"
            raise Refusal(400, f'there is no query parameter "{name[:80]}"', hint=hint)
        if name in found:
            raise Refusal(400, f"{name} is given twice")
        found[name] = value
    return found


def near(word: str, known: Sequence[str]) -> str:
    """ "did you mean X?", or nothing where no known word is near."""
    found = difflib.get_close_matches(word[:80], known, n=1)
    return f"did you mean {found[0]}?" if found else ""


def problem(refusal: Refusal, title: str) -> Reply:
    """A refusal as it is sent."""
    return Reply(
        api.Problem(
            title=title,
            status=refusal.status,
            detail=refusal.detail,
            hint=refusal.hint,
            choices=refusal.choices,
        ),
        status=refusal.status,
    )
