"""What is to be removed, in Postgres."""

from collections.abc import Sequence
from datetime import timedelta

from chassis.postgres import Database

from retrieval.domain.removal import Removal

_CLAIM = """
UPDATE removals r SET due_at = now() + $2
FROM (
    SELECT tenant_id, removal_id FROM removals WHERE due_at <= now() ORDER BY due_at LIMIT $1 FOR UPDATE SKIP LOCKED
) due
WHERE r.tenant_id = due.tenant_id AND r.removal_id = due.removal_id
RETURNING r.*
"""
_REMOVE_CHUNKS = """
DELETE FROM chunks WHERE tenant_id = $1 AND vector_store_id = $2 AND attachment = $3 AND ordinal < $4 + (
    SELECT min(ordinal) FROM chunks WHERE tenant_id = $1 AND vector_store_id = $2 AND attachment = $3)
"""
_REMOVE_POSTINGS = """
DELETE FROM postings WHERE tenant_id = $1 AND vector_store_id = $2 AND attachment = $3 AND first_ordinal = (
    SELECT min(first_ordinal) FROM postings WHERE tenant_id = $1 AND vector_store_id = $2 AND attachment = $3)
"""


class PostgresRemovals:
    """Table `removals`, over all tenants."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def claim(self, limit: int, lease: timedelta) -> Sequence[Removal]:
        """See Removals."""
        async with self._database.system() as connection:
            rows = await connection.fetch(_CLAIM, limit, lease)
        return [
            Removal(
                tenant_id=row["tenant_id"],
                removal_id=row["removal_id"],
                object_key=row["object_key"] or "",
                vector_store_id=row["vector_store_id"] or "",
                attachment=row["attachment"] or 0,
            )
            for row in rows
        ]

    async def remove_chunks(self, removal: Removal, limit: int) -> bool:
        """See Removals."""
        where = (removal.tenant_id, removal.vector_store_id, removal.attachment)
        async with self._database.tenant(removal.tenant_id) as connection:
            chunks = await connection.execute(_REMOVE_CHUNKS, *where, limit)
            postings = await connection.execute(_REMOVE_POSTINGS, *where)
        return bool({chunks, postings} != {"DELETE 0"})

    async def done(self, removal: Removal) -> None:
        """See Removals."""
        async with self._database.tenant(removal.tenant_id) as connection:
            await connection.execute(
                "DELETE FROM removals WHERE tenant_id = $1 AND removal_id = $2", removal.tenant_id, removal.removal_id
            )
