"""HNSW indexes of large vector stores, as statements for the owner of the tables."""

import re
from collections.abc import AsyncIterator
from typing import Any

from chassis.postgres import Database, owner_connection

# A partial index for each large store: what it finds, and how fast, does not depend on other stores and tenants. Only
# the table's owner may create one, outside of a transaction, so the service itself runs none of the statements.
_STORE_ID = re.compile(r"vs_[0-9a-f]{32}", re.ASCII)
_INDEX_PREFIX = "chunks_hnsw_"

_LARGE_STORES = """
SELECT l.vector_store_id, l.space, d.dimensions FROM (
    SELECT tenant_id, vector_store_id, unnest(array_remove(ARRAY[s.space, s.next_space], NULL)) AS space
    FROM vector_stores s JOIN attachments a USING (tenant_id, vector_store_id) WHERE a.state = 'completed'
    GROUP BY tenant_id, vector_store_id HAVING sum(a.chunks) > $1
) AS l LEFT JOIN LATERAL (
    SELECT vector_dims(v.embedding) AS dimensions FROM chunk_vectors v
    WHERE v.tenant_id = l.tenant_id AND v.vector_store_id = l.vector_store_id AND v.space = l.space LIMIT 1
) AS d ON true
WHERE l.space = 0 OR d.dimensions IS NOT NULL ORDER BY 1, 2
"""
# One that is not valid and not being built was left by a build that was interrupted: it costs writes, and no search
# uses it. Of a build by another role all but the database is hidden.
_INDEXES = """
SELECT c.relname AS name, i.indisvalid OR EXISTS (
    SELECT FROM pg_stat_progress_create_index p
    WHERE p.datname = current_database() AND coalesce(p.index_relid, i.indexrelid) = i.indexrelid
) AS usable
FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
WHERE i.indrelid IN ('chunks'::regclass, 'chunk_vectors'::regclass)
"""
# One process creates indexes at a time.
_LOCK = "SELECT pg_try_advisory_lock(hashtextextended('argosy hnsw indexes ' || current_schema(), 0))"


async def index_statements(database: Database, more_than_chunks: int) -> AsyncIterator[str]:
    """SQL for the owner: create the index of each store that grew, drop those of stores that shrank or were deleted.

    A store that is being migrated gets one for its next space, too, which is used from the change on. An index whose
    build was interrupted is dropped and created anew.
    """
    async with database.system() as connection:
        schema = await connection.fetchval("SELECT current_schema()")
        large = await connection.fetch(_LARGE_STORES, more_than_chunks)
        rows = await connection.fetch(_INDEXES)
    existing = {row["name"] for row in rows if row["usable"]}
    wanted = {
        _INDEX_PREFIX + row["vector_store_id"].removeprefix("vs_") + (f"_{row['space']}" if row["space"] else ""): row
        for row in large
        if _STORE_ID.fullmatch(row["vector_store_id"])
    }
    for name in sorted({row["name"] for row in rows} - (wanted.keys() & existing)):
        if name.startswith(_INDEX_PREFIX):
            yield f"DROP INDEX CONCURRENTLY IF EXISTS {schema}.{name};"
    for name in sorted(wanted.keys() - existing):
        yield _create_index(name, schema, wanted[name])


async def create_indexes(database: Database, owner_dsn: str, more_than_chunks: int) -> AsyncIterator[str]:
    """Run the statements as the owner, one after the other; yields each once it is done.

    Nothing where another process does so. Writes and searches go on meanwhile. Raises asyncpg's exceptions.
    """
    async with owner_connection(owner_dsn, "retrieval") as owner:
        if await owner.fetchval(_LOCK):
            async for statement in index_statements(database, more_than_chunks):
                await owner.execute(statement)
                yield statement


def _create_index(name: str, schema: str, row: Any) -> str:
    table, column, condition = "chunks", "embedding", f"vector_store_id = '{row['vector_store_id']}'"
    if row["space"]:
        table, column = "chunk_vectors", f"(embedding::public.halfvec({row['dimensions']}))"
        condition += f" AND space = {row['space']}"
    return (
        f"CREATE INDEX CONCURRENTLY IF NOT EXISTS {name} ON {schema}.{table}"
        f" USING hnsw ({column} public.halfvec_cosine_ops) WHERE {condition};"
    )
