"""Which error an HTTP status stands for, and how much of the upstream's message clients may see."""

import re
from datetime import timedelta
from typing import Any

import orjson

from inference_worker.providers.model import (
    UpstreamFailed,
    UpstreamRateLimited,
    UpstreamRejected,
    UpstreamTimedOut,
)

MAX_ERROR_BODY_BYTES = 64 * 1024
MAX_MESSAGE_CHARACTERS = 500

# 401, 402, 403: our credential or our account, never the client's fault. 409, 425: the provider asks for a retry.
FALLBACK_STATUSES = frozenset({401, 402, 403, 405, 407, 409, 425})
TIMEOUT_STATUSES = frozenset({408, 504})

_CREDENTIAL = re.compile(r"\b(?:sk|pk|rk|key|Bearer)[-_ ][A-Za-z0-9_\-*.]{6,}", re.IGNORECASE)
_CONTROL_CHARACTERS = re.compile(r"[\x00-\x1f\x7f]+")


def status_error(
    status: int, message: str, secrets: tuple[str, ...], retry_after: timedelta | None = None
) -> UpstreamFailed:
    """Return the error for a status. It carries the upstream's `message` only when the request itself is rejected."""
    if status == 429:
        return UpstreamRateLimited("the upstream limits its rate", retry_after=retry_after)
    if status in TIMEOUT_STATUSES:
        return UpstreamTimedOut("the upstream timed out", maybe_billed=False)
    if status in FALLBACK_STATUSES or not 400 <= status < 500:
        return UpstreamFailed(f"the upstream failed with status {status}")
    return UpstreamRejected(redact(message, secrets) or f"the upstream rejected the request with status {status}")


def redact(message: str, secrets: tuple[str, ...]) -> str:
    """Return one line of bounded length without `secrets` and without anything that looks like a credential."""
    for secret in secrets:
        message = message.replace(secret, "***")
    message = _CREDENTIAL.sub("***", message)
    return _CONTROL_CHARACTERS.sub(" ", message).strip()[:MAX_MESSAGE_CHARACTERS]


def error_message(body: bytes) -> str:
    """Return the message in an error body of one of the usual shapes; empty when there is none."""
    try:
        parsed: Any = orjson.loads(body)
    except orjson.JSONDecodeError:
        return ""
    if not isinstance(parsed, dict):
        return ""
    error = parsed.get("error")
    nested = error.get("message") if isinstance(error, dict) else error
    messages = (nested, parsed.get("message"), parsed.get("detail"))
    return next((message for message in messages if isinstance(message, str)), "")


def parse_retry_after(value: str) -> timedelta | None:
    """Parse the header `retry-after` given in whole seconds; None for its other forms."""
    return timedelta(seconds=int(value)) if value.isascii() and value.isdigit() and len(value) < 7 else None
