"""The connection to a master: one HTTP request, one connection, every way it can fail said in words.

Three things can go wrong, and callers tell them apart by type: nobody is there (`NoMaster`), the connection broke in
the middle (`Broken`: whether the master did what was asked is not known), or the master said no (`Refusal`). A request
that is safe to repeat is repeated while a master restarts; a master that is not there at all is told at once.
"""

from __future__ import annotations

import http.client
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TypeVar
from urllib.parse import quote, urlencode

import msgspec

from ffrtmp.api import Problem
from ffrtmp.errors import Exit, FarmError

from .address import Address
from .lenient import relaxed

TIMEOUT_S = 30.0
# How long a broken request is repeated, about 12 s in all: longer than a master needs to restart.
PAUSES_S = (0.2, 0.4, 0.8, 1.6, 3.0, 3.0, 3.0)
AWAY_TRIES = 4  # so often, 3 s in all, where nobody listens: nothing was sent, so any call may be made again
SAFE_METHODS = frozenset({"GET", "PUT", "PATCH"})  # doing them twice is doing them once
T = TypeVar("T")


class NoMaster(FarmError):
    """Nobody answers at the address."""

    def __init__(self, what: str, *, hint: str = "") -> None:
        super().__init__(what, hint=hint, code=Exit.NO_MASTER)


class Broken(NoMaster):
    """The connection ended before the answer did."""


class Away(NoMaster):
    """Nobody listens where a master could: it may be restarting. Nothing was sent."""


class Refusal(FarmError):
    """The master answered with a Problem; `status` is the HTTP status."""

    def __init__(self, problem: Problem) -> None:
        what = problem.detail or problem.title or f"the master answered {problem.status}"
        if problem.choices:
            what += ": " + ", ".join(problem.choices)
        super().__init__(what, hint=problem.hint, code=exit_of(problem.status))
        self.status = problem.status
        self.problem = problem


def exit_of(status: int) -> Exit:
    """The exit code that tells what an HTTP status (400 and above) tells."""
    if status == 404:
        return Exit.NOT_FOUND
    if status == 400:
        return Exit.USAGE
    if status in (502, 504):
        return Exit.NO_MASTER
    return Exit.REFUSED if status < 500 or status == 503 else Exit.FAILED


@dataclass(frozen=True)
class Reply:
    """An answer as it came."""

    status: int
    body: bytes

    def into(self, kind: type[T]) -> T:
        """The body as `kind`; raises FarmError when it is something else."""
        return decode(self.body, kind)


def decode(body: bytes, kind: type[T]) -> T:
    """JSON as `kind`. Words of a newer master that this ffrtmpctl does not know are let through as they are."""
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.DecodeError:
        pass
    try:
        return msgspec.json.decode(body, type=relaxed(kind))
    except msgspec.DecodeError as error:
        raise FarmError(
            f"the master's answer cannot be understood: {error}",
            hint="see with `ffrtmpctl version` whether the versions of both fit together",
        ) from error


class Stream:
    """An answer that comes bit by bit."""

    def __init__(self, response: http.client.HTTPResponse) -> None:
        self._response = response

    def header(self, name: str) -> str:
        """The header's value, or an empty text."""
        return self._response.headers.get(name, "")

    def chunks(self) -> Iterator[bytes]:
        """What arrives, as it arrives, until the master ends it; raises Broken when it is cut off."""
        while data := self._response.read1(65536):
            yield data

    def lines(self) -> Iterator[bytes]:
        """The whole lines of `chunks`, without their ends; what stands after the last one is no line."""
        rest = b""
        for data in self.chunks():
            *lines, rest = (rest + data).split(b"\n")
            yield from (line for line in lines if line.strip())


