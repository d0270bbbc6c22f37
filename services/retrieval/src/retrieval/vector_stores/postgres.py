"""Vector stores and attachments in Postgres."""

from collections.abc import Callable, Sequence
from typing import Any

from argosy.common.v1.common_pb2 import EventMeta
from argosy.retrieval.v1.events_pb2 import FileAttached
from chassis.grpc import timestamp_to_proto
from chassis.ids import new_id
from chassis.kafka import Outbox
from chassis.postgres import Database
from chassis.tenancy import Principal

from retrieval.adapters.postgres.files import unknown_file
from retrieval.adapters.postgres.mapping import cut, from_row_attachment, from_row_vector_store
from retrieval.domain.files import FileNotFound
from retrieval.domain.listing import Listing
from retrieval.domain.vector_stores import Attachment, AttachmentState, VectorStore, VectorStoreNotFound

FILE_ATTACHED = "argosy.retrieval.file-attached.v1"

_WITH_COUNTS = """
SELECT s.*, a.* FROM vector_stores s CROSS JOIN LATERAL (
    SELECT count(*) FILTER (WHERE state = 'in_progress') AS in_progress,
           count(*) FILTER (WHERE state = 'completed') AS completed,
           count(*) FILTER (WHERE state = 'failed') AS failed,
           coalesce(sum(usage_bytes), 0)::bigint AS usage_bytes
    FROM attachments a WHERE a.tenant_id = s.tenant_id AND a.vector_store_id = s.vector_store_id
) a WHERE s.tenant_id = $1
"""
# Deletes attachments and leaves a note to remove their chunks; the rest of the WHERE clause follows.
_DETACH = """
WITH gone AS (
    DELETE FROM attachments WHERE tenant_id = $1 AND vector_store_id = $2 {further}
    RETURNING tenant_id, vector_store_id, attachment
), noted AS (
    INSERT INTO removals (tenant_id, removal_id, vector_store_id, attachment)
    SELECT tenant_id, 'attachment-' || attachment, vector_store_id, attachment FROM gone ON CONFLICT DO NOTHING
)
SELECT count(*) FROM gone
"""


