"""File batches in Postgres: tables `file_batches` and `file_batch_members`, with the state from `attachments`."""

from collections.abc import Callable, Sequence
from typing import Any

from chassis.ids import new_id
from chassis.kafka import Outbox
from chassis.postgres import Database, repeat_aborted
from chassis.tenancy import Principal

from retrieval.file_batches.model import (
    MAX_FILE_BATCHES,
    FileBatch,
    FileBatchCounts,
    file_batch_not_found,
    too_many_file_batches,
)
from retrieval.files.page import Page, to_page
from retrieval.locks.postgres import lock_batch, lock_to_write
from retrieval.vector_stores.attachments_postgres import (
    attach_files,
    attachment_row,
    check_exists,
    check_live,
    detach_sql,
    row_to_attachment,
)
from retrieval.vector_stores.model import Attachment, AttachmentState, FileToAttach

_INSERT = "INSERT INTO file_batches (tenant_id, vector_store_id, batch_id) VALUES ($1, $2, $3)"
_INSERT_MEMBER = """
INSERT INTO file_batch_members (tenant_id, vector_store_id, batch_id, file_id, attachment) VALUES ($1, $2, $3, $4, $5)
"""
_COUNT = "SELECT count(*) FROM file_batches WHERE tenant_id = $1 AND vector_store_id = $2"
# A count and not NOT EXISTS, which without statistics may become a join of all batches with all attachments.
_FORGET = """
WITH ended AS MATERIALIZED (
    SELECT b.batch_id FROM file_batches b
    WHERE b.tenant_id = $1 AND b.vector_store_id = $2 AND 0 = (
        SELECT count(*) FROM file_batch_members m JOIN attachments a USING (tenant_id, vector_store_id, file_id)
        WHERE m.tenant_id = $1 AND m.vector_store_id = $2 AND m.batch_id = b.batch_id AND a.state = 'in_progress'
         AND (m.attachment IS NULL OR m.attachment = a.attachment))
    ORDER BY b.batch_id LIMIT $3 FOR UPDATE OF b
)
DELETE FROM file_batches WHERE tenant_id = $1 AND vector_store_id = $2 AND batch_id IN (SELECT batch_id FROM ended)
"""
# The number, not the file: a file that was taken out and attached again since belongs to the request that attached it.
_GET = """
SELECT b.*, m.* FROM file_batches b CROSS JOIN LATERAL (
    SELECT count(*) FILTER (WHERE a.state = 'in_progress') AS in_progress,
           count(*) FILTER (WHERE a.state = 'in_progress' AND m.attachment IS NOT NULL) AS own_in_progress,
           count(*) FILTER (WHERE a.state = 'completed') AS completed,
           count(*) FILTER (WHERE a.state = 'failed') AS failed,
           count(*) FILTER (WHERE a.state IS NULL) AS cancelled
    FROM file_batch_members m LEFT JOIN attachments a
        ON a.tenant_id = m.tenant_id AND a.vector_store_id = m.vector_store_id AND a.file_id = m.file_id
         AND (m.attachment IS NULL OR m.attachment = a.attachment)
    WHERE m.tenant_id = b.tenant_id AND m.vector_store_id = b.vector_store_id AND m.batch_id = b.batch_id
) m WHERE b.tenant_id = $1 AND b.vector_store_id = $2 AND b.batch_id = $3
"""
_CANCEL = """
UPDATE file_batches SET cancelled_at = coalesce(cancelled_at, now())
WHERE tenant_id = $1 AND vector_store_id = $2 AND batch_id = $3
"""
_DETACH_UNFINISHED = detach_sql("""AND state = 'in_progress' AND attachment IN (
    SELECT attachment FROM file_batch_members WHERE tenant_id = $1 AND vector_store_id = $2 AND batch_id = $3)""")
_FILES = """
SELECT a.* FROM file_batch_members m JOIN attachments a USING (tenant_id, vector_store_id, file_id)
WHERE m.tenant_id = $1 AND m.vector_store_id = $2 AND m.batch_id = $3
 AND (m.attachment IS NULL OR m.attachment = a.attachment)
 AND ($4::bigint IS NULL OR a.attachment < $4) AND ($5::text IS NULL OR a.state = $5)
ORDER BY a.attachment DESC LIMIT $6
"""


