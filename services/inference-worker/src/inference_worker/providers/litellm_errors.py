"""Reads what litellm keeps of a refusal, so that it is classified as any other."""

import re

import orjson

from inference_worker.providers.model import UpstreamFailed
from inference_worker.providers.transport.errors import refused

_ERROR_PREFIX = re.compile(r"^(?:litellm\.)?(?:\w+(?:Error|Exception)(?::| -) *)+")


def status_error(status: int, error: Exception, secrets: tuple[str, ...]) -> UpstreamFailed:
    """Return the error for a refusal that litellm raised as `error`."""
    message = _ERROR_PREFIX.sub("", str(getattr(error, "message", "")))
    return refused(status, _headers(error), _error_body(message, error), secrets)


def _headers(error: Exception) -> dict[str, str]:
    """Return the headers of the provider's response that litellm kept."""
    headers = getattr(getattr(error, "response", None), "headers", None) or {}
    return {str(name).lower(): str(value) for name, value in headers.items()}


def _error_body(message: str, error: Exception) -> bytes:
    """Return the provider's error body. litellm writes it into its message, after a name, or gives its fields."""
    begin = message.find("{")
    if begin >= 0 and message.rstrip().endswith("}"):
        try:
            document = orjson.loads(message[begin:])
        except orjson.JSONDecodeError:
            pass
        else:
            if isinstance(document, dict) and document.keys() & {"error", "detail", "message"}:
                return orjson.dumps(document)
    fields = {"message": message, "param": getattr(error, "param", None), "code": getattr(error, "code", None)}
    return orjson.dumps({"error": fields}, default=str)
