"""The contracts of VectorStores, on Postgres."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest
from chassis.postgres import Database
from chassis.testing import a_principal
from retrieval.vector_stores.model import VectorStore, VectorStoreExpired

from services.retrieval.tests.contracts.expiry import DAY, ExpiryContract, Wait, weekly
from services.retrieval.tests.contracts.vector_stores import VectorStoresContract
from services.retrieval.tests.tenants import Tenant


@pytest.fixture
def wait(database: Database) -> Wait:
    async def wait(store: VectorStore, time: timedelta) -> None:
        async with database.system() as connection:
            await connection.execute(
                "UPDATE vector_stores SET last_active_at = now() - $2::interval WHERE vector_store_id = $1",
                store.vector_store_id,
                time,
            )

    return wait


class TestPostgresVectorStores(VectorStoresContract):
    pass


class TestPostgresExpiry(ExpiryContract):
    @pytest.fixture
    def wait(self, wait: Wait) -> Wait:
        return wait


async def test_a_store_that_is_used_again_and_again_is_written_once_a_minute(one: Tenant, wait: Wait) -> None:
    store = await weekly(one)
    await wait(store, timedelta(seconds=30))
    before = await one.ports.stores.get(one.tenant_id, store.vector_store_id)

    await one.ports.index.contents(one.tenant_id, [store.vector_store_id])

    assert await one.ports.stores.get(one.tenant_id, store.vector_store_id) == before


async def test_searches_attachments_and_expiry_at_once_leave_no_file_in_an_expired_store(
    one: Tenant, wait: Wait
) -> None:
    me, stores = a_principal(one.tenant_id), [await weekly(one) for _ in range(6)]
    ids = [store.vector_store_id for store in stores]
    files = [await one.file() for _ in stores]
    for store in stores[:3]:
        await wait(store, 7 * DAY)
    for store in stores[3:]:
        await wait(store, 6 * DAY)

    results = await asyncio.gather(
        *(one.ports.stores.attach(me, store, file.file_id) for store, file in zip(ids, files, strict=True)),
        *(one.ports.index.contents(one.tenant_id, [first, second]) for first in ids for second in ids),
        *(one.ports.stores.expire(10) for _ in range(4)),
        return_exceptions=True,
    )

    assert {type(error) for error in results if isinstance(error, BaseException)} == {VectorStoreExpired}
    read = [await one.ports.stores.get(one.tenant_id, store) for store in ids]
    assert [(store.expired, store.file_counts.in_progress) for store in read] == [(True, 0)] * 3 + [(False, 1)] * 3
