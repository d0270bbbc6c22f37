"""Files that are deleted, attached twice, attached to two stores, or replaced, on Postgres and a folder of objects.

Nothing is orphaned, and nothing that was removed is found.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest
from chassis.postgres import Database
from chassis.testing import a_principal
from retrieval.deletions.delete import delete_pending
from retrieval.deletions.records_postgres import PostgresDeletionRecords
from retrieval.deletions.report import DeletionNotFound, DeletionReport, Remains, deletion_report
from retrieval.files.model import File, FileNotFound, object_key
from retrieval.files.objects import ObstoreObjectStore
from retrieval.ingestion.model import Claim, ClaimLost
from retrieval.vector_stores.model import FileToAttach, VectorStore

from services.retrieval.tests.contracts.store_migrations import claimed, embed_all, start
from services.retrieval.tests.tenants import LONG, Tenant, embedded
from services.retrieval.tests.texts import a_vector

TEXT = "the lighthouse keeper"


@dataclass
class Knowledge:
    """A tenant whose files have bytes."""

    tenant: Tenant
    database: Database
    objects: ObstoreObjectStore

    async def file(self) -> File:
        file = await self.tenant.file()
        await self.objects.put(object_key(self.tenant.tenant_id, file.file_id), pieces(TEXT.encode()))
        return file

    async def attach(self, store: VectorStore, file: File) -> None:
        await self.tenant.ports.stores.attach(a_principal(self.tenant.tenant_id), store.vector_store_id, file.file_id)

    async def index(self, store: VectorStore, file: File) -> None:
        """Attach and index."""
        await self.attach(store, file)
        claim = await self.half_indexed(store, file)
        await self.finish(claim)

    async def half_indexed(self, store: VectorStore, file: File) -> Claim:
        """A claim whose chunks and keywords are stored, and that is not completed."""
        claim = await self.tenant.claim(store.vector_store_id, file.file_id)
        await self.tenant.ports.ingestion_store.add_chunks(claim, embedded([TEXT]), LONG)
        await self.tenant.ports.ingestion_store.index_keywords(claim, LONG)
        return claim

    async def finish(self, claim: Claim) -> None:
        await self.tenant.ports.ingestion_store.complete(claim)

    async def found(self, store: VectorStore) -> list[str]:
        """The files of the passages that each search finds, which must be the same ones."""
        stores, index = [store.vector_store_id], self.tenant.ports.index
        near = await index.vector_search(self.tenant.tenant_id, stores, a_vector(TEXT), 9)
        by_keyword = await index.keyword_search(self.tenant.tenant_id, stores, "lighthouse", 9)
        assert (len(near), set(near)) == (len(by_keyword), set(by_keyword))
        texts = await index.chunk_texts(self.tenant.tenant_id, near)
        assert len(texts) == len(near)
        return sorted(text.file_id for text in texts.values())

    async def swept(self) -> dict[str, int]:
        """Run all pending deletions; what is left of the tenant then, by kind, without what is zero."""
        while await delete_pending(queue=self.tenant.ports.deletions, objects=self.objects):
            pass
        left = {}
        async with self.database.tenant(self.tenant.tenant_id) as connection:
            for table in (
                "files",
                "attachments",
                "chunks",
                "chunk_vectors",
                "postings",
                "deletions",
                "file_batch_members",
            ):
                left[table] = await connection.fetchval(f"SELECT count(*) FROM {table}")
        return {table: count for table, count in left.items() if count}

    async def report(self, resource_id: str) -> DeletionReport:
        records = PostgresDeletionRecords(self.database)
        return await deletion_report(self.tenant.tenant_id, resource_id, records=records, objects=self.objects)

    async def has_bytes(self, file: File) -> bool:
        try:
            async for _ in self.objects.read(object_key(self.tenant.tenant_id, file.file_id)):
                pass
        except FileNotFound:
            return False
        return True


async def pieces(data: bytes) -> AsyncIterator[bytes]:
    yield data


@pytest.fixture
def knowledge(one: Tenant, database: Database, tmp_path: Path) -> Knowledge:
    return Knowledge(one, database, ObstoreObjectStore(tmp_path.as_uri()))


async def delete_file(knowledge: Knowledge, store: VectorStore, file: File) -> None:
    await knowledge.tenant.ports.files.delete(knowledge.tenant.tenant_id, file.file_id)


async def detach(knowledge: Knowledge, store: VectorStore, file: File) -> None:
    await knowledge.tenant.ports.stores.detach(knowledge.tenant.tenant_id, store.vector_store_id, file.file_id)


async def delete_store(knowledge: Knowledge, store: VectorStore, file: File) -> None:
    await knowledge.tenant.ports.stores.delete(knowledge.tenant.tenant_id, store.vector_store_id)


Removal = Callable[[Knowledge, VectorStore, File], Awaitable[None]]


@pytest.mark.parametrize("remove", [delete_file, detach, delete_store])
async def test_what_is_removed_while_it_is_indexed_leaves_nothing(knowledge: Knowledge, remove: Removal) -> None:
    store, file = await knowledge.tenant.store(), await knowledge.file()
    await knowledge.attach(store, file)
    claim = await knowledge.half_indexed(store, file)

    await remove(knowledge, store, file)

    ingestion = knowledge.tenant.ports.ingestion_store
    for write in (
        ingestion.add_chunks(claim, embedded(["more"], first=1), LONG),
        ingestion.index_keywords(claim, LONG),
        ingestion.fail(claim, "empty_file", "no text"),
        ingestion.complete(claim),
    ):
        with pytest.raises(ClaimLost):
            await write
    assert await knowledge.swept() == ({} if remove is delete_file else {"files": 1})
    assert await knowledge.has_bytes(file) == (remove is not delete_file)


@pytest.mark.parametrize("remove", [delete_file, detach, delete_store])
async def test_a_removal_at_the_moment_of_completion_leaves_nothing_that_is_found(
    knowledge: Knowledge, remove: Removal
) -> None:
    store, file = await knowledge.tenant.store(), await knowledge.file()
    await knowledge.attach(store, file)
    claim = await knowledge.half_indexed(store, file)

    removed, completed = await asyncio.gather(
        remove(knowledge, store, file), knowledge.finish(claim), return_exceptions=True
    )

    assert removed is None
    assert completed is None or isinstance(completed, ClaimLost)
    assert await knowledge.found(store) == []
    assert await knowledge.swept() == ({} if remove is delete_file else {"files": 1})


async def test_a_file_that_is_attached_twice_at_once_is_indexed_and_found_once(knowledge: Knowledge) -> None:
    store, file = await knowledge.tenant.store(), await knowledge.file()

    await asyncio.gather(*(knowledge.attach(store, file) for _ in range(4)))
    await knowledge.finish(await knowledge.half_indexed(store, file))
    await knowledge.attach(store, file)

    assert await knowledge.found(store) == [file.file_id]
    await detach(knowledge, store, file)
    assert await knowledge.found(store) == []
    assert await knowledge.swept() == {"files": 1}


async def test_a_file_in_two_stores_leaves_one_of_them_and_then_both(knowledge: Knowledge) -> None:
    first, second, file = await knowledge.tenant.store(), await knowledge.tenant.store(), await knowledge.file()
    await knowledge.index(first, file)
    await knowledge.index(second, file)

    await detach(knowledge, first, file)

    assert await knowledge.swept() == {"files": 1, "attachments": 1, "chunks": 1, "postings": 2}
    assert (await knowledge.found(first), await knowledge.found(second)) == ([], [file.file_id])
    await delete_file(knowledge, second, file)
    assert await knowledge.found(second) == []
    assert await knowledge.swept() == {}
    assert not await knowledge.has_bytes(file)


async def test_a_file_that_is_attached_again_is_found_once_and_outlives_the_deletion_of_its_old_chunks(
    knowledge: Knowledge,
) -> None:
    store, file = await knowledge.tenant.store(), await knowledge.file()
    await knowledge.index(store, file)

    await detach(knowledge, store, file)
    await knowledge.index(store, file)

    assert await knowledge.found(store) == [file.file_id]
    left = await knowledge.swept()
    assert (left["attachments"], left["chunks"]) == (1, 1)
    assert await knowledge.found(store) == [file.file_id]


async def test_a_replaced_file_is_no_longer_found_and_its_successor_is(knowledge: Knowledge) -> None:
    store, old, new = await knowledge.tenant.store(), await knowledge.file(), await knowledge.file()
    await knowledge.index(store, old)

    await knowledge.index(store, new)
    await delete_file(knowledge, store, old)

    assert await knowledge.found(store) == [new.file_id]
    left = await knowledge.swept()
    assert (left["files"], left["attachments"], left["chunks"]) == (1, 1, 1)
    assert (await knowledge.has_bytes(old), await knowledge.has_bytes(new)) == (False, True)


async def test_a_batch_that_is_cancelled_while_a_file_is_indexed_leaves_no_chunks(knowledge: Knowledge) -> None:
    store, file = await knowledge.tenant.store(), await knowledge.file()
    tenant_id, batches = knowledge.tenant.tenant_id, knowledge.tenant.ports.batches
    batch = await batches.create(a_principal(tenant_id), store.vector_store_id, [FileToAttach(file.file_id)])
    claim = await knowledge.half_indexed(store, file)

    await batches.cancel(tenant_id, store.vector_store_id, batch.batch_id)

    with pytest.raises(ClaimLost):
        await knowledge.finish(claim)
    assert await knowledge.swept() == {"files": 1, "file_batch_members": 1}
    await delete_store(knowledge, store, file)
    assert await knowledge.swept() == {"files": 1}


async def test_a_report_counts_what_is_left_of_a_file_until_all_of_it_is_gone(knowledge: Knowledge) -> None:
    store, other = await knowledge.tenant.store(), await knowledge.tenant.store()
    file, kept = await knowledge.file(), await knowledge.file()
    for one in (store, other):
        await knowledge.index(one, file)
    await knowledge.index(store, kept)
    await embed_all(knowledge.tenant, await claimed(knowledge.tenant, await start(knowledge.tenant, store)))
    with pytest.raises(DeletionNotFound):
        await knowledge.report(file.file_id)

    await delete_file(knowledge, store, file)

    before = await knowledge.report(file.file_id)
    words = before.remains.postings // 2
    # A chunk in each of two stores, and in one of them a vector of another model.
    assert (before.remains, before.objects, before.complete) == (Remains(0, 2, 3, 2 * words), 1, False)
    assert words > 0
    await knowledge.swept()
    after = await knowledge.report(file.file_id)
    assert (after.remains, after.objects, after.complete) == (Remains(), 0, True)
    assert after.deleted_at == before.deleted_at < before.checked_at < after.checked_at
    assert await knowledge.found(store) == [kept.file_id]


async def test_a_report_counts_what_is_left_of_a_store_whose_files_stay(knowledge: Knowledge) -> None:
    store, file = await knowledge.tenant.store(), await knowledge.file()
    await knowledge.index(store, file)
    await start(knowledge.tenant, store)

    await delete_store(knowledge, store, file)

    before = await knowledge.report(store.vector_store_id)
    assert (before.remains.records, before.remains.chunks, before.remains.vectors, before.complete) == (0, 1, 1, False)
    assert await knowledge.swept() == {"files": 1}
    assert (await knowledge.report(store.vector_store_id)).complete
    with pytest.raises(DeletionNotFound):
        await knowledge.report(file.file_id)


async def test_reports_are_of_the_own_tenant_and_are_forgotten_after_their_time(
    knowledge: Knowledge, other: Tenant
) -> None:
    file = await knowledge.file()
    await knowledge.tenant.ports.files.delete(knowledge.tenant.tenant_id, file.file_id)
    records = PostgresDeletionRecords(knowledge.database)

    with pytest.raises(DeletionNotFound):
        await records.remains(other.tenant_id, file.file_id)
    await records.forget(timedelta(days=1))
    await knowledge.report(file.file_id)
    await records.forget(timedelta(0))
    with pytest.raises(DeletionNotFound):
        await knowledge.report(file.file_id)
