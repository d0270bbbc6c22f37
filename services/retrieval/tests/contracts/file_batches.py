"""Tests of FileBatches: on the fake in `unit`, on Postgres in `integration`."""

from __future__ import annotations

import asyncio

import pytest
from chassis.testing import a_principal
from retrieval.file_batches.model import FileBatch, FileBatchCounts, FileBatchNotFound
from retrieval.files.model import FileNotFound
from retrieval.ingestion.model import ClaimLost
from retrieval.vector_stores.model import AttachmentState, FileToAttach, VectorStore, VectorStoreNotFound

from services.retrieval.tests.tenants import LONG, Tenant, embedded


async def batch_of(tenant: Tenant, store: VectorStore, *file_ids: str) -> FileBatch:
    files = [FileToAttach(file_id) for file_id in file_ids]
    return await tenant.ports.batches.create(a_principal(tenant.tenant_id), store.vector_store_id, files)


async def read(tenant: Tenant, batch: FileBatch) -> FileBatch:
    return await tenant.ports.batches.get(tenant.tenant_id, batch.vector_store_id, batch.batch_id)


async def cancel(tenant: Tenant, batch: FileBatch) -> FileBatch:
    return await tenant.ports.batches.cancel(tenant.tenant_id, batch.vector_store_id, batch.batch_id)


async def listed(
    tenant: Tenant, batch: FileBatch, limit: int = 9, after: str = "", state: AttachmentState | None = None
) -> tuple[list[str], bool]:
    page = await tenant.ports.batches.files(
        tenant.tenant_id, batch.vector_store_id, batch.batch_id, limit=limit, after=after, state=state
    )
    return [attachment.file_id for attachment in page.items], page.has_more


