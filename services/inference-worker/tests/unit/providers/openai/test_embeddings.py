import json
import struct
from collections.abc import AsyncIterator

import pytest
from chassis.errors import InvalidRequest
from inference_worker.providers.model import UpstreamFailed, UpstreamProtocolError, UpstreamRateLimited
from inference_worker.providers.openai.embeddings import OpenaiEmbedder, parse_vectors
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
        [{"embedding": []}],
        [{"embedding": "AAA"}],
        [{"embedding": "!!"}],
        [{"embedding": ["x"]}],
        [{"embedding": [1e39]}],
        [{"embedding": [float("inf")]}],
        [{"embedding": [1.0], "index": 5}],
        [{"embedding": [1.0], "index": "0"}],
        [{"embedding": {"0": 1}}],
        [{}],
    ],
)
def test_an_invalid_vector_is_a_protocol_error(data: object):
    with pytest.raises(UpstreamProtocolError):
        parse_vectors({"data": data}, 1)


def test_vectors_are_sorted_by_their_index():
    data = [{"index": 1, "embedding": [1.0]}, {"index": 0, "embedding": [0.0]}]

    assert parse_vectors({"data": data}, 2) == (struct.pack("<f", 0.0), struct.pack("<f", 1.0))


def test_vectors_of_different_lengths_are_a_protocol_error():
    data = [{"embedding": [1.0]}, {"embedding": [1.0, 2.0]}]

    with pytest.raises(UpstreamProtocolError):
        parse_vectors({"data": data}, 2)


@pytest.mark.parametrize("model", ["instant", "floats"])
async def test_the_vectors_of_a_thousand_texts_arrive(embedder: OpenaiEmbedder, model: str):
    # As base64 they are 16 MB, which is more than a chat completion may have.
    texts = ["one"] * (1000 if model == "instant" else 300)

    embeddings = await embedder.embed(model, texts, dimensions=3072)

    assert {len(vector) for vector in embeddings.vectors} == {4 * 3072}
    assert len(embeddings.vectors) == len(texts)


async def test_vectors_that_no_answer_can_hold_are_refused_before_the_call(
    embedder: OpenaiEmbedder, simulator: UpstreamSimulator
):
    with pytest.raises(InvalidRequest, match="at most 1280 inputs") as caught:
        await embedder.embed("instant", ["one"] * 1281, dimensions=3072)

    assert caught.value.param == "input"
    assert simulator.received == 0


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
