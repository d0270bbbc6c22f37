"""Vector stores and attachments in Postgres: tables `vector_stores` and `attachments`."""

from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any

import orjson
from chassis.ids import new_id
from chassis.kafka import Outbox
from chassis.postgres import Database
from chassis.tenancy import Principal
from values.attributes import Attributes, check_attributes

from retrieval.chunking.splitter import OWN_CHUNKING, Chunking
from retrieval.embeddings.model import FIRST_SPACE, EmbeddingSpace
from retrieval.files.model import file_not_found
from retrieval.files.page import Page, to_page
from retrieval.files.postgres import record_deletion_sql
from retrieval.parsing.model import FileWarning
from retrieval.quotas.model import UNLIMITED, Quota
from retrieval.quotas.postgres import check_vector_store
from retrieval.vector_stores.model import (
    FILE_ATTACHED_TOPIC,
    Attachment,
    AttachmentState,
    FileCounts,
    FileToAttach,
    StoreChanges,
    VectorStore,
    not_attached,
    vector_store_expired,
    vector_store_not_found,
)
from retrieval.vector_stores.ports import NOTHING
from retrieval.vector_stores.protos import file_attached_to_proto

# A store whose time is over, whether it is emptied yet or not.
IS_EXPIRED = "(expired_at IS NOT NULL OR last_active_at + make_interval(days => expires_after_days) <= now()) IS TRUE"
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
WHERE expires_after_days IS NOT NULL AND expired_at IS NULL AND {IS_EXPIRED}
ORDER BY tenant_id, vector_store_id LIMIT $1 FOR UPDATE SKIP LOCKED
"""  # noqa: S608 - constants
_SET_EXPIRED = "UPDATE vector_stores SET expired_at = now() WHERE tenant_id = $1 AND vector_store_id = $2"
# At most once a minute, so that searches do not write; and they do not wait for each other, nor for a deletion.
SET_ACTIVE = """
UPDATE vector_stores SET last_active_at = now() WHERE (tenant_id, vector_store_id) IN (
    SELECT tenant_id, vector_store_id FROM vector_stores WHERE tenant_id = $1 AND vector_store_id = ANY($2::text[])
       AND last_active_at < now() - interval '1 minute' ORDER BY vector_store_id FOR NO KEY UPDATE SKIP LOCKED)
"""
_NAME_MODEL = "UPDATE vector_stores SET embedding_model = $1 WHERE embedding_model = ''"
_DELETE = "DELETE FROM vector_stores WHERE tenant_id = $1 AND vector_store_id = $2"
_LIVE = f"SELECT {IS_EXPIRED} AS expired FROM vector_stores WHERE tenant_id = $1 AND vector_store_id = $2"  # noqa: S608
_EXISTS = "SELECT 1 FROM vector_stores WHERE tenant_id = $1 AND vector_store_id = $2"
_GET_ATTACHMENT = "SELECT * FROM attachments WHERE tenant_id = $1 AND vector_store_id = $2 AND file_id = $3"
_LIST_ATTACHMENTS = """
SELECT * FROM attachments WHERE tenant_id = $1 AND vector_store_id = $2
 AND ($3::bigint IS NULL OR attachment < $3) AND ($4::text IS NULL OR state = $4)
ORDER BY attachment DESC LIMIT $5
"""
# The lock prevents that the file is deleted before the commit.
_LOCK_FILE = "SELECT 1 FROM files WHERE tenant_id = $1 AND file_id = $2 FOR KEY SHARE"
_DELETE_FAILED = """
DELETE FROM attachments WHERE tenant_id = $1 AND vector_store_id = $2 AND file_id = $3 AND state = 'failed'
RETURNING *
"""
_ATTACH = """
INSERT INTO attachments (tenant_id, vector_store_id, file_id, project_id, key_id, attributes, max_chunk_tokens,
                         chunk_overlap_tokens, plan)
