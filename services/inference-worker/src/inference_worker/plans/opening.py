"""Tells the beginning of a stream from its content."""

import re
from collections.abc import Sequence
from typing import Any

import orjson

_NO_CONTENT = frozenset({"role"})
_CONTENT = re.compile(rb'"content"\s*:\s*"[^"]')
"""A text, most often: it spares the parsing. It matches inside no JSON string: there its quotes are escaped."""


def opens_only(payloads: Sequence[bytes]) -> bool:
    """Whether no payload has content: a text, a tool call, reasoning, a finish reason. What is unreadable has some."""
    return all(map(_opens_only, payloads))


def _opens_only(payload: bytes) -> bool:
    if _CONTENT.search(payload) is not None:
        return False
    try:
        chunk = orjson.loads(payload)
    except orjson.JSONDecodeError:
        return False
    choices = chunk.get("choices") if isinstance(chunk, dict) else None
    return isinstance(choices, list) and all(map(_is_empty, choices))


def _is_empty(choice: Any) -> bool:
    if not isinstance(choice, dict) or choice.get("finish_reason"):
        return False
    delta = choice.get("delta")
    if delta is None:
        return not choice.get("message") and not choice.get("text")
    return isinstance(delta, dict) and not any(value for name, value in delta.items() if name not in _NO_CONTENT)
