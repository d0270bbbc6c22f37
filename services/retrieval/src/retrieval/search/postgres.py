"""Hybrid search in SQL: exact or HNSW scan of vectors, BM25 over postings."""

from collections.abc import Sequence
from typing import Any

from chassis.postgres import Database

from retrieval.adapters.postgres.mapping import to_floats
from retrieval.adapters.postgres.vector_stores import unknown_store
from retrieval.domain.embedding import Vector
from retrieval.domain.searching import ChunkKey, Text

# Words of a query that are looked up at most: a pasted page must not read every posting there is.
MOST_WORDS = 64

# What must not be found though its chunks are still there: not completed, or waiting to be removed. Few, and asked for
# row by row, so that the scan of an HNSW index goes on until it has enough of the others.
_DEAD = """
SELECT attachment FROM attachments WHERE tenant_id = $1 AND vector_store_id = ANY($2::text[]) AND state <> 'completed'
UNION ALL
SELECT attachment FROM removals WHERE tenant_id = $1 AND vector_store_id = ANY($2::text[]) AND attachment IS NOT NULL
"""
# One branch per store: only a single store's name lets the planner use its partial HNSW index.
_NEAREST_IN_STORE = """
(SELECT vector_store_id, attachment, ordinal, embedding <=> $3::real[]::halfvec AS distance FROM chunks
 WHERE tenant_id = $1 AND vector_store_id = ${parameter} AND attachment NOT IN (SELECT attachment FROM dead)
 ORDER BY embedding <=> $3::real[]::halfvec LIMIT $4)
"""
# Custom plans, because a partial index fits a value and never a parameter. The iterative scan continues past the dead.
_PLANNING = """
SELECT set_config('plan_cache_mode', 'force_custom_plan', true), set_config('hnsw.ef_search', '200', true),
       set_config('hnsw.iterative_scan', 'strict_order', true)
"""
# Okapi BM25 with k1 = 1.2 and b = 0.75, and the inverse document frequency that is never negative.
_MATCHING = f"""
WITH dead AS ({_DEAD}),
asked AS (SELECT lexeme FROM unnest(words($3)) ORDER BY positions[1] LIMIT {MOST_WORDS}),
found AS MATERIALIZED (
    SELECT vector_store_id, word, attachment, ordinals, frequencies, lengths FROM postings
    WHERE tenant_id = $1 AND vector_store_id = ANY($2::text[]) AND word = ANY(ARRAY(SELECT lexeme FROM asked))
      AND attachment NOT IN (SELECT attachment FROM dead)
), collection AS (
    SELECT sum(chunks)::float8 AS size, sum(words)::float8 / nullif(sum(chunks), 0) AS average_length
    FROM attachments WHERE tenant_id = $1 AND vector_store_id = ANY($2::text[]) AND state = 'completed'
), holding AS (
    SELECT word, sum(cardinality(ordinals))::float8 AS chunks FROM found GROUP BY word
), weights AS (
    SELECT word, ln(1 + (size - chunks + 0.5) / (chunks + 0.5)) AS idf, average_length
    FROM holding CROSS JOIN collection
), hits AS (
    SELECT vector_store_id, attachment, unnest(ordinals) AS ordinal, unnest(frequencies)::float8 AS frequency,
           unnest(lengths) / average_length AS length, idf
    FROM found JOIN weights USING (word)
)
SELECT min(vector_store_id) AS vector_store_id, attachment, ordinal,
       sum(idf * frequency * 2.2 / (frequency + 1.2 * (0.25 + 0.75 * length))) AS score
FROM hits GROUP BY attachment, ordinal ORDER BY score DESC, attachment, ordinal LIMIT $4
"""  # noqa: S608 - constants
_TEXTS = """
SELECT wanted.vector_store_id, wanted.attachment, wanted.ordinal, a.file_id, f.filename, c.page, c.text
FROM unnest($2::text[], $3::bigint[], $4::integer[]) AS wanted (vector_store_id, attachment, ordinal)
JOIN chunks c ON c.tenant_id = $1 AND c.vector_store_id = wanted.vector_store_id
             AND c.attachment = wanted.attachment AND c.ordinal = wanted.ordinal
JOIN attachments a ON a.tenant_id = $1 AND a.attachment = wanted.attachment AND a.state = 'completed'
JOIN files f ON f.tenant_id = $1 AND f.file_id = a.file_id
"""


class PostgresIndex:
    """Tables `chunks` and `postings`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def size(self, tenant_id: str, vector_store_ids: Sequence[str]) -> int:
        """See Index."""
        async with self._database.tenant(tenant_id) as connection:
            rows = await connection.fetch(
                "SELECT s.vector_store_id,"
                " coalesce(sum(a.chunks) FILTER (WHERE a.state = 'completed'), 0)::bigint AS chunks"
                " FROM vector_stores s LEFT JOIN attachments a USING (tenant_id, vector_store_id)"
                " WHERE s.tenant_id = $1 AND s.vector_store_id = ANY($2::text[]) GROUP BY s.vector_store_id",
                tenant_id,
                list(vector_store_ids),
            )
        chunks: dict[str, int] = {row["vector_store_id"]: row["chunks"] for row in rows}
        for vector_store_id in vector_store_ids:
            if vector_store_id not in chunks:
                raise unknown_store(vector_store_id)
        return sum(chunks.values())

    async def nearest(
        self, tenant_id: str, vector_store_ids: Sequence[str], vector: Vector, limit: int
    ) -> list[ChunkKey]:
        """See Index."""
        branches = [_NEAREST_IN_STORE.format(parameter=5 + n) for n in range(len(vector_store_ids))]
        query = (
            f"WITH dead AS MATERIALIZED ({_DEAD}) SELECT vector_store_id, attachment, ordinal"  # noqa: S608 - constants
            f" FROM ({' UNION ALL '.join(branches)}) AS near ORDER BY distance, attachment, ordinal LIMIT $4"
        )
        async with self._database.tenant(tenant_id) as connection:
            await connection.execute(_PLANNING)
            rows = await connection.fetch(
                query, tenant_id, list(vector_store_ids), to_floats(vector), limit, *vector_store_ids
            )
        return [_key(row) for row in rows]

    async def matching(self, tenant_id: str, vector_store_ids: Sequence[str], query: str, limit: int) -> list[ChunkKey]:
        """See Index."""
        async with self._database.tenant(tenant_id) as connection:
            rows = await connection.fetch(_MATCHING, tenant_id, list(vector_store_ids), query, limit)
        return [_key(row) for row in rows]

    async def texts(self, tenant_id: str, keys: Sequence[ChunkKey]) -> dict[ChunkKey, Text]:
        """See Index."""
        async with self._database.tenant(tenant_id) as connection:
            rows = await connection.fetch(
                _TEXTS,
                tenant_id,
                [key.vector_store_id for key in keys],
                [key.attachment for key in keys],
                [key.ordinal for key in keys],
            )
        return {_key(row): Text(row["file_id"], row["filename"], row["page"], row["text"]) for row in rows}


def _key(row: Any) -> ChunkKey:
    return ChunkKey(row["vector_store_id"], row["attachment"], row["ordinal"])
