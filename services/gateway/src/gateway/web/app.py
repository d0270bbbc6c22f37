"""The ASGI application: hand-written endpoints for hot routes, FastAPI for all others."""

from collections.abc import Iterable, Mapping, MutableMapping
from typing import Any

from chassis.http import ASGIApp, Receive, RequestTooLarge, Routes, Scope, Send
from chassis.in_flight import InFlight, InFlightLimit
from chassis.tenancy import current_caller
from fastapi import APIRouter, Depends, FastAPI

from gateway.auth.http import Authenticator
from gateway.rate_limits.limiter import RateLimiter
from gateway.web.dependencies import Dependencies, refuse_unknown_parameters
from gateway.web.errors import EXCEPTION_HANDLERS
from gateway.web.middleware import AsgiEndpoint, AuthMiddleware, Handler
from gateway.web.openapi import AsgiRoute, with_asgi_routes
from gateway.web.request_body import RequestBodies
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
    bodies: RequestBodies,
    uploads: InFlightLimit,
    max_body_bytes: int,
    upload_path: str,
) -> ASGIApp:
    """Put it together. Bodies for `routers` have at most `max_body_bytes`; those for `upload_path` are streamed."""
    routers = tuple(routers)
    api = fastapi_app(routers, dependencies, asgi_routes)
    routes = route_table(api, routers, [route.path for route in asgi_routes])
    limited = BodyLimits(api, bodies, uploads, max_body_bytes=max_body_bytes, upload_path=upload_path)
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


class BodyLimits:
    """Limits what FastAPI's endpoints hold of bodies.

    A JSON body is limited in size, and takes its bytes from the budget until its request ends. An upload, which has a
    size limit of its own, is streamed, and limited in number.
    """

    def __init__(
        self, app: ASGIApp, bodies: RequestBodies, uploads: InFlightLimit, *, max_body_bytes: int, upload_path: str
    ) -> None:
        self._app = app
        self._bodies = bodies
        self._uploads = uploads
        self._max_body_bytes = max_body_bytes
        self._upload_path = upload_path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Respond to one request. Raises RequestTooLarge, Overloaded, TooMuchInFlight, also while it reads."""
        if scope["path"] in PUBLIC_PATHS:
            await self._app(scope, receive, send)
        elif scope["path"] == self._upload_path and scope["method"] == "POST":
            with self._uploads.reserve(current_caller().principal.key_id, 1):
                await self._app(scope, receive, send)
        else:
            with self._bodies.reserve(scope, self._max_body_bytes) as reserved:
                await self._app(scope, self._limited(receive, reserved), send)

    def _limited(self, receive: Receive, reserved: InFlight) -> Receive:
        received_bytes = 0

        async def limited_receive() -> MutableMapping[str, Any]:
            nonlocal received_bytes
            message = await receive()
            received_bytes += len(message.get("body", b""))
            if received_bytes > self._max_body_bytes:
                raise RequestTooLarge(f"The request's body is larger than {self._max_body_bytes} bytes.")
            reserved.grow_to(received_bytes)
            return message

        return limited_receive
