"""The search index in memory, on the tables of `fakes`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from retrieval.embeddings.model import FIRST_SPACE, EmbeddingSpace, Vector
from retrieval.ingestion.model import EmbeddedChunk
from retrieval.search.feedback import Candidate, Relevant
from retrieval.search.model import ChunkKey, ChunkText, StoreContents, StoreSpaceChanged
from retrieval.vector_stores.model import VectorStoreNotFound
from values.attributes import Filter

from services.retrieval.tests.fake_feedback import best, candidates_of, relevant_of
from services.retrieval.tests.fakes import InMemoryDatabase, Row
from services.retrieval.tests.texts import bm25, cosine, words

FIRST_SPACES: Mapping[str, EmbeddingSpace] = {}


class FakeSearchIndex:
    """Cosine distance and BM25, without stems and stop words."""

    def __init__(self, database: InMemoryDatabase) -> None:
        self._database = database

    async def contents(
        self, tenant_id: str, vector_store_ids: Sequence[str], filters: Filter | None = None
    ) -> StoreContents:
        for vector_store_id in vector_store_ids:
            if (tenant_id, vector_store_id) not in self._database.stores:
                raise VectorStoreNotFound(f"there is no vector store {vector_store_id!r}", param="vector_store_id")
            self._database.use(tenant_id, vector_store_id)
        spaces = {store: self._database.stores[tenant_id, store].space for store in vector_store_ids}
        return StoreContents(len(self._chunks(tenant_id, vector_store_ids, filters)), spaces)

    async def vector_search(
        self,
        tenant_id: str,
        vector_store_ids: Sequence[str],
        vector: Vector,
        limit: int,
        filters: Filter | None = None,
        *,
        spaces: Mapping[str, EmbeddingSpace] = FIRST_SPACES,
        chunks: int = 0,
    ) -> dict[ChunkKey, float]:
        for store in vector_store_ids:
            row = self._database.stores.get((tenant_id, store))
            if row is not None and row.space.number != spaces.get(store, FIRST_SPACE).number:
                raise StoreSpaceChanged
        own = self._chunks(tenant_id, vector_store_ids, filters, spaces)
        return best({key: cosine(item.vector, vector) for key, item in own.items()}, limit)

    async def keyword_search(
        self,
        tenant_id: str,
        vector_store_ids: Sequence[str],
        query: str,
        limit: int,
        filters: Filter | None = None,
        *,
        chunks: int = 0,
    ) -> dict[ChunkKey, float]:
        found = self._chunks(tenant_id, vector_store_ids, filters)
        documents = {key: Counter(words(item.chunk.text)) for key, item in found.items()}
        return best(bm25(set(words(query)), documents), limit)

    async def relevant(
        self,
        tenant_id: str,
        keys: Collection[ChunkKey],
        query: str,
        spaces: Mapping[str, EmbeddingSpace] = FIRST_SPACES,
    ) -> tuple[Mapping[str, float], list[Relevant]]:
        return relevant_of(self._chunks(tenant_id, [key.vector_store_id for key in keys], None, spaces), keys, query)

    async def candidates(
        self,
        tenant_id: str,
        keys: Collection[ChunkKey],
        vector: Sequence[float],
        lexemes: Sequence[str],
        spaces: Mapping[str, EmbeddingSpace] = FIRST_SPACES,
    ) -> dict[ChunkKey, Candidate]:
        chunks = self._chunks(tenant_id, [key.vector_store_id for key in keys], None, spaces)
        return candidates_of(chunks, keys, vector, lexemes)

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
        self,
        tenant_id: str,
        vector_store_ids: Sequence[str],
        filters: Filter | None = None,
        spaces: Mapping[str, EmbeddingSpace] = FIRST_SPACES,
    ) -> dict[ChunkKey, EmbeddedChunk]:
        return {
            ChunkKey(row.key.vector_store_id, row.number, item.chunk.ordinal): self._in_space(row, item, spaces)
            for row in self._database.completed(tenant_id, vector_store_ids, filters)
            for item in row.stored
        }

    def _in_space(self, row: Row, item: EmbeddedChunk, spaces: Mapping[str, EmbeddingSpace]) -> EmbeddedChunk:
        """The chunk with its vector in the space of its store."""
        store = row.key.vector_store_id
        number = spaces.get(store, FIRST_SPACE).number
        if not number:
            return item
        return replace(item, vector=self._database.vectors[store, number, row.number, item.chunk.ordinal].vector)
