"""The contract of a retrieval client, kept by the fake and by the real client."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
from chassis.errors import Kind, RemoteError
from chassis.tenancy import as_caller
from chassis.testing import a_caller
from chassis.testing.grpc import serving
from orchestrator.context.model import Passage
from orchestrator.context.ports import RetrievalClient
from orchestrator.context.retrieval_client import GrpcRetrievalClient
from values.attributes import to_filter

from services.orchestrator.tests.fakes import FakeRetrievalClient
from services.orchestrator.tests.in_memory_peers import InMemoryRetrieval

TIMEOUT = timedelta(seconds=5)
PASSAGES = [Passage(f"file-{n}", "ships.pdf", n, f"passage {n}", 1 / n) for n in (1, 2, 3)]


@pytest.fixture
def retrieval() -> FakeRetrievalClient:
    return FakeRetrievalClient(list(PASSAGES))


@pytest.fixture(params=["fake", "grpc"])
async def client(request: pytest.FixtureRequest, retrieval: FakeRetrievalClient) -> AsyncIterator[RetrievalClient]:
    if request.param == "fake":
        yield retrieval
        return
    async with serving(InMemoryRetrieval(retrieval).registration) as channel:
        with as_caller(a_caller()):
            yield GrpcRetrievalClient(channel)


async def test_the_best_passages_come_first(client: RetrievalClient, retrieval: FakeRetrievalClient) -> None:
    assert list(await client.search(["vs_1", "vs_2"], "ships", 2, TIMEOUT)) == PASSAGES[:2]
    assert retrieval.searches == [(("vs_1", "vs_2"), "ships", 2)]


async def test_a_filter_is_asked_for(client: RetrievalClient, retrieval: FakeRetrievalClient) -> None:
    authors = {"type": "in", "key": "author", "value": ["Ada", 7, 2**53 + 1, 0.5, True]}
    newer = {"type": "and", "filters": [{"type": "ne", "key": "year", "value": 2023}, authors]}
    filters = to_filter({"type": "or", "filters": [newer, {"type": "gte", "key": "date", "value": "2024-01-01"}]})

    await client.search(["vs_1"], "ships", 2, TIMEOUT, filters)

    assert retrieval.filters == filters


async def test_an_error_is_raised(client: RetrievalClient, retrieval: FakeRetrievalClient) -> None:
    retrieval.failure = RemoteError(Kind.NOT_FOUND, "VECTOR_STORE_NOT_FOUND", "no such store")

    with pytest.raises(RemoteError) as refused:
        await client.search(["vs_1"], "ships", 2, TIMEOUT)

    assert (refused.value.kind, refused.value.reason) == (Kind.NOT_FOUND, "VECTOR_STORE_NOT_FOUND")
