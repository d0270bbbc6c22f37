"""The second look of a reranker at the best passages."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest
from argosy.orchestration.v1 import orchestration_pb2, orchestration_pb2_grpc
from argosy.retrieval.v1 import retrieval_pb2 as pb
from chassis.errors import InvalidRequest, Kind, RemoteError, Unavailable
from chassis.tenancy import as_caller, current_caller
from chassis.testing import a_caller, a_principal
from chassis.testing.grpc import serving
from retrieval.chunking.token_counter import EstimatedTokenCounter
from retrieval.search.grpc import SearchMethods
from retrieval.search.model import Passage, SearchQuery
from retrieval.search.orchestrator_client import OrchestratorReranker
from retrieval.search.rerank import RERANKED, Reranking, RerankPolicy, search_and_rerank
from retrieval.search.search import search
from retrieval.settings import RerankSection

from services.retrieval.tests.fake_peers import FakeEmbedder
from services.retrieval.tests.tenants import Tenant

HOUR = timedelta(hours=1)
TEXTS = tuple(f"the price of apples {number}" for number in range(60))


@dataclass
class FakeReranker:
    """Scores a text by the number at its end, from 0 to 1: the best of a search are not the best here."""

    error: Exception | None = None
    hangs: bool = False
    asked: list[tuple[str, Sequence[str]]] = field(default_factory=list)

    async def rerank(self, query: str, texts: Sequence[str], timeout: timedelta) -> Sequence[float]:
        self.asked.append((query, texts))
        if self.error is not None:
            raise self.error
        if self.hangs:
            await asyncio.Event().wait()
        return [int(text.split()[-1]) / 100 for text in texts]


async def reranked(
    tenant: Tenant, reranker: FakeReranker, query: SearchQuery, timeout: timedelta = HOUR
) -> tuple[list[Passage], Reranking]:
    return await search_and_rerank(
        tenant.tenant_id,
        query,
        RerankPolicy(reranker, timeout),
        index=tenant.ports.index,
        embedder=FakeEmbedder(),
        counter=EstimatedTokenCounter(),
    )


async def unranked(tenant: Tenant, query: SearchQuery) -> list[Passage]:
    return await search(
        tenant.tenant_id, query, index=tenant.ports.index, embedder=FakeEmbedder(), counter=EstimatedTokenCounter()
    )


async def test_the_best_fifty_are_read_and_come_in_the_order_of_their_scores(one: Tenant) -> None:
    store, _ = await one.indexed(*TEXTS)
    query, reranker = SearchQuery((store.vector_store_id,), "what do apples cost these days", 3), FakeReranker()

    passages, outcome = await reranked(one, reranker, query)

    [(asked, texts)] = reranker.asked
    assert (asked, len(texts), outcome) == (query.query, RERANKED, Reranking.DONE)
    best = sorted((int(text.split()[-1]) / 100 for text in texts), reverse=True)[:3]
    assert [passage.score for passage in passages] == best
    assert [int(passage.source.text.split()[-1]) / 100 for passage in passages] == best


async def test_the_least_score_is_of_the_reranker(one: Tenant) -> None:
    store, _ = await one.indexed(*TEXTS[:30])
    query = SearchQuery((store.vector_store_id,), "what do apples cost these days", 50, min_score=0.2)

    passages, _ = await reranked(one, FakeReranker(), query)

    assert [passage.score for passage in passages] == [number / 100 for number in range(29, 19, -1)]


async def test_an_exact_hit_is_first_whatever_the_reranker_says(one: Tenant) -> None:
    store, _ = await one.indexed(*TEXTS[1:20], "the error QX-7041 of apples 0")
    query = SearchQuery((store.vector_store_id,), "error QX-7041", 2)

    passages, _ = await reranked(one, FakeReranker(), query)

    assert "QX-7041" in passages[0].source.text


@pytest.mark.parametrize(
    ("reranker", "timeout", "expected"),
    [
        (FakeReranker(Unavailable("away")), HOUR, Reranking.SKIPPED),
        (FakeReranker(RemoteError(Kind.INVALID, "CONTEXT_LENGTH_EXCEEDED", "long")), HOUR, Reranking.SKIPPED),
        (FakeReranker(hangs=True), timedelta(milliseconds=1), Reranking.SKIPPED),
        (FakeReranker(RemoteError(Kind.THROTTLED, "INSUFFICIENT_QUOTA", "no money")), HOUR, Reranking.NO_BUDGET),
    ],
    ids=["away", "refused", "late", "without a budget"],
)
async def test_without_an_answer_the_order_and_the_scores_are_those_of_the_search(
    one: Tenant, reranker: FakeReranker, timeout: timedelta, expected: Reranking
) -> None:
    store, _ = await one.indexed(*TEXTS[:30])
    query = SearchQuery((store.vector_store_id,), "what do apples cost these days", 3, min_score=0.1)

    passages, outcome = await reranked(one, reranker, query, timeout)

    assert outcome is expected
    assert passages == await unranked(one, query)


async def test_a_store_without_passages_costs_nothing(one: Tenant) -> None:
    reranker, store = FakeReranker(), await one.store()

    assert await reranked(one, reranker, SearchQuery((store.vector_store_id,), "apples", 3)) == ([], Reranking.DONE)
    assert not reranker.asked


@pytest.mark.parametrize(
    ("by_default", "ranker", "expected"),
    [
        (False, pb.RANKER_RERANK, pb.RERANKING_DONE),
        (False, pb.RANKER_UNSPECIFIED, pb.RERANKING_UNSPECIFIED),
        (True, pb.RANKER_UNSPECIFIED, pb.RERANKING_DONE),
        (True, pb.RANKER_FUSION, pb.RERANKING_UNSPECIFIED),
    ],
)
async def test_it_is_used_when_it_is_asked_for_or_by_default(
    one: Tenant, by_default: bool, ranker: pb.Ranker.ValueType, expected: pb.Reranking.ValueType
) -> None:
    store, _ = await one.indexed(*TEXTS[:30])
    policy = RerankPolicy(FakeReranker(), HOUR, by_default)
    methods = SearchMethods(one.ports.index, FakeEmbedder(), EstimatedTokenCounter(), policy)
    request = pb.SearchRequest(vector_store_ids=[store.vector_store_id], query="what do apples cost", ranker=ranker)

    with as_caller(a_caller(a_principal(one.tenant_id))):
        response = await methods.search(request)

    assert response.reranking == expected
    assert len(response.passages) == 10


async def test_without_a_reranker_it_cannot_be_asked_for(one: Tenant) -> None:
    store, _ = await one.indexed("apples")
    methods = SearchMethods(one.ports.index, FakeEmbedder(), EstimatedTokenCounter())
    request = pb.SearchRequest(vector_store_ids=[store.vector_store_id], query="a", ranker=pb.RANKER_RERANK)

    with as_caller(a_caller(a_principal(one.tenant_id))), pytest.raises(InvalidRequest, match="no reranker") as refused:
        await methods.search(request)

    assert refused.value.param == "ranking_options.ranker"


class Orchestrator(orchestration_pb2_grpc.OrchestrationServiceServicer):
    def __init__(self, *scores: float) -> None:
        self.scores = scores
        self.requests: list[tuple[str, orchestration_pb2.RerankRequest]] = []

    Embed = EmbedInPieces = Generate = ListModels = GetRequestStates = None  # type: ignore[assignment]  # not called

    async def Rerank(self, request: orchestration_pb2.RerankRequest, context: Any) -> orchestration_pb2.RerankResponse:
        self.requests.append((current_caller().principal.tenant_id, request))
        return orchestration_pb2.RerankResponse(scores=self.scores)


async def test_the_orchestrator_is_asked_for_the_caller_s_tenant_and_bills_it() -> None:
    servicer = Orchestrator(0.5, 0.25)
    add = orchestration_pb2_grpc.add_OrchestrationServiceServicer_to_server
    async with serving((add, servicer, "argosy.orchestration.v1.OrchestrationService")) as channel:
        with as_caller(a_caller(a_principal("ten_one"))):
            reranker = OrchestratorReranker(channel, "scorer")
            assert await reranker.rerank("q", ["a", "b"], HOUR) == [0.5, 0.25]
            with pytest.raises(Unavailable, match="one score per text"):
                await reranker.rerank("q", ["a"], HOUR)

    (tenant_id, request), _ = servicer.requests
    assert (tenant_id, request.model, request.query, list(request.documents)) == ("ten_one", "scorer", "q", ["a", "b"])
    assert request.request_id.startswith("req_")
    assert request.deadline.ToTimedelta() == HOUR


def test_a_reranker_by_default_needs_a_model() -> None:
    with pytest.raises(ValueError, match="by_default: needs `model`"):
        RerankSection(by_default=True)
