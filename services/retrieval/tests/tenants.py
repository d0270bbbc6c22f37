"""Tenants for one test, with helpers that give them files and stores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from chassis.ids import new_id
from chassis.testing import a_principal
from retrieval.chunking.splitter import Chunk
from retrieval.deletions.delete import DeletionQueue
from retrieval.embeddings.model import fingerprint
from retrieval.file_batches.ports import FileBatches
from retrieval.files.model import File, FileMetadata
from retrieval.files.ports import Files
from retrieval.ingestion.model import Claim, EmbeddedChunk
from retrieval.ingestion.ports import IngestionStore
from retrieval.search.search import SearchIndex
from retrieval.store_migrations.ports import MigrationRuns, StoreMigrations
from retrieval.vector_stores.model import AttachmentKey, VectorStore
from retrieval.vector_stores.ports import VectorStores
from values.attributes import Attributes

from services.retrieval.tests.texts import a_vector

NOW, LONG = timedelta(0), timedelta(hours=1)


@dataclass
class Ports:
    """One implementation of each port with state."""

    files: Files
    stores: VectorStores
    ingestion_store: IngestionStore
    index: SearchIndex
    deletions: DeletionQueue
    batches: FileBatches
    migrations: StoreMigrations
    migration_runs: MigrationRuns


@dataclass
class Tenant:
    """A tenant for one test."""

    ports: Ports
    tenant_id: str

    async def file(self, filename: str = "a.txt", purpose: str = "assistants") -> File:
        file_id = new_id("file-")
        await self.ports.files.begin_upload(self.tenant_id, file_id, LONG)
        return await self.ports.files.commit_upload(self.tenant_id, file_id, FileMetadata(filename, purpose), 10)

    async def store(self, *file_ids: str) -> VectorStore:
        return await self.ports.stores.create(a_principal(self.tenant_id), "a store", file_ids)

    async def claimed(self, lease: timedelta = LONG) -> Claim:
        """A claim on a new file in a new store."""
        file = await self.file()
        store = await self.store(file.file_id)
        return await self.claim(store.vector_store_id, file.file_id, lease)

    async def claim(self, vector_store_id: str, file_id: str, lease: timedelta = LONG) -> Claim:
        claim = await self.ports.ingestion_store.claim(AttachmentKey(self.tenant_id, vector_store_id, file_id), lease)
        assert claim is not None
        return claim

    async def indexed(
        self, *texts: str, store: VectorStore | None = None, attributes: Attributes | None = None
    ) -> tuple[VectorStore, File]:
        """A completed file of these chunks."""
        file = await self.file()
        store = store or await self.store()
        principal = a_principal(self.tenant_id)
        await self.ports.stores.attach(principal, store.vector_store_id, file.file_id, attributes=attributes)
        claim = await self.claim(store.vector_store_id, file.file_id)
        await self.ports.ingestion_store.add_chunks(claim, embedded(texts), LONG)
        while await self.ports.ingestion_store.index_keywords(claim, LONG):
            pass
        await self.ports.ingestion_store.complete(claim)
        return store, file


def embedded(texts: Sequence[str], first: int = 0) -> list[EmbeddedChunk]:
    return [
        EmbeddedChunk(Chunk(first + n, n + 1, text), fingerprint("fake", text), a_vector(text))
        for n, text in enumerate(texts)
    ]
