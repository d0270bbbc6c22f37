"""Files in Postgres: table `files`, and `deletions` for what is to be deleted later."""

from datetime import timedelta
from typing import Any

from chassis.errors import DeadlineExceeded, Unavailable
from chassis.postgres import Database, repeat_aborted

from retrieval.files.model import DELETION_LEASE, File, FileMetadata, file_not_found, object_deletion_id, object_key
from retrieval.files.page import Page, to_page
from retrieval.locks.postgres import lock_attachments_of_file
from retrieval.quotas.model import UNLIMITED, Quota
from retrieval.quotas.postgres import check_file

_INSERT = """
INSERT INTO files (tenant_id, file_id, filename, purpose, size_bytes) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT DO NOTHING RETURNING *
"""
_GET = "SELECT * FROM files WHERE tenant_id = $1 AND file_id = $2"
# Ids begin with the time, so their order is the order of creation.
_LIST = """
SELECT * FROM files WHERE tenant_id = $1 AND ($2 = '' OR file_id < $2) AND ($3 = '' OR purpose = $3)
ORDER BY file_id DESC LIMIT $4
"""
_DELETE = "DELETE FROM files WHERE tenant_id = $1 AND file_id = $2"
_DETACH = """
WITH detached AS (
    DELETE FROM attachments WHERE tenant_id = $1 AND file_id = $2 RETURNING tenant_id, vector_store_id, attachment
)
INSERT INTO deletions (tenant_id, deletion_id, vector_store_id, attachment)
SELECT tenant_id, 'attachment-' || attachment, vector_store_id, attachment FROM detached ON CONFLICT DO NOTHING
"""
# Before the attachments go: what is deleted with a file or a store. A file that is uploaded again under its id, and
# deleted again, has one record of both deletions.
_RECORD_DELETION = """
INSERT INTO deletion_records AS r (tenant_id, resource_id, vector_store_ids, attachments)
SELECT $1, $2, coalesce(array_agg(vector_store_id ORDER BY attachment), '{{}}'),
       coalesce(array_agg(attachment ORDER BY attachment), '{{}}')
FROM attachments WHERE tenant_id = $1 AND {column} = $2
ON CONFLICT (tenant_id, resource_id) DO UPDATE SET deleted_at = now(),
    vector_store_ids = r.vector_store_ids || excluded.vector_store_ids,
    attachments = r.attachments || excluded.attachments
"""


def record_deletion_sql(column: str) -> str:
    """A statement that records the deletion of the file or store $2 of tenant $1, which is in this column."""
    return _RECORD_DELETION.format(column=column)


_RECORD_FILE = record_deletion_sql("file_id")
_SCHEDULE_DELETION = """
INSERT INTO deletions (tenant_id, deletion_id, object_key, due_at) VALUES ($1, $2, $3, now() + $4)
"""
_POSTPONE_DELETION = """
INSERT INTO deletions AS d (tenant_id, deletion_id, object_key, due_at) VALUES ($1, $2, $3, now() + $4)
ON CONFLICT (tenant_id, deletion_id) DO UPDATE SET due_at = excluded.due_at WHERE d.due_at > now() + $5 RETURNING 1
"""
_CANCEL_DELETION = """
DELETE FROM deletions WHERE tenant_id = $1 AND deletion_id = $2 AND due_at > now() + $3 RETURNING 1
"""
_FORGET_DELETION = "DELETE FROM deletions WHERE tenant_id = $1 AND deletion_id = $2"


class PostgresFiles:
    """Implements Files."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def begin_upload(
        self, tenant_id: str, file_id: str, lifetime: timedelta, quota: Quota = UNLIMITED
    ) -> File | None:
        key, deletion_id = object_key(tenant_id, file_id), object_deletion_id(file_id)
        async with self._database.tenant(tenant_id) as connection:
            await check_file(connection, tenant_id, quota, 0)
            if not await connection.fetchval(_POSTPONE_DELETION, tenant_id, deletion_id, key, lifetime, DELETION_LEASE):
                raise Unavailable("an earlier upload of this file is being deleted; try again in some minutes")
            # Read after the row of the deletion is locked: a commit waits for it, or has ended before.
            row = await connection.fetchrow(_GET, tenant_id, file_id)
            if row is not None:
                await connection.execute(_FORGET_DELETION, tenant_id, deletion_id)
        return None if row is None else row_to_file(row)

    @repeat_aborted
    async def commit_upload(
        self, tenant_id: str, file_id: str, metadata: FileMetadata, size_bytes: int, quota: Quota = UNLIMITED
    ) -> File:
        async with self._database.tenant(tenant_id) as connection:
            await check_file(connection, tenant_id, quota, size_bytes)
            values = (tenant_id, file_id, metadata.filename, metadata.purpose, size_bytes)
            row = await connection.fetchrow(_INSERT, *values)
            deletion_id = object_deletion_id(file_id)
            cancelled = await connection.fetchval(_CANCEL_DELETION, tenant_id, deletion_id, DELETION_LEASE)
            if row is None:
                # Another upload of the same id was faster.
                row = await connection.fetchrow(_GET, tenant_id, file_id)
            elif not cancelled:
                raise DeadlineExceeded("the upload took too long")
        return row_to_file(row)

    async def get(self, tenant_id: str, file_id: str) -> File:
        async with self._database.tenant(tenant_id) as connection:
            row = await connection.fetchrow(_GET, tenant_id, file_id)
        if row is None:
            raise file_not_found(file_id)
        return row_to_file(row)

    async def list(self, tenant_id: str, *, limit: int, after: str, purpose: str) -> Page[File]:
        async with self._database.tenant(tenant_id) as connection:
            rows = await connection.fetch(_LIST, tenant_id, after, purpose, limit + 1)
        return to_page([row_to_file(row) for row in rows], limit)

    @repeat_aborted
    async def delete(self, tenant_id: str, file_id: str) -> None:
        async with self._database.tenant(tenant_id) as connection:
            # Attaching takes a weaker lock on the file, so no attachment is added until the commit.
            if not await connection.fetchval(f"{_GET} FOR UPDATE", tenant_id, file_id):
                raise file_not_found(file_id)
            await lock_attachments_of_file(connection, tenant_id, file_id)
            await connection.execute(_RECORD_FILE, tenant_id, file_id)
            await connection.execute(_DETACH, tenant_id, file_id)
            await _schedule_deletion(connection, tenant_id, file_id, timedelta(0))
            await connection.execute(_DELETE, tenant_id, file_id)


async def _schedule_deletion(connection: Any, tenant_id: str, file_id: str, delay: timedelta) -> None:
    key = object_key(tenant_id, file_id)
    await connection.execute(_SCHEDULE_DELETION, tenant_id, object_deletion_id(file_id), key, delay)


def row_to_file(row: Any) -> File:
    return File(row["file_id"], row["filename"], row["purpose"], row["size_bytes"], row["created_at"])
