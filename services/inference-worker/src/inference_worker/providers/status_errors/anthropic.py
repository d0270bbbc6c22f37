"""Anthropic's error object: `{"type": "error", "error": {"type": …, "message": …}}`, in bodies and in events."""

from typing import Any

from inference_worker.providers.status_errors.fields import as_text, codes_in
from inference_worker.providers.status_errors.model import ErrorFields, RefusalKind

CODES = {
    "billing_error": RefusalKind.ACCOUNT_EMPTY,
    "overloaded_error": RefusalKind.OVERLOADED,
    "rate_limit_error": RefusalKind.RATE_LIMITED,
    "timeout_error": RefusalKind.TIMEOUT,
    "api_error": RefusalKind.SERVER_ERROR,
    "request_too_large": RefusalKind.CONTEXT_TOO_LONG,
}
TYPES = {
    "authentication_error": RefusalKind.CREDENTIAL_REFUSED,
    "permission_error": RefusalKind.CREDENTIAL_REFUSED,
    "not_found_error": RefusalKind.UNKNOWN_MODEL,
    "invalid_request_error": RefusalKind.INVALID_REQUEST,
}


def read(document: dict[str, Any]) -> ErrorFields | None:
    """Read Anthropic's object. None for other shapes."""
    error = document.get("error")
    if document.get("type") != "error" or not isinstance(error, dict):
        return None
    return ErrorFields(as_text(error.get("message")), codes=codes_in(error, "type"))
