"""A file that waits for ingestion, with its database, object store and embedder in memory."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

from chassis.testing import a_principal, a_signer
from retrieval.chunking.splitter import Chunking
from retrieval.files.model import FileMetadata, object_key
from retrieval.ingestion.embed import ChunkEmbedder
from retrieval.ingestion.run import Ingestion
from retrieval.vector_stores.model import AttachmentKey

from services.retrieval.tests.fake_files import FakeFiles
from services.retrieval.tests.fake_peers import FakeEmbedder, FakeObjectStore, FakeParser
from services.retrieval.tests.fakes import FakeIngestionStore, FakeVectorStores, InMemoryDatabase, Row
from services.retrieval.tests.texts import WordTokenCounter

# Each a page of its own; at two chunks to a batch, three batches and a half.
PAGES = [" ".join(f"p{page}w{n}" for n in range(150)) for page in range(7)]


class IngestionWorld:
    def __init__(self) -> None:
        self.database = InMemoryDatabase()
        self.store = FakeIngestionStore(self.database)
        self.vector_stores = FakeVectorStores(self.database)
        self.files = FakeFiles(self.database)
        self.objects = FakeObjectStore()
        self.embedder = FakeEmbedder()
        self.pauses: list[float] = []

    async def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)

    async def attach(
        self, text: str, file_id: str = "file-1", tenant_id: str = "ten_one", chunking: Chunking | None = None
    ) -> AttachmentKey:
        await self.files.begin_upload(tenant_id, file_id, timedelta(hours=1))
        await self.files.commit_upload(tenant_id, file_id, FileMetadata("a.txt", "assistants"), len(text))
        self.objects.stored[object_key(tenant_id, file_id)] = text.encode()
        store = await self.vector_stores.create(a_principal(tenant_id), "s", [file_id], chunking=chunking)
        return AttachmentKey(tenant_id, store.vector_store_id, file_id)

    def ingestion(self, *, store: Any = None, embedder: Any = None, **changes: Any) -> Ingestion:
        store = store or self.store
        embedder = embedder or self.embedder
        ingestion = Ingestion(
            store=store,
            objects=self.objects,
            parser=FakeParser(),
            token_counter=WordTokenCounter(),
            chunk_embedder=ChunkEmbedder(store, embedder, a_signer(), WordTokenCounter(), sleep=self.sleep),
            has_other_tenants=lambda _: False,
            max_bytes=100_000,
            batch_size=2,
        )
        return replace(ingestion, **changes)

    def row(self, key: AttachmentKey) -> Row:
        return self.database.rows[key]
