"""Windows of long queries."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import pytest
from retrieval.chunking.token_counter import EstimatedTokenCounter
from retrieval.embeddings.model import Vector
from retrieval.search.model import ChunkKey, SearchQuery
from retrieval.search.search import SearchIndex, search
from retrieval.search.windows import READ_TOKENS, WINDOW_TOKENS, best_of, search_vectors, split_query

from services.retrieval.tests.fake_peers import FakeEmbedder
from services.retrieval.tests.tenants import Tenant
from services.retrieval.tests.texts import a_vector

COUNTER = EstimatedTokenCounter()
FILLER = "The committee met again on that day and read the minutes of the meeting before. " * 60
QUESTION = "Which zebras graze near lighthouses?"


class ShortSightedEmbedder(FakeEmbedder):
    """Reads the beginning of a text, as MiniLM does."""

    async def embed(self, texts: Sequence[str]) -> list[Vector]:
        await super().embed(texts)
        return [a_vector(" ".join(text.split()[:200])) for text in texts]


class VectorsAlone:
    """An index that finds nothing by keyword."""

    def __init__(self, index: SearchIndex) -> None:
        self.contents, self.vector_search, self.chunk_texts = (
            index.contents,
            index.vector_search,
            index.chunk_texts,
        )
        self.relevant, self.candidates = index.relevant, index.candidates

    async def keyword_search(self, *_: object, **__: object) -> dict[ChunkKey, float]:
        return {}


@pytest.mark.parametrize("query", [f"{FILLER} {QUESTION}", f"{QUESTION} {FILLER}"], ids=["at the end", "first"])
async def test_what_a_long_message_asks_at_either_end_is_found(one: Tenant, query: str) -> None:
    others = [f"entry {n} of a ledger" for n in range(30)]
    store, _ = await one.indexed(*others, "zebras graze near lighthouses")
    asked = SearchQuery((store.vector_store_id,), query[:8_192], 3)

    found = await search(
        one.tenant_id, asked, index=VectorsAlone(one.ports.index), embedder=ShortSightedEmbedder(), counter=COUNTER
    )

    assert "zebras graze near lighthouses" in [passage.source.text for passage in found]


def test_all_of_a_query_is_in_windows_that_the_model_reads_whole() -> None:
    windows = split_query(FILLER + QUESTION, COUNTER)

    assert max(COUNTER.count(windows)) <= WINDOW_TOKENS
    assert windows[-1].endswith(QUESTION)
    assert set((FILLER + QUESTION).split()) == {word for window in windows for word in window.split()}


@pytest.mark.parametrize("query", ["a", QUESTION, "word " * 120, "x" * READ_TOKENS])
def test_a_query_that_the_model_reads_whole_is_sent_as_it_is(query: str) -> None:
    assert split_query(query, COUNTER) == [query]


def test_the_end_the_beginning_and_the_mean_are_searched() -> None:
    one, two, three = (Vector(struct.pack("<2f", *pair)) for pair in ((1.0, 0.0), (0.0, 1.0), (0.5, 0.5)))

    assert search_vectors([one]) == [one]
    assert search_vectors([one, two]) == [two, one]
    assert search_vectors([one, two, three]) == [three, one, Vector(struct.pack("<2f", 0.5, 0.5))]


def test_the_best_place_of_a_key_counts() -> None:
    assert best_of([["a", "b", "c"]]) == ["a", "b", "c"]
    assert best_of([["a", "b", "c"], ["c", "d", "a"]]) == ["a", "c", "b", "d"]
