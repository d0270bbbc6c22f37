"""The contract of StoreMigrations and MigrationRuns, on Postgres; and what large stores and many migrations cost."""

from __future__ import annotations

import pytest
from chassis.postgres import Database
from chassis.testing import a_principal
from retrieval.store_migrations import postgres
from retrieval.store_migrations.model import BEFORE_ALL, StoreMigrationState
from retrieval.vector_stores.model import VectorStore

from services.retrieval.tests.contracts.store_migrations import (
    StoreMigrationsContract,
    claimed,
    embed_all,
    placed,
    read,
    start,
)
from services.retrieval.tests.tenants import LONG, NOW, Tenant, embedded


class TestPostgresStoreMigrations(StoreMigrationsContract):
    pass


async def attached(tenant: Tenant, store: VectorStore) -> tuple[str, str]:
    file = await tenant.file()
    await tenant.ports.stores.attach(a_principal(tenant.tenant_id), store.vector_store_id, file.file_id)
    return store.vector_store_id, file.file_id


async def make_older(database: Database, tenant: Tenant) -> None:
    """As if all files of now had been attached an hour ago."""
    async with database.tenant(tenant.tenant_id) as connection:
        await connection.execute("UPDATE attachments SET created_at = created_at - interval '1 hour'")


async def test_the_change_waits_for_files_that_a_pass_over_the_chunks_may_have_missed(
    one: Tenant, database: Database
) -> None:
    store, _ = await one.indexed("red apples")
    claim = await claimed(one, await start(one, store))
    half = await one.claim(*await attached(one, store))
    await make_older(database, one)
    runs = one.ports.migration_runs
    unsettled = await runs.unsettled(claim)
    assert (unsettled.in_progress, unsettled.after) == ((half.attachment,), half.attachment)
    await embed_all(one, claim)

    # The next model does not answer for this file, so its chunk has no vector in the new space.
    await one.ports.ingestion_store.finish(half, embedded(["green pears"]))
    assert not await runs.cut_over(claim, NOW, unsettled)
    await embed_all(one, claim)
    await one.indexed("blue plums", store=store)
    assert not await runs.cut_over(claim, NOW, unsettled)
    await embed_all(one, claim)

    assert await runs.cut_over(claim, NOW, unsettled)


async def test_files_of_the_last_minutes_are_taken_for_unsettled(one: Tenant) -> None:
    store, _ = await one.indexed("red apples")
    claim = await claimed(one, await start(one, store))

    assert (await one.ports.migration_runs.unsettled(claim)).after == 0


async def test_progress_of_a_large_store_is_what_the_migration_has_stored(
    one: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres, "MAX_COUNTED", 1)
    store, _ = await one.indexed("red apples", "green pears")
    migration = await start(one, store)
    claim = await claimed(one, migration)
    chunks = await one.ports.migration_runs.chunks(claim, BEFORE_ALL, 1)
    await one.ports.migration_runs.add_vectors(claim, placed("narrow", chunks), 0, LONG)
    monkeypatch.setattr(postgres, "COUNTS", "SELECT 1 / 0")

    found = await read(one, migration)
    (listed,) = (await one.ports.migrations.list(one.tenant_id, store.vector_store_id, limit=9, after="")).items

    assert found == listed
    assert (found.state, found.chunks, found.migrated_chunks) == (StoreMigrationState.IN_PROGRESS, 2, 1)


async def test_a_store_keeps_a_bounded_number_of_migrations_that_are_over(
    one: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres, "MAX_KEPT", 2)
    store, _ = await one.indexed("red apples")
    for _ in range(5):
        migration = await start(one, store)
        await one.ports.migrations.cancel(one.tenant_id, store.vector_store_id, migration.migration_id)
        # Its vectors are deleted before it is forgotten.
        await one.ports.migration_runs.end_retirement(await claimed(one, migration))
    last = await start(one, store)

    found = (await one.ports.migrations.list(one.tenant_id, store.vector_store_id, limit=9, after="")).items

    assert found[0].migration_id == last.migration_id
    assert len(found) == 2
