"""Embeddings of upstreams with OpenAI's API."""

from collections.abc import Sequence
from typing import Any

import orjson
from chassis.errors import InvalidRequest
from values.embeddings import FLOAT_BYTES, EmbeddingInput
from values.limits import MAX_VECTOR_BYTES
from values.usage import TokenUsage, UsageSource

from inference_worker.providers.credentials import Credential
from inference_worker.providers.inner_errors import unwrap
from inference_worker.providers.model import Embeddings, UpstreamProtocolError, VectorsTooLarge
from inference_worker.providers.openai.chat_answer import raise_error_in
from inference_worker.providers.openai.vector_reader import VectorReader
from inference_worker.providers.payloads import parse_document
from inference_worker.providers.token_details import is_token_count
from inference_worker.providers.transport.http import HttpClient

MAX_UNASKED_VECTOR_BYTES = 4 * MAX_VECTOR_BYTES
"""Of an answer whose size was not known before the call: it was paid for, so it is delivered."""


class OpenaiEmbedder:
    def __init__(self, client: HttpClient) -> None:
        self._client = client
        self._dimensions: dict[str, int] = {}
        """Of the models that were called without a number of their own."""
        self._without_base64: set[str] = set()
        """Models that answered with nothing when they were asked for base64."""

    async def embed(
        self,
        model: str,
        inputs: Sequence[EmbeddingInput],
        *,
        dimensions: int | None,
        credential: Credential | None = None,
        refuse_truncation: bool = False,  # noqa: ARG002 - part of the port; the provider refuses, or does not tell
    ) -> Embeddings:
        """Request base64, which is a third of the bytes; upstreams that ignore that send numbers.

        Raises `InvalidRequest` before the call when the vectors are known to be more than a request may have.
        """
        self._check_size(len(inputs), dimensions or self._dimensions.get(model, 0))
        encoding = "float" if model in self._without_base64 else "base64"
        body: dict[str, Any] = {"model": model, "input": inputs, "encoding_format": encoding}
        if dimensions is not None:
            body["dimensions"] = dimensions
        response = await self._client.post("/embeddings", orjson.dumps(body), credential)
        reader = VectorReader(MAX_UNASKED_VECTOR_BYTES, self._client.endpoint.max_response_bytes)
        try:
            await self._client.read_into(response, reader.feed)
        except VectorsTooLarge as error:
            self._dimensions[model] = error.dimensions
            raise
        document = unwrap(parse_document(reader.document()))
        if document is None:
            raise UpstreamProtocolError("the upstream's response is not a JSON object")
        raise_error_in(document, self._client, response)
        if not reader.vectors and encoding == "base64":
            # Some proxies answer so for models of which their provider has no base64. The next call asks for numbers.
            self._without_base64.add(model)
            empty = UpstreamProtocolError("the upstream sent no vectors in base64", retry_same=True)
            empty.usage = _usage(document)
            raise empty
        vectors = order_vectors(document, reader.vectors, len(inputs))
        if dimensions is None and vectors:
            self._dimensions[model] = len(vectors[0]) // FLOAT_BYTES
        return Embeddings(vectors, _usage(document))

    def _check_size(self, texts: int, dimensions: int) -> None:
        if texts * dimensions * FLOAT_BYTES > MAX_VECTOR_BYTES:
            most = MAX_VECTOR_BYTES // (dimensions * FLOAT_BYTES)
            raise InvalidRequest(
                f"{texts} vectors of {dimensions} numbers are more than one request may have: at most {most} inputs.",
                param="input",
            )


def order_vectors(document: dict[str, Any], read: Sequence[bytes], expected: int) -> tuple[bytes, ...]:
    """Return `expected` vectors in the order of the texts; the document has their places in `read`.

    Raises `UpstreamProtocolError` if they are not all there.
    """
    data = document.get("data")
    if not isinstance(data, list) or len(data) != expected:
        raise UpstreamProtocolError("the upstream did not send one vector per text")
    vectors: dict[int, bytes] = {}
    for position, item in enumerate(data):
        place = item.get("embedding") if isinstance(item, dict) else None
        if not isinstance(place, str):
            raise UpstreamProtocolError("the upstream sent something that is not a vector")
        index = item.get("index", position)
        if not is_token_count(index):
            raise UpstreamProtocolError("the upstream sent a vector without a valid index")
        vectors[index] = read[int(place)]
    if set(vectors) != set(range(expected)) or len(set(map(len, vectors.values()))) != 1:
        raise UpstreamProtocolError("the upstream's vectors differ in length or repeat an index")
    return tuple(vectors[index] for index in range(expected))


def _usage(document: dict[str, Any]) -> TokenUsage | None:
    usage = document.get("usage")
    counts = usage if isinstance(usage, dict) else {}
    # Embeddings have no other tokens, and Voyage reports the total only.
    input_tokens = counts.get("total_tokens") if counts.get("prompt_tokens") is None else counts["prompt_tokens"]
    return TokenUsage(UsageSource.REPORTED, input_tokens, 0) if is_token_count(input_tokens) else None
