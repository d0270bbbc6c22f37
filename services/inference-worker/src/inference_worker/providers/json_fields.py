"""Reads the few JSON fields of a response that decide something."""

from typing import Any, TypeGuard

import orjson
from values.money import MAX_TOKENS
from values.usage import TokenUsage, UsageSource

from inference_worker.providers.model import UpstreamProtocolError


def parse_object(payload: bytes) -> dict[str, Any]:
    """Parse a JSON object. Raises `UpstreamProtocolError` for anything else."""
    try:
        parsed = orjson.loads(payload)
    except orjson.JSONDecodeError as error:
        raise UpstreamProtocolError("the upstream's response is not JSON") from error
    if not isinstance(parsed, dict):
        raise UpstreamProtocolError("the upstream's response is not a JSON object")
    return parsed


def openai_usage(response: dict[str, Any]) -> TokenUsage | None:
    """Return the usage in a completion or a chunk of one; None unless both counts are there."""
    usage = response.get("usage")
    if not isinstance(usage, dict):
        return None
    input_tokens, output_tokens = usage.get("prompt_tokens"), usage.get("completion_tokens")
    if not is_token_count(input_tokens) or not is_token_count(output_tokens):
        return None
    return TokenUsage(UsageSource.REPORTED, input_tokens, output_tokens)


def is_token_count(value: object) -> TypeGuard[int]:
    """Tell whether a reported count is plausible: JSON's true is an int in Python, and some upstreams send -1.

    Metering rejects the whole usage event of a request for one count above `MAX_TOKENS`.
    """
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_TOKENS
