"""Tenants of a test's own, and the ways to give them something."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from chassis.ids import new_id
from chassis.testing import a_principal
from retrieval.domain.chunking import Chunk
from retrieval.domain.embedding import fingerprint
from retrieval.domain.files import Description, File, Files
from retrieval.domain.ingestion import AttachmentKey, Claim, EmbeddedChunk, Ingests
from retrieval.domain.removal import Removals
from retrieval.domain.searching import Index
from retrieval.domain.vector_stores import VectorStore, VectorStores

from services.retrieval.tests.texts import a_vector

NOW, LONG = timedelta(0), timedelta(hours=1)


@dataclass
class Ports:
    """One implementation of all that has state."""

    files: Files
    stores: VectorStores
    ingests: Ingests
    index: Index
    removals: Removals


@dataclass
class Tenant:
    """A tenant of a test's own, and the ways to give it something."""

    ports: Ports
    tenant_id: str

    async def file(self, filename: str = "a.txt", purpose: str = "assistants") -> File:
        file_id = new_id("file-")
        await self.ports.files.intend(self.tenant_id, file_id, LONG)
        return await self.ports.files.record(self.tenant_id, file_id, Description(filename, purpose), 10)

    async def store(self, *file_ids: str) -> VectorStore:
        return await self.ports.stores.create(a_principal(self.tenant_id), "a store", file_ids)

    async def claimed(self, lease: timedelta = LONG) -> Claim:
        """A claim on a file that was just attached to a store of its own."""
        file = await self.file()
        store = await self.store(file.file_id)
        return await self.claim(store.vector_store_id, file.file_id, lease)

    async def claim(self, vector_store_id: str, file_id: str, lease: timedelta = LONG) -> Claim:
        claim = await self.ports.ingests.claim(AttachmentKey(self.tenant_id, vector_store_id, file_id), lease)
        assert claim is not None
        return claim

    async def indexed(self, *texts: str, store: VectorStore | None = None) -> tuple[VectorStore, File]:
        """A file of these chunks, completed."""
        file = await self.file()
        store = store or await self.store()
        await self.ports.stores.attach(a_principal(self.tenant_id), store.vector_store_id, file.file_id)
        claim = await self.claim(store.vector_store_id, file.file_id)
        await self.ports.ingests.add(claim, embedded(texts), LONG)
        while await self.ports.ingests.index_words(claim, LONG):
            pass
        await self.ports.ingests.complete(claim)
        return store, file


def embedded(texts: Sequence[str], first: int = 0) -> list[EmbeddedChunk]:
    return [
        EmbeddedChunk(Chunk(first + n, n + 1, text), fingerprint("fake", text), a_vector(text))
        for n, text in enumerate(texts)
    ]