class FileBatchesContract:
    async def test_a_batch_counts_its_own_files_by_state(self, one: Tenant) -> None:
        store, _ = await one.indexed("not of the batch")
        files = [await one.file() for _ in range(3)]
        batch = await batch_of(one, store, *(file.file_id for file in files))
        assert batch.file_counts == FileBatchCounts(in_progress=3)
        done, failed = [await one.claim(store.vector_store_id, file.file_id) for file in files[:2]]
        await one.ports.ingestion_store.complete(done)
        await one.ports.ingestion_store.fail(failed, "empty_file", "no text")

        shown = await read(one, batch)

        assert shown.file_counts == FileBatchCounts(in_progress=1, completed=1, failed=1)
        assert not shown.cancelled

    async def test_files_of_a_batch_have_attributes_of_their_own(self, one: Tenant) -> None:
        store, _ = await one.indexed("text")
        _, there = await one.indexed("more text", store=store, attributes={"year": 2023})
        new, plain = await one.file(), await one.file()
        files = [
            FileToAttach(new.file_id, {"year": 2024}),
            FileToAttach(plain.file_id),
            FileToAttach(there.file_id, {"year": 2025}),
        ]

        batch = await one.ports.batches.create(a_principal(one.tenant_id), store.vector_store_id, files)

        page = await one.ports.batches.files(
            one.tenant_id, store.vector_store_id, batch.batch_id, limit=9, after="", state=None
        )
        assert {item.file_id: item.attributes for item in page.items} == {
            new.file_id: {"year": 2024},
            plain.file_id: {},
            there.file_id: {"year": 2025},
        }
        assert batch.file_counts == FileBatchCounts(in_progress=2, completed=1)

    async def test_a_batch_attaches_all_its_files_or_none(self, one: Tenant) -> None:
        store, file = await one.store(), await one.file()

        with pytest.raises(FileNotFound):
            await batch_of(one, store, file.file_id, "file-unknown")

        assert (await one.ports.stores.get(one.tenant_id, store.vector_store_id)).file_counts.in_progress == 0

    async def test_a_file_that_is_in_the_store_stays_as_it_is_and_counts_in_the_batch(self, one: Tenant) -> None:
        store, indexed = await one.indexed("some text")
        before = await one.ports.stores.attachment(one.tenant_id, store.vector_store_id, indexed.file_id)

        batch = await batch_of(one, store, indexed.file_id, (await one.file()).file_id)

        assert batch.file_counts == FileBatchCounts(in_progress=1, completed=1)
        assert await one.ports.stores.attachment(one.tenant_id, store.vector_store_id, indexed.file_id) == before

    async def test_a_file_that_had_failed_is_tried_again_by_a_batch(self, one: Tenant) -> None:
        file = await one.file()
        store = await one.store(file.file_id)
        claim = await one.claim(store.vector_store_id, file.file_id)
        await one.ports.ingestion_store.fail(claim, "insufficient_quota", "the budget is spent")

        batch = await batch_of(one, store, file.file_id)

        assert batch.file_counts == FileBatchCounts(in_progress=1)
        assert (await one.claim(store.vector_store_id, file.file_id)).attachment > claim.attachment

    async def test_cancelling_takes_out_what_is_not_indexed_and_keeps_the_rest(self, one: Tenant) -> None:
        store = await one.store()
        files = [await one.file() for _ in range(3)]
        batch = await batch_of(one, store, *(file.file_id for file in files))
        await one.ports.ingestion_store.complete(await one.claim(store.vector_store_id, files[0].file_id))
        half_done = await one.claim(store.vector_store_id, files[1].file_id)
        await one.ports.ingestion_store.add_chunks(half_done, embedded(["half"]), LONG)

        cancelled = await cancel(one, batch)

        assert cancelled.cancelled
        assert cancelled.file_counts == FileBatchCounts(completed=1, cancelled=2)
        assert await listed(one, batch) == ([files[0].file_id], False)
        assert await cancel(one, batch) == cancelled
        with pytest.raises(ClaimLost):
            await one.ports.ingestion_store.complete(half_done)
        assert await one.ports.files.get(one.tenant_id, files[1].file_id) == files[1]

    async def test_cancelling_spares_files_that_the_batch_did_not_attach(self, one: Tenant) -> None:
        waiting, again = await one.file(), await one.file()
        store = await one.store(waiting.file_id)
        batch = await batch_of(one, store, waiting.file_id, again.file_id)
        await one.ports.stores.detach(one.tenant_id, store.vector_store_id, again.file_id)
        await one.ports.stores.attach(a_principal(one.tenant_id), store.vector_store_id, again.file_id)

        assert (await cancel(one, batch)).file_counts == FileBatchCounts(in_progress=2)

    async def test_cancelling_a_completed_batch_changes_nothing(self, one: Tenant) -> None:
        store, indexed = await one.indexed("some text")
        batch = await batch_of(one, store, indexed.file_id)

        assert await cancel(one, batch) == batch

    async def test_a_file_that_is_deleted_or_taken_out_counts_as_cancelled(self, one: Tenant) -> None:
        store, deleted, detached = await one.store(), await one.file(), await one.file()
        batch = await batch_of(one, store, deleted.file_id, detached.file_id)

        await one.ports.files.delete(one.tenant_id, deleted.file_id)
        await one.ports.stores.detach(one.tenant_id, store.vector_store_id, detached.file_id)

        shown = await read(one, batch)
        assert (shown.file_counts, shown.cancelled) == (FileBatchCounts(cancelled=2), False)

    async def test_the_files_of_a_batch_are_listed_newest_first_page_by_page_and_by_state(self, one: Tenant) -> None:
        store, _ = await one.indexed("not of the batch")
        ids = [(await one.file()).file_id for _ in range(3)]
        batch = await batch_of(one, store, *ids)
        await one.ports.ingestion_store.fail(await one.claim(store.vector_store_id, ids[1]), "empty_file", "no text")

        first, rest = await listed(one, batch, limit=2), await listed(one, batch, after=sorted(ids)[1])

        assert first == (sorted(ids)[:0:-1], True)
        assert rest == (sorted(ids)[:1], False)
        assert await listed(one, batch, state=AttachmentState.FAILED) == ([ids[1]], False)
        with pytest.raises(FileNotFound):
            await listed(one, batch, after="file-unknown")

    async def test_two_batches_of_the_same_files_at_once_attach_each_file_once(self, one: Tenant) -> None:
        store = await one.store()
        ids = [(await one.file()).file_id for _ in range(20)]

        await asyncio.gather(batch_of(one, store, *ids), batch_of(one, store, *reversed(ids)))

        counts = (await one.ports.stores.get(one.tenant_id, store.vector_store_id)).file_counts
        assert counts.in_progress == len(ids)

    async def test_a_batch_goes_with_its_store(self, one: Tenant) -> None:
        store, file = await one.store(), await one.file()
        batch = await batch_of(one, store, file.file_id)

        await one.ports.stores.delete(one.tenant_id, store.vector_store_id)

        with pytest.raises(VectorStoreNotFound):
            await read(one, batch)

    async def test_a_batch_of_another_store_or_tenant_is_not_found(self, one: Tenant, other: Tenant) -> None:
        batch = await batch_of(other, await other.store(), (await other.file()).file_id)
        mine, file = await one.store(), await one.file()

        with pytest.raises(VectorStoreNotFound):
            await cancel(one, batch)
        with pytest.raises(FileBatchNotFound):
            await one.ports.batches.get(one.tenant_id, mine.vector_store_id, batch.batch_id)
        with pytest.raises(VectorStoreNotFound):
            await one.ports.batches.create(
                a_principal(one.tenant_id), batch.vector_store_id, [FileToAttach(file.file_id)]
            )
