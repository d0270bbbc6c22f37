"""The body of an embeddings request, and that of its answer, in OpenAI's shape: for those that have no dialect."""

import asyncio
import base64
import struct
from collections.abc import Sequence
from typing import NamedTuple, Never

import orjson
from chassis.errors import InvalidRequest
from values.embeddings import EmbeddingInput
from values.limits import MAX_DIMENSIONS

TURN_BYTES = 16 * 1024
"""Vectors that are rendered before other tasks get their turn: about a millisecond of work."""
THREAD_BYTES = 1024 * 1024
"""An answer of more is put together by a thread: above a mebibyte that happens without the interpreter's lock."""
FIELDS = frozenset({"model", "input", "dimensions", "encoding_format", "user"})


class EmbeddingBody(NamedTuple):
    """A parsed body. `dimensions` 0 is the model's own."""

    model: str
    inputs: tuple[EmbeddingInput, ...]
    dimensions: int
    as_base64: bool


def parse_embedding(body: bytes) -> EmbeddingBody:
    """Read a body. Raises `InvalidRequest` with the name of the parameter."""
    try:
        fields = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise InvalidRequest(f"the body is not JSON: {error}") from error
    if not isinstance(fields, dict):
        raise InvalidRequest("the body is not a JSON object")
    model, given, dimensions = fields.get("model"), fields.get("input"), fields.get("dimensions")
    if not isinstance(model, str) or not model:
        _refuse("model", "is not a name")
    inputs = _parse_inputs(given)
    if dimensions is not None and (
        not isinstance(dimensions, int) or isinstance(dimensions, bool) or not 1 <= dimensions <= MAX_DIMENSIONS
    ):
        _refuse("dimensions", f"is not a whole number from 1 to {MAX_DIMENSIONS}")
    if fields.get("encoding_format") not in (None, "float", "base64"):  # a tuple: a list has no hash
        _refuse("encoding_format", "is neither float nor base64")
    return EmbeddingBody(model, inputs, dimensions or 0, fields.get("encoding_format") == "base64")


def _parse_inputs(given: object) -> tuple[EmbeddingInput, ...]:
    if isinstance(given, str):
        return (given,)
    if isinstance(given, list):
        if given and _are_token_ids(given):
            return (tuple(given),)
        if all(isinstance(one, str) for one in given):
            return tuple(given)
        if all(isinstance(one, list) and _are_token_ids(one) for one in given):
            return tuple(map(tuple, given))
    return _refuse("input", "is neither a text nor a list of texts, nor token ids nor a list of arrays of them")


def _are_token_ids(numbers: list[object]) -> bool:
    return all(isinstance(one, int) and not isinstance(one, bool) for one in numbers)


async def render_embeddings(
    body: EmbeddingBody, vectors: Sequence[bytes], input_tokens: int, max_bytes: int
) -> bytes | None:
    """Render the answer, in turns with other tasks and at last in a thread; None when it has more than `max_bytes`.

    `vectors` are of little-endian 32-bit floats.
    """
    parts, in_turn, size = [b'{"object":"list","data":['], 0, 0
    # One vector at a time: a number of four bytes is an object of 24 before it is text.
    for index, vector in enumerate(vectors):
        if in_turn >= TURN_BYTES:
            await asyncio.sleep(0)
            in_turn = 0
        in_turn += len(vector)
        numbers = _base64(vector) if body.as_base64 else _numbers(vector)
        one = orjson.dumps({"object": "embedding", "index": index, "embedding": numbers})
        parts += (b",", one) if index else (one,)
        size += len(one) + 1
        if size > max_bytes:
            return None
    usage = {"prompt_tokens": input_tokens, "total_tokens": input_tokens}
    parts += (b"],", orjson.dumps({"model": body.model, "usage": usage})[1:])
    return b"".join(parts) if size < THREAD_BYTES else await asyncio.to_thread(b"".join, parts)


def _base64(vector: bytes) -> str:
    return base64.b64encode(vector).decode()


def _numbers(vector: bytes) -> tuple[float, ...]:
    return struct.unpack(f"<{len(vector) // 4}f", vector)


def _refuse(param: str, why: str) -> Never:
    raise InvalidRequest(f"{param} {why}", param=param)
