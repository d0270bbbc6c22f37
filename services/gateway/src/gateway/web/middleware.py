"""What every request passes through: its id, authentication, errors, metrics, span and log line.

`AsgiEndpoint` does it for hand-written handlers of hot routes, `AuthMiddleware` for an ASGI application. Neither reads
or copies a body.
"""

from collections.abc import Awaitable, Callable, Collection, Iterable, MutableMapping
from contextlib import AbstractContextManager
from time import perf_counter
from typing import Any

from chassis.errors import ArgosyError, Kind
from chassis.http import STATUS, ASGIApp, Receive, Scope, Send, send_error
from chassis.ids import new_id
from chassis.in_flight import InFlight
from chassis.telemetry import Span, extract, logger, span
from chassis.tenancy import as_caller
from prometheus_client import Counter

from gateway.auth.http import Authenticator
from gateway.metrics import CLIENT_DISCONNECTS, RATE_LIMITED, REQUEST_SECONDS, REQUESTS
from gateway.rate_limits.http import rate_limit_headers
from gateway.rate_limits.limiter import RateLimiter
from gateway.rate_limits.model import RateLimitExceeded
from gateway.web.errors import SCOPE_ERROR, to_public_error

Headers = Iterable[tuple[bytes, bytes]]

JSON = b"application/json"
REQUEST_ID = b"x-request-id"
# Never sent: logs and metrics show with it that the client disconnected first.
CLIENT_DISCONNECTED = STATUS[Kind.CANCELLED]
UNKNOWN_ROUTE = "unknown"

log = logger("gateway")


class ResponseWriter:
    """Writes the response to one request, and keeps its id, status and error for metrics and logs."""

    __slots__ = ("_send", "body", "error", "finished", "rate_limit_headers", "request_id", "started_at", "status")

    def __init__(self, send: Send, request_id: str) -> None:
        self._send = send
        self.request_id = request_id
        self.status = 0
        self.error: ArgosyError | None = None
        self.body: InFlight | None = None
        """What the request's body takes of the budget; given back when the response starts, or the request ends."""
        self.finished = False
        self.rate_limit_headers: Headers = ()
        self.started_at = perf_counter()

    @property
    def code(self) -> str | None:
        return None if self.error is None else self.error.code

    async def start(self, status: int, headers: Headers) -> None:
        self.status = status
        self.release_body()
        all_headers = [(REQUEST_ID, self.request_id.encode()), *self.rate_limit_headers, *headers]
        await self._send({"type": "http.response.start", "status": status, "headers": all_headers})

    def release_body(self) -> None:
        if self.body is not None:
            self.body.release()

    async def write(self, body: bytes) -> None:
        """Send bytes; waits while the client reads more slowly than we write."""
        await self._send({"type": "http.response.body", "body": body, "more_body": True})

    async def finish(self, body: bytes = b"") -> None:
        await self._send({"type": "http.response.body", "body": body, "more_body": False})

    async def send_response(
        self, status: int, body: bytes, headers: Headers = (), *, content_type: bytes = JSON
    ) -> None:
        length = str(len(body)).encode()
        await self.start(status, ((b"content-type", content_type), (b"content-length", length), *headers))
        await self.finish(body)

    async def send_error(self, error: ArgosyError) -> None:
        self.status = STATUS[error.kind]
        await send_error(self._send, error, [(REQUEST_ID, self.request_id.encode()), *self.rate_limit_headers])

    async def forward(self, message: MutableMapping[str, Any]) -> None:
        """Send a message of an ASGI application, with the request id added to the headers."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message["headers"] = [*message.get("headers", ()), (REQUEST_ID, self.request_id.encode())]
        else:
            self.finished = not message.get("more_body", False)
        await self._send(message)


class RouteMetrics:
    """The metrics of one route, with their labelled children bound once."""

    def __init__(self, route: str) -> None:
        self._route = route
        self._seconds = REQUEST_SECONDS.labels(route)
        self._disconnects = CLIENT_DISCONNECTS.labels(route)
        self._by_status: dict[int, Counter] = {}

    def record(self, response: ResponseWriter, method: str) -> None:
        seconds = perf_counter() - response.started_at
        counter = self._by_status.get(response.status)
        if counter is None:
            counter = self._by_status[response.status] = REQUESTS.labels(self._route, str(response.status))
        counter.inc()
        self._seconds.observe(seconds)
        if response.status == CLIENT_DISCONNECTED:
            self._disconnects.inc()
        log.info(
            "request",
            method=method,
            route=self._route,
            status=response.status,
            code=response.code,
            seconds=round(seconds, 6),
            request_id=response.request_id,
        )


Handler = Callable[[Scope, Receive, ResponseWriter], Awaitable[None]]


class AsgiEndpoint:
    """A hand-written handler behind authentication and the rate limits of the caller's plan."""

    def __init__(
        self, method: str, route: str, handler: Handler, authenticator: Authenticator, limiter: RateLimiter
    ) -> None:
        self._method = method
        self._span_name = f"{method} {route}"
        self._handler = handler
        self._authenticator = authenticator
        self._limiter = limiter
        self._metrics = RouteMetrics(route)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        response = ResponseWriter(send, new_id("req_"))
        headers = scope["headers"]
        with extract_trace_context(headers):
            try:
                caller = await self._authenticator.authenticate(headers, response.request_id)
            except Exception as error:  # noqa: BLE001 - every error becomes a response
                await send_public_error(response, error)
                self._metrics.record(response, self._method)
                return
            with as_caller(caller):
                try:
                    response.rate_limit_headers = rate_limit_headers(await self._limiter.check(caller.principal))
                except RateLimitExceeded as error:
                    # No span: clients over their limit must not fill the trace store too.
                    RATE_LIMITED.labels(error.scope).inc()
                    response.rate_limit_headers = rate_limit_headers(error.status)
                    await send_public_error(response, error)
                    self._metrics.record(response, self._method)
                    return
                await self._handle_in_span(scope, receive, response)

    async def _handle_in_span(self, scope: Scope, receive: Receive, response: ResponseWriter) -> None:
        with span(self._span_name, kind="server") as current:
            try:
                await self._handler(scope, receive, response)
            except Exception as error:  # noqa: BLE001 - every error becomes a response
                await send_public_error(response, error)
            finally:
                response.release_body()
                set_span_result(current, response)
                self._metrics.record(response, self._method)


