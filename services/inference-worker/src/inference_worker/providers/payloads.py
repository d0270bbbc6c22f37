"""The JSON that providers send."""

import json  # noqa: TID251 - orjson rejects the halves of surrogate pairs, and NaN
from typing import Any

import orjson

from inference_worker.providers.model import UpstreamProtocolError


def parse_document(payload: bytes) -> Any:
    """Parse JSON. Raises `UpstreamProtocolError` for anything else."""
    try:
        return orjson.loads(payload)
    except orjson.JSONDecodeError:
        try:
            return json.loads(payload)
        except (ValueError, RecursionError) as error:
            raise UpstreamProtocolError("the upstream's response is not JSON") from error


def parse_object(payload: bytes) -> dict[str, Any]:
    """Parse a JSON object. Raises `UpstreamProtocolError` for anything else."""
    parsed = parse_document(payload)
    if not isinstance(parsed, dict):
        raise UpstreamProtocolError("the upstream's response is not a JSON object")
    return parsed


def dump(value: Any) -> bytes:
    """Write JSON again, also what orjson refuses."""
    try:
        return orjson.dumps(value)
    except (orjson.JSONEncodeError, TypeError):
        return json.dumps(value, separators=(",", ":")).encode()
