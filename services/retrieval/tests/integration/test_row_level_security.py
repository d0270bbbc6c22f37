"""Row-level security: a transaction sees and writes the rows of its tenant only."""

from __future__ import annotations

from typing import Any

import asyncpg
import pytest
from chassis.postgres import Database
from chassis.settings import PostgresSection
from chassis.testing import a_principal
from retrieval.search.words_postgres import PostgresCommonWords
from retrieval.semantic_cache.postgres import PostgresPromptStore
from retrieval.vector_stores.model import FileToAttach

from services.retrieval.tests.contracts.cached_prompts import a_prompt, put
from services.retrieval.tests.contracts.store_migrations import claimed, embed_all, start
from services.retrieval.tests.tenants import Tenant

TABLES = [
    "files",
    "vector_stores",
    "attachments",
    "store_counts",
    "common_lexemes",
    "lexeme_counts",
    "file_batches",
    "file_batch_members",
    "chunks",
    "chunk_vectors",
    "store_migrations",
    "postings",
    "deletions",
    "deletion_records",
    "outbox",
    "cached_prompts",
]


@pytest.fixture
async def filled(one: Tenant, database: Database) -> Tenant:
    """A tenant with a row in every table."""
    _, file = await one.indexed("secret text")
    store, other_file = await one.indexed("other text")
    principal = a_principal(one.tenant_id)
    files = [FileToAttach(other_file.file_id), FileToAttach((await one.file()).file_id)]
    await one.ports.batches.create(principal, store.vector_store_id, files)
    await one.ports.files.delete(one.tenant_id, file.file_id)
    claim = await claimed(one, await start(one, store))
    await embed_all(one, claim)
    words = PostgresCommonWords(database, large_store_chunks=1, common_chunks=0)
    await words.count(next(store for store in await words.due(1_000) if store.tenant_id == one.tenant_id))
    await put(PostgresPromptStore(database), one.tenant_id, a_prompt("secret"), 10)
    return one


@pytest.mark.parametrize("table", TABLES)
async def test_a_tenant_sees_its_own_rows_and_no_other_s(
    filled: Tenant, other: Tenant, database: Database, table: str
) -> None:
    query = f"SELECT count(*) FROM {table} WHERE tenant_id = $1"
    async with database.tenant(filled.tenant_id) as connection:
        assert await connection.fetchval(query, filled.tenant_id) > 0
    async with database.tenant(other.tenant_id) as connection:
        assert await connection.fetchval(query, filled.tenant_id) == 0
        assert await connection.fetchval(f"SELECT count(*) FROM {table}") == 0
        assert await connection.execute(f"DELETE FROM {table}") == "DELETE 0"


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("role", ["app", "owner"])
async def test_without_a_tenant_no_row_is_visible(
    filled: Tenant, section: PostgresSection, table: str, role: str
) -> None:
    assert section.owner_dsn is not None
    dsn = section.dsn if role == "app" else section.owner_dsn
    connection: Any = await asyncpg.connect(dsn.get_secret_value())
    try:
        assert await connection.fetchval(f"SELECT count(*) FROM retrieval.{table}") == 0
    finally:
        await connection.close()


@pytest.mark.parametrize("table", TABLES)
async def test_a_row_of_another_tenant_cannot_be_inserted(
    filled: Tenant, other: Tenant, database: Database, table: str
) -> None:
    async with database.tenant(filled.tenant_id) as connection:
        row = await connection.fetchrow(f"SELECT * FROM {table} LIMIT 1")
    identity = {"attachments": "attachment", "store_migrations": "space"}
    columns = [name for name in dict(row) if name != identity.get(table)]
    values = ", ".join(f"${n}" for n in range(1, len(columns) + 1))

    with pytest.raises(asyncpg.InsufficientPrivilegeError, match="row-level security"):
        async with database.tenant(other.tenant_id) as connection:
            await connection.execute(
                f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({values})", *(row[name] for name in columns)
            )


async def test_every_table_forces_its_policy(database: Database) -> None:
    async with database.system() as connection:
        rows = await connection.fetch(
            "SELECT relname, relrowsecurity AND relforcerowsecurity AS forced FROM pg_class"
            " WHERE relnamespace = 'retrieval'::regnamespace AND relkind IN ('r', 'p')"
        )
    forced = {row["relname"]: row["forced"] for row in rows}

    assert {name for name in forced if forced[name]} == set(TABLES)
    assert set(forced) - set(TABLES) == {"schema_migrations", "schema_functions"}


@pytest.mark.parametrize("table", ["chunks", "chunk_vectors", "postings"])
async def test_chunks_vectors_and_postings_cannot_be_updated(filled: Tenant, database: Database, table: str) -> None:
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        async with database.tenant(filled.tenant_id) as connection:
            await connection.execute(f"UPDATE {table} SET attachment = 0")
