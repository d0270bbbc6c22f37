"""What a client is told when something fails."""

from collections.abc import Callable, Coroutine
from typing import Any

from chassis.errors import ArgosyError, Internal, InvalidRequest, Kind, RemoteError, Unavailable
from chassis.http import STATUS, ClientDisconnected, openai_error
from chassis.http.answers import error_headers
from chassis.telemetry import logger
from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from .bodies import InvalidJson

# Where an error is left for the log and the trace.
ERROR = "argosy.error"
REASONS = {405: "METHOD_NOT_ALLOWED"}

log = logger("gateway")

UNEXPLAINED = "Something broke on our side. The request's id says where to look."


def told(error: Exception, **where: str) -> ArgosyError:
    """Answer what a client may know of an exception; what it may not is logged here, with `where`."""
    if isinstance(error, ClientDisconnect):
        return ClientDisconnected("The client went away while it was sending.")
    if not isinstance(error, ArgosyError):
        log.error("request_broke", exc_info=error, **where)
        return Internal(UNEXPLAINED)
    if not isinstance(error, RemoteError):
        return error
    if error.kind is Kind.UNAUTHENTICATED:
        # The client's key was good; it is our own services that do not believe each other.
        log.error("principal_refused", reason=error.reason, message=error.message, **where)
        return Unavailable("The service cannot act for you right now; try again.")
    if error.kind is Kind.INTERNAL:
        log.error("peer_broke", reason=error.reason, message=error.message, **where)
        return Internal(UNEXPLAINED)
    return error


async def _on_error(request: Request, error: Exception) -> JSONResponse:
    return _answer(request, told(error))


async def _on_validation(request: Request, error: RequestValidationError) -> JSONResponse:
    first = error.errors()[0]
    if first["type"] == "json_invalid":
        return _answer(request, InvalidJson("The body is not valid JSON."))
    param = dotted(first["loc"])
    return _answer(request, InvalidRequest(f"{param or 'body'}: {first['msg']}.", param=param or None))


async def _on_http(request: Request, error: HTTPException) -> JSONResponse:
    cause = error.__cause__
    if isinstance(cause, ArgosyError | ClientDisconnect):
        return _answer(request, told(cause))
    if isinstance(cause, RecursionError | UnicodeDecodeError):
        return _answer(request, InvalidJson("The body is not valid JSON, or nested too deeply."))
    if error.status_code == STATUS[Kind.NOT_FOUND]:
        return _answer(request, RemoteError(Kind.NOT_FOUND, "ROUTE_NOT_FOUND", "There is no such path."))
    reason = REASONS.get(error.status_code, "INVALID_REQUEST")
    answer = _answer(request, RemoteError(Kind.INVALID, reason, str(error.detail)))
    answer.status_code = error.status_code
    answer.headers.update(error.headers or {})
    return answer


def _answer(request: Request, error: ArgosyError) -> JSONResponse:
    request.scope[ERROR] = error
    answer = JSONResponse(openai_error(error), STATUS[error.kind])
    answer.raw_headers.extend(error_headers(error))
    return answer


def dotted(place: tuple[Any, ...]) -> str:
    """Name a parameter as clients wrote it: ("body", "roles", 0) is "roles[0]"."""
    name = ""
    for part in place[1:]:
        name += f"[{part}]" if isinstance(part, int) else f".{part}" if name else str(part)
    return name


HANDLERS: dict[int | type[Exception], Callable[[Request, Any], Coroutine[Any, Any, Response]]] = {
    ArgosyError: _on_error,
    ClientDisconnect: _on_error,
    RequestValidationError: _on_validation,
    HTTPException: _on_http,
    Exception: _on_error,
}
"""What FastAPI does with whatever is raised."""
