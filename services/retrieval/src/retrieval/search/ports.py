"""What search needs from the database."""

from collections.abc import Sequence
from typing import Protocol

from retrieval.embeddings.model import Vector
from retrieval.search.model import ChunkKey, ChunkText


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
