"""The kept counts of stores are what a count of their files gives, whatever happens to the files."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path
from typing import Any

import asyncpg
import retrieval
from chassis.ids import new_id
from chassis.postgres import Database, migrate
from chassis.testing import a_principal
from chassis.testing.postgres import scratch_database
from retrieval.files.model import File
from retrieval.reindexing.postgres import PostgresKeywordVersions
from retrieval.vector_stores.model import VectorStore

from services.retrieval.tests.filled_tables import fill_store
from services.retrieval.tests.tenants import LONG, Tenant, embedded

MIGRATIONS = Path(retrieval.__file__).parent / "migrations"
FIRST = 15
"""The number of the migration that began to keep counts."""
_DIFFERENT = """
SELECT * FROM (
    SELECT vector_store_id, sum(chunks) AS chunks, sum(lexeme_count) AS lexemes FROM attachments
    WHERE state = 'completed' GROUP BY vector_store_id
) AS counted FULL JOIN (
    SELECT vector_store_id, sum(chunks) AS chunks, sum(lexemes) AS lexemes FROM store_counts GROUP BY vector_store_id
) AS kept USING (vector_store_id)
WHERE (coalesce(counted.chunks, 0), coalesce(counted.lexemes, 0))
    IS DISTINCT FROM (coalesce(kept.chunks, 0), coalesce(kept.lexemes, 0))
"""


async def different(database: Database, tenant: Tenant) -> list[Any]:
    """Stores of the tenant whose kept counts are not those of their files."""
    async with database.tenant(tenant.tenant_id) as connection:
        rows: list[Any] = await connection.fetch(_DIFFERENT)
    return rows


async def chunks_of(tenant: Tenant, store: VectorStore) -> int:
    contents = await tenant.ports.index.contents(tenant.tenant_id, [store.vector_store_id])
    return contents.chunks


async def complete(tenant: Tenant, store: VectorStore, file: File, *texts: str) -> None:
    """Attach the file and index it with these chunks."""
    await tenant.ports.stores.attach(a_principal(tenant.tenant_id), store.vector_store_id, file.file_id)
    claim = await tenant.claim(store.vector_store_id, file.file_id)
    await tenant.ports.ingestion_store.add_chunks(claim, embedded(texts), LONG)
    await tenant.ports.ingestion_store.complete(claim)


async def test_files_count_from_their_completion_to_their_removal(one: Tenant, database: Database) -> None:
    store, file = await one.indexed("the red lighthouse", "the harbour dues")
    waiting = await one.file()
    await one.ports.stores.attach(a_principal(one.tenant_id), store.vector_store_id, waiting.file_id)

    assert (await chunks_of(one, store), await different(database, one)) == (2, [])

    await one.ports.stores.detach(one.tenant_id, store.vector_store_id, file.file_id)

    assert (await chunks_of(one, store), await different(database, one)) == (0, [])


async def test_words_that_are_indexed_anew_are_counted_anew(one: Tenant, database: Database) -> None:
    store, _ = await one.indexed("the red lighthouse")
    async with database.tenant(one.tenant_id) as connection:
        await connection.execute("DELETE FROM postings WHERE vector_store_id = $1", store.vector_store_id)
        await connection.execute("UPDATE attachments SET lexeme_count = 0, lexeme_version = 0")
    assert await different(database, one) == []

    versions = PostgresKeywordVersions(database)
    [outdated] = await versions.outdated(10, store.vector_store_id)
    await versions.rebuild(outdated, 0, 1_000)

    async with database.tenant(one.tenant_id) as connection:
        assert await connection.fetchval("SELECT sum(lexemes) FROM store_counts") > 0
    assert await different(database, one) == []


async def test_a_file_that_is_deleted_no_longer_counts_in_any_store(one: Tenant, database: Database) -> None:
    store, file = await one.indexed("the red lighthouse")
    other, _ = await one.indexed("the harbour dues")
    await complete(one, other, file, "the red lighthouse")
    assert await chunks_of(one, other) == 2

    await one.ports.files.delete(one.tenant_id, file.file_id)

    assert [await chunks_of(one, each) for each in (store, other)] == [0, 1]
    assert await different(database, one) == []


async def test_nothing_is_kept_of_a_store_that_is_deleted(one: Tenant, database: Database) -> None:
    store, _ = await one.indexed("the red lighthouse")

    await one.ports.stores.delete(one.tenant_id, store.vector_store_id)

    async with database.tenant(one.tenant_id) as connection:
        assert await connection.fetchval("SELECT count(*) FROM store_counts") == 0


async def test_files_that_come_and_go_at_once_are_all_counted(one: Tenant, database: Database) -> None:
    store, _ = await one.indexed("the red lighthouse")
    files = [await one.file() for _ in range(12)]
    for file in files:
        await complete(one, store, file, "words of a file")

    async def again(number: int) -> None:
        await one.ports.stores.detach(one.tenant_id, store.vector_store_id, files[number].file_id)
        await complete(one, store, files[number], "words of a file", "and of another chunk")

    await asyncio.gather(*map(again, range(12)))

    assert (await chunks_of(one, store), await different(database, one)) == (25, [])


async def test_stores_that_were_filled_before_counts_were_kept_are_counted_by_the_migration(tmp_path: Path) -> None:
    for path in MIGRATIONS.glob("*.sql"):
        if int(path.name[:4]) < FIRST:
            shutil.copy(path, tmp_path)
    shutil.copytree(MIGRATIONS / "functions", tmp_path / "functions")
    async with scratch_database(tmp_path, "retrieval", extensions=("vector",)) as section:
        assert section.owner_dsn is not None
        dsn = section.owner_dsn.get_secret_value()
        settings = {"argosy.tenant": "*", "search_path": "retrieval,public"}
        owner: Any = await asyncpg.connect(dsn, server_settings=settings)
        try:
            for files in (3, 20):
                await fill_store(owner, new_id("ten_"), files)

            await migrate(dsn, MIGRATIONS, "retrieval")

            assert await owner.fetchval("SELECT sum(chunks) FROM store_counts") == 23
            assert await owner.fetch(_DIFFERENT) == []
        finally:
            await owner.close()
