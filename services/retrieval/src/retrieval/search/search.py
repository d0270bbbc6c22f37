"""Hybrid search: a vector and a keyword search, fused by rank, then ranked by feedback; exact hits first."""

import asyncio
from collections.abc import Collection, Coroutine, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from chassis.errors import Unavailable
from values.attributes import Filter

from retrieval.chunking.token_counter import TokenCounter
from retrieval.embeddings.model import Embedder, EmbeddingSpace, Vector, embedder_of, to_floats
from retrieval.search.exact import NOTHING, to_wanted
from retrieval.search.feedback import (
    MAX_CANDIDATES,
    MIN_CANDIDATES,
    RELEVANT,
    Candidate,
    Relevant,
    agree,
    expanded,
    feedback_scores,
    mean_score,
    moved,
)
from retrieval.search.model import (
    ChunkKey,
    ChunkText,
    Passage,
    Ranker,
    SearchQuery,
    StoreContents,
    StoreSpaceChanged,
)
from retrieval.search.rank import reciprocal_rank_fusion, relative
from retrieval.search.windows import best_of, search_vectors, split_query

CANDIDATES = 100
# Of these many best by keyword the texts are read, for a query that has a phrase or a code.
EXACT_CANDIDATES = 50
DEFAULT_PASSAGES = 10
# So much more than all else that a passage with two of three codes is before all with one.
EXACT_WEIGHT = 10.0
# A store changes at most once in a search, unless its owner migrates it without a pause.
MAX_SPACE_CHANGES = 3

Key = TypeVar("Key")
Near = TypeVar("Near")
Hits = TypeVar("Hits")


class SearchIndex(Protocol):
    """The chunks of completed attachments. With `filters`, of those alone whose attributes fit."""

    async def contents(
        self, tenant_id: str, vector_store_ids: Sequence[str], filters: Filter | None = None
    ) -> StoreContents:
        """Chunks in all the stores, which are in use now, and their spaces.

        Raises VectorStoreNotFound if one of them is unknown, VectorStoreExpired if one has expired.
        """

    async def vector_search(
        self,
        tenant_id: str,
        vector_store_ids: Sequence[str],
        vector: Vector,
        limit: int,
        filters: Filter | None = None,
        *,
        spaces: Mapping[str, EmbeddingSpace] = ...,
        chunks: int = ...,
    ) -> dict[ChunkKey, float]:
        """The nearest chunks with their cosines, nearest first; all of them, or `limit`, where there are `chunks`.

        `spaces` are those of the stores, the first space for those that it does not name; all are of one model. Raises
        StoreSpaceChanged when a store has another one by now.
        """

    async def keyword_search(
        self,
        tenant_id: str,
        vector_store_ids: Sequence[str],
        query: str,
        limit: int,
        filters: Filter | None = None,
        *,
        chunks: int = ...,
    ) -> dict[ChunkKey, float]:
        """BM25 over all the stores as one collection, best first; only chunks with a keyword of the query.

        Of stores with many `chunks` those that have common words alone may be left out.
        """

    async def relevant(
        self,
        tenant_id: str,
        keys: Collection[ChunkKey],
        query: str,
        spaces: Mapping[str, EmbeddingSpace] = ...,
    ) -> tuple[Mapping[str, float], list[Relevant]]:
        """The lexemes that are searched for, and these chunks, without those that were deleted meanwhile.

        With each lexeme comes the share of its word in the query. All stems of a word have all of that share, because a
        passage is expected to have one of them.
        """

    async def candidates(
        self,
        tenant_id: str,
        keys: Collection[ChunkKey],
        vector: Sequence[float],
        lexemes: Sequence[str],
        spaces: Mapping[str, EmbeddingSpace] = ...,
    ) -> dict[ChunkKey, Candidate]:
        """The chunks' nearness to the vector, and their frequencies of the lexemes; without deleted chunks."""

    async def chunk_texts(self, tenant_id: str, keys: Collection[ChunkKey]) -> dict[ChunkKey, ChunkText]:
        """The texts by key, without chunks that were deleted meanwhile."""


async def search(
    tenant_id: str, query: SearchQuery, *, index: SearchIndex, embedder: Embedder, counter: TokenCounter
) -> list[Passage]:
    """The best passages, best first. Raises InvalidRequest, VectorStoreNotFound, and the embedder's errors.

    A search fails without the embedder: results of the keyword search alone would look complete. It begins anew when a
    store changes to another embedding model before its vectors are read.
    """
    for _ in range(MAX_SPACE_CHANGES):
        with suppress(StoreSpaceChanged):
            return await _search(tenant_id, query, index, embedder, counter)
    raise Unavailable("the vector store keeps changing its embedding model; try again")


