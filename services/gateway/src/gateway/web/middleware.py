"""What every request passes through: its id, authentication, errors, metrics, span and log line.

`AsgiEndpoint` does it for hand-written handlers of hot routes, `AuthMiddleware` for an ASGI application. Neither reads
or copies a body.
"""

from collections.abc import Awaitable, Callable, Collection
from contextlib import AbstractContextManager

from chassis.errors import ArgosyError, Kind
from chassis.http import ASGIApp, Receive, Scope, Send
from chassis.ids import new_id
from chassis.telemetry import Span, extract, span
from chassis.tenancy import Caller, as_caller

from gateway.auth.http import Authenticator
from gateway.auth.roles import check_route, role_of_route
from gateway.metrics import RATE_LIMITED
from gateway.rate_limits.limiter import RateLimiter, RateLimitExceeded, RequestClass, request_class
from gateway.web.dependencies import refuse_query
from gateway.web.errors import SCOPE_ERROR, to_public_error
from gateway.web.response import CLIENT_DISCONNECTED, Headers, ResponseWriter, RouteMetrics, rate_limit_headers
from gateway.web.route_table import GET, HEAD, OPTIONS, MatchedRoute, MethodNotAllowed, RouteTable

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
                    if scope["query_string"]:
                        refuse_query(scope["query_string"])
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
        response.extra_headers = rate_limit_headers(await limiter.check(caller.principal, kind))
    except RateLimitExceeded as error:
        RATE_LIMITED.labels(error.scope).inc()
        response.extra_headers = rate_limit_headers(error.status)
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
