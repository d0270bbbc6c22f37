"""Hybrid search."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from chassis.errors import InvalidRequest, Unavailable
from retrieval.chunking.token_counter import EstimatedTokenCounter
from retrieval.embeddings.model import Vector
from retrieval.search.model import ChunkKey, Passage, Ranker, SearchQuery
from retrieval.search.search import SearchIndex, search
from retrieval.vector_stores.model import VectorStoreNotFound
from values.attributes import to_filter

from services.retrieval.tests.fake_peers import FakeEmbedder
from services.retrieval.tests.tenants import Tenant


async def test_the_best_by_keyword_and_by_vector_comes_first_with_its_source(one: Tenant) -> None:
    store, file = await one.indexed("the price of apples", "the colour of pears", "nothing of the kind")
    query = SearchQuery((store.vector_store_id,), "price apples", 2)

    passages = await search(
        one.tenant_id, query, index=one.ports.index, embedder=FakeEmbedder(), counter=EstimatedTokenCounter()
    )

    assert [passage.source.text for passage in passages] == ["the price of apples", "the colour of pears"]
    best = passages[0]
    assert (best.source.file_id, best.source.filename, best.source.page) == (file.file_id, "a.txt", 1)
    assert best.score == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("query", "other", "exact"),
    [
        (
            "error QX-7041",
            "7041 error QX",
            "Only this page explains it at length, and among many other things names QX‑7041 once.",
        ),
        (
            "warranty of the vessel",
            "the vessel of warranty",
            "Much is said here of many things, and of the WARRANTY OF\nTHE VESSEL among them.",
        ),
        (
            "order 884213 status",
            "order status 88421",
            "A long list of orders that were sent on that day, all of them: 884212 884213 884214.",
        ),
    ],
)
async def test_an_exact_hit_is_first_although_others_are_in_the_middle_of_both_rankings(
    one: Tenant, query: str, other: str, exact: str
) -> None:
    others = [f"{other} {n}" for n in range(12)]
    store, _ = await one.indexed(*others, exact)

    found = await search(
        one.tenant_id,
        SearchQuery((store.vector_store_id,), query, 3),
        index=one.ports.index,
        embedder=FakeEmbedder(),
        counter=EstimatedTokenCounter(),
    )

    assert found[0].source.text == exact
    assert [passage.score for passage in found] == sorted((passage.score for passage in found), reverse=True)


async def found(one: Tenant, query: SearchQuery) -> list[Passage]:
    return await search(
        one.tenant_id, query, index=one.ports.index, embedder=FakeEmbedder(), counter=EstimatedTokenCounter()
    )


class VectorsFirst:
    """A SearchIndex whose keyword search ends after the search by vector."""

    def __init__(self, index: SearchIndex) -> None:
        self._index = index
        self._near = asyncio.Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._index, name)

    async def vector_search(self, *arguments: Any, **options: Any) -> dict[ChunkKey, float]:
        near = await self._index.vector_search(*arguments, **options)
        self._near.set()
        return near

    async def keyword_search(self, *arguments: Any, **options: Any) -> dict[ChunkKey, float]:
        async with asyncio.timeout(5):
            await self._near.wait()
        return await self._index.keyword_search(*arguments, **options)


async def test_the_search_by_vector_does_not_wait_for_the_one_by_keyword(one: Tenant) -> None:
    store, _ = await one.indexed("the price of apples", "the colour of pears")

    passages = await search(
        one.tenant_id,
        SearchQuery((store.vector_store_id,), "price apples", 1),
        index=VectorsFirst(one.ports.index),
        embedder=FakeEmbedder(),
        counter=EstimatedTokenCounter(),
    )

    assert [passage.source.text for passage in passages] == ["the price of apples"]


class KeywordsHang:
    """A SearchIndex whose keyword search ends only when it is cancelled."""

    def __init__(self, index: SearchIndex) -> None:
        self._index = index
        self.running = 0
        self.begun = asyncio.Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._index, name)

    async def keyword_search(self, *_: Any, **__: Any) -> dict[ChunkKey, float]:
        self.running += 1
        self.begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.running -= 1
        return {}


async def test_a_search_that_fails_leaves_no_statement_running(one: Tenant) -> None:
    store, _ = await one.indexed("text")
    index = KeywordsHang(one.ports.index)

    class Failing(FakeEmbedder):
        async def embed(self, texts: Sequence[str]) -> list[Vector]:
            await index.begun.wait()
            raise Unavailable("the orchestrator does not answer")

    query = SearchQuery((store.vector_store_id,), "text", 5)
    with pytest.raises(Unavailable, match="the orchestrator does not answer"):
        await search(one.tenant_id, query, index=index, embedder=Failing(), counter=EstimatedTokenCounter())

    assert index.running == 0


async def test_a_search_with_a_filter_finds_the_files_that_fit_alone_and_exact_hits_too(one: Tenant) -> None:
    store, _ = await one.indexed("the code QX-7041 of theirs", attributes={"of": "them"})
    for n in range(30):
        await one.indexed(f"the code of theirs {n}", store=store, attributes={"of": "them"})
        await one.indexed(f"our other code {n}", store=store, attributes={"of": "us"})
    await one.indexed("at length, and among much else, our code QX-7041", store=store, attributes={"of": "us"})
    ours = to_filter({"type": "eq", "key": "of", "value": "us"})

    passages = await found(one, SearchQuery((store.vector_store_id,), "code QX-7041", 50, ours))

    assert len(passages) == 31
    assert {passage.source.attributes["of"] for passage in passages} == {"us"}
    assert passages[0].source.text.endswith("QX-7041")


async def test_a_search_whose_filter_no_file_fits_is_not_embedded(one: Tenant) -> None:
    store, _ = await one.indexed("text", attributes={"year": 2024})
    embedder = FakeEmbedder()
    query = SearchQuery((store.vector_store_id,), "text", 5, to_filter({"type": "in", "key": "year", "value": []}))

    passages = await search(
        one.tenant_id, query, index=one.ports.index, embedder=embedder, counter=EstimatedTokenCounter()
    )

    assert (passages, embedder.calls) == ([], [])


async def test_passages_with_less_than_the_least_score_are_left_out(one: Tenant) -> None:
    store, _ = await one.indexed("the price of apples", "the colour of pears", "nothing of the kind")
    stores = (store.vector_store_id,)
    scores = [passage.score for passage in await found(one, SearchQuery(stores, "price apples", 9))]

    kept = await found(one, SearchQuery(stores, "price apples", 9, min_score=scores[1]))

    assert [passage.score for passage in kept] == scores[:2]
    assert scores[2] < scores[1]


async def test_without_a_second_ranking_exact_hits_are_not_put_first(one: Tenant) -> None:
    exact = "Only this page explains it at length, and among many other things names QX-7041 once."
    store, _ = await one.indexed(*(f"7041 error QX {n}" for n in range(30)), exact)
    stores = (store.vector_store_id,)

    by_fusion = await found(one, SearchQuery(stores, "error QX-7041", 50, ranker=Ranker.FUSION))

    assert by_fusion[0].source.text != exact
    assert (await found(one, SearchQuery(stores, "error QX-7041", 50)))[0].source.text == exact


@pytest.mark.parametrize("score", [-0.1, 1.1, float("nan")])
def test_a_least_score_that_is_none_is_rejected(score: float) -> None:
    with pytest.raises(InvalidRequest) as refused:
        SearchQuery(("vs_1",), "q", 5, min_score=score)
    assert refused.value.param == "min_score"


async def test_a_query_of_empty_stores_is_not_embedded(one: Tenant) -> None:
    store, embedder = await one.store(), FakeEmbedder()

    assert (
        await search(
            one.tenant_id,
            SearchQuery((store.vector_store_id,), "q", 5),
            index=one.ports.index,
            embedder=embedder,
            counter=EstimatedTokenCounter(),
        )
        == []
    )
    assert embedder.calls == []


async def test_an_unknown_store_is_rejected_before_the_query_is_embedded(one: Tenant) -> None:
    store, _ = await one.indexed("text")
    embedder = FakeEmbedder()

    with pytest.raises(VectorStoreNotFound):
        await search(
            one.tenant_id,
            SearchQuery((store.vector_store_id, "vs_unknown"), "q", 5),
            index=one.ports.index,
            embedder=embedder,
            counter=EstimatedTokenCounter(),
        )
    assert embedder.calls == []


async def test_a_search_fails_without_the_embedder(one: Tenant) -> None:
    store, _ = await one.indexed("text")
    embedder = FakeEmbedder()
    embedder.errors = [Unavailable("the orchestrator does not answer")]

    with pytest.raises(Unavailable):
        await search(
            one.tenant_id,
            SearchQuery((store.vector_store_id,), "text", 5),
            index=one.ports.index,
            embedder=embedder,
            counter=EstimatedTokenCounter(),
        )


@pytest.mark.parametrize(
    ("stores", "query", "param"),
    [
        ((), "q", "vector_store_ids"),
        (tuple(f"vs_{n}" for n in range(11)), "q", "vector_store_ids"),
        (("vs_1",), "", "query"),
        (("vs_1",), " \n", "query"),
        (("vs_1",), "a\0b", "query"),
        (("vs_1",), "q" * 8_193, "query"),
    ],
)
def test_an_invalid_query_is_rejected(stores: tuple[str, ...], query: str, param: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        SearchQuery(stores, query, 5)
    assert refused.value.param == param
