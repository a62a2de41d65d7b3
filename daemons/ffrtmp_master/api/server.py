"""The HTTP server: from sockets to handlers, and from whatever happens there to an answer.

aiohttp parses HTTP; this module puts bounds where it has none (connections, clients that stop reading), makes every error a
problem document, and lets no fault of a handler reach the loop it shares with the turn and the hub (P12).
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import socket
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any
from weakref import WeakKeyDictionary

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from ffrtmp.errors import Exit, FarmError
from ffrtmp.masking import mask_url

from ..refusal import Refusal
from ..rows import AuditRow, StoreBroken, StoreRefused
from .access import NOBODY, Caller, Policy
from .call import Call, Reply, Service, problem, read_query
from .routes import ROUTES, Route

log = logging.getLogger("ffrtmp.api")
BACKLOG = 256
SHUTDOWN_S = 3.0
LINGER_S = 2.0  # for what a client still sends after it was refused, so that it gets to read why
FARM_ERRORS = {Exit.USAGE: 422, Exit.NOT_FOUND: 404, Exit.REFUSED: 409, Exit.NO_MASTER: 503}
_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Server:
    """Serves the API on sockets that are already bound. `start` and `stop` are called once each, on the event loop."""

    def __init__(self, service: Service, policy: Policy) -> None:
        self.service = service
        self._policy = policy
        self._callers: WeakKeyDictionary[Any, Caller] = WeakKeyDictionary()
        self._connections: set[Connection] = set()
        self._listening: list[asyncio.Server] = []
        self._runner: web.AppRunner | None = None
        self._reaper: asyncio.Task[None] | None = None

    async def start(self, sockets: list[socket.socket]) -> None:
        """Serve on these sockets, which belong to the server from now on."""
        app = web.Application(middlewares=[self._answer], client_max_size=self.service.bounds.body_bytes)
        for route in ROUTES:
            app.router.add_route(route.method, route.path, self._handler(route))
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=SHUTDOWN_S, handle_signals=False)
        await self._runner.setup()
        loop = asyncio.get_running_loop()
        for each in sockets:
            each.setblocking(False)
            start = loop.create_unix_server if each.family == socket.AF_UNIX else loop.create_server
            self._listening.append(await start(self._connection, sock=each, backlog=BACKLOG))
        self._reaper = loop.create_task(self._reap(), name="api reaper")

    async def stop(self) -> None:
        """Take no new connections, let the open calls end (followers at once), close."""
        for each in self._listening:
            each.close()
        self.service.backend.watchers.close()
        if self._reaper is not None:
            self._reaper.cancel()
        if self._runner is not None:
            await self._runner.cleanup()
        for connection in list(self._connections):
            connection.abort()

    # ---- connections -----------------------------------------------------------------------------------------------

    def _connection(self) -> Connection:
        assert self._runner is not None and self._runner.server is not None
        bounds = self.service.bounds
        return Connection(
            self._connections,
            bounds.connections,
            self._runner.server,
            loop=asyncio.get_running_loop(),
            keepalive_timeout=bounds.idle_s,
            lingering_time=min(LINGER_S, bounds.body_s),
            tcp_keepalive=False,
            access_log=None,
            logger=log,
            max_line_size=bounds.header_bytes,
            max_field_size=bounds.header_bytes,
            auto_decompress=False,
        )

    async def _reap(self) -> None:
        """Cut off clients that read nothing of what waits for them: each holds a buffer, and maybe a handler."""
        before: dict[Connection, int] = {}
        while True:
            await asyncio.sleep(self.service.bounds.stalled_s)
            waiting = {each: each.unread_bytes() for each in self._connections}
            for each, unread in waiting.items():
                if unread and unread >= before.get(each, unread + 1):
                    log.warning("a client stopped reading and is cut off")
                    each.abort()
            before = waiting

    def _caller(self, request: web.Request) -> Caller:
        transport = request.transport
        if transport is None:
            return NOBODY
        caller = self._callers.get(transport)
        if caller is None:
            connection = transport.get_extra_info("socket")
            caller = NOBODY if connection is None else self._policy.caller(connection)
            self._callers[transport] = caller
        return caller

    # ---- calls -----------------------------------------------------------------------------------------------------

    def _handler(self, route: Route) -> _Handler:
        async def handle(request: web.Request) -> web.StreamResponse:
            caller = self._caller(request)
            try:
                if route.role is not None and not caller.may(route.role):
                    log.warning("%s (pid %d) may not %s %s", caller.label, caller.pid, route.method, request.path)
                    raise Refusal(403, f"{caller.label} may not do this", hint="members of group ffrtmp may")
                reply = await self._run(route, request, caller)
                response = reply.response() if isinstance(reply, Reply) else reply
            except ConnectionAbortedError:  # nobody can say what became of this call: the caller sees it break off
                if request.transport is not None:
                    request.transport.abort()
                return web.Response(status=503)
            except ConnectionError:
                raise
            except Exception as error:
                response = self._problem(error, request)
                proof = isinstance(error, StoreBroken)  # by a write: where the disk fails that too, the master ends
                self._audit(route, request, caller, response.status, always=proof)
                return response
            self._audit(route, request, caller, response.status)
            return response

        return handle

    async def _run(self, route: Route, request: web.Request, caller: Caller) -> Reply | web.StreamResponse:
        query = read_query(request, route.query)
        raw = await self._read(request) if route.takes else b""
        return await route.handler(Call(self.service, caller, request, query, raw))

    async def _read(self, request: web.Request) -> bytes:
        if request.headers.get("Content-Encoding", "identity") != "identity":
            raise Refusal(415, "compressed bodies are not taken", hint="send plain JSON")
        try:
            async with asyncio.timeout(self.service.bounds.body_s):
                return await request.read()
        except TimeoutError:
            raise Refusal(408, "the body did not arrive in time") from None

    def _audit(self, route: Route, request: web.Request, caller: Caller, status: int, *, always: bool = False) -> None:
        """Who did what: for calls that may change something, or `always`."""
        if route.method == "GET" and not always:
            return
        target = "/".join(request.match_info.values())
        self.service.backend.audit(AuditRow(caller.label, f"{route.method} {route.path}", target[:200], str(status)))
        log.info("%s (pid %d): %s %s: %d", caller.label, caller.pid, route.method, mask_url(request.path[:200]), status)

    @web.middleware
    async def _answer(self, request: web.Request, handler: _Handler) -> web.StreamResponse:
        """What the router refuses by itself is a problem document too."""
        try:
            return await handler(request)
        except web.HTTPException as error:
            return self._problem(error, request)

    def _problem(self, error: Exception, request: web.Request) -> web.Response:
        """Whatever happened, as an answer."""
        if isinstance(error, Refusal):
            return _refused(error)
        if isinstance(error, web.HTTPException):
            return _refused(_of_http(error, request, self.service.bounds.body_bytes), error)
        if isinstance(error, StoreRefused):
            return _refused(
                Refusal(503, f"the store refuses: {error}", hint="it is tried again by itself; see the journal")
            )
        if isinstance(error, StoreBroken):
            log.error("the store cannot be read: %s", error)
            hint = "where a write fails too, the master ends and starts with what is on disk; try again then"
            return _refused(Refusal(503, "the store cannot be read", hint=hint))
        if isinstance(error, FarmError):
            return _refused(Refusal(FARM_ERRORS.get(error.code, 409), error.what, hint=error.hint))
        return _crashed(error, request)


class Connection(web.RequestHandler):
    """One connection: counted, and with its parse errors told as problem documents."""

    def __init__(self, all_connections: set[Connection], most: int, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._all = all_connections
        self._most = most

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._all.add(self)
        if len(self._all) > self._most:
            full = _refused(Refusal(503, "too many connections", hint="close some, or try again"))
            head = f"HTTP/1.1 503 Service Unavailable\r\nContent-Type: {full.content_type}\r\nConnection: close\r\n"
            body = full.body if isinstance(full.body, bytes) else b""
            assert isinstance(transport, asyncio.WriteTransport)
            transport.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
            self.close()
            transport.close()

    def connection_lost(self, exc: BaseException | None) -> None:
        self._all.discard(self)
        super().connection_lost(exc)

    def unread_bytes(self) -> int:
        """What was sent and not taken by the other end."""
        transport = self.transport
        return 0 if transport is None else transport.get_write_buffer_size()

    def abort(self) -> None:
        """Drop the connection with what it holds."""
        if self.transport is not None:
            self.transport.abort()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """An answer to what is no HTTP; a fault of ours where it is anything else."""
        if isinstance(exc, HttpProcessingError) and request.writer.output_size == 0:
            what = (message or "").partition("\n")[0].rstrip(": ")[:100]  # the lines after it quote what was sent
            response = _refused(Refusal(status, f"this is no HTTP that is understood here: {what}"))
            response.force_close()
            return response
        return super().handle_error(request, status, exc, message)


def _of_http(error: web.HTTPException, request: web.Request, body_bytes: int) -> Refusal:
    """What aiohttp refuses by itself, in our words."""
    if isinstance(error, web.HTTPMethodNotAllowed):
        allowed = ", ".join(sorted(error.allowed_methods))
        return Refusal(405, f"{request.method} is not possible on {request.path}", hint=f"possible: {allowed}")
    if isinstance(error, web.HTTPRequestEntityTooLarge):
        return Refusal(413, f"the body is larger than {body_bytes} bytes", hint="send the jobs in several batches")
    if error.status == HTTPStatus.NOT_FOUND:
        return Refusal(404, f"there is nothing at {request.path[:200]}", hint="the API is under /v1")
    return Refusal(error.status, error.reason)


def _refused(refusal: Refusal, cause: web.HTTPException | None = None) -> web.Response:
    masked = Refusal(refusal.status, mask_url(refusal.detail), hint=refusal.hint, choices=refusal.choices)
    response = problem(masked, HTTPStatus(refusal.status).phrase).response()
    if isinstance(cause, web.HTTPMethodNotAllowed):
        response.headers["Allow"] = ", ".join(sorted(cause.allowed_methods))
    if refusal.status in (HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.TOO_MANY_REQUESTS):
        response.headers["Retry-After"] = "1"
    return response


def _crashed(error: Exception, request: web.Request) -> web.Response:
    """A fault of ours: the caller gets a number that is in the log."""
    number = secrets.token_hex(4)
    log.error("fault %s at %s %s", number, request.method, mask_url(request.path[:200]), exc_info=error)
    return _refused(
        Refusal(
            500, f"the master made a fault of its own, number {number}", hint="the journal has it under this number"
        )
    )
