"""Errors over HTTP: a status per kind, and OpenAI's error body, which every SDK parses."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import orjson

from chassis.errors import HTTP_STATUS, ArgosyError, Internal, Kind
from chassis.http.asgi import Header, Send, send_json
from chassis.telemetry import logger
from chassis.telemetry.redaction import mask_keys

STATUS = HTTP_STATUS

# OpenAI's coarse `type`; SDKs decide by the status, people by the code.
TYPE: dict[Kind, str] = {
    Kind.INVALID: "invalid_request_error",
    Kind.UNAUTHENTICATED: "authentication_error",
    Kind.DENIED: "permission_error",
    Kind.NOT_FOUND: "not_found_error",
    Kind.EXPIRED: "not_found_error",
    Kind.CONFLICT: "conflict_error",
    Kind.UNPROCESSABLE: "invalid_request_error",
    Kind.TOO_LARGE: "invalid_request_error",
    Kind.EXHAUSTED: "insufficient_quota",
    Kind.THROTTLED: "rate_limit_error",
    Kind.CANCELLED: "cancelled_error",
    Kind.INTERNAL: "server_error",
    Kind.UPSTREAM: "upstream_error",
    Kind.UNAVAILABLE: "server_error",
    Kind.TIMED_OUT: "timeout_error",
}

# SDKs retry 409 and 429. OpenAI's header `x-should-retry: false` stops them where a retry cannot succeed.
NOT_RETRYABLE = {Kind.CONFLICT, Kind.EXHAUSTED}

log = logger("chassis.http")


def openai_error(error: ArgosyError) -> dict[str, Any]:
    """Make the error body in OpenAI's format; also the payload of an error within a stream."""
    param = error.param if error.param is None else mask_keys(error.param)
    return {
        "error": {"message": mask_keys(error.message), "type": TYPE[error.kind], "param": param, "code": error.code},
    }


async def send_error(send: Send, error: Exception, headers: Iterable[Header] = ()) -> None:
    """Send an error response. An exception that is no `ArgosyError` is a bug: it is logged, and the client gets 500."""
    if not isinstance(error, ArgosyError):
        log.error("unexpected_error", exc_info=error)
        error = Internal("Something went wrong on our side. The request's id finds it in our log.")
    payload = orjson.dumps(openai_error(error), default=str)
    await send_json(send, STATUS[error.kind], payload, [*error_headers(error), *headers])


def error_headers(error: ArgosyError) -> list[Header]:
    """Make the headers about retries and authentication."""
    headers: list[Header] = []
    if error.retry_after is not None:
        headers.append((b"retry-after", b"%d" % max(0, math.ceil(error.retry_after.total_seconds()))))
    if error.kind in NOT_RETRYABLE:
        headers.append((b"x-should-retry", b"false"))
    if error.kind is Kind.UNAUTHENTICATED:
        headers.append((b"www-authenticate", b"Bearer"))
    return headers
