"""Google's status object: `{"error": {"code": 429, "message": …, "status": …, "details": […]}}`, alone or in a list.

Source: google.rpc.Status, and google.rpc's error_details (`ErrorInfo`, `RetryInfo`, `BadRequest`).
"""

from typing import Any

from inference_worker.providers.status_errors.fields import as_object, as_param, as_status, as_text, codes_in
from inference_worker.providers.status_errors.model import ErrorFields, RefusalKind
from inference_worker.providers.status_errors.waits import parse_seconds

STATUSES = {
    "resource_exhausted": RefusalKind.RATE_LIMITED,
    "unauthenticated": RefusalKind.CREDENTIAL_REFUSED,
    "permission_denied": RefusalKind.CREDENTIAL_REFUSED,
    "failed_precondition": RefusalKind.CREDENTIAL_REFUSED,
    "not_found": RefusalKind.UNKNOWN_MODEL,
    "unavailable": RefusalKind.OVERLOADED,
    "internal": RefusalKind.SERVER_ERROR,
    "unknown": RefusalKind.SERVER_ERROR,
    "deadline_exceeded": RefusalKind.TIMEOUT,
}
"""INVALID_ARGUMENT and OUT_OF_RANGE are missing: there the words decide. FAILED_PRECONDITION is billing or region."""

REASONS = {
    "api_key_invalid": RefusalKind.CREDENTIAL_REFUSED,
    "api_key_service_blocked": RefusalKind.CREDENTIAL_REFUSED,
    "access_token_expired": RefusalKind.CREDENTIAL_REFUSED,
    "service_disabled": RefusalKind.CREDENTIAL_REFUSED,
    "billing_disabled": RefusalKind.ACCOUNT_EMPTY,
}
CODES = {**STATUSES, **REASONS}


def read(document: dict[str, Any]) -> ErrorFields | None:
    """Read a status object. None for other shapes."""
    error = document.get("error")
    if not isinstance(error, dict) or not isinstance(error.get("status"), str) or as_status(error["status"]):
        return None
    details = error.get("details")
    known = tuple(as_object(detail) for detail in details) if isinstance(details, list) else ()
    reasons = (code for detail in known for code in codes_in(detail, "reason"))
    codes = (*reasons, *codes_in(error, "status"))
    return ErrorFields(
        as_text(error.get("message")),
        _violated_field(known),
        codes,
        as_status(error.get("code")),
        wait=next((wait for one in known if (wait := parse_seconds(as_text(one.get("retryDelay")))) is not None), None),
    )


def _violated_field(details: tuple[dict[str, Any], ...]) -> str | None:
    for detail in details:
        violations = detail.get("fieldViolations")
        if isinstance(violations, list) and violations:
            return as_param(as_object(violations[0]).get("field"))
    return None
