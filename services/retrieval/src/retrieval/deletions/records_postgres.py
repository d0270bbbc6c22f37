"""Records of deletions in Postgres: table `deletion_records`, and what is left in all other tables."""

from datetime import datetime, timedelta
from typing import Any

from chassis.postgres import Database

from retrieval.deletions.report import DeletionNotFound, Remains

FORGOTTEN_BATCH = 1_000
# Each count begins at the keys of its table, and the key of the tenant is in all of them.
_REMAINS = """
WITH record AS MATERIALIZED (
    SELECT * FROM deletion_records WHERE tenant_id = $1 AND resource_id = $2
), gone AS MATERIALIZED (
    SELECT unnest(vector_store_ids) AS vector_store_id, unnest(attachments) AS attachment FROM record
)
SELECT deleted_at, clock_timestamp() AS checked_at,
    (SELECT count(*) FROM files WHERE tenant_id = $1 AND file_id = $2)
    + (SELECT count(*) FROM vector_stores WHERE tenant_id = $1 AND vector_store_id = $2)
    + (SELECT count(*) FROM attachments WHERE tenant_id = $1 AND file_id = $2)
    + (SELECT count(*) FROM attachments WHERE tenant_id = $1 AND vector_store_id = $2)
    + (SELECT count(*) FROM file_batches WHERE tenant_id = $1 AND vector_store_id = $2)
    + (SELECT count(*) FROM store_migrations WHERE tenant_id = $1 AND vector_store_id = $2) AS records,
    (SELECT coalesce(sum(c.rows), 0) FROM gone CROSS JOIN LATERAL (
        SELECT count(*) AS rows FROM chunks WHERE tenant_id = (SELECT $1::text)
        AND vector_store_id = gone.vector_store_id AND attachment = gone.attachment) AS c)::bigint AS chunks,
    (SELECT coalesce(sum(c.rows), 0) FROM gone CROSS JOIN LATERAL (
        SELECT count(embedding) AS rows FROM chunks WHERE tenant_id = (SELECT $1::text)
        AND vector_store_id = gone.vector_store_id AND attachment = gone.attachment) AS c)::bigint
    + (SELECT coalesce(sum(v.rows), 0) FROM gone CROSS JOIN LATERAL (
        SELECT count(*) AS rows FROM chunk_vectors WHERE tenant_id = (SELECT $1::text)
        AND attachment = gone.attachment) AS v)::bigint AS vectors,
    (SELECT coalesce(sum(p.rows), 0) FROM gone CROSS JOIN LATERAL (
        SELECT count(*) AS rows FROM postings WHERE tenant_id = (SELECT $1::text)
        AND attachment = gone.attachment) AS p)::bigint AS postings
FROM record
"""
_FORGET = """
DELETE FROM deletion_records WHERE ctid = ANY(ARRAY(
    SELECT ctid FROM deletion_records WHERE deleted_at < now() - $1::interval ORDER BY deleted_at LIMIT $2
    FOR UPDATE SKIP LOCKED))
"""


class PostgresDeletionRecords:
    """Implements DeletionRecords."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def remains(self, tenant_id: str, resource_id: str) -> tuple[datetime, datetime, Remains]:
        async with self._database.tenant(tenant_id) as connection:
            row = await connection.fetchrow(_REMAINS, tenant_id, resource_id)
        if row is None:
            raise DeletionNotFound(f"no {resource_id!r} was deleted here in the last 90 days", param="id")
        return row["deleted_at"], row["checked_at"], row_to_remains(row)

    async def forget(self, older_than: timedelta) -> bool:
        async with self._database.system() as connection:
            status: str = await connection.execute(_FORGET, older_than, FORGOTTEN_BATCH)
        return int(status.rpartition(" ")[2]) == FORGOTTEN_BATCH


def row_to_remains(row: Any) -> Remains:
    return Remains(row["records"], row["chunks"], row["vectors"], row["postings"])
