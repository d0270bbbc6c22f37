"""Vectors are taken out of an answer as it arrives."""

import base64
import json
import struct
from typing import Any

import orjson
import pytest
from inference_worker.providers.model import UpstreamProtocolError, VectorsTooLarge
from inference_worker.providers.openai.vector_reader import VectorReader

NUMBERS = ([0.25, -1.5, 1e-7], [1.0, 2.0, 3.0])
VECTORS = [struct.pack("<3f", *numbers) for numbers in NUMBERS]


def read(text: bytes, size: int = 1 << 20, max_bytes: int = 1 << 20, max_other_bytes: int = 10_000) -> VectorReader:
    reader = VectorReader(max_bytes, max_other_bytes)
    for start in range(0, len(text), size):
        reader.feed(text[start : start + size])
    return reader


def an_answer(*embeddings: Any, **fields: Any) -> dict[str, Any]:
    data = [
        {"object": "embedding", "index": index, "embedding": embedding} for index, embedding in enumerate(embeddings)
    ]
    return {"object": "list", "data": data, "model": "m", "usage": {"prompt_tokens": 3}, **fields}


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64, 10_000])
@pytest.mark.parametrize("separators", [(",", ":"), (" ,\r\n\t", " :\n ")])
@pytest.mark.parametrize("as_base64", [True, False])
def test_vectors_are_read_however_they_arrive(size: int, separators: tuple[str, str], as_base64: bool):
    embeddings = [base64.b64encode(vector).decode() for vector in VECTORS] if as_base64 else NUMBERS
    text = json.dumps(an_answer(*embeddings), separators=separators).encode()

    reader = read(text, size)

    assert reader.vectors == VECTORS
    assert orjson.loads(reader.document()) == an_answer("0", "1")


def test_base64_may_have_escaped_slashes():
    vector = struct.pack("<f", -1.9921875)  # has a slash as base64
    text = json.dumps(an_answer(base64.b64encode(vector).decode())).replace("/", "\\/").encode()

    assert b"\\/" in text
    assert read(text, 5).vectors == [vector]


@pytest.mark.parametrize("size", [1, 10_000])
@pytest.mark.parametrize("model", ['"embedding":[1.0]', 'the "embedding" : "AAAA"', "embedding", '\\"embedding":['])
def test_what_stands_in_a_text_is_no_vector(size: int, model: str):
    document = an_answer(*NUMBERS, model=model)

    reader = read(json.dumps(document).encode(), size)

    assert reader.vectors == VECTORS
    assert orjson.loads(reader.document())["model"] == model


@pytest.mark.parametrize("embedding", [None, 3, {"0": 1}, True])
def test_what_is_no_vector_stays_in_the_document(embedding: object):
    reader = read(json.dumps(an_answer(embedding)).encode(), 3)

    assert reader.vectors == []
    assert orjson.loads(reader.document())["data"][0]["embedding"] == embedding


@pytest.mark.parametrize(
    "embedding", [[], "", "AAA", "!!", "AAAAAAA", ["x"], [[1.0]], [1e39], [float("inf")], [float("nan")], [None]]
)
def test_an_invalid_vector_is_a_protocol_error(embedding: object):
    with pytest.raises(UpstreamProtocolError):
        read(json.dumps(an_answer(embedding)).encode())


def test_more_vectors_than_the_bound_are_not_kept():
    text = json.dumps(an_answer(*NUMBERS)).encode()
    assert read(text, max_bytes=24).vectors == VECTORS

    with pytest.raises(VectorsTooLarge, match="vectors have 3 numbers") as caught:
        read(text, max_bytes=23)

    assert (caught.value.param, caught.value.dimensions, caught.value.fallback) == ("input", 3, False)


@pytest.mark.parametrize("text", [b'{"x": "' + b"y" * 20_000, b'{"embedding": [' + b"1.0, " * 400_000])
def test_what_is_no_vector_and_a_vector_without_end_are_bounded(text: bytes):
    with pytest.raises(UpstreamProtocolError):
        read(text, 4096)


def test_an_answer_that_breaks_off_keeps_what_has_arrived():
    reader = read(json.dumps(an_answer(*NUMBERS)).encode()[:60], 7)

    assert reader.document().startswith(b'{"object": "list", "data": [')
