"""Files and deletions of stores with another embedding model, and replicas of the version that knows of none.

Both versions run during an update, and the older one alone after a rollback. Its statements are those of a lease table
that does not say that it knows of spaces.
"""

from __future__ import annotations

from datetime import timedelta

import pytest
from chassis.postgres import Database
from chassis.postgres.leases import Lease, LeaseLost, LeaseTable
from chassis.testing import a_principal
from retrieval.deletions.postgres import DELETIONS
from retrieval.embeddings.model import EmbeddingSpace
from retrieval.vector_stores.model import AttachmentKey, VectorStore

from services.retrieval.tests.contracts.store_migrations import migrated, start
from services.retrieval.tests.tenants import LONG, NOW, Tenant

OLDER = LeaseTable(
    "attachments",
    key=("tenant_id", "attachment"),
    lookup=("tenant_id", "vector_store_id", "file_id"),
    claimable="state = 'in_progress'",
    crashes="crashes",
    retries="retries",
)
ADDED = "chunks = 1, usage_bytes = usage_bytes + 100, due_at = now() + $1, crashes = 0, retries = 0"


async def waiting(tenant: Tenant, store: VectorStore) -> AttachmentKey:
    """A file that was attached to the store."""
    file = await tenant.file()
    await tenant.ports.stores.attach(a_principal(tenant.tenant_id), store.vector_store_id, file.file_id)
    return AttachmentKey(tenant.tenant_id, store.vector_store_id, file.file_id)


async def claimed_by_older(database: Database, key: AttachmentKey, lease: timedelta = LONG) -> Lease | None:
    async with database.tenant(key.tenant_id) as connection:
        lookup = (key.tenant_id, key.vector_store_id, key.file_id)
        claimed = await OLDER.claim_one(connection, lookup, lease)
    return None if claimed is None else claimed.lease


async def store_of(tenant: Tenant, kind: str) -> VectorStore:
    if kind == "made with another model":
        space = EmbeddingSpace("other", 1)
        return await tenant.ports.stores.create(a_principal(tenant.tenant_id), "a store", (), space=space)
    store, _ = await tenant.indexed("red apples")
    if kind == "migrated":
        await migrated(tenant, store)
    elif kind == "being migrated":
        await start(tenant, store)
    return store


@pytest.mark.parametrize("kind", ["made with another model", "being migrated", "migrated"])
async def test_an_older_replica_leaves_the_file_to_one_that_knows_the_model(
    database: Database, one: Tenant, kind: str
) -> None:
    key = await waiting(one, await store_of(one, kind))

    assert await claimed_by_older(database, key) is None

    claim = await one.ports.ingestion_store.claim(key, NOW)
    assert claim is not None
    assert (claim.crashes, claim.retries, claim.epoch) == (0, 0, 1)
    assert await claimed_by_older(database, key) is None, "it was claimed by a newer replica once"


async def test_an_older_replica_takes_the_files_of_all_other_stores(database: Database, one: Tenant) -> None:
    key = await waiting(one, await store_of(one, "of before"))

    lease = await claimed_by_older(database, key)

    assert lease is not None
    async with database.tenant(one.tenant_id) as connection:
        assert (await OLDER.update(connection, lease, ADDED, NOW))["chunks"] == 1
    claim = await one.ports.ingestion_store.claim(key, LONG)
    assert claim is not None
    assert claim.chunks == 1


async def test_an_older_replica_loses_a_file_when_the_migration_of_its_store_begins(
    database: Database, one: Tenant
) -> None:
    store = await store_of(one, "of before")
    lease = await claimed_by_older(database, await waiting(one, store))
    assert lease is not None

    await start(one, store)

    async with database.tenant(one.tenant_id) as connection:
        with pytest.raises(LeaseLost):
            await OLDER.update(connection, lease, ADDED, LONG)


async def test_a_deletion_is_not_over_before_the_vectors_of_other_spaces_are_gone(
    database: Database, one: Tenant
) -> None:
    store, file = await one.indexed("red apples")
    await migrated(one, store)
    await one.ports.stores.detach(one.tenant_id, store.vector_store_id, file.file_id)
    pending = [item for item in await one.ports.deletions.claim(100, LONG) if item.tenant_id == one.tenant_id]
    (deletion,) = pending

    async with database.tenant(one.tenant_id) as connection:
        # What an older replica deletes of it.
        await connection.execute("DELETE FROM chunks WHERE attachment = $1", deletion.attachment)
        await connection.execute("DELETE FROM postings WHERE attachment = $1", deletion.attachment)
        with pytest.raises(LeaseLost):
            await DELETIONS.delete(connection, Lease((one.tenant_id, deletion.deletion_id), deletion.epoch))

    while await one.ports.deletions.delete_chunks(deletion, 1):
        pass
    await one.ports.deletions.complete(deletion)
    async with database.tenant(one.tenant_id) as connection:
        for table in ("chunk_vectors", "deletions"):
            assert await connection.fetchval(f"SELECT count(*) FROM {table} WHERE tenant_id = $1", one.tenant_id) == 0
