"""HNSW indexes of large vector stores, as statements for the owner of the tables."""

import re
from collections.abc import AsyncIterator
from typing import Any

from chassis.postgres import Database

# HNSW indexes of large vector stores. Up to about 20,000 chunks an exact scan is as fast. A larger store gets its own
# partial index. Only the table's owner may create one, outside of a transaction, so the service prints the statements
# and runs none.
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
_INDEXES = """
SELECT indexname FROM pg_indexes WHERE schemaname = current_schema() AND tablename IN ('chunks', 'chunk_vectors')
"""


async def index_statements(database: Database, more_than_chunks: int) -> AsyncIterator[str]:
    """SQL for the owner: create the index of each store that grew, drop those of stores that shrank or were deleted.

    A store that is being migrated gets one for its next space, too, which is used from the change on.
    """
    async with database.system() as connection:
        schema = await connection.fetchval("SELECT current_schema()")
        large = await connection.fetch(_LARGE_STORES, more_than_chunks)
        existing = {row["indexname"] for row in await connection.fetch(_INDEXES)}
    wanted = {
        _INDEX_PREFIX + row["vector_store_id"].removeprefix("vs_") + (f"_{row['space']}" if row["space"] else ""): row
        for row in large
        if _STORE_ID.fullmatch(row["vector_store_id"])
    }
    for name in sorted(wanted.keys() - existing):
        yield _create_index(name, schema, wanted[name])
    for name in sorted(existing - wanted.keys()):
        if name.startswith(_INDEX_PREFIX):
            yield f"DROP INDEX CONCURRENTLY IF EXISTS {schema}.{name};"


def _create_index(name: str, schema: str, row: Any) -> str:
    table, column, condition = "chunks", "embedding", f"vector_store_id = '{row['vector_store_id']}'"
    if row["space"]:
        table, column = "chunk_vectors", f"(embedding::public.halfvec({row['dimensions']}))"
        condition += f" AND space = {row['space']}"
    return (
        f"CREATE INDEX CONCURRENTLY IF NOT EXISTS {name} ON {schema}.{table}"
        f" USING hnsw ({column} public.halfvec_cosine_ops) WHERE {condition};"
    )
