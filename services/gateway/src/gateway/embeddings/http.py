"""`POST /v1/embeddings`: texts in, vectors out, as numbers or as base64 of 32-bit floats."""

import sys
from array import array
from base64 import b64encode
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import msgspec
from chassis.errors import Kind, RemoteError
from chassis.http import Receive, Scope, read_body

from gateway.domain.inference import EmbedAsk, Inference
from gateway.domain.money import to_usd

from .bodies import read_embeddings
from .chat import COST
from .departure import Departure
from .edge import Reply

ROUTE = "/v1/embeddings"
FLOAT_BYTES = 4


class Embeddings:
    """The handler; one per process."""

    def __init__(self, inference: Inference, *, body_bytes: int, deadline: timedelta) -> None:
        self._inference = inference
        self._body_bytes = body_bytes
        self._deadline = deadline

    async def __call__(self, _scope: Scope, receive: Receive, reply: Reply) -> None:
        """Answer one request."""
        body = await read_body(receive, self._body_bytes)
        asked, texts = read_embeddings(body)
        ask = EmbedAsk(reply.request_id, asked.model, texts, asked.dimensions or 0, self._deadline)
        with Departure(receive) as departure:
            embedded = await self._inference.embed(ask)
            if len(embedded.vectors) != len(texts):
                raise RemoteError(Kind.UPSTREAM, "UPSTREAM_GARBAGE", "The model gave another number of vectors.")
            tokens = embedded.tokens.input or 0
            cost = to_usd(embedded.cost)
            answer = {
                "object": "list",
                "data": written(embedded.vectors, as_text=asked.encoding_format == "base64"),
                "model": asked.model,
                "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
                "argosy": {"request_id": reply.request_id, "cost_usd": cost},
            }
            departure.settle()
            await reply.whole(200, msgspec.json.encode(answer), ((COST, cost.encode()),))


def written(vectors: Sequence[bytes], *, as_text: bool) -> list[dict[str, Any]]:
    """Write vectors in OpenAI's shape."""
    encode = in_base64 if as_text else in_numbers
    return [
        {"object": "embedding", "index": index, "embedding": encode(vector)} for index, vector in enumerate(vectors)
    ]


def in_base64(vector: bytes) -> str:
    """Write little-endian 32-bit floats as text: what the SDKs ask for and unpack."""
    return b64encode(vector).decode()


def in_numbers(vector: bytes) -> list[float]:
    """Write little-endian 32-bit floats as numbers. Raises UPSTREAM_GARBAGE when they are none."""
    if len(vector) % FLOAT_BYTES:
        raise RemoteError(Kind.UPSTREAM, "UPSTREAM_GARBAGE", "The model gave half a number.")
    numbers = array("f", vector)
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers.tolist()
