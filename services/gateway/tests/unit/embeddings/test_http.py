"""`POST /v1/embeddings`."""

import asyncio
import struct
from base64 import b64decode
from contextlib import suppress
from typing import Any

import httpx
import orjson
import pytest
from chassis.errors import ArgosyError, Unavailable
from gateway.inference.model import EmbeddingsRequest

from services.gateway.tests.fakes.gateway import GatewayFixture, RawRequest, run_loop

PATH = "/v1/embeddings"
NUMBERS = [(0.25, -1.5, 0.1), (1.0, 2.0, 3.0)]
VECTORS = [struct.pack("<3f", *numbers) for numbers in NUMBERS]


async def test_vectors_are_numbers_with_their_cost(gateway: GatewayFixture, demo: httpx.AsyncClient) -> None:
    gateway.inference.embedding = VECTORS

    response = await demo.post(PATH, json={"model": "mini", "input": ["a", "b"], "dimensions": 3})

    body = response.json()
    assert [item["index"] for item in body["data"]] == [0, 1]
    assert body["data"][0]["embedding"] == pytest.approx(NUMBERS[0])
    assert body["model"] == "mini"
    assert body["usage"] == {"prompt_tokens": 7, "total_tokens": 7}
    assert body["argosy"]["cost_usd"] == response.headers["argosy-cost"] == "0.0000123"
    (request,) = gateway.inference.requests
    assert request == EmbeddingsRequest(response.headers["x-request-id"], "mini", ["a", "b"], 3, request.deadline)


async def test_vectors_may_be_base64(gateway: GatewayFixture, demo: httpx.AsyncClient) -> None:
    gateway.inference.embedding = VECTORS[:1]

    response = await demo.post(PATH, json={"model": "mini", "input": "a", "encoding_format": "base64"})

    assert b64decode(response.json()["data"][0]["embedding"]) == VECTORS[0]


async def test_a_wrong_number_of_vectors_or_bytes_is_an_invalid_response(
    gateway: GatewayFixture, demo: httpx.AsyncClient
) -> None:
    for vectors in ([], [b"\0\0\0\0\0"]):
        gateway.inference.embedding = vectors
        response = await demo.post(PATH, json={"model": "mini", "input": "a"})
        assert (response.status_code, response.json()["error"]["code"]) == (502, "upstream_invalid_response")


@pytest.mark.parametrize("encoding", ["float", "base64"])
async def test_a_large_answer_is_sent_in_pieces(
    gateway: GatewayFixture, demo: httpx.AsyncClient, encoding: str
) -> None:
    gateway.inference.embedding, gateway.inference.embedding_rest = VECTORS[:1], [VECTORS[1:], VECTORS]

    response = await demo.post(PATH, json={"model": "mini", "input": ["a"] * 4, "encoding_format": encoding})

    body = response.json()
    assert "content-length" not in response.headers
    assert response.headers["content-type"] == "application/json"
    assert response.headers["argosy-cost"] == body["argosy"]["cost_usd"] == "0.0000123"
    assert [item["index"] for item in body["data"]] == [0, 1, 2, 3]
    vectors = [item["embedding"] for item in body["data"]]
    if encoding == "base64":
        assert [b64decode(vector) for vector in vectors] == VECTORS * 2
    else:
        assert vectors[3] == pytest.approx(NUMBERS[1])
    assert (body["object"], body["model"], body["usage"]["total_tokens"]) == ("list", "mini", 7)


@pytest.mark.parametrize("rest", [[], [Unavailable("away")], [VECTORS[:1], VECTORS]])
async def test_a_large_answer_that_is_not_whole_ends_with_the_connection(
    gateway: GatewayFixture, demo: httpx.AsyncClient, rest: list[Any]
) -> None:
    gateway.inference.embedding, gateway.inference.embedding_rest = VECTORS[:1], rest

    with pytest.raises(ArgosyError):  # the server closes the connection: no client takes it for a complete answer
        await demo.post(PATH, json={"model": "mini", "input": ["a"] * 3})

    assert gateway.inference.embedding_ended.is_set()


async def test_a_client_that_leaves_before_it_reads_ends_the_call(gateway: GatewayFixture) -> None:
    gateway.inference.embedding, gateway.inference.embedding_rest = VECTORS[:1], [VECTORS[1:]]
    request = RawRequest(gateway, PATH, orjson.dumps({"model": "mini", "input": ["a"] * 2}))
    request.reading.clear()
    await run_loop()

    request.disconnect()

    async with asyncio.timeout(30):
        await gateway.inference.embedding_ended.wait()
        await request.task


async def test_a_client_that_reads_a_piece_too_slowly_ends_the_call(
    gateway: GatewayFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.embeddings.http.PIECE_SECONDS", 0.01)
    gateway.inference.embedding, gateway.inference.embedding_rest = VECTORS[:1], [VECTORS[1:]]
    request = RawRequest(gateway, PATH, orjson.dumps({"model": "mini", "input": ["a"] * 2}))
    request.reading.clear()

    async with asyncio.timeout(30):
        await gateway.inference.embedding_ended.wait()
        with suppress(ArgosyError):
            await request.task

    sent = [request.sent.get_nowait() for _ in range(request.sent.qsize())]
    assert all(message.get("more_body", True) for message in sent)


async def test_an_error_keeps_its_status(gateway: GatewayFixture, demo: httpx.AsyncClient) -> None:
    gateway.inference.embedding = Unavailable("away")

    response = await demo.post(PATH, json={"model": "mini", "input": "a"})

    assert response.status_code == 503


async def test_token_ids_reach_the_orchestrator_as_they_are(gateway: GatewayFixture, demo: httpx.AsyncClient) -> None:
    gateway.inference.embedding = VECTORS

    response = await demo.post(PATH, json={"model": "mini", "input": [[9906, 1917], [100_257]]})

    assert len(response.json()["data"]) == 2
    (request,) = gateway.inference.requests
    assert isinstance(request, EmbeddingsRequest)
    assert request.inputs == [(9906, 1917), (100_257,)]


async def test_invalid_input_does_not_reach_the_orchestrator(gateway: GatewayFixture, demo: httpx.AsyncClient) -> None:
    refused: list[Any] = [[[1, -2]], [[1], "a"], [[]]]
    for invalid in refused:
        response = await demo.post(PATH, json={"model": "mini", "input": invalid})

        assert response.status_code == 400
        assert response.json()["error"]["param"].startswith("input")
    assert not gateway.inference.requests
