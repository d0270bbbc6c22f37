"""Vector stores and attachments in Postgres: tables `vector_stores` and `attachments`."""

from collections.abc import Callable, Sequence
from typing import Any

import orjson
from chassis.ids import new_id
from chassis.kafka import Outbox
from chassis.postgres import Database
from chassis.tenancy import Principal
from values.attributes import Attributes, check_attributes

from retrieval.files.model import file_not_found
from retrieval.files.page import Page, to_page
from retrieval.parsing.model import FileWarning
from retrieval.vector_stores.model import (
    FILE_ATTACHED_TOPIC,
    Attachment,
    AttachmentState,
    FileCounts,
    FileToAttach,
    VectorStore,
    not_attached,
    vector_store_not_found,
)
from retrieval.vector_stores.protos import file_attached_to_proto

_WITH_COUNTS = """
SELECT s.*, a.* FROM vector_stores s CROSS JOIN LATERAL (
    SELECT count(*) FILTER (WHERE state = 'in_progress') AS in_progress,
           count(*) FILTER (WHERE state = 'completed') AS completed,
           count(*) FILTER (WHERE state = 'failed') AS failed,
           coalesce(sum(usage_bytes), 0)::bigint AS usage_bytes
    FROM attachments a WHERE a.tenant_id = s.tenant_id AND a.vector_store_id = s.vector_store_id
) a WHERE s.tenant_id = $1
"""
_GET = f"{_WITH_COUNTS} AND s.vector_store_id = $2"
# Ids begin with the time, so their order is the order of creation.
_LIST = f"""
{_WITH_COUNTS} AND ($2 = '' OR s.vector_store_id < $2) ORDER BY s.tenant_id, s.vector_store_id DESC LIMIT $3
"""
_INSERT = "INSERT INTO vector_stores (tenant_id, vector_store_id, name) VALUES ($1, $2, $3)"
_DELETE = "DELETE FROM vector_stores WHERE tenant_id = $1 AND vector_store_id = $2"
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
RETURNING attributes
"""
_ATTACH = """
INSERT INTO attachments (tenant_id, vector_store_id, file_id, project_id, key_id, attributes)
VALUES ($1, $2, $3, $4, $5, coalesce($6::jsonb, '{}')) ON CONFLICT DO NOTHING RETURNING attachment, created_at
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


_DETACH_ALL = detach_sql("")
_DETACH_FILE = detach_sql("AND file_id = $3")


class PostgresVectorStores:
    """Implements VectorStores. Attaching a file enqueues an event in the outbox."""

    def __init__(self, database: Database, outbox: Outbox, wake_relay: Callable[[], None]) -> None:
        """`wake_relay` is called after a commit with an event, so that the relay does not wait for its next poll."""
        self._database = database
        self._outbox = outbox
        self._wake_relay = wake_relay

    async def create(self, principal: Principal, name: str, file_ids: Sequence[str]) -> VectorStore:
        vector_store_id = new_id("vs_")
        async with self._database.tenant(principal.tenant_id) as connection:
            await connection.execute(_INSERT, principal.tenant_id, vector_store_id, name)
            for file_id in file_ids:
                await attach_file(connection, self._outbox, principal, vector_store_id, FileToAttach(file_id))
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

    async def delete(self, tenant_id: str, vector_store_id: str) -> None:
        async with self._database.tenant(tenant_id) as connection:
            await check_exists(connection, tenant_id, vector_store_id, "FOR UPDATE")
            await connection.execute(_DETACH_ALL, tenant_id, vector_store_id)
            await connection.execute(_DELETE, tenant_id, vector_store_id)

    async def attach(
        self, principal: Principal, vector_store_id: str, file_id: str, *, attributes: Attributes | None = None
    ) -> Attachment:
        file = FileToAttach(file_id, attributes)
        async with self._database.tenant(principal.tenant_id) as connection:
            await check_exists(connection, principal.tenant_id, vector_store_id, "FOR KEY SHARE")
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
    before = await connection.fetchval(_DELETE_FAILED, *key)
    values = (*key, principal.project_id, principal.key_id, before if given is None else given)
    attached = await connection.fetchrow(_ATTACH, *values)
    if attached is None:
        if given is not None:
            await connection.execute(_UPDATE, *key, given)
        return None
    event = file_attached_to_proto(principal, vector_store_id, file.file_id, attached["created_at"])
    await outbox.enqueue(connection, FILE_ATTACHED_TOPIC, tenant_id, event.SerializeToString())
    attachment: int = attached["attachment"]
    return attachment


def to_json(attributes: Attributes) -> str:
    """For a parameter of the type jsonb."""
    return orjson.dumps(attributes).decode()


async def check_exists(connection: Any, tenant_id: str, vector_store_id: str, lock: str = "") -> None:
    """Raise VectorStoreNotFound, or lock the store until the end of the transaction."""
    if not await connection.fetchval(f"{_EXISTS} {lock}", tenant_id, vector_store_id):
        raise vector_store_not_found(vector_store_id)


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
    )