VALUES ($1, $2, $3, $4, $5, coalesce($6::jsonb, '{}'), $7, $8, $9)
ON CONFLICT DO NOTHING RETURNING attachment, created_at
"""
_UPDATE = """
UPDATE attachments SET attributes = $4::jsonb WHERE tenant_id = $1 AND vector_store_id = $2 AND file_id = $3 RETURNING *
"""
# Deletes attachments and schedules the deletion of their chunks.
_DETACH = """
WITH detached AS (
    DELETE FROM attachments WHERE tenant_id = $1 AND vector_store_id = $2 {condition}
    RETURNING tenant_id, vector_store_id, attachment
), scheduled AS (
    INSERT INTO deletions (tenant_id, deletion_id, vector_store_id, attachment)
    SELECT tenant_id, 'attachment-' || attachment, vector_store_id, attachment FROM detached ON CONFLICT DO NOTHING
)
SELECT count(*) FROM detached
"""


def detach_sql(condition: str) -> str:
    """A statement that detaches the files of store $2 of tenant $1 for which the condition holds."""
    return _DETACH.format(condition=condition)


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
            for file_id in file_ids:
                file = FileToAttach(file_id, None, chunking)
                await attach_file(connection, self._outbox, principal, vector_store_id, file)
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
            await check_exists(connection, tenant_id, vector_store_id, "FOR UPDATE")
            if days is not None:
                await check_live(connection, tenant_id, vector_store_id)
            await connection.execute(_UPDATE_STORE, tenant_id, vector_store_id, changes.name, metadata, days)
            row = await connection.fetchrow(_GET, tenant_id, vector_store_id)
        return row_to_vector_store(row)

    async def expire(self, limit: int) -> int:
        async with self._database.system() as connection:
            rows = await connection.fetch(_LOCK_EXPIRED, limit)
            for row in rows:
                await connection.execute(_DETACH_ALL, row["tenant_id"], row["vector_store_id"])
                await connection.execute(_SET_EXPIRED, row["tenant_id"], row["vector_store_id"])
        return len(rows)

    async def delete(self, tenant_id: str, vector_store_id: str) -> None:
        async with self._database.tenant(tenant_id) as connection:
            await check_exists(connection, tenant_id, vector_store_id, "FOR UPDATE")
            await connection.execute(_RECORD_DELETION, tenant_id, vector_store_id)
            await connection.execute(_DETACH_ALL, tenant_id, vector_store_id)
            await connection.execute(_DELETE, tenant_id, vector_store_id)

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
            await attach_file(connection, self._outbox, principal, vector_store_id, file)
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

    async def update_attachment(
        self, tenant_id: str, vector_store_id: str, file_id: str, attributes: Attributes
    ) -> Attachment:
        async with self._database.tenant(tenant_id) as connection:
            await check_exists(connection, tenant_id, vector_store_id)
            row = await connection.fetchrow(_UPDATE, tenant_id, vector_store_id, file_id, to_json(attributes))
        if row is None:
            raise not_attached(vector_store_id, file_id)
        return row_to_attachment(row)

    async def detach(self, tenant_id: str, vector_store_id: str, file_id: str) -> None:
        async with self._database.tenant(tenant_id) as connection:
            await check_exists(connection, tenant_id, vector_store_id)
            if not await connection.fetchval(_DETACH_FILE, tenant_id, vector_store_id, file_id):
                raise not_attached(vector_store_id, file_id)


async def name_embedding_model(database: Database, model: str) -> None:
    """Write the service's own model into stores that name none, so that it can become another one."""
    async with database.system() as connection:
        await connection.execute(_NAME_MODEL, model)


async def attach_file(
    connection: Any, outbox: Outbox, principal: Principal, vector_store_id: str, file: FileToAttach
) -> int | None:
    """Attach the file and enqueue the event, and return the attachment's number. Raises FileNotFound.

    None for a file that is attached and has not failed: only its attributes change, when some are given.
    """
    tenant_id = principal.tenant_id
    key = (tenant_id, vector_store_id, file.file_id)
    if not await connection.fetchval(_LOCK_FILE, tenant_id, file.file_id):
        raise file_not_found(file.file_id)
    given = None if file.attributes is None else to_json(file.attributes)
    failed = await connection.fetchrow(_DELETE_FAILED, *key)
    attributes = failed["attributes"] if failed and given is None else given
    chunking = file.chunking or (failed and row_to_chunking(failed)) or OWN_CHUNKING
    split = (chunking.max_tokens, chunking.overlap_tokens)
    values = (principal.project_id, principal.key_id, attributes, *split, principal.plan)
    attached = await connection.fetchrow(_ATTACH, *key, *values)
    if attached is None:
        if given is not None:
            await connection.execute(_UPDATE, *key, given)
        return None
    event = file_attached_to_proto(principal, vector_store_id, file.file_id, attached["created_at"])
    await outbox.enqueue(connection, FILE_ATTACHED_TOPIC, tenant_id, event.SerializeToString())
    attachment: int = attached["attachment"]
    return attachment


def to_json(attributes: Attributes | Mapping[str, str]) -> str:
    """For a parameter of the type jsonb."""
    return orjson.dumps(attributes).decode()


async def check_exists(connection: Any, tenant_id: str, vector_store_id: str, lock: str = "") -> None:
    """Raise VectorStoreNotFound, or lock the store until the end of the transaction."""
    if not await connection.fetchval(f"{_EXISTS} {lock}", tenant_id, vector_store_id):
        raise vector_store_not_found(vector_store_id)


async def check_live(connection: Any, tenant_id: str, vector_store_id: str) -> None:
    """Lock the store against its deletion and its expiry, and note that it is used.

    Raises VectorStoreNotFound, VectorStoreExpired.
    """
    row = await connection.fetchrow(f"{_LIVE} FOR KEY SHARE", tenant_id, vector_store_id)
    if row is None:
        raise vector_store_not_found(vector_store_id)
    if row["expired"]:
        raise vector_store_expired(vector_store_id)
    await connection.execute(SET_ACTIVE, tenant_id, [vector_store_id])


async def attachment_row(
    connection: Any, tenant_id: str, vector_store_id: str, file_id: str, param: str = "file_id"
) -> Any:
    row = await connection.fetchrow(_GET_ATTACHMENT, tenant_id, vector_store_id, file_id)
    if row is None:
        raise not_attached(vector_store_id, file_id, param)
    return row


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


def row_to_attachment(row: Any) -> Attachment:
    return Attachment(
        vector_store_id=row["vector_store_id"],
        file_id=row["file_id"],
        state=AttachmentState(row["state"]),
        failure_reason=row["failure_reason"],
        failure_message=row["failure_message"],
        chunks=row["chunks"],
        usage_bytes=row["usage_bytes"],
        created_at=row["created_at"],
        warnings=tuple(FileWarning(**item) for item in orjson.loads(row["warnings"])),
        attributes=check_attributes(orjson.loads(row["attributes"])),
        chunking=row_to_chunking(row),
    )


def row_to_chunking(row: Any) -> Chunking | None:
    """None for a file that was attached by an older version."""
    if row["max_chunk_tokens"] is None:
        return None
    return Chunking(row["max_chunk_tokens"], row["chunk_overlap_tokens"])
