"""OpenAI's error object, as OpenAI, Azure, OpenRouter, DeepSeek, Groq, Mistral, vLLM, llama.cpp and others write it.

Sources: OpenAI's error codes guide; Azure OpenAI's content filtering (`innererror`); OpenRouter's errors (`metadata`);
the servers' own code for vLLM (`BadRequestError`), llama.cpp (`exceed_context_size_error`) and TEI (`error_type`).
"""

from typing import Any

import orjson

from inference_worker.providers.status_errors.fields import (
    as_object,
    as_param,
    as_status,
    as_text,
    codes_in,
    first_text,
)
from inference_worker.providers.status_errors.model import ErrorFields, RefusalKind

CODES = {
    "context_length_exceeded": RefusalKind.CONTEXT_TOO_LONG,
    "context_window_exceeded": RefusalKind.CONTEXT_TOO_LONG,
    "exceed_context_size_error": RefusalKind.CONTEXT_TOO_LONG,
    "max_tokens_exceeded": RefusalKind.CONTEXT_TOO_LONG,
    "contextwindowexceedederror": RefusalKind.CONTEXT_TOO_LONG,
    "content_filter": RefusalKind.CONTENT_FILTERED,
    "content_policy_violation": RefusalKind.CONTENT_FILTERED,
    "contentpolicyviolationerror": RefusalKind.CONTENT_FILTERED,
    "moderation_blocked": RefusalKind.CONTENT_FILTERED,
    "invalid_prompt": RefusalKind.CONTENT_FILTERED,
    "responsibleaipolicyviolation": RefusalKind.CONTENT_FILTERED,
    "data_inspection_failed": RefusalKind.CONTENT_FILTERED,
    "unsupported_parameter": RefusalKind.UNSUPPORTED_PARAMETER,
    "unsupported_value": RefusalKind.UNSUPPORTED_PARAMETER,
    "unknown_parameter": RefusalKind.UNSUPPORTED_PARAMETER,
    "unsupportedparamserror": RefusalKind.UNSUPPORTED_PARAMETER,
    "model_not_found": RefusalKind.UNKNOWN_MODEL,
    "model_not_available": RefusalKind.UNKNOWN_MODEL,
    "model_decommissioned": RefusalKind.UNKNOWN_MODEL,
    "deploymentnotfound": RefusalKind.UNKNOWN_MODEL,
    "invalid_model": RefusalKind.UNKNOWN_MODEL,
    "invalid_api_key": RefusalKind.CREDENTIAL_REFUSED,
    "account_deactivated": RefusalKind.CREDENTIAL_REFUSED,
    "organization_restricted": RefusalKind.CREDENTIAL_REFUSED,
    "unsupported_country_region_territory": RefusalKind.CREDENTIAL_REFUSED,
    "insufficient_quota": RefusalKind.ACCOUNT_EMPTY,
    "billing_hard_limit_reached": RefusalKind.ACCOUNT_EMPTY,
    "billing_not_active": RefusalKind.ACCOUNT_EMPTY,
    "insufficient_balance": RefusalKind.ACCOUNT_EMPTY,
    "exceeded_current_quota_error": RefusalKind.ACCOUNT_EMPTY,
    "rate_limit_exceeded": RefusalKind.RATE_LIMITED,
    "rate_limit_error": RefusalKind.RATE_LIMITED,
    "rate_limit_reached": RefusalKind.RATE_LIMITED,
    "requests": RefusalKind.RATE_LIMITED,
    "tokens": RefusalKind.RATE_LIMITED,
    "engine_overloaded": RefusalKind.OVERLOADED,
    "engine_overloaded_error": RefusalKind.OVERLOADED,
    "model_overloaded": RefusalKind.OVERLOADED,
    "overloaded": RefusalKind.OVERLOADED,
    "slow_down": RefusalKind.OVERLOADED,
    "unavailable_error": RefusalKind.OVERLOADED,
    "unhealthy": RefusalKind.OVERLOADED,
    "backend": RefusalKind.SERVER_ERROR,
    "server_error": RefusalKind.SERVER_ERROR,
    "internal_server_error": RefusalKind.SERVER_ERROR,
    "internalservererror": RefusalKind.SERVER_ERROR,
}
"""Codes, types and Azure's inner codes, in lower case."""

TYPES = {
    "authentication_error": RefusalKind.CREDENTIAL_REFUSED,
    "invalid_request_error": RefusalKind.INVALID_REQUEST,
    "badrequesterror": RefusalKind.INVALID_REQUEST,
    "notfounderror": RefusalKind.UNKNOWN_MODEL,
    "not_found_error": RefusalKind.UNKNOWN_MODEL,
}
"""Coarse types: they count only where neither the words nor a status say more."""

# What OpenRouter says when the words are in `metadata.raw`.
_NO_WORDS = "provider returned error"


def read(document: dict[str, Any]) -> ErrorFields | None:
    """Read `{"error": {…}}`, `{"error": "…"}`, and the fields of an error at the top. None for other shapes."""
    error = document.get("error")
    if isinstance(error, dict):
        return _with_metadata(_fields(error, outer=document), as_object(error.get("metadata")))
    if isinstance(error, str) and error:
        codes = codes_in(document, "code", "error_type", "type")
        return ErrorFields(first_text(document, "message") or error, codes=codes, status=_status(document))
    if first_text(document, "message") and document.keys() & {"object", "type", "code", "statusCode", "param"}:
        return _fields(document, outer=document)
    message = first_text(document, "message", "error_description")
    return ErrorFields(message, status=_status(document)) if message else None


def _fields(error: dict[str, Any], *, outer: dict[str, Any]) -> ErrorFields:
    inner = as_object(error.get("innererror") or error.get("inner_error"))
    codes = (*codes_in(inner, "code"), *codes_in(error, "code", "type"), *codes_in(outer, "error_type"))
    status = _status(error) or _status(outer)
    return ErrorFields(as_text(error.get("message")), as_param(error.get("param")), codes, status)


def _status(fields: dict[str, Any]) -> int | None:
    values = (fields.get(name) for name in ("code", "status", "status_code", "statusCode"))
    return next((status for value in values if (status := as_status(value)) is not None), None)


def _with_metadata(fields: ErrorFields, metadata: dict[str, Any]) -> ErrorFields:
    """Use what OpenRouter tells of the provider behind it."""
    if "flagged_input" in metadata or ("reasons" in metadata and fields.status == 403):
        # The flagged text itself is the client's own; the words name the reasons.
        return ErrorFields(fields.message, fields.param, fields.codes, fields.status, RefusalKind.CONTENT_FILTERED)
    raw = as_text(metadata.get("raw"))
    if not raw or fields.message.lower().strip(" .") != _NO_WORDS:
        return fields
    try:
        document = orjson.loads(raw)
    except orjson.JSONDecodeError:
        return ErrorFields(raw, fields.param, fields.codes, fields.status)
    behind = (
        read(document) if isinstance(document, dict) and "metadata" not in as_object(document.get("error")) else None
    )
    if behind is None:
        return fields
    return ErrorFields(behind.message, behind.param, (*behind.codes, *fields.codes), fields.status, behind.kind)
