"""What happens around every request: its id, its caller, its errors, its numbers, its line in the log.

`HotRoute` does it for raw handlers, `Guarded` for an ASGI application; neither reads or copies a body.
"""

from collections.abc import Awaitable, Callable, Collection, Iterable, MutableMapping
from contextlib import AbstractContextManager
from time import perf_counter
from typing import Any

from chassis.errors import ArgosyError, Kind
from chassis.http import STATUS, ASGIApp, Receive, Scope, Send, send_error
from chassis.ids import new_id
from chassis.telemetry import Span, extract, logger, span
from chassis.tenancy import as_caller
from prometheus_client import Counter

from gateway.domain.rates import Limiter, RateLimitExceeded
from gateway.metrics import CLIENTS_GONE, RATE_LIMITED, REQUESTS, SECONDS

from .door import Door
from .failures import ERROR, told
from .rates import rate_headers

Headers = Iterable[tuple[bytes, bytes]]

JSON = b"application/json"
REQUEST_ID = b"x-request-id"
# Nobody receives this status; logs and metrics say by it that the client left first.
CLIENT_DISCONNECTED = STATUS[Kind.CANCELLED]
UNKNOWN_ROUTE = "unknown"

log = logger("gateway")


class Reply:
    """The answer to one request: knows its id, and how far it has got."""

    __slots__ = ("_send", "ended", "error", "request_id", "standing", "started", "status")

    def __init__(self, send: Send, request_id: str) -> None:
        self._send = send
        self.request_id = request_id
        self.status = 0
        self.error: ArgosyError | None = None
        self.ended = False
        self.standing: Headers = ()
        self.started = perf_counter()

    @property
    def code(self) -> str | None:
        """What went wrong, if anything did."""
        return None if self.error is None else self.error.code

    async def start(self, status: int, headers: Headers) -> None:
        """Send status and headers."""
        self.status = status
        head = [(REQUEST_ID, self.request_id.encode()), *self.standing, *headers]
        await self._send({"type": "http.response.start", "status": status, "headers": head})

    async def write(self, body: bytes) -> None:
        """Send bytes; waits while the client is slower than we are."""
        await self._send({"type": "http.response.body", "body": body, "more_body": True})

    async def finish(self, body: bytes = b"") -> None:
        """Send the last bytes."""
        await self._send({"type": "http.response.body", "body": body, "more_body": False})

    async def whole(self, status: int, body: bytes, headers: Headers = (), *, content_type: bytes = JSON) -> None:
        """Send a whole answer."""
        length = str(len(body)).encode()
        await self.start(status, ((b"content-type", content_type), (b"content-length", length), *headers))
        await self.finish(body)

    async def refuse(self, error: ArgosyError) -> None:
        """Send an error as the whole answer."""
        self.status = STATUS[error.kind]
        await send_error(self._send, error, [(REQUEST_ID, self.request_id.encode()), *self.standing])

    async def pass_on(self, message: MutableMapping[str, Any]) -> None:
        """Send what an application says, with the request's id added."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message["headers"] = [*message.get("headers", ()), (REQUEST_ID, self.request_id.encode())]
        else:
            self.ended = not message.get("more_body", False)
        await self._send(message)


class Meter:
    """A route's numbers, with their children bound once."""

    def __init__(self, route: str) -> None:
        self._route = route
        self._seconds = SECONDS.labels(route)
        self._gone = CLIENTS_GONE.labels(route)
        self._statuses: dict[int, Counter] = {}

    def record(self, reply: Reply, method: str) -> None:
        """Count a request and write its line in the log."""
        seconds = perf_counter() - reply.started
        counted = self._statuses.get(reply.status)
        if counted is None:
            counted = self._statuses[reply.status] = REQUESTS.labels(self._route, str(reply.status))
        counted.inc()
        self._seconds.observe(seconds)
        if reply.status == CLIENT_DISCONNECTED:
            self._gone.inc()
        log.info(
            "request",
            method=method,
            route=self._route,
            status=reply.status,
            code=reply.code,
            seconds=round(seconds, 6),
            request_id=reply.request_id,
        )


Handler = Callable[[Scope, Receive, Reply], Awaitable[None]]


