import json
import struct
from collections.abc import AsyncIterator

import pytest
from chassis.errors import InvalidRequest
from inference_worker.providers.model import (
    Embeddings,
    UpstreamFailed,
    UpstreamProtocolError,
    UpstreamRateLimited,
    VectorsTooLarge,
)
from inference_worker.providers.openai.embeddings import OpenaiEmbedder, order_vectors
from inference_worker.providers.transport.http import Endpoint, HttpClient
from raw_http_server import RawHttpServer
from values.usage import TokenUsage, UsageSource

from tests.simulators.upstream import UpstreamSimulator


@pytest.fixture
async def embedder(simulator: UpstreamSimulator) -> AsyncIterator[OpenaiEmbedder]:
    async with HttpClient(Endpoint(f"{simulator.url}/v1", {})) as client:
        yield OpenaiEmbedder(client)


@pytest.mark.parametrize("model", ["instant", "floats"])
async def test_vectors_arrive_as_base64_or_as_numbers(embedder: OpenaiEmbedder, model: str):
    embeddings = await embedder.embed(model, ["one", "three three"], dimensions=None)

    assert [struct.unpack("<8f", vector)[0] for vector in embeddings.vectors] == [3.0, 11.0]
    assert embeddings.usage == TokenUsage(UsageSource.REPORTED, 3, 0)


async def test_dimensions_are_passed_on(embedder: OpenaiEmbedder, simulator: UpstreamSimulator):
    embeddings = await embedder.embed("instant", ["one"], dimensions=4)

    assert len(embeddings.vectors[0]) == 16
    assert simulator.requests[0].body["dimensions"] == 4


async def test_token_ids_are_sent_as_they_are(embedder: OpenaiEmbedder, simulator: UpstreamSimulator):
    embeddings = await embedder.embed("instant", [(9906, 1917), (3,)], dimensions=None)

    assert simulator.requests[0].body["input"] == [[9906, 1917], [3]]
    assert len(embeddings.vectors) == 2
    assert embeddings.usage == TokenUsage(UsageSource.REPORTED, 3, 0)


async def test_usage_that_is_not_reported_is_none(embedder: OpenaiEmbedder):
    assert (await embedder.embed("no-usage", ["one"], dimensions=None)).usage is None


@pytest.mark.parametrize("model", ["garbage", "too-few", "cut-before", "500"])
async def test_a_failure_is_open_to_fallback(embedder: OpenaiEmbedder, model: str):
    with pytest.raises(UpstreamFailed) as caught:
        await embedder.embed(model, ["one", "two"], dimensions=None)

    assert caught.value.fallback


@pytest.mark.parametrize(
    "data",
    [
        None,
        [1],
        [{"embedding": "0", "index": 5}],
        [{"embedding": "0", "index": "0"}],
        [{"embedding": {"0": 1}}],
        [{"embedding": 0}],
        [{"embedding": None}],
        [{}],
    ],
)
def test_an_answer_without_its_vectors_is_a_protocol_error(data: object):
    with pytest.raises(UpstreamProtocolError):
        order_vectors({"data": data}, [b"1111"], 1)


def test_vectors_are_sorted_by_their_index():
    data = [{"index": 1, "embedding": "0"}, {"index": 0, "embedding": "1"}]

    assert order_vectors({"data": data}, [b"1111", b"0000"], 2) == (b"0000", b"1111")


def test_vectors_of_different_lengths_are_a_protocol_error():
    data = [{"embedding": "0"}, {"embedding": "1"}]

    with pytest.raises(UpstreamProtocolError):
        order_vectors({"data": data}, [b"1111", b"00000000"], 2)


@pytest.mark.parametrize("model", ["instant", "floats"])
async def test_the_vectors_of_a_thousand_texts_arrive(embedder: OpenaiEmbedder, model: str):
    texts = ["one"] * 1000

    embeddings = await embedder.embed(model, texts, dimensions=3072)

    assert {len(vector) for vector in embeddings.vectors} == {4 * 3072}
    assert len(embeddings.vectors) == len(texts)


@pytest.mark.parametrize(("texts", "dimensions", "most"), [(2048, 4097, 2047), (1281, 8192, 1024)])
async def test_vectors_that_no_request_may_have_are_refused_before_the_call(
    embedder: OpenaiEmbedder, simulator: UpstreamSimulator, texts: int, dimensions: int, most: int
):
    with pytest.raises(InvalidRequest, match=f"at most {most} inputs") as caught:
        await embedder.embed("instant", ["one"] * texts, dimensions=dimensions)

    assert caught.value.param == "input"
    assert simulator.received == 0


