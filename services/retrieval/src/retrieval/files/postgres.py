"""Files in Postgres."""

from datetime import timedelta

from chassis.errors import DeadlineExceeded
from chassis.postgres import Database

from retrieval.adapters.postgres.mapping import cut, from_row_file
from retrieval.domain.files import Description, File, FileNotFound, object_key
from retrieval.domain.listing import Listing
from retrieval.domain.removal import LEASE


class PostgresFiles:
    """Table `files`; what is to be removed goes to `removals`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def intend(self, tenant_id: str, file_id: str, lifetime: timedelta) -> None:
        """See Files."""
        async with self._database.tenant(tenant_id) as connection:
            await connection.execute(
                "INSERT INTO removals (tenant_id, removal_id, object_key, due_at) VALUES ($1, $2, $3, now() + $4)",
                tenant_id,
                _removal_id(file_id),
                object_key(tenant_id, file_id),
                lifetime,
            )

    async def record(self, tenant_id: str, file_id: str, description: Description, size_bytes: int) -> File:
        """See Files."""
        async with self._database.tenant(tenant_id) as connection:
            intended = await connection.fetchval(
                "DELETE FROM removals WHERE tenant_id = $1 AND removal_id = $2 AND due_at > now() + $3 RETURNING 1",
                tenant_id,
                _removal_id(file_id),
                LEASE,
            )
            if not intended:
                raise DeadlineExceeded("the upload took too long")
            row = await connection.fetchrow(
                "INSERT INTO files (tenant_id, file_id, filename, purpose, size_bytes)"
                " VALUES ($1, $2, $3, $4, $5) RETURNING *",
                tenant_id,
                file_id,
                description.filename,
                description.purpose,
                size_bytes,
            )
        return from_row_file(row)

    async def get(self, tenant_id: str, file_id: str) -> File:
        """See Files."""
        async with self._database.tenant(tenant_id) as connection:
            row = await connection.fetchrow(
                "SELECT * FROM files WHERE tenant_id = $1 AND file_id = $2", tenant_id, file_id
            )
        if row is None:
            raise unknown_file(file_id)
        return from_row_file(row)

    async def list(self, tenant_id: str, *, limit: int, after: str, purpose: str) -> Listing[File]:
        """See Files. Ids begin with the time, so their order is the order of creation."""
        async with self._database.tenant(tenant_id) as connection:
            rows = await connection.fetch(
                "SELECT * FROM files WHERE tenant_id = $1 AND ($2 = '' OR file_id < $2) AND ($3 = '' OR purpose = $3)"
                " ORDER BY file_id DESC LIMIT $4",
                tenant_id,
                after,
                purpose,
                limit + 1,
            )
        return cut([from_row_file(row) for row in rows], limit)

    async def delete(self, tenant_id: str, file_id: str) -> None:
        """See Files."""
        async with self._database.tenant(tenant_id) as connection:
            found = await connection.fetchval(
                "SELECT 1 FROM files WHERE tenant_id = $1 AND file_id = $2 FOR UPDATE", tenant_id, file_id
            )
            if not found:
                raise unknown_file(file_id)
            await connection.execute(
                "WITH gone AS (DELETE FROM attachments WHERE tenant_id = $1 AND file_id = $2"
                " RETURNING tenant_id, vector_store_id, attachment)"
                " INSERT INTO removals (tenant_id, removal_id, vector_store_id, attachment)"
                " SELECT tenant_id, 'attachment-' || attachment, vector_store_id, attachment FROM gone"
                " ON CONFLICT DO NOTHING",
                tenant_id,
                file_id,
            )
            await connection.execute(
                "INSERT INTO removals (tenant_id, removal_id, object_key) VALUES ($1, $2, $3)",
                tenant_id,
                _removal_id(file_id),
                object_key(tenant_id, file_id),
            )
            await connection.execute("DELETE FROM files WHERE tenant_id = $1 AND file_id = $2", tenant_id, file_id)


def unknown_file(file_id: str) -> FileNotFound:
    """The same words whether it never was, is deleted, or is another tenant's."""
    return FileNotFound(f"there is no file {file_id!r}", param="file_id")


def _removal_id(file_id: str) -> str:
    return f"object-{file_id}"