class HotRoute:
    """A raw handler behind the door, at the pace of the caller's plan."""

    def __init__(self, method: str, route: str, handle: Handler, door: Door, limiter: Limiter) -> None:
        self._method = method
        self._name = f"{method} {route}"
        self._handle = handle
        self._door = door
        self._limiter = limiter
        self._meter = Meter(route)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        reply = Reply(send, new_id("req_"))
        headers = scope["headers"]
        with continued(headers):
            try:
                caller = await self._door.enter(headers, reply.request_id)
            except Exception as error:  # noqa: BLE001 - whatever it is, the client gets an answer
                await answered(reply, error)
                self._meter.record(reply, self._method)
                return
            with as_caller(caller):
                try:
                    reply.standing = rate_headers(await self._limiter.admit(caller.principal))
                except RateLimitExceeded as refusal:
                    # Without a span: who sends too much must not fill the traces as well.
                    RATE_LIMITED.labels(refusal.scope).inc()
                    reply.standing = rate_headers(refusal.standing)
                    await answered(reply, refusal)
                    self._meter.record(reply, self._method)
                    return
                await self._traced(scope, receive, reply)

    async def _traced(self, scope: Scope, receive: Receive, reply: Reply) -> None:
        with span(self._name, kind="server") as timed:
            try:
                await self._handle(scope, receive, reply)
            except Exception as error:  # noqa: BLE001 - whatever it is, the client gets an answer
                await answered(reply, error)
            finally:
                describe(timed, reply)
                self._meter.record(reply, self._method)


class Guarded:
    """An ASGI application behind the door; `public` paths need no key."""

    def __init__(self, app: ASGIApp, door: Door, public: Collection[str]) -> None:
        self._app = app
        self._door = door
        self._public = public
        self._meters: dict[str, Meter] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        reply = Reply(send, new_id("req_"))
        with continued(scope["headers"]):
            if scope["path"] in self._public:
                await self._pass(scope, receive, reply)
                return
            try:
                caller = await self._door.enter(scope["headers"], reply.request_id)
            except Exception as error:  # noqa: BLE001 - whatever it is, the client gets an answer
                await answered(reply, error)
                self._meter(scope).record(reply, scope["method"])
                return
            with as_caller(caller), span(scope["method"], kind="server") as timed:
                try:
                    await self._pass(scope, receive, reply)
                finally:
                    timed.set(route=route_of(scope))
                    describe(timed, reply)

    async def _pass(self, scope: Scope, receive: Receive, reply: Reply) -> None:
        try:
            await self._app(scope, receive, reply.pass_on)
        except Exception as error:  # noqa: BLE001 - whatever it is, the client gets an answer
            await answered(reply, error)
        finally:
            reply.error = reply.error or scope.get(ERROR)
            self._meter(scope).record(reply, scope["method"])

    def _meter(self, scope: Scope) -> Meter:
        route = route_of(scope)
        meter = self._meters.get(route)
        if meter is None:
            meter = self._meters[route] = Meter(route)
        return meter


async def answered(reply: Reply, error: Exception) -> None:
    """Answer with an error. When an answer has begun, raise it: the server cuts the connection."""
    if isinstance(error.__cause__, ArgosyError):
        error = error.__cause__  # Starlette's words for an error that came after the status line
    if reply.ended:
        return  # Starlette raises again what it has answered
    known = told(error, request_id=reply.request_id)
    reply.error = known
    if known.kind is Kind.CANCELLED:
        reply.status = CLIENT_DISCONNECTED
    elif reply.status:
        raise known
    else:
        await reply.refuse(known)


def describe(timed: Span, reply: Reply) -> None:
    """Say in a span how the request went. A client that left is no failure."""
    timed.set(status=reply.status, code=reply.code)
    if reply.error is not None and reply.status != CLIENT_DISCONNECTED:
        timed.fail(reply.error)


def route_of(scope: Scope) -> str:
    """The template of the route that was taken: a path would make a metric of every id."""
    path = getattr(scope.get("route"), "path", None)
    return path if isinstance(path, str) else UNKNOWN_ROUTE


def continued(headers: Headers) -> AbstractContextManager[object]:
    """Continue the client's trace, if it sends one."""
    carrier = {
        name.decode("latin-1"): value.decode("latin-1")
        for name, value in headers
        if name in (b"traceparent", b"tracestate")
    }
    return extract(carrier)
