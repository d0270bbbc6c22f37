"""Files in Postgres: table `files`, and `deletions` for what is to be deleted later."""

from datetime import timedelta
from typing import Any

from chassis.errors import DeadlineExceeded
from chassis.postgres import Database

from retrieval.files.model import DELETION_LEASE, File, FileMetadata, file_not_found, object_deletion_id, object_key
from retrieval.files.page import Page, to_page


class PostgresFiles:
    """Implements Files."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def begin_upload(self, tenant_id: str, file_id: str, lifetime: timedelta) -> None:
        async with self._database.tenant(tenant_id) as connection:
            await _schedule_deletion(connection, tenant_id, file_id, lifetime)

    async def commit_upload(self, tenant_id: str, file_id: str, metadata: FileMetadata, size_bytes: int) -> File:
        async with self._database.tenant(tenant_id) as connection:
            cancelled = await connection.fetchval(
                "DELETE FROM deletions WHERE tenant_id = $1 AND deletion_id = $2 AND due_at > now() + $3 RETURNING 1",
                tenant_id,
                object_deletion_id(file_id),
                DELETION_LEASE,
            )
            if not cancelled:
                raise DeadlineExceeded("the upload took too long")
            row = await connection.fetchrow(
                "INSERT INTO files (tenant_id, file_id, filename, purpose, size_bytes)"
                " VALUES ($1, $2, $3, $4, $5) RETURNING *",
                tenant_id,
                file_id,
                metadata.filename,
                metadata.purpose,
                size_bytes,
            )
        return row_to_file(row)

    async def get(self, tenant_id: str, file_id: str) -> File:
        async with self._database.tenant(tenant_id) as connection:
            row = await connection.fetchrow(
                "SELECT * FROM files WHERE tenant_id = $1 AND file_id = $2", tenant_id, file_id
            )
        if row is None:
            raise file_not_found(file_id)
        return row_to_file(row)

    async def list(self, tenant_id: str, *, limit: int, after: str, purpose: str) -> Page[File]:
        # Ids begin with the time, so their order is the order of creation.
        async with self._database.tenant(tenant_id) as connection:
            rows = await connection.fetch(
                "SELECT * FROM files WHERE tenant_id = $1 AND ($2 = '' OR file_id < $2) AND ($3 = '' OR purpose = $3)"
                " ORDER BY file_id DESC LIMIT $4",
                tenant_id,
                after,
                purpose,
                limit + 1,
            )
        return to_page([row_to_file(row) for row in rows], limit)

    async def delete(self, tenant_id: str, file_id: str) -> None:
        async with self._database.tenant(tenant_id) as connection:
            # Locked before its attachments, as `attach` does, so that no attachment is added meanwhile.
            found = await connection.fetchval(
                "SELECT 1 FROM files WHERE tenant_id = $1 AND file_id = $2 FOR UPDATE", tenant_id, file_id
            )
            if not found:
                raise file_not_found(file_id)
            await connection.execute(
                "WITH detached AS (DELETE FROM attachments WHERE tenant_id = $1 AND file_id = $2"
                " RETURNING tenant_id, vector_store_id, attachment)"
                " INSERT INTO deletions (tenant_id, deletion_id, vector_store_id, attachment)"
                " SELECT tenant_id, 'attachment-' || attachment, vector_store_id, attachment FROM detached"
                " ON CONFLICT DO NOTHING",
                tenant_id,
                file_id,
            )
            await _schedule_deletion(connection, tenant_id, file_id, timedelta(0))
            await connection.execute("DELETE FROM files WHERE tenant_id = $1 AND file_id = $2", tenant_id, file_id)


async def _schedule_deletion(connection: Any, tenant_id: str, file_id: str, delay: timedelta) -> None:
    await connection.execute(
        "INSERT INTO deletions (tenant_id, deletion_id, object_key, due_at) VALUES ($1, $2, $3, now() + $4)",
        tenant_id,
        object_deletion_id(file_id),
        object_key(tenant_id, file_id),
        delay,
    )


def row_to_file(row: Any) -> File:
    return File(row["file_id"], row["filename"], row["purpose"], row["size_bytes"], row["created_at"])
