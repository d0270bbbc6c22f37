"""Errors inside of a response whose status is 200: providers and proxies begin a stream before they know how it ends.

The error's own code decides what it is, as the status of a refusal does. Where it has none, its type does.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import orjson

MAX_DEPTH = 3

# Of OpenAI, Azure, Anthropic, OpenRouter, Google and vLLM, in lower case.
STATUS_OF_CODE = {
    **dict.fromkeys(
        (
            *("invalid_request_error", "invalid_request", "invalid_argument", "bad_request", "badrequesterror"),
            *("context_length_exceeded", "content_filter", "content_policy_violation", "failed_precondition"),
            *("invalid_value", "unsupported_value", "unsupported_parameter", "missing_required_parameter"),
        ),
        400,
    ),
    **dict.fromkeys(("authentication_error", "invalid_api_key", "unauthenticated", "unauthorized"), 401),
    **dict.fromkeys(("billing_error", "insufficient_balance", "payment_required"), 402),
    **dict.fromkeys(("permission_error", "permission_denied", "forbidden"), 403),
    **dict.fromkeys(("not_found_error", "model_not_found", "not_found", "notfounderror"), 404),
    **dict.fromkeys(("request_too_large",), 413),
    **dict.fromkeys(
        ("rate_limit_error", "rate_limit_exceeded", "rate_limited", "too_many_requests", "resource_exhausted"), 429
    ),
    **dict.fromkeys(("insufficient_quota", "requests", "tokens"), 429),
    **dict.fromkeys(("server_error", "api_error", "internal", "internal_error", "internalservererror"), 500),
    **dict.fromkeys(("unavailable", "service_unavailable", "server_overloaded"), 503),
    **dict.fromkeys(("timeout", "timeout_error", "deadline_exceeded", "request_timeout"), 504),
    **dict.fromkeys(("overloaded_error", "overloaded"), 529),
}
UNKNOWN_STATUS = 500
"""For an error without any code that is known: the upstream failed."""

_CODE_FIELDS = ("code", "status", "status_code", "http_status", "error_code", "type")
_WORD_FIELDS = ("message", "error_msg", "msg", "detail", "status_msg")


@dataclass(frozen=True, slots=True)
class InnerError:
    """An error, with the status that its provider should have sent it with."""

    status: int
    message: str
    body: bytes = b""
    """The document that holds it."""


def find_error(document: dict[str, Any], event: bytes = b"") -> InnerError | None:
    """Return the error that a response, or an event of a stream, is or holds; None for an answer.

    `event` is the event's name.
    """
    found = _error_object(document, event)
    if found is None:
        return None
    return InnerError(_status(found, document), _words(found) or _words(document), orjson.dumps(document))


def unwrap(document: object) -> dict[str, Any] | None:
    """Return the object of a document; that of a list, as Google sends its errors, is its first."""
    if isinstance(document, list) and document:
        document = document[0]
    return document if isinstance(document, dict) else None


def _error_object(document: dict[str, Any], event: bytes) -> object | None:
    """Return what describes the error."""
    error = document.get("error")
    if error and not _says_success(error):
        return error  # type: ignore[no-any-return]
    if event == b"error" or "error" in (document.get("object"), document.get("type"), document.get("status")):
        return document
    choices = document.get("choices")
    if isinstance(choices, list) and choices:
        inner = [choice["error"] for choice in choices if isinstance(choice, dict) and choice.get("error")]
        return inner[0] if inner else None
    base = document.get("base_resp")
    if isinstance(base, dict) and base.get("status_code"):
        return base
    if document.get("errors") or document.get("detail") or document.get("error_code") or document.get("error_msg"):
        return document.get("errors") or document
    named = any(map(_stands_for_status, _codes(document)))
    return document if named and isinstance(document.get("message"), str) else None


def _says_success(error: object) -> bool:
    return isinstance(error, dict) and error.get("code") in (0, "0", 200, "200") and not error.get("type")


def _status(*holders: object) -> int:
    """Return the first code of the holders that stands for a status, then what their words stand for."""
    codes = [code for holder in holders for code in _codes(holder)]
    numbers = (number for code in codes if (number := _number(code)) is not None)
    words = (STATUS_OF_CODE[code.lower()] for code in codes if isinstance(code, str) and code.lower() in STATUS_OF_CODE)
    return next(numbers, None) or next(words, UNKNOWN_STATUS)


def _number(code: object) -> int | None:
    number = int(code) if isinstance(code, str) and code.isascii() and code.isdigit() else code
    return number if isinstance(number, int) and not isinstance(number, bool) and 400 <= number < 600 else None


def _stands_for_status(code: object) -> bool:
    return _number(code) is not None or (isinstance(code, str) and code.lower() in STATUS_OF_CODE)


def _codes(holder: object) -> Iterator[Any]:
    if isinstance(holder, dict):
        yield from (holder[name] for name in _CODE_FIELDS if name in holder)
        metadata = holder.get("metadata")
        if isinstance(metadata, dict):
            yield from (metadata[name] for name in ("http_status", "error_type") if name in metadata)


def _words(value: object, depth: int = 0) -> str:
    """Return the words of an error: its message, or that of what it holds."""
    if isinstance(value, str):
        return value
    if depth >= MAX_DEPTH:
        return ""
    if isinstance(value, list):
        return next((words for item in value if (words := _words(item, depth + 1))), "")
    if isinstance(value, dict):
        return next((words for name in _WORD_FIELDS if (words := _words(value.get(name), depth + 1))), "")
    return ""
