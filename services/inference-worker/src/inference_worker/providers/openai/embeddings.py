"""Embeddings of OpenAI-shaped upstreams."""

import base64
import binascii
import math
from array import array
from collections.abc import Sequence
from typing import Any

import orjson

from inference_worker.adapters.documents import as_object, is_count
from inference_worker.adapters.http import HttpUpstream
from inference_worker.domain.failures import UpstreamGarbage
from inference_worker.domain.ports import Vectors
from inference_worker.domain.usage import Usage, UsageSource


class OpenaiEmbedder:
    """`POST /embeddings` of an upstream that speaks OpenAI's API."""

    def __init__(self, http: HttpUpstream) -> None:
        self._http = http

    async def embed(self, model: str, texts: Sequence[str], *, dimensions: int | None) -> Vectors:
        """Ask for base64, which is a third of the bytes; upstreams that ignore that send numbers."""
        body: dict[str, Any] = {"model": model, "input": texts, "encoding_format": "base64"}
        if dimensions is not None:
            body["dimensions"] = dimensions
        reply = await self._http.post("/embeddings", orjson.dumps(body))
        answer = as_object(await self._http.read_whole(reply))
        return Vectors(_vectors(answer, len(texts)), _usage(answer))


def _vectors(answer: dict[str, Any], expected: int) -> tuple[bytes, ...]:
    data = answer.get("data")
    if not isinstance(data, list) or len(data) != expected:
        raise UpstreamGarbage("the upstream did not send one vector per text")
    found: dict[int, bytes] = {}
    for place, item in enumerate(data):
        if not isinstance(item, dict):
            raise UpstreamGarbage("the upstream sent something that is not a vector")
        index = item.get("index", place)
        if not is_count(index):
            raise UpstreamGarbage("the upstream sent a vector without a place")
        found[index] = _floats(item.get("embedding"))
    if set(found) != set(range(expected)) or len(set(map(len, found.values()))) != 1:
        raise UpstreamGarbage("the upstream's vectors do not belong together")
    return tuple(found[place] for place in range(expected))


def _floats(embedding: object) -> bytes:
    try:
        if isinstance(embedding, str):
            numbers = array("f", base64.b64decode(embedding, validate=True))
        elif isinstance(embedding, list):
            numbers = array("f", embedding)
        else:
            raise UpstreamGarbage("the upstream sent something that is not a vector")
    except (TypeError, ValueError, OverflowError, binascii.Error) as error:
        raise UpstreamGarbage("the upstream sent a vector that cannot be read") from error
    # One bad number would poison every search that meets it.
    if not numbers or not math.isfinite(sum(numbers)):
        raise UpstreamGarbage("the upstream sent a vector without finite numbers")
    return numbers.tobytes()


def _usage(answer: dict[str, Any]) -> Usage | None:
    usage = answer.get("usage")
    read = usage.get("prompt_tokens") if isinstance(usage, dict) else None
    return Usage(UsageSource.REPORTED, read, 0) if is_count(read) else None