class PostgresVectorStores:
    """Tables `vector_stores` and `attachments`; an attachment is announced through the outbox."""

    def __init__(self, database: Database, outbox: Outbox, announced: Callable[[], None]) -> None:
        """`announced` is called after something was put into the outbox: its relay need not wait for its next look."""
        self._database = database
        self._outbox = outbox
        self._announced = announced

    async def create(self, principal: Principal, name: str, file_ids: Sequence[str]) -> VectorStore:
        """See VectorStores."""
        vector_store_id = new_id("vs_")
        async with self._database.tenant(principal.tenant_id) as connection:
            await connection.execute(
                "INSERT INTO vector_stores (tenant_id, vector_store_id, name) VALUES ($1, $2, $3)",
                principal.tenant_id,
                vector_store_id,
                name,
            )
            for file_id in file_ids:
                await self._attach(connection, principal, vector_store_id, file_id)
            store = await _store(connection, principal.tenant_id, vector_store_id)
        self._announced()
        return store

    async def get(self, tenant_id: str, vector_store_id: str) -> VectorStore:
        """See VectorStores."""
        async with self._database.tenant(tenant_id) as connection:
            return await _store(connection, tenant_id, vector_store_id)

    async def list(self, tenant_id: str, *, limit: int, after: str) -> Listing[VectorStore]:
        """See VectorStores. Ids begin with the time, so their order is the order of creation."""
        async with self._database.tenant(tenant_id) as connection:
            rows = await connection.fetch(
                _WITH_COUNTS
                + " AND ($2 = '' OR s.vector_store_id < $2) ORDER BY s.tenant_id, s.vector_store_id DESC LIMIT $3",
                tenant_id,
                after,
                limit + 1,
            )
        return cut([from_row_vector_store(row) for row in rows], limit)

    async def delete(self, tenant_id: str, vector_store_id: str) -> None:
        """See VectorStores."""
        async with self._database.tenant(tenant_id) as connection:
            await _lock(connection, tenant_id, vector_store_id, "FOR UPDATE")
            await connection.fetchval(_DETACH.format(further=""), tenant_id, vector_store_id)
            await connection.execute(
                "DELETE FROM vector_stores WHERE tenant_id = $1 AND vector_store_id = $2", tenant_id, vector_store_id
            )

    async def attach(self, principal: Principal, vector_store_id: str, file_id: str) -> Attachment:
        """See VectorStores."""
        async with self._database.tenant(principal.tenant_id) as connection:
            await _lock(connection, principal.tenant_id, vector_store_id, "FOR KEY SHARE")
            await self._attach(connection, principal, vector_store_id, file_id)
            attachment = await _attachment(connection, principal.tenant_id, vector_store_id, file_id)
        self._announced()
        return attachment

    async def attachment(self, tenant_id: str, vector_store_id: str, file_id: str) -> Attachment:
        """See VectorStores."""
        async with self._database.tenant(tenant_id) as connection:
            await _lock(connection, tenant_id, vector_store_id, "")
            return await _attachment(connection, tenant_id, vector_store_id, file_id)

    async def attachments(
        self, tenant_id: str, vector_store_id: str, *, limit: int, after: str, state: AttachmentState | None
    ) -> Listing[Attachment]:
        """See VectorStores."""
        async with self._database.tenant(tenant_id) as connection:
            await _lock(connection, tenant_id, vector_store_id, "")
            before = None
            if after:
                before = await _number(connection, tenant_id, vector_store_id, after)
            rows = await connection.fetch(
                "SELECT * FROM attachments WHERE tenant_id = $1 AND vector_store_id = $2"
                " AND ($3::bigint IS NULL OR attachment < $3) AND ($4::text IS NULL OR state = $4)"
                " ORDER BY attachment DESC LIMIT $5",
                tenant_id,
                vector_store_id,
                before,
                state,
                limit + 1,
            )
        return cut([from_row_attachment(row) for row in rows], limit)

    async def detach(self, tenant_id: str, vector_store_id: str, file_id: str) -> None:
        """See VectorStores."""
        async with self._database.tenant(tenant_id) as connection:
            await _lock(connection, tenant_id, vector_store_id, "")
            gone = await connection.fetchval(
                _DETACH.format(further="AND file_id = $3"), tenant_id, vector_store_id, file_id
            )
            if not gone:
                raise _not_attached(vector_store_id, file_id)

    async def _attach(self, connection: Any, principal: Principal, vector_store_id: str, file_id: str) -> None:
        """Attach and announce, unless it is attached and has not failed."""
        tenant_id = principal.tenant_id
        # The lock keeps the file from being deleted between here and the commit.
        if not await connection.fetchval(
            "SELECT 1 FROM files WHERE tenant_id = $1 AND file_id = $2 FOR KEY SHARE", tenant_id, file_id
        ):
            raise unknown_file(file_id)
        await connection.execute(
            "DELETE FROM attachments"
            " WHERE tenant_id = $1 AND vector_store_id = $2 AND file_id = $3 AND state = 'failed'",
            tenant_id,
            vector_store_id,
            file_id,
        )
        attached_at = await connection.fetchval(
            "INSERT INTO attachments (tenant_id, vector_store_id, file_id, project_id, key_id)"
            " VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING RETURNING created_at",
            tenant_id,
            vector_store_id,
            file_id,
            principal.project_id,
            principal.key_id,
        )
        if attached_at is None:
            return
        event = FileAttached(
            meta=EventMeta(event_id=new_id("evt_"), tenant_id=tenant_id, occurred_at=timestamp_to_proto(attached_at)),
            vector_store_id=vector_store_id,
            file_id=file_id,
            project_id=principal.project_id,
            key_id=principal.key_id,
        )
        await self._outbox.enqueue(connection, FILE_ATTACHED, tenant_id, event.SerializeToString())


async def _store(connection: Any, tenant_id: str, vector_store_id: str) -> VectorStore:
    row = await connection.fetchrow(_WITH_COUNTS + " AND s.vector_store_id = $2", tenant_id, vector_store_id)
    if row is None:
        raise unknown_store(vector_store_id)
    return from_row_vector_store(row)


async def _lock(connection: Any, tenant_id: str, vector_store_id: str, strength: str) -> None:
    """Make sure that the store exists, until the end of the transaction if `strength` is given."""
    found = await connection.fetchval(
        f"SELECT 1 FROM vector_stores WHERE tenant_id = $1 AND vector_store_id = $2 {strength}",  # noqa: S608 - constants
        tenant_id,
        vector_store_id,
    )
    if not found:
        raise unknown_store(vector_store_id)


async def _attachment(connection: Any, tenant_id: str, vector_store_id: str, file_id: str) -> Attachment:
    row = await connection.fetchrow(
        "SELECT * FROM attachments WHERE tenant_id = $1 AND vector_store_id = $2 AND file_id = $3",
        tenant_id,
        vector_store_id,
        file_id,
    )
    if row is None:
        raise _not_attached(vector_store_id, file_id)
    return from_row_attachment(row)


async def _number(connection: Any, tenant_id: str, vector_store_id: str, file_id: str) -> int:
    number: int | None = await connection.fetchval(
        "SELECT attachment FROM attachments WHERE tenant_id = $1 AND vector_store_id = $2 AND file_id = $3",
        tenant_id,
        vector_store_id,
        file_id,
    )
    if number is None:
        raise _not_attached(vector_store_id, file_id, param="after")
    return number


def unknown_store(vector_store_id: str) -> VectorStoreNotFound:
    """The same words whether it never was, is deleted, or is another tenant's."""
    return VectorStoreNotFound(f"there is no vector store {vector_store_id!r}", param="vector_store_id")


def _not_attached(vector_store_id: str, file_id: str, param: str = "file_id") -> FileNotFound:
    return FileNotFound(f"vector store {vector_store_id!r} does not hold file {file_id!r}", param=param)
