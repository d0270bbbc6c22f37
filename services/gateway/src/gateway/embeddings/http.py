"""`POST /v1/embeddings`: vectors as numbers, or as base64 of their 32-bit floats."""

import asyncio
import sys
from array import array
from base64 import b64encode
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import orjson
from chassis.http import ClientDisconnected, Receive, Scope, read_body
from values.money import nano_usd_to_usd

from gateway.embeddings.schemas import INPUT_SCHEMA, EmbeddingsBody, read_embeddings
from gateway.inference.model import (
    EmbeddingsRequest,
    EmbeddingsResult,
    InferenceClient,
    UpstreamInvalidResponse,
    VectorPieces,
)
from gateway.web.disconnect import CancelOnDisconnect
from gateway.web.openapi import AsgiRoute
from gateway.web.request_body import RequestBodies
from gateway.web.response import JSON, ResponseWriter

ROUTE = AsgiRoute(
    "/v1/embeddings",
    "Embed texts, or the token ids of texts.",
    "Embeddings",
    EmbeddingsBody,
    properties={"input": INPUT_SCHEMA},
    accepts="on request",
)
COST = b"argosy-cost"
FLOAT_BYTES = 4
PIECE_SECONDS = 60
"""How long a client may take to read a piece, of at most 1.5 MB: the orchestrator keeps the vectors after it."""


class Embeddings:
    """The handler; one per process."""

    def __init__(
        self, inference: InferenceClient, bodies: RequestBodies, *, max_body_bytes: int, deadline: timedelta
    ) -> None:
        self._inference = inference
        self._bodies = bodies
        self._max_body_bytes = max_body_bytes
        self._deadline = deadline

    async def __call__(self, scope: Scope, receive: Receive, response: ResponseWriter) -> None:
        response.body = self._bodies.reserve(scope, self._max_body_bytes)
        body, inputs = read_embeddings(await read_body(receive, self._max_body_bytes, response.body.grow_to))
        request = EmbeddingsRequest(response.request_id, body.model, inputs, body.dimensions or 0, self._deadline)
        with CancelOnDisconnect(receive) as disconnect:
            result = await self._inference.embed(request)
            answer = EmbeddingsAnswer(body, len(inputs), result)
            if result.rest is not None:
                await _send_in_pieces(response, answer, result.vectors, result.rest, disconnect)
                return
            complete = answer.add(result.vectors) + answer.end(response.request_id)
            disconnect.disarm()
            await response.send_response(200, complete, ((COST, answer.cost),))


async def _send_in_pieces(
    response: ResponseWriter,
    answer: "EmbeddingsAnswer",
    first: Sequence[bytes],
    rest: VectorPieces,
    disconnect: CancelOnDisconnect,
) -> None:
    """Send each piece before the next is read: neither the vectors nor their text are kept."""
    try:
        rendered = answer.add(first)
        async with _bounded():
            await response.start(200, ((b"content-type", JSON), (COST, answer.cost)))
            await response.write(rendered)
        async for vectors in rest:
            rendered = answer.add(vectors)
            async with _bounded():
                await response.write(rendered)
        last = answer.end(response.request_id)
        disconnect.disarm()
        await response.finish(last)
    finally:
        # Also when the client left before it read anything: the orchestrator keeps the vectors until then.
        rest.cancel()


@asynccontextmanager
async def _bounded() -> AsyncIterator[None]:
    """Bound how long the block waits for the client."""
    try:
        async with asyncio.timeout(PIECE_SECONDS):
            yield
    except TimeoutError:
        raise ClientDisconnected(f"The client took more than {PIECE_SECONDS} s to read a piece.") from None


class EmbeddingsAnswer:
    """The answer in OpenAI's shape, rendered piece by piece."""

    def __init__(self, body: EmbeddingsBody, inputs: int, result: EmbeddingsResult) -> None:
        self._model = body.model
        self._as_base64 = body.encoding_format == "base64"
        self._inputs = inputs
        self._input_tokens = result.usage.input_tokens or 0
        self._cost = nano_usd_to_usd(result.cost)
        self._rendered = 0

    @property
    def cost(self) -> bytes:
        return self._cost.encode()

    def add(self, vectors: Sequence[bytes]) -> bytes:
        """Render vectors. Raises UpstreamInvalidResponse when a number is incomplete."""
        before = b"," if self._rendered else b'{"object":"list","data":['
        items = orjson.dumps(vector_fields(vectors, as_base64=self._as_base64, start=self._rendered))
        self._rendered += len(vectors)
        return before + items[1:-1]

    def end(self, request_id: str) -> bytes:
        """Render what follows the vectors. Raises UpstreamInvalidResponse when they are not as many as the inputs."""
        if self._rendered != self._inputs:
            raise UpstreamInvalidResponse("The model returned a wrong number of vectors.")
        fields = {
            "model": self._model,
            "usage": {"prompt_tokens": self._input_tokens, "total_tokens": self._input_tokens},
            "argosy": {"request_id": request_id, "cost_usd": self._cost},
        }
        return b"]," + orjson.dumps(fields)[1:]


def vector_fields(vectors: Sequence[bytes], *, as_base64: bool, start: int = 0) -> list[dict[str, Any]]:
    """Vectors of little-endian 32-bit floats in OpenAI's shape; the first has the index `start`."""
    encode = to_base64 if as_base64 else to_numbers
    return [
        {"object": "embedding", "index": index, "embedding": encode(vector)}
        for index, vector in enumerate(vectors, start)
    ]


def to_base64(vector: bytes) -> str:
    """The encoding that the SDKs ask for."""
    return b64encode(vector).decode()


def to_numbers(vector: bytes) -> list[float]:
    """Raises UpstreamInvalidResponse when the bytes are not whole floats."""
    if len(vector) % FLOAT_BYTES:
        raise UpstreamInvalidResponse("The model returned an incomplete number.")
    numbers = array("f", vector)
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers.tolist()
