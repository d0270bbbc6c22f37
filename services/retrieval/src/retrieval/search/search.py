"""Hybrid search: by words and by meaning, joined by rank."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from chassis.errors import InvalidRequest

from retrieval.domain.embedding import Embedder, Vector
from retrieval.domain.ranking import fuse

CANDIDATES = 100
MOST_STORES = 10
MOST_PASSAGES = 50
DEFAULT_PASSAGES = 10
MOST_QUERY_CHARACTERS = 8_192


@dataclass(frozen=True, slots=True)
class ChunkKey:
    """Where a chunk is: `attachment` is the index's own number of a file in a store."""

    vector_store_id: str
    attachment: int
    ordinal: int


@dataclass(frozen=True, slots=True)
class Text:
    """A chunk's text and where it is from."""

    file_id: str
    filename: str
    page: int
    text: str


@dataclass(frozen=True, slots=True)
class Passage:
    """A chunk that was found; a higher score is better, and only comparable within one answer."""

    vector_store_id: str
    source: Text
    score: float


class Index(Protocol):
    """The chunks of completed attachments."""

    async def size(self, tenant_id: str, vector_store_ids: Sequence[str]) -> int:
        """How many chunks the stores hold. Raises VectorStoreNotFound if one of them is unknown."""

    async def nearest(
        self, tenant_id: str, vector_store_ids: Sequence[str], vector: Vector, limit: int
    ) -> list[ChunkKey]:
        """By cosine distance, nearest first."""

    async def matching(self, tenant_id: str, vector_store_ids: Sequence[str], query: str, limit: int) -> list[ChunkKey]:
        """By BM25 over all the stores as one collection, best first; only chunks with a word of the query."""

    async def texts(self, tenant_id: str, keys: Sequence[ChunkKey]) -> dict[ChunkKey, Text]:
        """Without those that were removed meanwhile."""


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked of which stores; refuses to exist when it cannot be answered."""

    vector_store_ids: tuple[str, ...]
    query: str
    limit: int

    def __post_init__(self) -> None:
        if not 1 <= len(self.vector_store_ids) <= MOST_STORES:
            raise InvalidRequest(f"name 1 to {MOST_STORES} vector stores", param="vector_store_ids")
        if not self.query.strip() or "\0" in self.query:
            raise InvalidRequest("query must not be empty", param="query")
        if len(self.query) > MOST_QUERY_CHARACTERS:
            raise InvalidRequest(f"query may have at most {MOST_QUERY_CHARACTERS} characters", param="query")


async def search(tenant_id: str, question: Question, *, index: Index, embedder: Embedder) -> list[Passage]:
    """The best passages, best first. Raises InvalidRequest, VectorStoreNotFound, and what the embedder raises.

    Without the embedder there is no answer: half of a ranking would look like a whole one.
    """
    stores = question.vector_store_ids
    if not await index.size(tenant_id, stores):
        return []  # Nothing to find, so nothing to pay for.
    # Words are looked up while the query is being embedded.
    [vector], words = await asyncio.gather(
        embedder.embed([question.query]), index.matching(tenant_id, stores, question.query, CANDIDATES)
    )
    meaning = await index.nearest(tenant_id, stores, vector, CANDIDATES)
    best = fuse([meaning, words])[: question.limit]
    texts = await index.texts(tenant_id, [key for key, _ in best])
    return [Passage(key.vector_store_id, texts[key], score) for key, score in best if key in texts]
