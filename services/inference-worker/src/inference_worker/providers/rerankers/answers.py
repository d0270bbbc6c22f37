"""What rerankers answer, in whichever of the known shapes.

- Cohere, Jina, vLLM, LiteLLM, Infinity, SiliconFlow: `{"results": [{"index": 1, "relevance_score": 0.9}], …}`, with the
  text of each document beside the score or not.
- Voyage: the same in `data`. TEI: a bare list with `score`. DashScope: `results` within `output`. NVIDIA: `rankings`
  with a `logit`.
- Their usage: `usage` with `total_tokens`, or Cohere's `meta` with `billed_units` and `tokens`. Each may be null.

Results come best first: a score belongs to the document that its `index` names, and never to that of its place.
"""

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

from values.usage import TokenUsage, UsageSource

from inference_worker.providers.model import UpstreamProtocolError
from inference_worker.providers.token_details import is_token_count

_LISTS = ("results", "data", "rankings", "scores", "output")
_SCORES = ("relevance_score", "score", "logit")
_TOKENS = ("total_tokens", "prompt_tokens", "input_tokens")
_MAX_DEPTH = 2


class Usage(NamedTuple):
    """What an answer says that it cost; None is not said."""

    tokens: TokenUsage | None = None
    search_units: int | None = None


NOT_REPORTED = Usage()


def read_usage(document: Any) -> Usage:
    """Return the usage. A count of 0 is none: what has scored a document has read it."""
    if not isinstance(document, dict):
        return NOT_REPORTED
    meta = _object(document, "meta")
    billed = _object(meta, "billed_units")
    holders = (_object(document, "usage"), billed, _object(meta, "tokens"))
    tokens = next(_counts(holders), None)
    units = next((one for holder in holders[:2] if (one := _count(holder.get("search_units")))), None)
    return Usage(None if tokens is None else TokenUsage(UsageSource.REPORTED, tokens, 0), units)


def read_numbers(document: Any, expected: int) -> list[float | None]:
    """Return the number of each of `expected` documents; None for one without.

    Of two numbers for a document the higher counts. Raises `UpstreamProtocolError` when it is not certain which
    document a number is of, and when no document has one.
    """
    found = _results(document)
    if found is None:
        raise UpstreamProtocolError("the upstream sent no results")
    if found and all(_number(one) is not None for one in found):
        return _in_order(found, expected)
    numbers: list[float | None] = [None] * expected
    for one in found:
        index = _index(one.get("index")) if isinstance(one, dict) else None
        if index is None:
            raise UpstreamProtocolError("the upstream sent a result without the index of its document")
        if index >= expected:
            # The others may be wrong as well, as those of a server that counts from 1.
            raise UpstreamProtocolError("the upstream sent a result for a document that it did not get")
        number = _score(one)
        if number is not None:
            known = numbers[index]
            numbers[index] = number if known is None else max(known, number)
    if all(number is None for number in numbers):
        raise UpstreamProtocolError("the upstream sent no score")
    return numbers


def _in_order(found: list[Any], expected: int) -> list[float | None]:
    if len(found) != expected:
        raise UpstreamProtocolError("the upstream did not send one score per document")
    return [_number(one) for one in found]


def _results(document: Any, depth: int = 0) -> list[Any] | None:
    if isinstance(document, list):
        return document
    if not isinstance(document, dict) or depth > _MAX_DEPTH:
        return None
    inner = (_results(document.get(name), depth + 1) for name in _LISTS)
    return next((one for one in inner if one is not None), None)


def _score(result: dict[str, Any]) -> float | None:
    """Return the first number that is there: a score of 0 is one."""
    numbers = (_number(result.get(name)) for name in _SCORES)
    return next((number for number in numbers if number is not None), None)


def _number(value: object) -> float | None:
    """Return a finite number, which may be written as a text."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _index(value: object) -> int | None:
    """Return a place, which may be written as `1.0` or as a text."""
    number = _number(value)
    return int(number) if number is not None and number >= 0 and number.is_integer() else None


def _count(value: object) -> int | None:
    """Return a count, which may be written as `1.0` or as a text; a part of one counts as one."""
    number = _number(value)
    if number is None or number < 0:
        return None
    count = math.ceil(number)
    return count if is_token_count(count) else None


def _counts(holders: tuple[dict[str, Any], ...]) -> Iterator[int]:
    for holder in holders:
        for name in _TOKENS:
            value = holder.get(name)
            if is_token_count(value) and value:
                yield value


def _object(holder: dict[str, Any], name: str) -> dict[str, Any]:
    value = holder.get(name)
    return value if isinstance(value, dict) else {}