async def test_an_answer_of_unknown_size_is_delivered_beyond_the_bound(
    embedder: OpenaiEmbedder, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("inference_worker.providers.openai.embeddings.MAX_VECTOR_BYTES", 40)

    assert len((await embedder.embed("instant", ["one"] * 2, dimensions=None)).vectors) == 2

    with pytest.raises(InvalidRequest):
        await embedder.embed("instant", ["one"] * 2, dimensions=None)


async def test_an_answer_that_no_worker_keeps_is_refused_and_remembered(
    embedder: OpenaiEmbedder, simulator: UpstreamSimulator, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("inference_worker.providers.openai.embeddings.MAX_VECTOR_BYTES", 40)
    monkeypatch.setattr("inference_worker.providers.openai.embeddings.MAX_UNASKED_VECTOR_BYTES", 40)

    with pytest.raises(VectorsTooLarge, match="not charged") as caught:
        await embedder.embed("instant", ["one"] * 2, dimensions=None)
    assert caught.value.param == "input"
    with pytest.raises(InvalidRequest):
        await embedder.embed("instant", ["one"] * 2, dimensions=None)

    assert simulator.received == 1


async def test_what_a_model_answers_without_dimensions_is_remembered(
    embedder: OpenaiEmbedder, simulator: UpstreamSimulator, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("inference_worker.providers.openai.embeddings.MAX_VECTOR_BYTES", 100)
    await embedder.embed("instant", ["one"], dimensions=None)

    with pytest.raises(InvalidRequest):
        await embedder.embed("instant", ["one"] * 4, dimensions=None)

    assert simulator.received == 1


@pytest.mark.parametrize("wrap", [dict, lambda document: [document]])
async def test_an_error_with_status_200_is_that_error_with_its_usage(wrap):
    document = {"error": {"code": 429, "message": "x"}, "usage": {"prompt_tokens": 3, "completion_tokens": 0}}
    body = json.dumps(wrap(document)).encode()
    server = RawHttpServer(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body) + body)
    async with server.client() as client:
        with pytest.raises(UpstreamRateLimited) as caught:
            await OpenaiEmbedder(client).embed("m", ["one"], dimensions=None)

    assert caught.value.usage == TokenUsage(UsageSource.REPORTED, 3, 0)


async def answered(embedder: OpenaiEmbedder, *texts: str) -> Embeddings:
    return await embedder.embed("m", texts, dimensions=None)


def a_response(document: object) -> bytes:
    body = json.dumps(document).encode()
    return b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body) + body


def a_server(document: object) -> RawHttpServer:
    return RawHttpServer(a_response(document))


@pytest.mark.parametrize("data", [[], [{"index": 0}], None])
async def test_a_model_that_answers_with_nothing_in_base64_is_asked_for_numbers(data: object):
    server = a_server({"data": data, "usage": {"prompt_tokens": 3}})
    async with server.client() as client:
        embedder = OpenaiEmbedder(client)
        with pytest.raises(UpstreamProtocolError) as caught:
            await answered(embedder, "one")
        server.pieces = (a_response({"data": [{"embedding": [0.5]}]}),)
        embeddings = await answered(embedder, "one")

    assert caught.value.retry_same
    assert caught.value.usage == TokenUsage(UsageSource.REPORTED, 3, 0)
    assert embeddings.vectors == (struct.pack("<f", 0.5),)
    assert [json.loads(body)["encoding_format"] for body in server.bodies] == ["base64", "float"]


@pytest.mark.parametrize(
    ("usage", "tokens"),
    [
        ({"total_tokens": 7}, 7),
        ({"prompt_tokens": None, "total_tokens": 7}, 7),
        ({"prompt_tokens": 5, "total_tokens": 7}, 5),
        ({"prompt_tokens": 0, "total_tokens": 0}, 0),
    ],
)
async def test_a_total_without_the_prompts_tokens_is_what_was_used(usage: dict[str, int | None], tokens: int):
    async with a_server({"data": [{"embedding": [0.5]}], "usage": usage}).client() as client:
        embeddings = await answered(OpenaiEmbedder(client), "one")

    assert embeddings.usage == TokenUsage(UsageSource.REPORTED, tokens, 0)


async def test_vectors_out_of_order_and_without_an_index_belong_to_their_texts():
    one, two = struct.pack("<f", 1.0), struct.pack("<f", 2.0)
    shuffled = {"data": [{"index": 1, "embedding": [2.0]}, {"index": 0, "embedding": [1.0]}]}
    unnumbered = {"data": [{"embedding": [1.0]}, {"embedding": [2.0]}]}
    for document in (shuffled, unnumbered):
        async with a_server(document).client() as client:
            assert (await answered(OpenaiEmbedder(client), "one", "two")).vectors == (one, two)
