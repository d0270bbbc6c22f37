"""What every request passes through: its id, authentication, errors, metrics, span and log line.

`AsgiEndpoint` does it for hand-written handlers of hot routes, `AuthMiddleware` for an ASGI application. Neither reads
or copies a body.
"""

from collections.abc import Awaitable, Callable, Collection, Iterable, MutableMapping
from contextlib import AbstractContextManager
from time import perf_counter
from typing import Any

import orjson
from chassis.errors import ArgosyError, Kind
from chassis.http import STATUS, ASGIApp, ClientDisconnected, Receive, Scope, Send, openai_error, send_error
from chassis.ids import new_id
from chassis.in_flight import InFlight
from chassis.telemetry import Span, extract, span
from chassis.tenancy import Caller, as_caller

from gateway.auth.http import Authenticator
from gateway.auth.roles import check_route, role_of_route
from gateway.metrics import RATE_LIMITED
from gateway.rate_limits.http import rate_limit_headers
from gateway.rate_limits.limiter import RateLimiter, RateLimitExceeded, RequestClass, request_class
from gateway.web.errors import SCOPE_ERROR, to_public_error
from gateway.web.route_metrics import CLIENT_DISCONNECTED, RouteMetrics
from gateway.web.route_table import GET, HEAD, OPTIONS, MatchedRoute, MethodNotAllowed, RouteTable

Headers = Iterable[tuple[bytes, bytes]]

JSON = b"application/json"
REQUEST_ID = b"x-request-id"


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
        all_headers = [*self._own_headers(), *headers]
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
        await send_error(self._send, error, self._own_headers())

    async def send_method_not_allowed(self, error: MethodNotAllowed, allow: bytes) -> None:
        self.error = error
        body = orjson.dumps(openai_error(error))
        await self.send_response(405, body, ((b"allow", allow),))

    async def forward(self, message: MutableMapping[str, Any]) -> None:
        """Send a message of an ASGI application, with the request id added to the headers."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message["headers"] = [*message.get("headers", ()), *self._own_headers()]
        else:
            self.finished = not message.get("more_body", False)
        await self._send(message)

    async def forward_head(self, message: MutableMapping[str, Any]) -> None:
        """Send the status and headers of a message for GET as the response to HEAD; its body is not awaited."""
        if message["type"] == "http.response.start":
            await self.forward(message)
        elif not self.finished:
            await self.forward({"type": "http.response.body"})
            if message.get("more_body", False):
                raise ClientDisconnected("A response to HEAD has no body.")

    def _own_headers(self) -> list[tuple[bytes, bytes]]:
        return [(REQUEST_ID, self.request_id.encode()), *self.rate_limit_headers]


Handler = Callable[[Scope, Receive, ResponseWriter], Awaitable[None]]


class AsgiEndpoint:
    """A hand-written handler behind authentication and the rate limits of the caller's plan."""

    def __init__(
        self, method: str, route: str, handler: Handler, authenticator: Authenticator, limiter: RateLimiter
    ) -> None:
        self._method = method
        self._span_name = f"{method} {route}"
        self._role = role_of_route(route)
        self._handler = handler
        self._authenticator = authenticator
        self._limiter = limiter
        self._metrics = RouteMetrics(route)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        response = ResponseWriter(send, new_id("req_"))
        with extract_trace_context(scope["headers"]):
            try:
                caller = await self._authenticator.authenticate(scope, response.request_id)
            except Exception as error:  # noqa: BLE001 - every error becomes a response
                await send_public_error(response, error)
                self._metrics.record(response, self._method)
                return
            with as_caller(caller):
                try:
                    await count_request(self._limiter, caller, "inference", response)
                    caller.principal.require(self._role)
                except ArgosyError as error:
                    # No span: clients over their limit must not fill the trace store too.
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
    """An ASGI application behind authentication, roles, and rate limits; `public_paths` need no key.

    Answers what no route does: unknown paths, methods that a path does not have, OPTIONS, and HEAD by GET.
    """

    def __init__(
        self,
        app: ASGIApp,
        routes: RouteTable,
        authenticator: Authenticator,
        limiter: RateLimiter,
        public_paths: Collection[str],
    ) -> None:
        self._app = app
        self._routes = routes
        self._authenticator = authenticator
        self._limiter = limiter
        self._public_paths = public_paths
        self._metrics: dict[str, RouteMetrics] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        response = ResponseWriter(send, new_id("req_"))
        route = self._routes.match(scope["path"])
        with extract_trace_context(scope["headers"]):
            if scope["path"] in self._public_paths:
                await self._respond(scope, receive, response, route)
                return
            try:
                caller = await self._authenticator.authenticate(scope, response.request_id)
            except Exception as error:  # noqa: BLE001 - every error becomes a response
                await send_public_error(response, error)
                self._metrics_of(route).record(response, scope["method"])
                return
            with as_caller(caller):
                if await self._check(caller, scope["method"], route, response):
                    with span(scope["method"], kind="server", route=route.template) as current:
                        try:
                            await self._respond(scope, receive, response, route)
                        finally:
                            set_span_result(current, response)

    async def _check(self, caller: Caller, method: str, route: MatchedRoute, response: ResponseWriter) -> bool:
        """Count the request, and check the caller's role; false when an error was sent. No span, as in AsgiEndpoint."""
        try:
            await count_request(self._limiter, caller, request_class(method, route.template), response)
            check_route(caller.principal, route.template)
        except ArgosyError as error:
            await send_public_error(response, error)
            self._metrics_of(route).record(response, method)
            return False
        return True

    async def _respond(self, scope: Scope, receive: Receive, response: ResponseWriter, route: MatchedRoute) -> None:
        method = scope["method"]
        try:
            route.check_method(method)
            if method == OPTIONS:
                await response.start(204, ((b"allow", route.allow),))
                await response.finish()
            elif method == HEAD:
                scope = {**scope, "method": GET}
                await self._app(scope, receive, response.forward_head)
            else:
                await self._app(scope, receive, response.forward)
        except MethodNotAllowed as error:
            await response.send_method_not_allowed(error, route.allow)
        except Exception as error:  # noqa: BLE001 - every error becomes a response
            await send_public_error(response, error)
        finally:
            response.error = response.error or scope.get(SCOPE_ERROR)
            self._metrics_of(route).record(response, method)

    def _metrics_of(self, route: MatchedRoute) -> RouteMetrics:
        metrics = self._metrics.get(route.template)
        if metrics is None:
            metrics = self._metrics[route.template] = RouteMetrics(route.template)
        return metrics


async def count_request(limiter: RateLimiter, caller: Caller, kind: RequestClass, response: ResponseWriter) -> None:
    """Count a request and set its rate limit headers. Raises RateLimitExceeded."""
    try:
        response.rate_limit_headers = rate_limit_headers(await limiter.check(caller.principal, kind))
    except RateLimitExceeded as error:
        RATE_LIMITED.labels(error.scope).inc()
        response.rate_limit_headers = rate_limit_headers(error.status)
        raise


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


def extract_trace_context(headers: Headers) -> AbstractContextManager[object]:
    carrier = {
        name.decode("latin-1"): value.decode("latin-1")
        for name, value in headers
        if name in (b"traceparent", b"tracestate")
    }
    return extract(carrier)
