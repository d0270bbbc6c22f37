"""The retrieval client, against a servicer that answers as the test says."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest
from argosy.retrieval.v1 import retrieval_pb2 as retrieval
from chassis.errors import Kind, RemoteError, Unavailable
from chassis.tenancy import as_caller
from chassis.testing import a_caller
from chassis.testing.grpc import serving
from orchestrator.context.model import Passage
from orchestrator.context.retrieval_client import GrpcRetrievalClient
from values.attributes import to_filter

from services.orchestrator.tests.peers import ScriptedRetrieval

MINUTE = timedelta(minutes=1)


@pytest.fixture(autouse=True)
def caller() -> Iterator[None]:
    with as_caller(a_caller(request_id="req_1")):
        yield


@asynccontextmanager
async def a_retrieval(servicer: ScriptedRetrieval) -> AsyncIterator[GrpcRetrievalClient]:
    async with serving(servicer.registration) as channel:
        yield GrpcRetrievalClient(channel)


class TestRetrieval:
    async def test_finds_passages(self) -> None:
        found = retrieval.Passage(
            file_id="file-1", filename="a.pdf", page=3, text="words", score=0.25, vector_store_id="vs_1"
        )
        servicer = ScriptedRetrieval(retrieval.SearchResponse(passages=[found]))
        async with a_retrieval(servicer) as adapter:
            passages = await adapter.search(["vs_1"], "what?", 4, MINUTE)

        assert passages == [Passage("file-1", "a.pdf", 3, "words", 0.25)]
        assert servicer.request == retrieval.SearchRequest(vector_store_ids=["vs_1"], query="what?", limit=4)

    async def test_passages_of_a_service_that_does_not_filter_are_not_used(self) -> None:
        older = ScriptedRetrieval(
            retrieval.SearchResponse(passages=[retrieval.Passage(file_id="file-1", text="words")])
        )
        filters = to_filter({"type": "eq", "key": "team", "value": "a"})
        async with a_retrieval(older) as adapter:
            with pytest.raises(Unavailable, match="does not filter yet"):
                await adapter.search(["vs_1"], "what?", 4, MINUTE, filters)

    async def test_an_error_is_raised_as_it_came(self) -> None:
        refusal = RemoteError(Kind.NOT_FOUND, "VECTOR_STORE_NOT_FOUND", "no such store")
        async with a_retrieval(ScriptedRetrieval(refusal)) as adapter:
            with pytest.raises(RemoteError) as refused:
                await adapter.search(["vs_1"], "what?", 4, MINUTE)

        assert refused.value.reason == "VECTOR_STORE_NOT_FOUND"