class AuthMiddleware:
    """An ASGI application behind authentication; `public_paths` need no key."""

    def __init__(self, app: ASGIApp, authenticator: Authenticator, public_paths: Collection[str]) -> None:
        self._app = app
        self._authenticator = authenticator
        self._public_paths = public_paths
        self._metrics: dict[str, RouteMetrics] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        response = ResponseWriter(send, new_id("req_"))
        with extract_trace_context(scope["headers"]):
            if scope["path"] in self._public_paths:
                await self._call_app(scope, receive, response)
                return
            try:
                caller = await self._authenticator.authenticate(scope["headers"], response.request_id)
            except Exception as error:  # noqa: BLE001 - every error becomes a response
                await send_public_error(response, error)
                self._metrics_of(scope).record(response, scope["method"])
                return
            with as_caller(caller), span(scope["method"], kind="server") as current:
                try:
                    await self._call_app(scope, receive, response)
                finally:
                    current.set(route=route_template(scope))
                    set_span_result(current, response)

    async def _call_app(self, scope: Scope, receive: Receive, response: ResponseWriter) -> None:
        try:
            await self._app(scope, receive, response.forward)
        except Exception as error:  # noqa: BLE001 - every error becomes a response
            await send_public_error(response, error)
        finally:
            response.error = response.error or scope.get(SCOPE_ERROR)
            self._metrics_of(scope).record(response, scope["method"])

    def _metrics_of(self, scope: Scope) -> RouteMetrics:
        route = route_template(scope)
        metrics = self._metrics.get(route)
        if metrics is None:
            metrics = self._metrics[route] = RouteMetrics(route)
        return metrics


async def send_public_error(response: ResponseWriter, error: Exception) -> None:
    """Send an error response. After the status line, raise instead: the server then closes the connection."""
    if isinstance(error.__cause__, ArgosyError):
        error = error.__cause__  # Starlette wraps errors raised after the status line
    if response.finished:
        return  # Starlette re-raises an error whose response it has sent
    public = to_public_error(error, request_id=response.request_id)
    # The response keeps the error, whose frames refer to the response and to the body: they would keep each other until
    # the garbage collector comes, which is rarely.
    public.__context__ = public.__cause__ = None
    response.error = public.with_traceback(None)
    if public.kind is Kind.CANCELLED:
        response.status = CLIENT_DISCONNECTED
    elif response.status:
        raise public
    else:
        await response.send_error(public)


def set_span_result(current: Span, response: ResponseWriter) -> None:
    """Record status and error in the span. A client's disconnect is not an error."""
    current.set(status=response.status, code=response.code)
    if response.error is not None and response.status != CLIENT_DISCONNECTED:
        current.fail(response.error)


def route_template(scope: Scope) -> str:
    """The template of the matched route: with paths, each id would become a time series."""
    path = getattr(scope.get("route"), "path", None)
    return path if isinstance(path, str) else UNKNOWN_ROUTE


def extract_trace_context(headers: Headers) -> AbstractContextManager[object]:
    carrier = {
        name.decode("latin-1"): value.decode("latin-1")
        for name, value in headers
        if name in (b"traceparent", b"tracestate")
    }
    return extract(carrier)
