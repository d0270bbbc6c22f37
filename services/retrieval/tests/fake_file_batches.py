"""File batches in memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from chassis.ids import new_id
from chassis.tenancy import Principal
from retrieval.file_batches.model import (
    MAX_FILE_BATCHES,
    FileBatch,
    FileBatchCounts,
    file_batch_not_found,
    too_many_file_batches,
)
from retrieval.files.page import Page
from retrieval.vector_stores.model import Attachment, AttachmentKey, AttachmentState, FileToAttach

from services.retrieval.tests.fake_files import FakeFiles
from services.retrieval.tests.fakes import Batch, FakeVectorStores, InMemoryDatabase, Row


class FakeFileBatches:
    def __init__(self, database: InMemoryDatabase) -> None:
        self._database = database
        self._stores = FakeVectorStores(database)

    async def create(self, principal: Principal, vector_store_id: str, files: Sequence[FileToAttach]) -> FileBatch:
        await self._stores.get(principal.tenant_id, vector_store_id)
        for file in files:
            await FakeFiles(self._database).get(principal.tenant_id, file.file_id)
        await self._make_room(principal.tenant_id, vector_store_id)
        batch_id, batch = new_id("vsfb_"), Batch(self._database.clock.now())
        self._database.batches[principal.tenant_id, vector_store_id, batch_id] = batch
        for file in sorted(files, key=lambda file: file.file_id):
            before = self._database.numbers
            await self._stores.attach(
                principal, vector_store_id, file.file_id, attributes=file.attributes, chunking=file.chunking
            )
            batch.members[file.file_id] = self._database.numbers if self._database.numbers > before else None
        return await self.get(principal.tenant_id, vector_store_id, batch_id)

    async def get(self, tenant_id: str, vector_store_id: str, batch_id: str) -> FileBatch:
        batch = await self._batch(tenant_id, vector_store_id, batch_id)
        states = Counter(row.state for row in self._rows(tenant_id, vector_store_id, batch))
        counts = FileBatchCounts(
            in_progress=states[AttachmentState.IN_PROGRESS],
            completed=states[AttachmentState.COMPLETED],
            failed=states[AttachmentState.FAILED],
            cancelled=len(batch.members) - states.total(),
        )
        return FileBatch(batch_id, vector_store_id, batch.created_at, batch.cancelled, counts)

    async def cancel(self, tenant_id: str, vector_store_id: str, batch_id: str) -> FileBatch:
        batch = await self._batch(tenant_id, vector_store_id, batch_id)
        for row in self._rows(tenant_id, vector_store_id, batch):
            if row.state is AttachmentState.IN_PROGRESS and batch.members[row.key.file_id] is not None:
                batch.cancelled = True
                self._database.schedule_deletion(self._database.rows.pop(row.key))
        return await self.get(tenant_id, vector_store_id, batch_id)

    async def files(
        self,
        tenant_id: str,
        vector_store_id: str,
        batch_id: str,
        *,
        limit: int,
        after: str,
        state: AttachmentState | None,
    ) -> Page[Attachment]:
        batch = await self._batch(tenant_id, vector_store_id, batch_id)
        page = await self._stores.attachments(tenant_id, vector_store_id, limit=10_000, after=after, state=state)
        members = {row.key.file_id for row in self._rows(tenant_id, vector_store_id, batch)}
        found = [attachment for attachment in page.items if attachment.file_id in members]
        return Page(tuple(found[:limit]), len(found) > limit)

    async def _batch(self, tenant_id: str, vector_store_id: str, batch_id: str) -> Batch:
        await self._stores.get(tenant_id, vector_store_id)
        batch = self._database.batches.get((tenant_id, vector_store_id, batch_id))
        if batch is None:
            raise file_batch_not_found(batch_id)
        return batch

    def _rows(self, tenant_id: str, vector_store_id: str, batch: Batch) -> list[Row]:
        return [
            row
            for file_id, number in batch.members.items()
            if (row := self._database.rows.get(AttachmentKey(tenant_id, vector_store_id, file_id))) is not None
            and number in {None, row.number}
        ]

    async def _make_room(self, tenant_id: str, vector_store_id: str) -> None:
        batches = {key: one for key, one in self._database.batches.items() if key[:2] == (tenant_id, vector_store_id)}
        if len(batches) < MAX_FILE_BATCHES:
            return
        for key in sorted(batches):
            if not (await self.get(*key)).file_counts.in_progress:
                del self._database.batches[key]
                return
        raise too_many_file_batches()
