"""JSON that upstreams send, as far as anybody must read it."""

from typing import Any, TypeGuard

import orjson

from inference_worker.domain.failures import UpstreamGarbage
from inference_worker.domain.usage import Usage, UsageSource

MOST_TOKENS = 1_000_000_000
"""More than any call can use: whoever says so is wrong, and the books would refuse the whole account for it."""


def as_object(payload: bytes) -> dict[str, Any]:
    """Parse a JSON object. Raises `UpstreamGarbage` for anything else."""
    try:
        parsed = orjson.loads(payload)
    except orjson.JSONDecodeError as error:
        raise UpstreamGarbage("the upstream's answer is not JSON") from error
    if not isinstance(parsed, dict):
        raise UpstreamGarbage("the upstream's answer is not a JSON object")
    return parsed


def usage_of(answer: dict[str, Any]) -> Usage | None:
    """What an answer, or a streamed piece of one, says about tokens; None when it does not say it whole."""
    usage = answer.get("usage")
    if not isinstance(usage, dict):
        return None
    read, written = usage.get("prompt_tokens"), usage.get("completion_tokens")
    if not is_count(read) or not is_count(written):
        return None
    return Usage(UsageSource.REPORTED, read, written)


def is_count(value: object) -> TypeGuard[int]:
    """Whether a number of tokens can be believed: JSON's true is an int in Python, and some upstreams send -1."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MOST_TOKENS
