"""The contract of IngestionStore, on Postgres; and the events that it publishes."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest
from argosy.retrieval.v1.events_pb2 import FileIndexed
from chassis.postgres import Database
from retrieval.ingestion.grouped_postgres import GroupedIngestionStore
from retrieval.ingestion.model import ClaimLost
from retrieval.ingestion.postgres import PostgresIngestionStore

from services.retrieval.tests.contracts.ingestion import IngestionStoreContract
from services.retrieval.tests.tenants import NOW, Ports, Tenant, embedded


class TestPostgresIngestionStore(IngestionStoreContract):
    pass


class TestGroupedIngestionStore(IngestionStoreContract):
    @pytest.fixture
    def ports(self, ports: Ports, database: Database) -> Ports:
        store = GroupedIngestionStore(database, overdue_after=timedelta(0))
        return replace(ports, ingestion_store=store)


async def published(database: Database, tenant_id: str) -> list[FileIndexed]:
    async with database.tenant(tenant_id) as connection:
        rows = await connection.fetch(
            "SELECT value FROM outbox WHERE topic = 'argosy.retrieval.file-indexed.v1' ORDER BY id"
        )
    return [FileIndexed.FromString(row["value"]) for row in rows]


async def test_the_end_of_indexing_is_published_with_the_transaction_that_ends_it(
    database: Database, one: Tenant
) -> None:
    woken: list[str] = []
    store = PostgresIngestionStore(database, wake_relay=lambda: woken.append("woken"))
    good, bad = await one.claimed(), await one.claimed()

    await store.complete(good)
    await store.fail(bad, "empty_file", "The file has no text.")

    indexed, failed = await published(database, one.tenant_id)
    assert (indexed.file_id, indexed.vector_store_id) == (good.key.file_id, good.key.vector_store_id)
    assert (indexed.filename, indexed.project_id, indexed.HasField("error")) == ("a.txt", "prj_test", False)
    assert indexed.meta.tenant_id == one.tenant_id
    assert (failed.file_id, failed.error.reason) == (bad.key.file_id, "EMPTY_FILE")
    assert failed.error.message == "The file has no text."
    assert indexed.meta.event_id != failed.meta.event_id
    assert woken == ["woken"] * 2


async def test_each_file_of_a_shared_transaction_is_published_once(database: Database, one: Tenant) -> None:
    store = GroupedIngestionStore(database)
    files = [await one.file() for _ in range(5)]
    held = await one.store(*(file.file_id for file in files))
    claims = [await one.claim(held.vector_store_id, file.file_id) for file in files]

    await asyncio.gather(*(store.finish(claim, embedded([f"text {n}"])) for n, claim in enumerate(claims)))

    events = await published(database, one.tenant_id)
    assert sorted(event.file_id for event in events) == sorted(file.file_id for file in files)
    assert len({event.meta.event_id for event in events}) == len(files)


async def test_a_lost_claim_publishes_nothing(database: Database, one: Tenant) -> None:
    store = PostgresIngestionStore(database)
    lost = await one.claimed(NOW)
    await one.claim(lost.key.vector_store_id, lost.key.file_id)

    with pytest.raises(ClaimLost):
        await store.complete(lost)
    with pytest.raises(ClaimLost):
        await store.fail(lost, "empty_file", "")

    assert await published(database, one.tenant_id) == []
