"""The whole HTTP face: raw handlers for the hot routes, FastAPI for the others, one door in front of both."""

from collections.abc import MutableMapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from chassis.http import ASGIApp, Receive, RequestTooLarge, Routes, Scope, Send
from fastapi import FastAPI

from gateway.domain.limits import Limits
from gateway.domain.rates import Limiter

from . import account, administration, files, models, prices, vector_stores
from .chat import ROUTE as CHAT
from .chat import ChatCompletions
from .door import Door
from .edge import Guarded, HotRoute
from .embeddings import ROUTE as EMBEDDINGS
from .embeddings import Embeddings
from .failures import HANDLERS
from .openapi import describe
from .ports import Ports

PUBLIC = frozenset({"/docs", "/openapi.json"})
DESCRIPTION = "One API in front of your models: OpenAI's shapes, exact costs, your own documents."


@dataclass(frozen=True, slots=True)
class Allowances:
    """How much of everything a request may take."""

    chat_bytes: int
    json_bytes: int
    deadline: timedelta
    limits: Limits


def create_app(ports: Ports, door: Door, limiter: Limiter, allowances: Allowances) -> ASGIApp:
    """Wire the HTTP face together."""
    chat = ChatCompletions(
        ports.inference,
        ports.clock,
        allowances.limits,
        body_bytes=allowances.chat_bytes,
        deadline=allowances.deadline,
    )
    embeddings = Embeddings(ports.inference, body_bytes=allowances.chat_bytes, deadline=allowances.deadline)
    return Routes(
        {
            ("POST", CHAT): HotRoute("POST", CHAT, chat, door, limiter),
            ("POST", EMBEDDINGS): HotRoute("POST", EMBEDDINGS, embeddings, door, limiter),
        },
        fallback=Guarded(native_app(ports, allowances.json_bytes), door, PUBLIC),
    )


def native_app(ports: Ports, json_bytes: int) -> ASGIApp:
    """Make the FastAPI part, with its errors in OpenAI's shape."""
    app = FastAPI(
        title="Argosy",
        description=DESCRIPTION,
        redoc_url=None,
        # Our own spans and metrics are enough; its would cost more than the request.
        telemetry={"tracing": False, "metrics": False, "logs": False, "auto_configure": False},
        redirect_slashes=False,
        exception_handlers=HANDLERS,
    )
    for part in (models, files, vector_stores, account, administration, prices):
        app.include_router(part.router)
    app.state.ports = ports
    app.openapi = describe(app)  # type: ignore[method-assign]  # FastAPI's documented way to extend it
    return Limited(app, json_bytes, unlimited=files.router.prefix)


class Limited:
    """An application whose bodies are bounded; uploads at `unlimited` bound themselves."""

    def __init__(self, app: ASGIApp, limit_bytes: int, unlimited: str) -> None:
        self._app = app
        self._limit_bytes = limit_bytes
        self._unlimited = unlimited

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; reading a body that is too large raises RequestTooLarge."""
        if scope["path"] == self._unlimited:
            await self._app(scope, receive, send)
            return
        read = 0

        async def bounded() -> MutableMapping[str, Any]:
            nonlocal read
            message = await receive()
            read += len(message.get("body", b""))
            if read > self._limit_bytes:
                raise RequestTooLarge(f"The request's body is larger than {self._limit_bytes} bytes.")
            return message

        await self._app(scope, bounded, send)
