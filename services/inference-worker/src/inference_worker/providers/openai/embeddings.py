"""Embeddings of upstreams with OpenAI's API."""

import base64
import binascii
import math
from array import array
from collections.abc import Sequence
from typing import Any

import orjson
from chassis.errors import InvalidRequest
from values.embeddings import EmbeddingInput
from values.limits import MAX_CHAT_BYTES
from values.usage import TokenUsage, UsageSource

from inference_worker.providers.credentials import Credential
from inference_worker.providers.inner_errors import unwrap
from inference_worker.providers.model import Embeddings, UpstreamProtocolError
from inference_worker.providers.openai.chat_answer import raise_error_in
from inference_worker.providers.payloads import parse_document
from inference_worker.providers.token_details import is_token_count
from inference_worker.providers.transport.http import HttpClient

FLOAT_BYTES = 4
MAX_VECTOR_BYTES = MAX_CHAT_BYTES
"""All vectors of one answer: they have to fit into one message to the caller."""

MAX_NUMBER_CHARACTERS = 16
"""Of a number as JSON, with its comma: as many as single precision needs."""


class OpenaiEmbedder:
    def __init__(self, client: HttpClient) -> None:
        self._client = client
        self._dimensions: dict[str, int] = {}
        """Of the models that were called without a number of their own."""

    async def embed(
        self,
        model: str,
        inputs: Sequence[EmbeddingInput],
        *,
        dimensions: int | None,
        credential: Credential | None = None,
    ) -> Embeddings:
        """Request base64, which is a third of the bytes; upstreams that ignore that send numbers.

        Raises `InvalidRequest` before the call when the vectors are known not to fit into an answer.
        """
        self._check_size(len(inputs), dimensions or self._dimensions.get(model, 0))
        body: dict[str, Any] = {"model": model, "input": inputs, "encoding_format": "base64"}
        if dimensions is not None:
            body["dimensions"] = dimensions
        response = await self._client.post("/embeddings", orjson.dumps(body), credential)
        answer = await self._client.read_all(response, MAX_VECTOR_BYTES // FLOAT_BYTES * MAX_NUMBER_CHARACTERS)
        document = unwrap(parse_document(answer))
        if document is None:
            raise UpstreamProtocolError("the upstream's response is not a JSON object")
        raise_error_in(document, self._client, response)
        vectors = parse_vectors(document, len(inputs))
        if dimensions is None and vectors:
            self._dimensions[model] = len(vectors[0]) // FLOAT_BYTES
        return Embeddings(vectors, _usage(document))

    def _check_size(self, texts: int, dimensions: int) -> None:
        if texts * dimensions * FLOAT_BYTES > MAX_VECTOR_BYTES:
            most = MAX_VECTOR_BYTES // (dimensions * FLOAT_BYTES)
            raise InvalidRequest(
                f"{texts} vectors of {dimensions} numbers are more than one answer holds: at most {most} inputs.",
                param="input",
            )


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
