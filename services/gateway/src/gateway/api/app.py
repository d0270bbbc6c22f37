"""The whole HTTP face: raw handlers for the hot routes, FastAPI for the others, one door in front of both."""

from collections.abc import MutableMapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from chassis.errors import ArgosyError, InvalidRequest, Kind, RemoteFailure
from chassis.http import STATUS, ASGIApp, Receive, RequestTooLarge, Routes, Scope, Send, openai_error
from chassis.http.answers import error_headers
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from gateway.domain.limits import Limits

from . import account, administration, files, models, prices, vector_stores
from .bodies import InvalidJson
from .chat import ROUTE as CHAT
from .chat import ChatCompletions
from .door import Door
from .edge import Guarded, HotRoute
from .embeddings import ROUTE as EMBEDDINGS
from .embeddings import Embeddings
from .failures import told
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


def create_app(ports: Ports, door: Door, allowances: Allowances) -> ASGIApp:
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
            ("POST", CHAT): HotRoute("POST", CHAT, chat, door),
            ("POST", EMBEDDINGS): HotRoute("POST", EMBEDDINGS, embeddings, door),
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
        exception_handlers={
            ArgosyError: _on_error,
            ClientDisconnect: _on_error,
            RequestValidationError: _on_validation,
            HTTPException: _on_http,
            Exception: _on_error,
        },
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


async def _on_error(_request: Request, error: Exception) -> JSONResponse:
    return _answer(told(error))


async def _on_validation(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)  # noqa: S101 - it is registered for this class
    first = error.errors()[0]
    if first["type"] == "json_invalid":
        return _answer(InvalidJson("The body is not valid JSON."))
    param = dotted(first["loc"])
    return _answer(InvalidRequest(f"{param or 'body'}: {first['msg']}.", param=param or None))


async def _on_http(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)  # noqa: S101 - it is registered for this class
    cause = error.__cause__
    if isinstance(cause, ArgosyError | ClientDisconnect):
        return _answer(told(cause))
    if isinstance(cause, RecursionError | UnicodeDecodeError):
        return _answer(InvalidJson("The body is not valid JSON, or nested too deeply."))
    if error.status_code == STATUS[Kind.NOT_FOUND]:
        return _answer(RemoteFailure(Kind.NOT_FOUND, "ROUTE_NOT_FOUND", "There is no such path."))
    refusal = RemoteFailure(
        Kind.INVALID, "METHOD_NOT_ALLOWED" if error.status_code == 405 else "INVALID_REQUEST", str(error.detail)
    )
    return JSONResponse(openai_error(refusal), error.status_code, headers=error.headers)


def _answer(error: ArgosyError) -> JSONResponse:
    response = JSONResponse(openai_error(error), STATUS[error.kind])
    response.raw_headers.extend(error_headers(error))
    return response


def dotted(place: tuple[Any, ...]) -> str:
    """Name a parameter as clients wrote it: ("body", "roles", 0) is "roles[0]"."""
    name = ""
    for part in place[1:]:
        name += f"[{part}]" if isinstance(part, int) else f".{part}" if name else str(part)
    return name
