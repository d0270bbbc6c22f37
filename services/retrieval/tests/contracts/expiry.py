"""Tests of stores that expire: on the fake in `unit`, on Postgres in `integration`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta

import pytest
from chassis.testing import a_principal
from retrieval.file_batches.model import FileBatchCounts
from retrieval.vector_stores.create import expire_stores
from retrieval.vector_stores.model import FileCounts, FileToAttach, StoreChanges, VectorStore, VectorStoreExpired
from values.attributes import to_filter

from services.retrieval.tests.tenants import Tenant
from services.retrieval.tests.texts import a_vector

DAY = timedelta(days=1)
Wait = Callable[[VectorStore, timedelta], Awaitable[None]]
"""Let a store be unused for some time."""


async def weekly(one: Tenant) -> VectorStore:
    return await one.ports.stores.create(
        a_principal(one.tenant_id), "weekly", [], metadata={"team": "ports"}, expires_after=7 * DAY
    )


class ExpiryContract:
    @pytest.fixture
    def wait(self) -> Wait:
        raise NotImplementedError

    async def test_a_store_has_its_metadata_and_its_expiry(self, one: Tenant) -> None:
        store = await weekly(one)

        assert (store.metadata, store.expires_after, store.expired) == ({"team": "ports"}, 7 * DAY, False)
        assert store.last_active_at >= store.created_at
        assert (await one.store()).expires_after is None

    async def test_only_what_is_given_changes(self, one: Tenant) -> None:
        stores, before = one.ports.stores, await weekly(one)

        renamed = await stores.update(one.tenant_id, before.vector_store_id, StoreChanges(name="new"))
        assert (renamed.name, renamed.metadata, renamed.expires_after) == ("new", {"team": "ports"}, 7 * DAY)
        never = StoreChanges(metadata={}, expires_after=timedelta(0))
        changed = await stores.update(one.tenant_id, before.vector_store_id, never)
        assert (changed.name, changed.metadata, changed.expires_after) == ("new", {}, None)

    async def test_a_store_expires_when_it_is_not_used_for_its_days_and_its_content_is_deleted(
        self, one: Tenant, other: Tenant, wait: Wait
    ) -> None:
        store = await weekly(one)
        _, file = await one.indexed("some text", store=store)
        theirs, _ = await other.indexed("their text")
        await wait(store, 6 * DAY)
        assert not (await one.ports.stores.get(one.tenant_id, store.vector_store_id)).expired
        await wait(store, 7 * DAY)

        # At once, although its content is deleted later.
        assert (await one.ports.stores.get(one.tenant_id, store.vector_store_id)).expired
        await expire_stores(one.ports.stores)

        expired = await one.ports.stores.get(one.tenant_id, store.vector_store_id)
        assert (expired.expired, expired.file_counts) == (True, FileCounts())
        found = await one.ports.index.vector_search(one.tenant_id, [store.vector_store_id], a_vector("text"), 9)
        assert found == {}
        assert await one.ports.files.get(one.tenant_id, file.file_id) == file
        assert (await other.ports.stores.get(other.tenant_id, theirs.vector_store_id)).file_counts.completed == 1
        await one.ports.stores.delete(one.tenant_id, store.vector_store_id)

    async def test_an_expired_store_is_neither_searched_nor_filled_nor_revived(self, one: Tenant, wait: Wait) -> None:
        store, me, file = await weekly(one), a_principal(one.tenant_id), await one.file()
        await one.indexed("some text", store=store)
        await wait(store, 7 * DAY)
        for emptied in (False, True):
            if emptied:
                await expire_stores(one.ports.stores)
            for refused in (
                one.ports.index.contents(one.tenant_id, [store.vector_store_id]),
                one.ports.index.contents(one.tenant_id, [store.vector_store_id], to_filter(ANY_YEAR)),
                one.ports.stores.attach(me, store.vector_store_id, file.file_id),
                one.ports.batches.create(me, store.vector_store_id, [FileToAttach(file.file_id)]),
                one.ports.stores.update(one.tenant_id, store.vector_store_id, StoreChanges(expires_after=9 * DAY)),
            ):
                with pytest.raises(VectorStoreExpired):
                    await refused
        renamed = await one.ports.stores.update(one.tenant_id, store.vector_store_id, StoreChanges(name="old"))
        assert (renamed.name, renamed.expired) == ("old", True)

    async def test_searching_and_filling_a_store_keep_it(self, one: Tenant, wait: Wait) -> None:
        store, me = await weekly(one), a_principal(one.tenant_id)

        async def search() -> None:
            await one.ports.index.contents(one.tenant_id, [store.vector_store_id])

        async def attach() -> None:
            await one.ports.stores.attach(me, store.vector_store_id, (await one.file()).file_id)

        async def attach_batch() -> None:
            files = [FileToAttach((await one.file()).file_id)]
            batch = await one.ports.batches.create(me, store.vector_store_id, files)
            assert batch.file_counts == FileBatchCounts(in_progress=1)

        for use in (search, attach, attach_batch):
            await wait(store, 6 * DAY)
            idle = await one.ports.stores.get(one.tenant_id, store.vector_store_id)
            await use()
            used = await one.ports.stores.get(one.tenant_id, store.vector_store_id)
            assert used.last_active_at - idle.last_active_at >= 5 * DAY

    async def test_a_store_that_never_expires_is_kept(self, one: Tenant, wait: Wait) -> None:
        store, _ = await one.indexed("some text")
        await wait(store, 1_000 * DAY)

        await expire_stores(one.ports.stores)

        kept = await one.ports.stores.get(one.tenant_id, store.vector_store_id)
        assert (kept.expired, kept.file_counts.completed) == (False, 1)


ANY_YEAR = {"type": "gt", "key": "year", "value": 0}
