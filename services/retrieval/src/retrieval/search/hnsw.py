"""HNSW indexes of large vector stores.

Below some 20,000 chunks an exact scan is as fast and finds everything. Above, a store gets a partial index of its own.
Only the table's owner may make one, and not within a transaction, so the service prints the statements and runs none.
"""

import re
from collections.abc import AsyncIterator

from chassis.postgres import Database

STORE_ID = re.compile(r"vs_[0-9a-f]{32}", re.ASCII)
PREFIX = "chunks_hnsw_"

_SIZES = """
SELECT vector_store_id FROM attachments WHERE state = 'completed'
GROUP BY tenant_id, vector_store_id HAVING sum(chunks) > $1 ORDER BY 1
"""
_INDEXES = "SELECT indexname FROM pg_indexes WHERE schemaname = current_schema() AND tablename = 'chunks'"


async def statements(database: Database, more_than_chunks: int) -> AsyncIterator[str]:
    """What the owner should run now: an index for each store that grew, none for those that shrank or went."""
    async with database.system() as connection:
        large = {row["vector_store_id"] for row in await connection.fetch(_SIZES, more_than_chunks)}
        schema = await connection.fetchval("SELECT current_schema()")
        present = {row["indexname"] for row in await connection.fetch(_INDEXES)}
    wanted = {PREFIX + store.removeprefix("vs_"): store for store in large if STORE_ID.fullmatch(store)}
    for name in sorted(wanted.keys() - present):
        yield (
            f"CREATE INDEX CONCURRENTLY IF NOT EXISTS {name} ON {schema}.chunks"
            f" USING hnsw (embedding public.halfvec_cosine_ops) WHERE vector_store_id = '{wanted[name]}';"
        )
    for name in sorted(present - wanted.keys()):
        if name.startswith(PREFIX):
            yield f"DROP INDEX CONCURRENTLY IF EXISTS {schema}.{name};"
