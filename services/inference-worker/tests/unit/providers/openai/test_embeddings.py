import json
import struct
from collections.abc import AsyncIterator

import pytest
from chassis.errors import InvalidRequest
from inference_worker.providers.model import (
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
