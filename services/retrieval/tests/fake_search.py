"""The search index in memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence

from retrieval.embeddings.model import Vector
from retrieval.ingestion.model import EmbeddedChunk
from retrieval.search.feedback import Candidate, Relevant
from retrieval.search.model import ChunkKey, ChunkText
from retrieval.vector_stores.model import VectorStoreNotFound
from values.attributes import Filter

from services.retrieval.tests.fake_feedback import best, candidates_of, relevant_of
from services.retrieval.tests.fakes import InMemoryDatabase
from services.retrieval.tests.texts import bm25, cosine, words


class FakeSearchIndex:
    """Cosine distance and BM25, without stems and stop words."""

    def __init__(self, database: InMemoryDatabase) -> None:
        self._database = database

    async def count_chunks(self, tenant_id: str, vector_store_ids: Sequence[str], filters: Filter | None = None) -> int:
        for vector_store_id in vector_store_ids:
            if (tenant_id, vector_store_id) not in self._database.stores:
                raise VectorStoreNotFound(f"there is no vector store {vector_store_id!r}", param="vector_store_id")
            self._database.use(tenant_id, vector_store_id)
        return len(self._chunks(tenant_id, vector_store_ids, filters))

    async def vector_search(
        self,
        tenant_id: str,
        vector_store_ids: Sequence[str],
        vector: Vector,
        limit: int,
        filters: Filter | None = None,
    ) -> dict[ChunkKey, float]:
        chunks = self._chunks(tenant_id, vector_store_ids, filters)
        return best({key: cosine(item.vector, vector) for key, item in chunks.items()}, limit)

    async def keyword_search(
        self,
        tenant_id: str,
        vector_store_ids: Sequence[str],
        query: str,
        limit: int,
        filters: Filter | None = None,
    ) -> dict[ChunkKey, float]:
        chunks = self._chunks(tenant_id, vector_store_ids, filters)
        documents = {key: Counter(words(item.chunk.text)) for key, item in chunks.items()}
        return best(bm25(set(words(query)), documents), limit)

    async def relevant(
        self, tenant_id: str, keys: Collection[ChunkKey], query: str
    ) -> tuple[list[str], list[Relevant]]:
        return relevant_of(self._chunks(tenant_id, [key.vector_store_id for key in keys]), keys, query)

    async def candidates(
        self, tenant_id: str, keys: Collection[ChunkKey], vector: Sequence[float], lexemes: Sequence[str]
    ) -> dict[ChunkKey, Candidate]:
        return candidates_of(self._chunks(tenant_id, [key.vector_store_id for key in keys]), keys, vector, lexemes)

    async def chunk_texts(self, tenant_id: str, keys: Collection[ChunkKey]) -> dict[ChunkKey, ChunkText]:
        found = {}
        for row in self._database.completed(tenant_id, [key.vector_store_id for key in keys]):
            file = self._database.files[tenant_id, row.key.file_id]
            for item in row.stored:
                key = ChunkKey(row.key.vector_store_id, row.number, item.chunk.ordinal)
                if key in keys:
                    found[key] = ChunkText(
                        file.file_id, file.filename, item.chunk.page, item.chunk.text, row.attributes
                    )
        return found

    def _chunks(
        self, tenant_id: str, vector_store_ids: Sequence[str], filters: Filter | None = None
    ) -> dict[ChunkKey, EmbeddedChunk]:
        return {
            ChunkKey(row.key.vector_store_id, row.number, item.chunk.ordinal): item
            for row in self._database.completed(tenant_id, vector_store_ids, filters)
            for item in row.stored
        }
