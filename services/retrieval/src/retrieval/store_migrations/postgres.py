"""Migrations in Postgres, as their tenants see them: table `store_migrations`, and the next space of a store."""

from typing import Any

from chassis.errors import InvalidRequest
from chassis.ids import new_id
from chassis.postgres import Database
from chassis.tenancy import Principal

from retrieval.files.page import Page, to_page
from retrieval.store_migrations.model import (
    StoreMigration,
    StoreMigrationRunning,
    StoreMigrationState,
    store_migration_not_found,
)
from retrieval.vector_stores.attachments_postgres import check_exists
from retrieval.vector_stores.model import MODEL, vector_store_not_found

# Chunks of files that failed are being deleted. Those of a detached file have no attachment any more.
COUNTS = """
SELECT (SELECT coalesce(sum(chunks), 0) FROM attachments
        WHERE tenant_id = $1 AND vector_store_id = $2 AND state <> 'failed')::bigint AS chunks,
       (SELECT count(*) FROM chunk_vectors
        WHERE tenant_id = $1 AND vector_store_id = $2 AND space = $3 AND attachment = ANY(ARRAY(
            SELECT attachment FROM attachments WHERE tenant_id = $1 AND vector_store_id = $2 AND state <> 'failed'
        ))) AS migrated_chunks
"""
_GET = "SELECT * FROM store_migrations WHERE tenant_id = $1 AND vector_store_id = $2 AND migration_id = $3"
_LIST = """
SELECT * FROM store_migrations WHERE tenant_id = $1 AND vector_store_id = $2 AND ($3 = '' OR migration_id < $3)
ORDER BY migration_id DESC LIMIT $4
"""
_UNFINISHED = """
SELECT * FROM store_migrations WHERE tenant_id = $1 AND vector_store_id = $2
AND (state = 'in_progress' OR (state = 'failed' AND retired_space IS NULL AND finished_at IS NOT NULL)) FOR UPDATE
"""
# Changes of the store wait for the lock, and writers of its vectors hold the weaker FOR KEY SHARE.
_LOCK_STORE = """
SELECT embedding_model FROM vector_stores WHERE tenant_id = $1 AND vector_store_id = $2 FOR UPDATE
"""
_INSERT = """
INSERT INTO store_migrations (tenant_id, vector_store_id, migration_id, embedding_model, project_id, key_id, plan)
VALUES ($1, $2, $3, $4, $5, $6, $7) RETURNING *
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

    async def start(self, principal: Principal, vector_store_id: str, model: str, own_model: str) -> StoreMigration:
        store = (principal.tenant_id, vector_store_id)
        async with self._database.tenant(principal.tenant_id) as connection:
            current = await _lock_store(connection, *store)
            unfinished = await connection.fetchrow(_UNFINISHED, *store)
            if unfinished is not None and unfinished["state"] == StoreMigrationState.IN_PROGRESS:
                if unfinished["embedding_model"] != model:
                    raise StoreMigrationRunning(f"the vector store is being migrated to {_model_of(unfinished)!r}")
                return await _to_migration(connection, unfinished)
            if (current or own_model) == model:
                raise InvalidRequest(f"the vector store has the embedding model {model!r}", param=MODEL)
            payer = (principal.project_id, principal.key_id, principal.plan)
            if unfinished is not None and unfinished["embedding_model"] == model:
                row = await connection.fetchrow(_CONTINUE, *store, unfinished["migration_id"], *payer)
            else:
                if unfinished is not None:
                    await connection.execute(_CANCEL, *store, unfinished["migration_id"])
                row = await connection.fetchrow(_INSERT, *store, new_id("vsm_"), model, *payer)
            await connection.execute(SET_NEXT, *store, model, row["space"])
            return await _to_migration(connection, row)

    async def get(self, tenant_id: str, vector_store_id: str, migration_id: str) -> StoreMigration:
        async with self._database.tenant(tenant_id) as connection:
            await check_exists(connection, tenant_id, vector_store_id)
            row = await _migration_row(connection, tenant_id, vector_store_id, migration_id)
            return await _to_migration(connection, row)

    async def list(self, tenant_id: str, vector_store_id: str, *, limit: int, after: str) -> Page[StoreMigration]:
        async with self._database.tenant(tenant_id) as connection:
            await check_exists(connection, tenant_id, vector_store_id)
            rows = await connection.fetch(_LIST, tenant_id, vector_store_id, after, limit + 1)
            migrations = [await _to_migration(connection, row) for row in rows[:limit]]
        return Page(tuple(migrations), to_page(rows, limit).has_more)

    async def cancel(self, tenant_id: str, vector_store_id: str, migration_id: str) -> StoreMigration:
        key = (tenant_id, vector_store_id, migration_id)
        async with self._database.tenant(tenant_id) as connection:
            await _lock_store(connection, tenant_id, vector_store_id)
            row = await _migration_row(connection, *key)
            if row["state"] in {StoreMigrationState.IN_PROGRESS, StoreMigrationState.FAILED}:
                await connection.execute(_CANCEL, *key)
                if row["state"] == StoreMigrationState.IN_PROGRESS:
                    await connection.execute(SET_NEXT, tenant_id, vector_store_id, None, None)
            return await _to_migration(connection, await _migration_row(connection, *key))


async def _lock_store(connection: Any, tenant_id: str, vector_store_id: str) -> str:
    """Lock the store until the end of the transaction; its model, empty for the service's own."""
    model: str | None = await connection.fetchval(_LOCK_STORE, tenant_id, vector_store_id)
    if model is None:
        raise vector_store_not_found(vector_store_id)
    return model


async def _migration_row(connection: Any, tenant_id: str, vector_store_id: str, migration_id: str) -> Any:
    row = await connection.fetchrow(_GET, tenant_id, vector_store_id, migration_id)
    if row is None:
        raise store_migration_not_found(migration_id)
    return row


def _model_of(row: Any) -> str:
    model: str = row["embedding_model"]
    return model


async def _to_migration(connection: Any, row: Any) -> StoreMigration:
    counts = await connection.fetchrow(COUNTS, row["tenant_id"], row["vector_store_id"], row["space"])
    return row_to_store_migration(row, counts)


def row_to_store_migration(row: Any, counts: Any) -> StoreMigration:
    state = StoreMigrationState(row["state"])
    return StoreMigration(
        migration_id=row["migration_id"],
        vector_store_id=row["vector_store_id"],
        embedding_model=row["embedding_model"],
        state=state,
        chunks=counts["chunks"],
        migrated_chunks=counts["chunks" if state is StoreMigrationState.COMPLETED else "migrated_chunks"],
        embedded_chunks=row["embedded_chunks"],
        reused_chunks=row["reused_chunks"],
        unused_vectors_deleted=row["retired_space"] is None
        and state in {StoreMigrationState.COMPLETED, StoreMigrationState.CANCELLED},
        failure_reason=row["failure_reason"],
        failure_message=row["failure_message"],
        created_at=row["created_at"],
        finished_at=row["finished_at"],
    )
