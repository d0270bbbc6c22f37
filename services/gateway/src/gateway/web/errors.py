"""From any exception to the error that the client sees."""

from collections.abc import Callable, Coroutine
from typing import Any

from chassis.errors import ArgosyError, Internal, InvalidRequest, Kind, RemoteError, Unavailable
from chassis.http import STATUS, ClientDisconnected, openai_error
from chassis.http.errors import error_headers
from chassis.telemetry import logger
from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from gateway.auth.roles import RouteNotFound

# Where FastAPI's handlers leave the error in the ASGI scope, for the log line and the span.
SCOPE_ERROR = "argosy.error"
INTERNAL_MESSAGE = "Something went wrong on our side. The request id identifies it in our log."

log = logger("gateway")


class InvalidJson(ArgosyError):
    """The body is not JSON, or is nested too deeply to be read safely."""

    kind, reason = Kind.INVALID, "INVALID_JSON"


def to_public_error(error: Exception, **fields: str) -> ArgosyError:
    """Return what the client may learn of an exception. The rest is logged, with `fields`."""
    if isinstance(error, ClientDisconnect):
        return ClientDisconnected("The client disconnected while it was sending the body.")
    if not isinstance(error, ArgosyError):
        log.error("request_failed", exc_info=error, **fields)
        return Internal(INTERNAL_MESSAGE)
    if not isinstance(error, RemoteError):
        return error
    if error.kind is Kind.UNAUTHENTICATED:
        # The client's key was valid: another service rejected the principal that this gateway signed.
        log.error("principal_rejected", reason=error.reason, message=error.message, **fields)
        return Unavailable("The service cannot act on your behalf right now; try again.")
    if error.kind is Kind.INTERNAL:
        log.error("peer_failed", reason=error.reason, message=error.message, **fields)
        return Internal(INTERNAL_MESSAGE)
    return error


async def _on_error(request: Request, error: Exception) -> JSONResponse:
    return _to_response(request, to_public_error(error))


async def _on_validation_error(request: Request, error: RequestValidationError) -> JSONResponse:
    first = error.errors()[0]
    if first["type"] == "json_invalid":
        return _to_response(request, InvalidJson("The body is not valid JSON."))
    param = param_name(first["loc"])
    return _to_response(request, InvalidRequest(f"{param or 'body'}: {first['msg']}.", param=param or None))


async def _on_http_exception(request: Request, error: HTTPException) -> JSONResponse:
    cause = error.__cause__
    if isinstance(cause, ArgosyError | ClientDisconnect):
        return _to_response(request, to_public_error(cause))
    if isinstance(cause, RecursionError | UnicodeDecodeError):
        return _to_response(request, InvalidJson("The body is not valid JSON, or nested too deeply."))
    if error.status_code == STATUS[Kind.NOT_FOUND]:
        return _to_response(request, RouteNotFound("There is no such path."))
    response = _to_response(request, InvalidRequest(str(error.detail)))
    response.status_code = error.status_code
    response.headers.update(error.headers or {})
    return response


def _to_response(request: Request, error: ArgosyError) -> JSONResponse:
    request.scope[SCOPE_ERROR] = error
    response = JSONResponse(openai_error(error), STATUS[error.kind])
    response.raw_headers.extend(error_headers(error))
    return response


def param_name(location: tuple[Any, ...]) -> str:
    """Write a pydantic location as clients write it: ("body", "roles", 0) is "roles[0]"."""
    name = ""
    for part in location[1:]:
        name += f"[{part}]" if isinstance(part, int) else f".{part}" if name else str(part)
    return name


EXCEPTION_HANDLERS: dict[int | type[Exception], Callable[[Request, Any], Coroutine[Any, Any, Response]]] = {
    ArgosyError: _on_error,
    ClientDisconnect: _on_error,
    RequestValidationError: _on_validation_error,
    HTTPException: _on_http_exception,
    Exception: _on_error,
}
