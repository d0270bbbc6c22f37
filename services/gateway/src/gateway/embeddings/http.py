"""`POST /v1/embeddings`: vectors as numbers, or as base64 of their 32-bit floats."""

import sys
from array import array
from base64 import b64encode
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import orjson
from chassis.http import Receive, Scope, read_body
from values.money import nano_usd_to_usd

from gateway.embeddings.schemas import INPUT_SCHEMA, EmbeddingsBody, read_embeddings
from gateway.inference.model import EmbeddingsRequest, InferenceClient, UpstreamInvalidResponse
from gateway.web.disconnect import CancelOnDisconnect
from gateway.web.openapi import AsgiRoute
from gateway.web.request_body import RequestBodies
from gateway.web.response import ResponseWriter

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
            if len(result.vectors) != len(inputs):
                raise UpstreamInvalidResponse("The model returned a wrong number of vectors.")
            input_tokens = result.usage.input_tokens or 0
            cost = nano_usd_to_usd(result.cost)
            fields = {
                "object": "list",
                "data": vector_fields(result.vectors, as_base64=body.encoding_format == "base64"),
                "model": body.model,
                "usage": {"prompt_tokens": input_tokens, "total_tokens": input_tokens},
                "argosy": {"request_id": response.request_id, "cost_usd": cost},
            }
            disconnect.disarm()
            await response.send_response(200, orjson.dumps(fields), ((COST, cost.encode()),))


def vector_fields(vectors: Sequence[bytes], *, as_base64: bool) -> list[dict[str, Any]]:
    """Vectors of little-endian 32-bit floats in OpenAI's shape."""
    encode = to_base64 if as_base64 else to_numbers
    return [
        {"object": "embedding", "index": index, "embedding": encode(vector)} for index, vector in enumerate(vectors)
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
