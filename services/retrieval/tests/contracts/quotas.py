"""Tests of quotas in the ports that add something: on the fakes in `unit`, on Postgres in `integration`."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterable
from dataclasses import replace

import pytest
from chassis.ids import new_id
from chassis.testing import a_principal
from retrieval.files.model import FileMetadata
from retrieval.quotas.model import Quota, StorageQuotaExceeded

from services.retrieval.tests.tenants import LONG, Tenant, embedded


async def upload(tenant: Tenant, size_bytes: int, quota: Quota) -> str:
    file_id = new_id("file-")
    await tenant.ports.files.begin_upload(tenant.tenant_id, file_id, LONG, quota)
    metadata = FileMetadata("a.txt", "assistants")
    await tenant.ports.files.commit_upload(tenant.tenant_id, file_id, metadata, size_bytes, quota)
    return file_id


async def new_store(tenant: Tenant, quota: Quota) -> str:
    store = await tenant.ports.stores.create(a_principal(tenant.tenant_id), "", [], quota=quota)
    return store.vector_store_id


async def refused(calls: Iterable[Awaitable[object]]) -> int:
    """How many of the calls, made at once, were refused; the others succeed."""
    results = await asyncio.gather(*calls, return_exceptions=True)
    errors = [result for result in results if isinstance(result, BaseException)]
    assert all(isinstance(error, StorageQuotaExceeded) for error in errors), errors
    return len(errors)


class QuotasContract:
    async def test_files_are_bounded_in_number_and_in_bytes(self, one: Tenant, other: Tenant) -> None:
        quota = Quota(files=2, file_bytes=100)
        first = await upload(one, 60, quota)
        with pytest.raises(StorageQuotaExceeded) as of_bytes:
            await upload(one, 41, quota)
        await upload(one, 40, quota)
        with pytest.raises(StorageQuotaExceeded) as of_files:
            await upload(one, 0, quota)
        assert (of_bytes.value.param, of_files.value.param) == ("file_bytes", "files")
        await upload(other, 100, quota)

        await one.ports.files.delete(one.tenant_id, first)

        await upload(one, 60, quota)

    async def test_a_tenant_without_room_is_refused_before_its_bytes_are_read(self, one: Tenant) -> None:
        await upload(one, 1, Quota())

        with pytest.raises(StorageQuotaExceeded):
            await one.ports.files.begin_upload(one.tenant_id, new_id("file-"), LONG, Quota(files=1))

    async def test_uploads_at_once_cannot_pass_a_limit_together(self, one: Tenant) -> None:
        assert await refused(upload(one, 10, Quota(files=3)) for _ in range(8)) == 5
        assert await refused(upload(one, 10, Quota(file_bytes=55)) for _ in range(8)) == 6

    async def test_stores_are_bounded_also_when_they_are_made_at_once(self, one: Tenant) -> None:
        assert await refused(new_store(one, Quota(vector_stores=3)) for _ in range(8)) == 5
        [store, *_] = (await one.ports.stores.list(one.tenant_id, limit=9, after="")).items

        await one.ports.stores.delete(one.tenant_id, store.vector_store_id)

        await new_store(one, Quota(vector_stores=3))

    async def test_chunks_are_bounded_also_when_files_are_indexed_at_once(self, one: Tenant) -> None:
        store, file = await one.indexed("one", "two")
        claims = []
        for _ in range(4):
            waiting = await one.file()
            await one.ports.stores.attach(a_principal(one.tenant_id), store.vector_store_id, waiting.file_id)
            claims.append(await one.claim(store.vector_store_id, waiting.file_id))
        quota, add = Quota(chunks=8), one.ports.ingestion_store.add_chunks

        assert await refused(add(claim, embedded(["a", "b", "c"]), LONG, quota) for claim in claims) == 2

        await one.ports.stores.detach(one.tenant_id, store.vector_store_id, file.file_id)
        page = await one.ports.stores.attachments(one.tenant_id, store.vector_store_id, limit=9, after="", state=None)
        assert sum(attachment.chunks for attachment in page.items) == 6

    async def test_chunks_of_a_failed_file_do_not_count(self, one: Tenant) -> None:
        failed, claim = await one.claimed(), await one.claimed()
        add, quota = one.ports.ingestion_store.add_chunks, Quota(chunks=2)
        await add(failed, embedded(["a", "b"]), LONG, quota)
        with pytest.raises(StorageQuotaExceeded):
            await add(claim, embedded(["c"]), LONG, quota)

        await one.ports.ingestion_store.fail(failed, "empty_file", "no text")

        await add(claim, embedded(["c", "d"]), LONG, quota)

    async def test_the_plan_of_who_attached_a_file_is_that_of_its_ingestion(self, one: Tenant) -> None:
        store, file = await one.store(), await one.file()
        me = replace(a_principal(one.tenant_id), plan="free")

        await one.ports.stores.attach(me, store.vector_store_id, file.file_id)

        assert (await one.claim(store.vector_store_id, file.file_id)).principal.plan == "free"
