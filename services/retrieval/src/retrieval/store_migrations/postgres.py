"""Migrations in Postgres, as their tenants see them: table `store_migrations`, and the next space of a store."""

from typing import Any

from chassis.errors import InvalidRequest
from chassis.ids import new_id
from chassis.postgres import Database, repeat_aborted
from chassis.tenancy import Principal

from retrieval.files.page import Page, to_page
from retrieval.store_migrations.model import (
    StoreMigration,
    StoreMigrationRunning,
    StoreMigrationState,
    store_migration_not_found,
)
from retrieval.vector_stores.attachments_postgres import check_exists, locked_store
from retrieval.vector_stores.model import MODEL

# Chunks of files that failed are being deleted. Those of a detached file have no attachment any more.
COUNTS = """
SELECT (SELECT coalesce(sum(chunks), 0) FROM attachments
        WHERE tenant_id = $1 AND vector_store_id = $2 AND state <> 'failed')::bigint AS chunks,
       (SELECT count(*) FROM chunk_vectors
        WHERE tenant_id = $1 AND vector_store_id = $2 AND space = $3 AND attachment = ANY(ARRAY(
            SELECT attachment FROM attachments WHERE tenant_id = $1 AND vector_store_id = $2 AND state <> 'failed'
        ))) AS migrated_chunks
"""
_CHUNKS = """
SELECT coalesce(sum(chunks), 0)::bigint FROM attachments
WHERE tenant_id = $1 AND vector_store_id = $2 AND state <> 'failed'
"""
# Vectors of a store of more chunks are not counted each time that a client asks for the progress.
MAX_COUNTED = 20_000
# Migrations of a store that are kept, of those that are over. A failed one has vectors, so it stays.
MAX_KEPT = 100
_GET = "SELECT * FROM store_migrations WHERE tenant_id = $1 AND vector_store_id = $2 AND migration_id = $3"
_LIST = """
SELECT * FROM store_migrations WHERE tenant_id = $1 AND vector_store_id = $2 AND ($3 = '' OR migration_id < $3)
ORDER BY migration_id DESC LIMIT $4
"""
_UNFINISHED = """
SELECT * FROM store_migrations WHERE tenant_id = $1 AND vector_store_id = $2
AND (state = 'in_progress' OR (state = 'failed' AND retired_space IS NULL AND finished_at IS NOT NULL)) FOR UPDATE
"""
_INSERT = """
INSERT INTO store_migrations (tenant_id, vector_store_id, migration_id, embedding_model, project_id, key_id, plan)
VALUES ($1, $2, $3, $4, $5, $6, $7) RETURNING *
"""
_FORGET = """
DELETE FROM store_migrations WHERE tenant_id = $1 AND vector_store_id = $2 AND retired_space IS NULL
AND state IN ('completed', 'cancelled') AND migration_id <= (
    SELECT migration_id FROM store_migrations WHERE tenant_id = $1 AND vector_store_id = $2
    ORDER BY migration_id DESC OFFSET $3 LIMIT 1)
"""
_CONTINUE = """
UPDATE store_migrations SET state = 'in_progress', failure_reason = '', failure_message = '', finished_at = NULL,
    epoch = epoch + 1, due_at = now(), crashes = 0, retries = 0, project_id = $4, key_id = $5, plan = $6
WHERE tenant_id = $1 AND vector_store_id = $2 AND migration_id = $3 RETURNING *
"""
# The epoch, so that a run which still works on it can write nothing more.
_CANCEL = """
UPDATE store_migrations SET state = 'cancelled', retired_space = space, finished_at = now(), epoch = epoch + 1,
    due_at = now(), crashes = 0, retries = 0, failure_reason = '', failure_message = ''
WHERE tenant_id = $1 AND vector_store_id = $2 AND migration_id = $3
"""
SET_NEXT = """
UPDATE vector_stores SET next_embedding_model = $3, next_space = $4 WHERE tenant_id = $1 AND vector_store_id = $2
"""


