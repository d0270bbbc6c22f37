import struct
from collections.abc import AsyncIterator

import pytest
from inference_worker.providers.model import UpstreamFailed, UpstreamProtocolError
from inference_worker.providers.openai.embeddings import OpenaiEmbedder, parse_vectors
from inference_worker.providers.transport.http import Endpoint, HttpClient
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
