import struct
from collections.abc import AsyncIterator

import pytest
from inference_worker.adapters.http import Endpoint, HttpUpstream
from inference_worker.adapters.openai_embeddings import OpenaiEmbedder, _vectors
from inference_worker.domain.failures import UpstreamFailed, UpstreamGarbage
from inference_worker.domain.usage import Usage, UsageSource

from tests.simulators.upstream import UpstreamSimulator


@pytest.fixture
async def embedder(simulator: UpstreamSimulator) -> AsyncIterator[OpenaiEmbedder]:
    async with HttpUpstream(Endpoint(f"{simulator.url}/v1", {})) as http:
        yield OpenaiEmbedder(http)


@pytest.mark.parametrize("model", ["instant", "floats"])
async def test_vectors_come_as_bytes_or_as_numbers(embedder: OpenaiEmbedder, model: str):
    found = await embedder.embed(model, ["one", "three three"], dimensions=None)

    assert [struct.unpack("<8f", vector)[0] for vector in found.vectors] == [3.0, 11.0]
    assert found.usage == Usage(UsageSource.REPORTED, 3, 0)


async def test_dimensions_are_passed_on(embedder: OpenaiEmbedder, simulator: UpstreamSimulator):
    found = await embedder.embed("instant", ["one"], dimensions=4)

    assert len(found.vectors[0]) == 16
    assert simulator.seen[0].body["dimensions"] == 4


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
def test_what_is_not_a_vector_is_garbage(data: object):
    with pytest.raises(UpstreamGarbage):
        _vectors({"data": data}, 1)


def test_vectors_are_put_in_their_places():
    data = [{"index": 1, "embedding": [1.0]}, {"index": 0, "embedding": [0.0]}]

    assert _vectors({"data": data}, 2) == (struct.pack("<f", 0.0), struct.pack("<f", 1.0))


def test_vectors_of_different_lengths_do_not_belong_together():
    data = [{"embedding": [1.0]}, {"embedding": [1.0, 2.0]}]

    with pytest.raises(UpstreamGarbage):
        _vectors({"data": data}, 2)
