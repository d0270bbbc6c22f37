"""What an upstream's error status means for the plan, and how much of its words may be shown."""

import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import orjson

from inference_worker.domain.failures import UpstreamFailed, UpstreamRateLimited, UpstreamRefused, UpstreamTimedOut

ERROR_BODY_BYTES = 64 * 1024
MESSAGE_CHARACTERS = 500

# 401, 402, 403: our credential or our account, never the client's fault. 409, 425: the provider asks to come again.
OURS = frozenset({401, 402, 403, 405, 407, 409, 425})
NOT_IN_TIME = frozenset({408, 504})

_KEY_LIKE = re.compile(r"\b(?:sk|pk|rk|key|Bearer)[-_ ][A-Za-z0-9_\-*.]{6,}", re.IGNORECASE)
_CONTROL = re.compile(r"[\x00-\x1f\x7f]+")


def refusal(
    status: int, message: str, secrets: tuple[str, ...], retry_after: timedelta | None = None
) -> UpstreamFailed:
    """The failure that an error status stands for. The upstream's words survive only where the request is at fault."""
    if status == 429:
        return UpstreamRateLimited("the upstream limits its rate", retry_after=retry_after)
    if status in NOT_IN_TIME:
        return UpstreamTimedOut("the upstream gave up waiting", costly=False)
    if status in OURS or not 400 <= status < 500:
        return UpstreamFailed(f"the upstream failed with status {status}")
    return UpstreamRefused(sanitised(message, secrets) or f"the upstream refused the request with status {status}")


def sanitised(message: str, secrets: tuple[str, ...]) -> str:
    """One bounded line without anything that looks like a credential."""
    for secret in secrets:
        message = message.replace(secret, "***")
    message = _KEY_LIKE.sub("***", message)
    return _CONTROL.sub(" ", message).strip()[:MESSAGE_CHARACTERS]


def message_of(body: bytes) -> str:
    """The words in an error body of any of the usual shapes; empty when there are none."""
    try:
        parsed: Any = orjson.loads(body)
    except orjson.JSONDecodeError:
        return ""
    for look in _SHAPES:
        found = look(parsed) if isinstance(parsed, dict) else None
        if isinstance(found, str):
            return found
    return ""


def _nested(parsed: dict[str, Any]) -> object:
    error = parsed.get("error")
    return error.get("message") if isinstance(error, dict) else error


_SHAPES: tuple[Callable[[dict[str, Any]], object], ...] = (
    _nested,
    lambda parsed: parsed.get("message"),
    lambda parsed: parsed.get("detail"),
)


def retry_after_of(value: str) -> timedelta | None:
    """The header `retry-after` in its usual form, whole seconds."""
    return timedelta(seconds=int(value)) if value.isascii() and value.isdigit() and len(value) < 7 else None
