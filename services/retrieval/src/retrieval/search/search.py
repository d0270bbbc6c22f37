"""Hybrid search: a vector search and a keyword search, fused by rank; exact hits first."""

import asyncio
from collections.abc import Sequence
from typing import Protocol

from retrieval.chunking.token_counter import TokenCounter
from retrieval.embeddings.model import Embedder, Vector
from retrieval.search.exact import to_wanted
from retrieval.search.model import ChunkKey, ChunkText, Passage, SearchQuery
from retrieval.search.rank import reciprocal_rank_fusion
from retrieval.search.windows import best_of, search_vectors, split_query

CANDIDATES = 100
# Of these many best by keyword the texts are read, for a query that has a phrase or a code.
EXACT_CANDIDATES = 50
DEFAULT_PASSAGES = 10


class SearchIndex(Protocol):
    """The chunks of completed attachments."""

    async def count_chunks(self, tenant_id: str, vector_store_ids: Sequence[str]) -> int:
        """Chunks in all the stores. Raises VectorStoreNotFound if one of them is unknown."""

    async def vector_search(
        self, tenant_id: str, vector_store_ids: Sequence[str], vector: Vector, limit: int
    ) -> list[ChunkKey]:
        """By cosine distance, nearest first."""

    async def keyword_search(
        self, tenant_id: str, vector_store_ids: Sequence[str], query: str, limit: int
    ) -> list[ChunkKey]:
        """By BM25 over all the stores as one collection, best first; only chunks with a keyword of the query."""

    async def chunk_texts(self, tenant_id: str, keys: Sequence[ChunkKey]) -> dict[ChunkKey, ChunkText]:
        """The texts by key, without chunks that were deleted meanwhile."""


async def search(
    tenant_id: str, query: SearchQuery, *, index: SearchIndex, embedder: Embedder, counter: TokenCounter
) -> list[Passage]:
    """The best passages, best first. Raises InvalidRequest, VectorStoreNotFound, and the embedder's errors.

    A search fails without the embedder: results of the keyword search alone would look complete.
    """
    stores = query.vector_store_ids
    if not await index.count_chunks(tenant_id, stores):
        return []  # Without chunks the query is not embedded, so the tenant does not pay for it.
    vectors, by_keyword = await asyncio.gather(
        embedder.embed(split_query(query.query, counter)),
        index.keyword_search(tenant_id, stores, query.query, CANDIDATES),
    )
    by_window = [await index.vector_search(tenant_id, stores, vector, CANDIDATES) for vector in search_vectors(vectors)]
    fused = reciprocal_rank_fusion([best_of(by_window), by_keyword])
    wanted = to_wanted(query.query)
    # Exact hits have all words, so they are among the best by keyword.
    exact = by_keyword[:EXACT_CANDIDATES] if wanted else []
    keys = dict.fromkeys([*(key for key, _ in fused[: query.limit]), *exact])
    texts = await index.chunk_texts(tenant_id, list(keys))
    ranked = [(score + wanted.exactness(texts[key].text), key) for key, score in fused if key in texts]
    best = sorted(ranked, key=lambda item: -item[0])[: query.limit]
    return [Passage(key.vector_store_id, texts[key], score) for score, key in best]
