"""Embeddings of upstreams with OpenAI's API."""

import base64
import binascii
import math
from array import array
from collections.abc import Sequence
from typing import Any

import orjson
from values.usage import TokenUsage, UsageSource

from inference_worker.providers.credentials import Credential
from inference_worker.providers.model import Embeddings, UpstreamProtocolError
from inference_worker.providers.payloads import is_token_count, parse_object
from inference_worker.providers.transport.http import HttpClient


class OpenaiEmbedder:
    def __init__(self, client: HttpClient) -> None:
        self._client = client

    async def embed(
        self, model: str, texts: Sequence[str], *, dimensions: int | None, credential: Credential | None = None
    ) -> Embeddings:
        """Request base64, which is a third of the bytes; upstreams that ignore that send numbers."""
        body: dict[str, Any] = {"model": model, "input": texts, "encoding_format": "base64"}
        if dimensions is not None:
            body["dimensions"] = dimensions
        response = await self._client.post("/embeddings", orjson.dumps(body), credential)
        document = parse_object(await self._client.read_all(response))
        return Embeddings(parse_vectors(document, len(texts)), _usage(document))


def parse_vectors(document: dict[str, Any], expected: int) -> tuple[bytes, ...]:
    """Return `expected` vectors in the order of the texts. Raises `UpstreamProtocolError` if they are not all there."""
    data = document.get("data")
    if not isinstance(data, list) or len(data) != expected:
        raise UpstreamProtocolError("the upstream did not send one vector per text")
    vectors: dict[int, bytes] = {}
    for position, item in enumerate(data):
        if not isinstance(item, dict):
            raise UpstreamProtocolError("the upstream sent something that is not a vector")
        index = item.get("index", position)
        if not is_token_count(index):
            raise UpstreamProtocolError("the upstream sent a vector without a valid index")
        vectors[index] = _parse_floats(item.get("embedding"))
    if set(vectors) != set(range(expected)) or len(set(map(len, vectors.values()))) != 1:
        raise UpstreamProtocolError("the upstream's vectors differ in length or repeat an index")
    return tuple(vectors[index] for index in range(expected))


def _parse_floats(embedding: object) -> bytes:
    try:
        if isinstance(embedding, str):
            numbers = array("f", base64.b64decode(embedding, validate=True))
        elif isinstance(embedding, list):
            numbers = array("f", embedding)
        else:
            raise UpstreamProtocolError("the upstream sent something that is not a vector")
    except (TypeError, ValueError, OverflowError, binascii.Error) as error:
        raise UpstreamProtocolError("the upstream sent a vector that cannot be parsed") from error
    # One infinite or missing number would spoil every search that compares with it.
    if not numbers or not math.isfinite(sum(numbers)):
        raise UpstreamProtocolError("the upstream sent a vector without finite numbers")
    return numbers.tobytes()


def _usage(document: dict[str, Any]) -> TokenUsage | None:
    usage = document.get("usage")
    input_tokens = usage.get("prompt_tokens") if isinstance(usage, dict) else None
    return TokenUsage(UsageSource.REPORTED, input_tokens, 0) if is_token_count(input_tokens) else None