class Master:
    """One master at one address. `sleep` is what passes the time between two tries."""

    def __init__(
        self, address: Address, *, timeout_s: float = TIMEOUT_S, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self.address = address
        self.timeout_s = timeout_s
        self.sleep = sleep

    def get(self, path: str, kind: type[T], query: Mapping[str, object] | None = None) -> T:
        """GET `path`, decoded; raises NoMaster, Broken, Refusal or FarmError."""
        return self.call("GET", path, query=query).into(kind)

    def call(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, object] | None = None,
        body: object = None,
        headers: Mapping[str, str] | None = None,
        repeatable: bool | None = None,
    ) -> Reply:
        """One request; raises NoMaster, Broken or Refusal.

        `repeatable`: whether doing it twice does no harm, by default what the method says. Only then is it repeated
        after a connection that broke. Where nobody listens any request waits a little for a master that restarts.
        """
        again = method in SAFE_METHODS if repeatable is None else repeatable
        data = None if body is None else msgspec.json.encode(body)
        target = _target(path, query)
        broke = False
        for count, pause_s in enumerate((*PAUSES_S, None)):
            try:
                return self._once(method, target, data, headers or {})
            except NoMaster as error:
                broke = broke or isinstance(error, Broken)
                restarts = isinstance(error, Away) and not broke and count < AWAY_TRIES
                if not (restarts or (broke and again)) or pause_s is None:
                    raise
            self.sleep(pause_s)
        raise AssertionError("the last try returns or raises")

    def _once(self, method: str, target: str, data: bytes | None, headers: Mapping[str, str]) -> Reply:
        with self._request(method, target, data, headers, self.timeout_s) as response:
            return Reply(response.status, response.read())

    @contextmanager
    def stream(
        self, path: str, query: Mapping[str, object] | None = None, *, quiet_s: float = TIMEOUT_S
    ) -> Iterator[Stream]:
        """GET an answer that goes on; raises as `call`, and Broken when nothing comes for `quiet_s`."""
        with self._request("GET", _target(path, query), None, {}, quiet_s) as response:
            yield Stream(response)

    @contextmanager
    def _request(
        self, method: str, target: str, data: bytes | None, headers: Mapping[str, str], timeout_s: float
    ) -> Iterator[http.client.HTTPResponse]:
        connection = self.address.connect(timeout_s)
        try:
            with self._in_words(timeout_s):
                self._open(connection)
            with self._in_words(timeout_s, opened=True):
                response = _exchange(connection, method, target, data, headers)
                if response.status >= 400:
                    raise Refusal(_problem(response))
                yield response
        finally:
            connection.close()

    def _open(self, connection: http.client.HTTPConnection) -> None:
        try:
            connection.connect()
        except (ConnectionRefusedError, FileNotFoundError) as error:
            raise Away(f"no master answers at {self.address}", hint=_HINT_START) from error
        except PermissionError:
            raise FarmError(
                f"you may not talk to the master at {self.address}",
                hint="become a member of the group ffrtmp (sudo usermod -aG ffrtmp $USER) and log in again",
                code=Exit.REFUSED,
            ) from None

    @contextmanager
    def _in_words(self, timeout_s: float, *, opened: bool = False) -> Iterator[None]:
        """Say what the network's exceptions mean. Output of ours never happens inside."""
        try:
            yield
        except TimeoutError as error:
            late = f"the master at {self.address} did not answer within {timeout_s:g} s"
            raise (Quiet if opened else NoMaster)(late, hint=_HINT_BUSY) from error
        except (ConnectionError, http.client.IncompleteRead) as error:
            if opened:
                raise Broken(f"the connection to the master at {self.address} broke", hint=_HINT_BROKEN) from error
            raise NoMaster(f"no master answers at {self.address}", hint=_HINT_START) from error
        except http.client.HTTPException as error:
            raise FarmError(f"what answers at {self.address} is no master of ffrtmp", hint=_HINT_ADDRESS) from error
        except OSError as error:
            why = error.strerror or str(error)
            raise NoMaster(f"no master answers at {self.address}: {why}", hint=_HINT_START) from error


class Quiet(NoMaster):
    """The connection stands, and nothing came for too long."""


_HINT_START = (
    "start ffrtmp-master (systemctl start ffrtmp-master where it is installed as a service), "
    "or name another one with --master"
)
_HINT_ADDRESS = "check --master and $FFRTMP_MASTER"
_HINT_BUSY = "is it stopped or overloaded? its host and its log tell; --timeout waits longer"
_HINT_BROKEN = "it may have done what was asked: look with `ffrtmpctl jobs list` before you repeat it"


def _target(path: str, query: Mapping[str, object] | None) -> str:
    asked = {key: value for key, value in (query or {}).items() if value not in (None, "")}
    return f"{path}?{urlencode(asked)}" if asked else path


def _exchange(
    connection: http.client.HTTPConnection, method: str, target: str, data: bytes | None, headers: Mapping[str, str]
) -> http.client.HTTPResponse:
    kind = {} if data is None else {"Content-Type": "application/json"}
    # A master that refuses a large body answers before it has read it, and hangs up: the answer is there to be read.
    with suppress(BrokenPipeError, ConnectionResetError):
        connection.request(method, target, data, {"Accept": "application/json", **kind, **headers})
    return connection.getresponse()


def _problem(response: http.client.HTTPResponse) -> Problem:
    body = response.read()
    try:
        return msgspec.json.decode(body, type=Problem)
    except msgspec.DecodeError:
        return Problem(title=f"the master answered {response.status} {response.reason}", status=response.status)


def path_of(*parts: object) -> str:
    """A path under /v1 whose parts are quoted, so that no name can mean another route."""
    return "/v1/" + "/".join(quote(str(part), safe="") for part in parts)


def pages(master: Master, path: str, query: Mapping[str, object]) -> Iterable[bytes]:
    """The bodies of all pages of a list, one request each."""
    after: object = query.get("after")
    while True:
        body = master.call("GET", path, query={**query, "after": after}).body
        yield body
        following = decode(body, _Next).next
        if not following or following == after:
            return
        after = following


class _Next(msgspec.Struct):
    next: str = ""
