"""A file that waits to be indexed, and everything around it, in memory."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

from chassis.testing import a_principal, a_signer
from retrieval.domain.files import Description, object_key
from retrieval.domain.ingestion import AttachmentKey, Ingestion

from services.retrieval.tests.fakes import (
    FakeEmbedder,
    FakeFiles,
    FakeIngests,
    FakeObjects,
    FakeParser,
    FakeVectorStores,
    Knowledge,
    Row,
)
from services.retrieval.tests.texts import WordTokens

# Each a page of its own; at two chunks to a batch, three batches and a half.
PAGES = [" ".join(f"p{page}w{n}" for n in range(150)) for page in range(7)]


class World:
    """A file that waits to be indexed, and everything around it."""

    def __init__(self) -> None:
        self.knowledge = Knowledge()
        self.ingests = FakeIngests(self.knowledge)
        self.stores = FakeVectorStores(self.knowledge)
        self.files = FakeFiles(self.knowledge)
        self.objects = FakeObjects()
        self.embedder = FakeEmbedder()
        self.pauses: list[float] = []

    async def pause(self, seconds: float) -> None:
        self.pauses.append(seconds)

    async def attach(self, text: str, file_id: str = "file-1", tenant_id: str = "ten_one") -> AttachmentKey:
        await self.files.intend(tenant_id, file_id, timedelta(hours=1))
        await self.files.record(tenant_id, file_id, Description("a.txt", "assistants"), len(text))
        self.objects.stored[object_key(tenant_id, file_id)] = text.encode()
        store = await self.stores.create(a_principal(tenant_id), "s", [file_id])
        return AttachmentKey(tenant_id, store.vector_store_id, file_id)

    def ingestion(self, **changes: Any) -> Ingestion:
        made = Ingestion(
            ingests=self.ingests,
            objects=self.objects,
            parser=FakeParser(),
            tokens=WordTokens(),
            embedder=self.embedder,
            signer=a_signer(),
            others_wait=lambda _: False,
            max_bytes=100_000,
            batch_size=2,
            pause=self.pause,
        )
        return replace(made, **changes)

    def row(self, key: AttachmentKey) -> Row:
        return self.knowledge.rows[key]