class PostgresStoreMigrations:
    """Implements StoreMigrations."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @repeat_aborted
    async def start(self, principal: Principal, vector_store_id: str, model: str, own_model: str) -> StoreMigration:
        async with self._database.tenant(principal.tenant_id) as connection:
            row = await _started(connection, principal, vector_store_id, model, own_model)
        return await self._counted(row)

    async def get(self, tenant_id: str, vector_store_id: str, migration_id: str) -> StoreMigration:
        async with self._database.tenant(tenant_id) as connection:
            await check_exists(connection, tenant_id, vector_store_id)
            row = await _migration_row(connection, tenant_id, vector_store_id, migration_id)
        return await self._counted(row)

    async def list(self, tenant_id: str, vector_store_id: str, *, limit: int, after: str) -> Page[StoreMigration]:
        async with self._database.tenant(tenant_id) as connection:
            await check_exists(connection, tenant_id, vector_store_id)
            rows = await connection.fetch(_LIST, tenant_id, vector_store_id, after, limit + 1)
            chunks = await connection.fetchval(_CHUNKS, tenant_id, vector_store_id)
            migrations = [await _to_migration(connection, row, chunks) for row in rows[:limit]]
        return Page(tuple(migrations), to_page(rows, limit).has_more)

    @repeat_aborted
    async def cancel(self, tenant_id: str, vector_store_id: str, migration_id: str) -> StoreMigration:
        key = (tenant_id, vector_store_id, migration_id)
        async with self._database.tenant(tenant_id) as connection:
            await locked_store(connection, tenant_id, vector_store_id)
            row = await _migration_row(connection, *key)
            if row["state"] in {StoreMigrationState.IN_PROGRESS, StoreMigrationState.FAILED}:
                await connection.execute(_CANCEL, *key)
                if row["state"] == StoreMigrationState.IN_PROGRESS:
                    await connection.execute(SET_NEXT, tenant_id, vector_store_id, None, None)
            row = await _migration_row(connection, *key)
        return await self._counted(row)

    async def _counted(self, row: Any) -> StoreMigration:
        """In a transaction of its own, which locks nothing while it counts."""
        async with self._database.tenant(row["tenant_id"]) as connection:
            chunks = await connection.fetchval(_CHUNKS, row["tenant_id"], row["vector_store_id"])
            return await _to_migration(connection, row, chunks)


async def _started(connection: Any, principal: Principal, vector_store_id: str, model: str, own_model: str) -> Any:
    """The row of the migration that runs to the model, or of one that is started or continued."""
    store = (principal.tenant_id, vector_store_id)
    current = (await locked_store(connection, *store))["embedding_model"]
    unfinished = await connection.fetchrow(_UNFINISHED, *store)
    if unfinished is not None and unfinished["state"] == StoreMigrationState.IN_PROGRESS:
        if unfinished["embedding_model"] != model:
            raise StoreMigrationRunning(f"the vector store is being migrated to {_model_of(unfinished)!r}")
        return unfinished
    if (current or own_model) == model:
        raise InvalidRequest(f"the vector store has the embedding model {model!r}", param=MODEL)
    payer = (principal.project_id, principal.key_id, principal.plan)
    if unfinished is not None and unfinished["embedding_model"] == model:
        row = await connection.fetchrow(_CONTINUE, *store, unfinished["migration_id"], *payer)
    else:
        if unfinished is not None:
            await connection.execute(_CANCEL, *store, unfinished["migration_id"])
        row = await connection.fetchrow(_INSERT, *store, new_id("vsm_"), model, *payer)
        await connection.execute(_FORGET, *store, MAX_KEPT)
    await connection.execute(SET_NEXT, *store, model, row["space"])
    return row


async def _migration_row(connection: Any, tenant_id: str, vector_store_id: str, migration_id: str) -> Any:
    row = await connection.fetchrow(_GET, tenant_id, vector_store_id, migration_id)
    if row is None:
        raise store_migration_not_found(migration_id)
    return row


def _model_of(row: Any) -> str:
    model: str = row["embedding_model"]
    return model


async def _to_migration(connection: Any, row: Any, chunks: int) -> StoreMigration:
    """`chunks` are those of the store. Of a large one, progress is what the migration has stored itself."""
    migrated = min(row["embedded_chunks"] + row["reused_chunks"], chunks)
    if row["state"] == StoreMigrationState.IN_PROGRESS and chunks <= MAX_COUNTED:
        counts = await connection.fetchrow(COUNTS, row["tenant_id"], row["vector_store_id"], row["space"])
        chunks, migrated = counts["chunks"], counts["migrated_chunks"]
    return row_to_store_migration(row, chunks, migrated)


def row_to_store_migration(row: Any, chunks: int, migrated: int) -> StoreMigration:
    state = StoreMigrationState(row["state"])
    return StoreMigration(
        migration_id=row["migration_id"],
        vector_store_id=row["vector_store_id"],
        embedding_model=row["embedding_model"],
        state=state,
        chunks=chunks,
        migrated_chunks=chunks if state is StoreMigrationState.COMPLETED else migrated,
        embedded_chunks=row["embedded_chunks"],
        reused_chunks=row["reused_chunks"],
        unused_vectors_deleted=row["retired_space"] is None
        and state in {StoreMigrationState.COMPLETED, StoreMigrationState.CANCELLED},
        failure_reason=row["failure_reason"],
        failure_message=row["failure_message"],
        created_at=row["created_at"],
        finished_at=row["finished_at"],
    )
