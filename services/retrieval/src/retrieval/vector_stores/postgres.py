"""Vector stores and attachments in Postgres: tables `vector_stores` and `attachments`."""

from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any

import orjson
from chassis.errors import Unavailable
from chassis.ids import new_id
from chassis.kafka import Outbox
from chassis.postgres import Database, repeat_aborted
from chassis.telemetry import logger
from chassis.tenancy import Principal
from values.attributes import Attributes

from retrieval.chunking.splitter import Chunking
from retrieval.embeddings.model import FIRST_SPACE, EmbeddingSpace
from retrieval.files.page import Page, to_page
from retrieval.files.postgres import record_deletion_sql
from retrieval.locks.postgres import lock_content
from retrieval.quotas.model import UNLIMITED, Quota
from retrieval.quotas.postgres import check_vector_store
from retrieval.vector_stores.attachments_postgres import (
    IS_EXPIRED,
    UPDATE_ATTRIBUTES,
    attach_files,
    attachment_row,
    check_exists,
    check_live,
    detach_sql,
    locked_store,
    row_to_attachment,
    to_json,
)
from retrieval.vector_stores.model import (
    Attachment,
    AttachmentState,
    FileCounts,
    FileToAttach,
    StoreChanges,
    VectorStore,
    not_attached,
    vector_store_not_found,
)
from retrieval.vector_stores.ports import NOTHING

log = logger("retrieval.vector_stores")

_WITH_COUNTS = f"""
SELECT s.*, a.*, {IS_EXPIRED} AS expired FROM vector_stores s CROSS JOIN LATERAL (
    SELECT count(*) FILTER (WHERE state = 'in_progress') AS in_progress,
           count(*) FILTER (WHERE state = 'completed') AS completed,
           count(*) FILTER (WHERE state = 'failed') AS failed,
           coalesce(sum(usage_bytes), 0)::bigint AS usage_bytes
    FROM attachments a WHERE a.tenant_id = s.tenant_id AND a.vector_store_id = s.vector_store_id
) a WHERE s.tenant_id = $1
"""  # noqa: S608 - constants
_GET = f"{_WITH_COUNTS} AND s.vector_store_id = $2"
# Ids begin with the time, so their order is the order of creation.
_LIST = f"""
{_WITH_COUNTS} AND ($2 = '' OR s.vector_store_id < $2) ORDER BY s.tenant_id, s.vector_store_id DESC LIMIT $3
"""
_INSERT = """
INSERT INTO vector_stores (tenant_id, vector_store_id, name, metadata, expires_after_days, embedding_model, space)
VALUES ($1, $2, $3, $4::jsonb, $5, $6, $7)
"""
_UPDATE_STORE = """
UPDATE vector_stores SET name = coalesce($3, name), metadata = coalesce($4::jsonb, metadata),
       expires_after_days = CASE WHEN $5::integer IS NULL THEN expires_after_days ELSE nullif($5, 0) END
WHERE tenant_id = $1 AND vector_store_id = $2
"""
# The condition is checked again when the row is locked, so a store that is used at that moment does not expire.
_LOCK_EXPIRED = f"""
SELECT tenant_id, vector_store_id FROM vector_stores
WHERE expires_after_days IS NOT NULL AND expired_at IS NULL AND {IS_EXPIRED} AND vector_store_id <> ALL($1::text[])
ORDER BY last_active_at LIMIT 1 FOR UPDATE SKIP LOCKED
"""  # noqa: S608 - constants
_SET_EXPIRED = "UPDATE vector_stores SET expired_at = now() WHERE tenant_id = $1 AND vector_store_id = $2"
_NAME_MODEL = """
WITH unnamed AS MATERIALIZED (
    SELECT tenant_id, vector_store_id FROM vector_stores WHERE embedding_model = ''
    ORDER BY tenant_id, vector_store_id FOR NO KEY UPDATE
)
UPDATE vector_stores AS s SET embedding_model = $1 FROM unnamed AS u
WHERE (s.tenant_id, s.vector_store_id) = (u.tenant_id, u.vector_store_id)
"""
_DELETE = "DELETE FROM vector_stores WHERE tenant_id = $1 AND vector_store_id = $2"
_LIST_ATTACHMENTS = """
SELECT * FROM attachments WHERE tenant_id = $1 AND vector_store_id = $2
 AND ($3::bigint IS NULL OR attachment < $3) AND ($4::text IS NULL OR state = $4)
ORDER BY attachment DESC LIMIT $5
"""