async def _search(
    tenant_id: str, query: SearchQuery, index: SearchIndex, embedder: Embedder, counter: TokenCounter
) -> list[Passage]:
    stores, filters = query.vector_store_ids, query.filters
    contents = await index.contents(tenant_id, stores, filters)
    if not contents.chunks:
        return []  # Without chunks the query is not embedded, so the tenant does not pay for it.
    texts_to_embed = split_query(query.query, counter)

    async def near(own: Embedder, of_model: Sequence[str]) -> list[tuple[Vector, dict[ChunkKey, float]]]:
        """Each vector that is searched for, and what is near it."""
        return [
            (
                vector,
                await index.vector_search(
                    *(tenant_id, of_model, vector, CANDIDATES, filters), spaces=contents.spaces, chunks=chunks
                ),
            )
            for vector in search_vectors(await own.embed(texts_to_embed))
        ]

    models = stores_by_model(contents.spaces, embedder)
    # How many of them are in the stores of each of several models is not known.
    chunks = contents.chunks if len(models) == 1 else 0
    by_model, by_keyword = await _together(
        [near(*own) for own in models],
        index.keyword_search(tenant_id, stores, query.query, CANDIDATES, filters, chunks=contents.chunks),
    )
    wanted_vectors = [vector for found in by_model for vector, _ in found]
    by_window = [near_it for found in by_model for _, near_it in found]
    wanted = to_wanted(query.query) if query.ranker is Ranker.AUTO else NOTHING
    # Exact hits have all words, so they are among the best by keyword.
    exact = list(by_keyword)[:EXACT_CANDIDATES] if wanted else []
    found = _Found(tenant_id, query.query, by_window, by_keyword, index, contents.spaces)
    if query.ranker is Ranker.AUTO and len(wanted_vectors) == 1 and found.knows_relevant():
        scores = await found.by_feedback(wanted_vectors[0], exact)
    else:
        scores = found.by_rank()
    ranked = sorted(scores, key=lambda key: -scores[key])
    texts = await index.chunk_texts(tenant_id, list(dict.fromkeys([*ranked[: query.limit], *exact])))
    final = exact_first(scores, {key: wanted.exactness(texts[key].text) for key in ranked if key in texts})
    good = (key for key in final if final[key] >= query.min_score)
    best = sorted(good, key=lambda key: -final[key])[: query.limit]
    return [Passage(key.vector_store_id, texts[key], final[key]) for key in best]


async def _together(
    searches: Iterable[Coroutine[Any, Any, Near]], keywords: Coroutine[Any, Any, Hits]
) -> tuple[list[Near], Hits]:
    """Run all at once. The first error cancels the others, which would hold connections for a search that has ended."""
    try:
        async with asyncio.TaskGroup() as group:
            near = [group.create_task(search) for search in searches]
            by_keyword = group.create_task(keywords)
    except ExceptionGroup as errors:
        raise errors.exceptions[0] from None
    return [task.result() for task in near], by_keyword.result()


def stores_by_model(
    spaces: Mapping[str, EmbeddingSpace], embedder: Embedder
) -> Sequence[tuple[Embedder, Sequence[str]]]:
    """The embedder of each model, with the stores that have it. Vectors of two models cannot be compared."""
    grouped: dict[str, tuple[Embedder, list[str]]] = {}
    for store, space in spaces.items():
        own = embedder_of(embedder, space.model)
        grouped.setdefault(own.model, (own, []))[1].append(store)
    return list(grouped.values())


@dataclass(frozen=True, slots=True)
class _Found:
    """What the searches by the vector of each window and by keyword have found for a query, and two ways to rank it."""

    tenant_id: str
    query: str
    by_window: Sequence[Mapping[ChunkKey, float]]
    by_keyword: Mapping[ChunkKey, float]
    index: SearchIndex
    spaces: Mapping[str, EmbeddingSpace]

    def knows_relevant(self) -> bool:
        """Whether the best few can be taken for relevant: there are many others, and both searches found them."""
        [near] = self.by_window
        return len({*near, *self.by_keyword}) >= MIN_CANDIDATES and agree(near, self.by_keyword)

    def by_rank(self) -> dict[ChunkKey, float]:
        """For few passages, where the searches disagree, and for long messages, which are about several things."""
        nearest = best_of([list(near) for near in self.by_window])
        return relative(reciprocal_rank_fusion([nearest, list(self.by_keyword)]), 2)

    async def by_feedback(self, vector: Vector, also: Sequence[ChunkKey]) -> dict[ChunkKey, float]:
        """Scores of the best hundred, and of those in `also`, by what the best of them have in common."""
        [near] = self.by_window
        far = [key for key in self.by_keyword if key not in near]
        farther = await self._candidates(far, to_floats(vector), ()) if far else {}
        first = mean_score({**near, **{key: candidate.nearness for key, candidate in farther.items()}}, self.by_keyword)
        keys = list(dict.fromkeys([*list(first)[:MAX_CANDIDATES], *also]))
        lexemes, relevant = await self.index.relevant(self.tenant_id, keys[:RELEVANT], self.query, self.spaces)
        if not relevant:
            return first
        weights = expanded(lexemes, relevant)
        candidates = await self._candidates(keys, moved(vector, relevant), list(weights))
        return feedback_scores(weights, {key: candidates[key] for key in keys if key in candidates})

    async def _candidates(
        self, keys: Collection[ChunkKey], vector: Sequence[float], lexemes: Sequence[str]
    ) -> dict[ChunkKey, Candidate]:
        return await self.index.candidates(self.tenant_id, keys, vector, lexemes, self.spaces)


def exact_first(scores: Mapping[Key, float], exactness: Mapping[Key, float]) -> dict[Key, float]:
    """The scores, from 0 to 1, of the chunks in `exactness`; one with a code is before all that have fewer."""
    if not any(exactness.values()):
        return {key: scores[key] for key in exactness}
    return {key: (scores[key] + EXACT_WEIGHT * share) / (1 + EXACT_WEIGHT) for key, share in exactness.items()}
