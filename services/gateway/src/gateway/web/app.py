"""The ASGI application: hand-written endpoints for hot routes, FastAPI for all others."""

from collections.abc import Iterable, Mapping, MutableMapping
from typing import Any

from chassis.http import ASGIApp, Receive, RequestTooLarge, Routes, Scope, Send
from fastapi import APIRouter, Depends, FastAPI

from gateway.auth.http import Authenticator
from gateway.rate_limits.limiter import RateLimiter
from gateway.web.dependencies import Dependencies, refuse_unknown_parameters
from gateway.web.errors import EXCEPTION_HANDLERS
from gateway.web.middleware import AsgiEndpoint, AuthMiddleware, Handler
from gateway.web.openapi import AsgiRoute, with_asgi_routes
from gateway.web.route_table import route_table

PUBLIC_PATHS = frozenset({"/docs", "/openapi.json"})
DESCRIPTION = "One API in front of your models: OpenAI's shapes, exact costs, your own documents."


def create_app(
    asgi_routes: Mapping[AsgiRoute, Handler],
    routers: Iterable[APIRouter],
    dependencies: Dependencies,
    authenticator: Authenticator,
    limiter: RateLimiter,
    *,
    max_body_bytes: int,
    unlimited_path: str,
) -> ASGIApp:
    """Put it together. Bodies for `routers` have at most `max_body_bytes`, but for `unlimited_path`."""
    routers = tuple(routers)
    api = fastapi_app(routers, dependencies, asgi_routes)
    routes = route_table(api, routers, [route.path for route in asgi_routes])
    limited = BodySizeLimit(api, max_body_bytes, unlimited_path)
    return Routes(
        {
            ("POST", route.path): AsgiEndpoint("POST", route.path, handler, authenticator, limiter)
            for route, handler in asgi_routes.items()
        },
        fallback=AuthMiddleware(limited, routes, authenticator, limiter, PUBLIC_PATHS),
    )


def fastapi_app(routers: Iterable[APIRouter], dependencies: Dependencies, asgi_routes: Iterable[AsgiRoute]) -> FastAPI:
    """Make the FastAPI application, with errors in OpenAI's shape."""
    app = FastAPI(
        title="Argosy",
        description=DESCRIPTION,
        redoc_url=None,
        # The chassis makes spans and metrics; FastAPI's own cost more than the request.
        telemetry={"tracing": False, "metrics": False, "logs": False, "auto_configure": False},
        redirect_slashes=False,
        exception_handlers=EXCEPTION_HANDLERS,
        dependencies=[Depends(refuse_unknown_parameters)],
    )
    for router in routers:
        app.include_router(router)
    app.state.dependencies = dependencies
    app.openapi = with_asgi_routes(app, asgi_routes)  # type: ignore[method-assign]  # as FastAPI documents it
    return app


class BodySizeLimit:
    """Limits bodies to `max_bytes`, except at `unlimited_path`, where uploads have a limit of their own."""

    def __init__(self, app: ASGIApp, max_bytes: int, unlimited_path: str) -> None:
        self._app = app
        self._max_bytes = max_bytes
        self._unlimited_path = unlimited_path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Respond to one request; reading more than the limit raises RequestTooLarge."""
        if scope["path"] == self._unlimited_path:
            await self._app(scope, receive, send)
            return
        received_bytes = 0

        async def limited_receive() -> MutableMapping[str, Any]:
            nonlocal received_bytes
            message = await receive()
            received_bytes += len(message.get("body", b""))
            if received_bytes > self._max_bytes:
                raise RequestTooLarge(f"The request's body is larger than {self._max_bytes} bytes.")
            return message

        await self._app(scope, limited_receive, send)