_RECORD_DELETION = record_deletion_sql("vector_store_id")
_DETACH_ALL = detach_sql("")
_DETACH_FILE = detach_sql("AND file_id = $3")


class PostgresVectorStores:
    """Implements VectorStores. Attaching a file enqueues an event in the outbox."""

    def __init__(self, database: Database, outbox: Outbox, wake_relay: Callable[[], None]) -> None:
        """`wake_relay` is called after a commit with an event, so that the relay does not wait for its next poll."""
        self._database = database
        self._outbox = outbox
        self._wake_relay = wake_relay

    @repeat_aborted
    async def create(
        self,
        principal: Principal,
        name: str,
        file_ids: Sequence[str],
        *,
        space: EmbeddingSpace = FIRST_SPACE,
        chunking: Chunking | None = None,
        metadata: Mapping[str, str] = NOTHING,
        expires_after: timedelta | None = None,
        quota: Quota = UNLIMITED,
    ) -> VectorStore:
        days = expires_after.days if expires_after else None
        vector_store_id = new_id("vs_")
        async with self._database.tenant(principal.tenant_id) as connection:
            await check_vector_store(connection, principal.tenant_id, quota)
            values = (principal.tenant_id, vector_store_id, name, to_json(metadata), days)
            await connection.execute(_INSERT, *values, space.model, space.number)
            files = [FileToAttach(file_id, None, chunking) for file_id in file_ids]
            await attach_files(connection, self._outbox, principal, vector_store_id, files)
            row = await connection.fetchrow(_GET, principal.tenant_id, vector_store_id)
        self._wake_relay()
        return row_to_vector_store(row)

    async def get(self, tenant_id: str, vector_store_id: str) -> VectorStore:
        async with self._database.tenant(tenant_id) as connection:
            row = await connection.fetchrow(_GET, tenant_id, vector_store_id)
        if row is None:
            raise vector_store_not_found(vector_store_id)
        return row_to_vector_store(row)

    async def list(self, tenant_id: str, *, limit: int, after: str) -> Page[VectorStore]:
        async with self._database.tenant(tenant_id) as connection:
            rows = await connection.fetch(_LIST, tenant_id, after, limit + 1)
        return to_page([row_to_vector_store(row) for row in rows], limit)

    async def update(self, tenant_id: str, vector_store_id: str, changes: StoreChanges) -> VectorStore:
        metadata = None if changes.metadata is None else to_json(changes.metadata)
        days = None if changes.expires_after is None else changes.expires_after.days
        async with self._database.tenant(tenant_id) as connection:
            await locked_store(connection, tenant_id, vector_store_id)
            if days is not None:
                await check_live(connection, tenant_id, vector_store_id)
            await connection.execute(_UPDATE_STORE, tenant_id, vector_store_id, changes.name, metadata, days)
            row = await connection.fetchrow(_GET, tenant_id, vector_store_id)
        return row_to_vector_store(row)

    async def expire(self, limit: int) -> int:
        # A transaction for each: one that is too large to be emptied in time keeps no other from expiring.
        done, failed = 0, list[str]()
        while done + len(failed) < limit:
            row = None
            try:
                async with self._database.system() as connection:
                    row = await connection.fetchrow(_LOCK_EXPIRED, failed)
                    if row is None:
                        break
                    await lock_content(connection, row["tenant_id"], row["vector_store_id"])
                    await connection.execute(_DETACH_ALL, row["tenant_id"], row["vector_store_id"])
                    await connection.execute(_SET_EXPIRED, row["tenant_id"], row["vector_store_id"])
                done += 1
            except Unavailable:
                if row is None:
                    raise
                failed.append(row["vector_store_id"])
                log.warning("expiry_failed", tenant_id=row["tenant_id"], vector_store_id=row["vector_store_id"])
        return done

    @repeat_aborted
    async def delete(self, tenant_id: str, vector_store_id: str) -> None:
        async with self._database.tenant(tenant_id) as connection:
            await locked_store(connection, tenant_id, vector_store_id)
            await lock_content(connection, tenant_id, vector_store_id)
            await connection.execute(_RECORD_DELETION, tenant_id, vector_store_id)
            await connection.execute(_DETACH_ALL, tenant_id, vector_store_id)
            await connection.execute(_DELETE, tenant_id, vector_store_id)

    @repeat_aborted
    async def attach(
        self,
        principal: Principal,
        vector_store_id: str,
        file_id: str,
        *,
        attributes: Attributes | None = None,
        chunking: Chunking | None = None,
    ) -> Attachment:
        file = FileToAttach(file_id, attributes, chunking)
        async with self._database.tenant(principal.tenant_id) as connection:
            await check_live(connection, principal.tenant_id, vector_store_id)
            await attach_files(connection, self._outbox, principal, vector_store_id, [file])
            row = await attachment_row(connection, principal.tenant_id, vector_store_id, file_id)
        self._wake_relay()
        return row_to_attachment(row)

    async def attachment(self, tenant_id: str, vector_store_id: str, file_id: str) -> Attachment:
        async with self._database.tenant(tenant_id) as connection:
            await check_exists(connection, tenant_id, vector_store_id)
            return row_to_attachment(await attachment_row(connection, tenant_id, vector_store_id, file_id))

    async def attachments(
        self, tenant_id: str, vector_store_id: str, *, limit: int, after: str, state: AttachmentState | None
    ) -> Page[Attachment]:
        async with self._database.tenant(tenant_id) as connection:
            await check_exists(connection, tenant_id, vector_store_id)
            before: int | None = None
            if after:
                row = await attachment_row(connection, tenant_id, vector_store_id, after, param="after")
                before = row["attachment"]
            rows = await connection.fetch(_LIST_ATTACHMENTS, tenant_id, vector_store_id, before, state, limit + 1)
        return to_page([row_to_attachment(row) for row in rows], limit)

    @repeat_aborted
    async def update_attachment(
        self, tenant_id: str, vector_store_id: str, file_id: str, attributes: Attributes
    ) -> Attachment:
        async with self._database.tenant(tenant_id) as connection:
            await check_exists(connection, tenant_id, vector_store_id)
            row = await connection.fetchrow(UPDATE_ATTRIBUTES, tenant_id, vector_store_id, file_id, to_json(attributes))
        if row is None:
            raise not_attached(vector_store_id, file_id)
        return row_to_attachment(row)

    @repeat_aborted
    async def detach(self, tenant_id: str, vector_store_id: str, file_id: str) -> None:
        async with self._database.tenant(tenant_id) as connection:
            await check_exists(connection, tenant_id, vector_store_id)
            if not await connection.fetchval(_DETACH_FILE, tenant_id, vector_store_id, file_id):
                raise not_attached(vector_store_id, file_id)


async def name_embedding_model(database: Database, model: str) -> None:
    """Write the service's own model into stores that name none, so that it can become another one."""
    async with database.system() as connection:
        await connection.execute(_NAME_MODEL, model)


def row_to_vector_store(row: Any) -> VectorStore:
    return VectorStore(
        vector_store_id=row["vector_store_id"],
        name=row["name"],
        created_at=row["created_at"],
        file_counts=FileCounts(row["in_progress"], row["completed"], row["failed"]),
        usage_bytes=row["usage_bytes"],
        last_active_at=row["last_active_at"],
        metadata=orjson.loads(row["metadata"]),
        expires_after=timedelta(days=row["expires_after_days"]) if row["expires_after_days"] else None,
        expired=row["expired"],
        embedding_model=row["embedding_model"],
    )