class PostgresFileBatches:
    """Implements FileBatches. Attaching a file enqueues an event in the outbox."""

    def __init__(self, database: Database, outbox: Outbox, wake_relay: Callable[[], None]) -> None:
        """`wake_relay` is called after a commit with an event, so that the relay does not wait for its next poll."""
        self._database = database
        self._outbox = outbox
        self._wake_relay = wake_relay

    @repeat_aborted
    async def create(self, principal: Principal, vector_store_id: str, files: Sequence[FileToAttach]) -> FileBatch:
        key = (principal.tenant_id, vector_store_id, new_id("vsfb_"))
        async with self._database.tenant(principal.tenant_id) as connection:
            await check_live(connection, principal.tenant_id, vector_store_id)
            await _make_room(connection, principal.tenant_id, vector_store_id)
            await connection.execute(_INSERT, *key)
            attachments = await attach_files(connection, self._outbox, principal, vector_store_id, files)
            members = [(*key, file.file_id, number) for file, number in zip(files, attachments, strict=True)]
            await connection.executemany(_INSERT_MEMBER, members)
            row = await connection.fetchrow(_GET, *key)
        self._wake_relay()
        return row_to_file_batch(row)

    async def get(self, tenant_id: str, vector_store_id: str, batch_id: str) -> FileBatch:
        async with self._database.tenant(tenant_id) as connection:
            return row_to_file_batch(await _batch_row(connection, tenant_id, vector_store_id, batch_id))

    @repeat_aborted
    async def cancel(self, tenant_id: str, vector_store_id: str, batch_id: str) -> FileBatch:
        async with self._database.tenant(tenant_id) as connection:
            # The store first, as where it is deleted; no error yet if it is not there.
            await lock_to_write(connection, tenant_id, vector_store_id)
            await lock_batch(connection, tenant_id, vector_store_id, batch_id)
            before = await _batch_row(connection, tenant_id, vector_store_id, batch_id)
            if before["own_in_progress"]:
                await connection.execute(_CANCEL, tenant_id, vector_store_id, batch_id)
                await connection.execute(_DETACH_UNFINISHED, tenant_id, vector_store_id, batch_id)
            return row_to_file_batch(await _batch_row(connection, tenant_id, vector_store_id, batch_id))

    async def files(
        self,
        tenant_id: str,
        vector_store_id: str,
        batch_id: str,
        *,
        limit: int,
        after: str,
        state: AttachmentState | None,
    ) -> Page[Attachment]:
        async with self._database.tenant(tenant_id) as connection:
            await _batch_row(connection, tenant_id, vector_store_id, batch_id)
            before = None
            if after:
                row = await attachment_row(connection, tenant_id, vector_store_id, after, param="after")
                before = row["attachment"]
            rows = await connection.fetch(_FILES, tenant_id, vector_store_id, batch_id, before, state, limit + 1)
        return to_page([row_to_attachment(row) for row in rows], limit)


async def _make_room(connection: Any, tenant_id: str, vector_store_id: str) -> None:
    """Forget the oldest batches that have ended, if the store has no room for another. Raises TooManyFileBatches."""
    surplus = await connection.fetchval(_COUNT, tenant_id, vector_store_id) + 1 - MAX_FILE_BATCHES
    if surplus > 0:
        status: str = await connection.execute(_FORGET, tenant_id, vector_store_id, surplus)
        if status == "DELETE 0":
            raise too_many_file_batches()


async def _batch_row(connection: Any, tenant_id: str, vector_store_id: str, batch_id: str) -> Any:
    await check_exists(connection, tenant_id, vector_store_id)
    row = await connection.fetchrow(_GET, tenant_id, vector_store_id, batch_id)
    if row is None:
        raise file_batch_not_found(batch_id)
    return row


def row_to_file_batch(row: Any) -> FileBatch:
    return FileBatch(
        batch_id=row["batch_id"],
        vector_store_id=row["vector_store_id"],
        created_at=row["created_at"],
        cancelled=row["cancelled_at"] is not None,
        file_counts=FileBatchCounts(row["in_progress"], row["completed"], row["failed"], row["cancelled"]),
    )
