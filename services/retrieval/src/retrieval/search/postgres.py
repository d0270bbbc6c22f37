"""Vector and keyword search in Postgres: exact or HNSW scan of `chunks`, BM25 over `postings`."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import orjson
from chassis.postgres import Database
from values.attributes import Filter, check_attributes

from retrieval.embeddings.model import EmbeddingSpace, Vector, floats_to_vector, to_floats
from retrieval.search.conditions import Parameter, to_condition
from retrieval.search.feedback import Candidate, Relevant
from retrieval.search.filtered import ALLOWED, FilteredVectorSearch, allowed_attachments
from retrieval.search.model import ChunkKey, ChunkText, StoreContents, StoreSpaceChanged
from retrieval.search.query_lexemes import QUERY_LEXEMES
from retrieval.search.spaces import FIRST_SPACES, keys_by_space, keys_to_columns, number_of, vectors_of
from retrieval.vector_stores.attachments_postgres import IS_EXPIRED, SET_ACTIVE
from retrieval.vector_stores.model import vector_store_expired, vector_store_not_found

# Attachments whose chunks exist but must not be found: not completed, or waiting for their deletion. They are few, and
# are filtered row by row, so that the scan of an HNSW index continues until it has enough other chunks.
_HIDDEN_ATTACHMENTS = """
SELECT attachment FROM attachments WHERE tenant_id = $1 AND vector_store_id = ANY($2::text[]) AND state <> 'completed'
UNION ALL
SELECT attachment FROM deletions WHERE tenant_id = $1 AND vector_store_id = ANY($2::text[]) AND attachment IS NOT NULL
"""
# One branch per store: the planner uses a store's partial HNSW index only for a condition on that store alone.
_VECTOR_SEARCH_IN_STORE = """
(SELECT vector_store_id, attachment, ordinal, embedding <=> $3::real[]::halfvec AS distance FROM {vectors}
 WHERE tenant_id = $1 AND vector_store_id = ${parameter} AND attachment NOT IN (SELECT attachment FROM hidden)
 ORDER BY embedding <=> $3::real[]::halfvec LIMIT $4)
"""
# Custom plans, because a partial index matches values, not parameters. The iterative scan continues past hidden rows.
_PLANNER_SETTINGS = """
SELECT set_config('plan_cache_mode', 'force_custom_plan', true), set_config('hnsw.ef_search', '200', true),
       set_config('hnsw.iterative_scan', 'strict_order', true), vector_store_id, space
FROM vector_stores WHERE tenant_id = $1 AND vector_store_id = ANY($2::text[])
"""
# Okapi BM25 with k1 = 1.2 and b = 0.75, and the variant of the inverse document frequency that is never negative.
# MATERIALIZED: the planner may otherwise put a subquery inside a join and evaluate it for each posting. A scan for each
# lexeme gives its document frequency as a window over that scan, so that the postings are neither sorted nor joined.
_KEYWORD_SEARCH_IN = f"""
WITH {{visibility}},
query AS MATERIALIZED ({QUERY_LEXEMES}),
collection AS MATERIALIZED (
    SELECT sum(chunks)::float8 AS size, sum(lexeme_count)::float8 / nullif(sum(chunks), 0) AS average_length
    FROM attachments WHERE tenant_id = $1 AND vector_store_id = ANY($2::text[]) AND state = 'completed' {{counted}}
), hits AS (
    SELECT vector_store_id, attachment, unnest(ordinals) AS ordinal, unnest(frequencies)::float8 AS frequency,
           unnest(lengths) / average_length AS length,
           ln(1 + (size - document_frequency + 0.5) / (document_frequency + 0.5)) AS idf
    FROM collection CROSS JOIN query CROSS JOIN LATERAL (
        SELECT vector_store_id, attachment, ordinals, frequencies, lengths,
               (sum(cardinality(ordinals)) OVER ())::float8 AS document_frequency FROM postings
        WHERE tenant_id = $1 AND vector_store_id = ANY($2::text[]) AND lexeme = query.lexeme
          AND {{visible}} OFFSET 0
    ) AS found
)
SELECT min(vector_store_id) AS vector_store_id, attachment, ordinal,
       sum(idf * frequency * 2.2 / (frequency + 1.2 * (0.25 + 0.75 * length))) AS score
FROM hits GROUP BY attachment, ordinal ORDER BY score DESC, attachment, ordinal LIMIT $4
"""  # noqa: S608 - constants
_KEYWORD_SEARCH = _KEYWORD_SEARCH_IN.format(
    visibility=f"hidden AS MATERIALIZED ({_HIDDEN_ATTACHMENTS})",
    visible="attachment NOT IN (SELECT attachment FROM hidden)",
    counted="",
)
# Of each key its chunk. LIMIT keeps the order of the joins: the planner may otherwise read all files of a tenant first,
# because it takes those of a tenant that is new since the last ANALYZE for one. The tenant comes from a subquery, whose
# value it does not look up in the statistics.
_WANTED_CHUNKS = """
FROM unnest($2::text[], $3::bigint[], $4::integer[]) AS wanted (vector_store_id, attachment, ordinal)
CROSS JOIN LATERAL (
    SELECT page, text, embedding FROM chunks
    WHERE tenant_id = (SELECT $1::text) AND vector_store_id = wanted.vector_store_id
      AND attachment = wanted.attachment AND ordinal = wanted.ordinal LIMIT 1
) AS c
"""
# In space 0 the vectors stand in the rows of the chunks, and every other space has rows of its own.
_WANTED_VECTORS = """
CROSS JOIN LATERAL (
    SELECT embedding FROM chunk_vectors
    WHERE tenant_id = (SELECT $1::text) AND vector_store_id = wanted.vector_store_id AND space = {space}
      AND attachment = wanted.attachment AND ordinal = wanted.ordinal LIMIT 1
) AS v
"""
_CHUNK_TEXTS = f"""
SELECT wanted.vector_store_id, wanted.attachment, wanted.ordinal, a.file_id, f.filename, c.page, c.text, a.attributes
{_WANTED_CHUNKS} CROSS JOIN LATERAL (
    SELECT file_id, attributes FROM attachments
    WHERE tenant_id = (SELECT $1::text) AND attachment = wanted.attachment AND state = 'completed' LIMIT 1
) AS a
CROSS JOIN LATERAL (SELECT filename FROM files WHERE tenant_id = (SELECT $1::text) AND file_id = a.file_id LIMIT 1) AS f
"""  # noqa: S608 - constants
_TERMS = """
CROSS JOIN LATERAL (
    SELECT coalesce(array_agg(lexeme), '{}') AS lexemes,
           coalesce(array_agg(cardinality(positions)), '{}') AS frequencies
    FROM keywords(c.text, (
        SELECT languages FROM attachments
        WHERE tenant_id = (SELECT $1::text) AND attachment = wanted.attachment LIMIT 1
    ))
) AS terms
"""
_RELEVANT = f"""
SELECT c.embedding::real[] AS embedding, terms.lexemes, terms.frequencies
{_WANTED_CHUNKS} {_TERMS} WHERE c.embedding IS NOT NULL
"""
_RELEVANT_IN_SPACE = f"""
SELECT v.embedding::real[] AS embedding, terms.lexemes, terms.frequencies
{_WANTED_CHUNKS} {_WANTED_VECTORS.format(space="$5")} {_TERMS}
"""
_NEARNESS = f"""
SELECT wanted.vector_store_id, wanted.attachment, wanted.ordinal,
       -(c.embedding <#> $5::real[]::halfvec) AS nearness {_WANTED_CHUNKS} WHERE c.embedding IS NOT NULL
"""
_NEARNESS_IN_SPACE = f"""
SELECT wanted.vector_store_id, wanted.attachment, wanted.ordinal,
       -(v.embedding <#> $5::real[]::halfvec) AS nearness
FROM unnest($2::text[], $3::bigint[], $4::integer[]) AS wanted (vector_store_id, attachment, ordinal)
{_WANTED_VECTORS.format(space="$6")}
"""  # noqa: S608 - constants
# A lookup in the primary key for each file and lexeme. It compares rows, because the planner would take the index by
# attachment for a comparison of attachments alone, and read all words of the files. IS TRUE keeps the condition a
# lookup in a hash table; a join may become a loop within a loop.
_FREQUENCIES = """
SELECT attachment, ordinal, array_agg(lexeme) AS lexemes, array_agg(frequency) AS frequencies, max(length) AS length
FROM (
    SELECT files.attachment, wanted.lexeme, unnest(ordinals) AS ordinal, unnest(frequencies) AS frequency,
           unnest(lengths) AS length
    FROM unnest($5::text[]) AS wanted (lexeme) CROSS JOIN (
        SELECT DISTINCT * FROM unnest($2::text[], $3::bigint[])
    ) AS files (vector_store_id, attachment) CROSS JOIN LATERAL (
        SELECT ordinals, frequencies, lengths FROM postings
        WHERE tenant_id = (SELECT $1::text) AND vector_store_id = files.vector_store_id
          AND (lexeme, attachment) >= (wanted.lexeme, files.attachment)
          AND (lexeme, attachment) <= (wanted.lexeme, files.attachment) OFFSET 0
    ) AS of_file
) AS found
WHERE ((attachment, ordinal) IN (SELECT * FROM unnest($3::bigint[], $4::integer[]))) IS TRUE
GROUP BY attachment, ordinal
"""
_CONTENTS = """
SELECT s.vector_store_id, s.embedding_model, s.space,
       bool_or({expired}) AS expired, bool_or(last_active_at < now() - interval '1 minute') AS idle,
       coalesce(sum(a.chunks) FILTER (WHERE a.state = 'completed' AND {condition}), 0)::bigint AS chunks
FROM vector_stores s LEFT JOIN attachments a USING (tenant_id, vector_store_id)
WHERE s.tenant_id = $1 AND s.vector_store_id = ANY($2::text[])
GROUP BY s.vector_store_id, s.embedding_model, s.space
"""


class PostgresSearchIndex:
    """Implements SearchIndex."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def contents(
        self, tenant_id: str, vector_store_ids: Sequence[str], filters: Filter | None = None
    ) -> StoreContents:
        condition, values = ("true", []) if filters is None else to_condition(filters, 3)
        statement = _CONTENTS.format(condition=condition, expired=IS_EXPIRED)
        async with self._database.tenant(tenant_id) as connection:
            rows = await connection.fetch(statement, tenant_id, list(vector_store_ids), *values)
            for row in rows:
                if row["expired"]:
                    raise vector_store_expired(row["vector_store_id"])
            if any(row["idle"] for row in rows):
                await connection.execute(SET_ACTIVE, tenant_id, list(vector_store_ids))
        spaces = {row["vector_store_id"]: EmbeddingSpace(row["embedding_model"], row["space"]) for row in rows}
        for vector_store_id in vector_store_ids:
            if vector_store_id not in spaces:
                raise vector_store_not_found(vector_store_id)
        return StoreContents(sum(row["chunks"] for row in rows), spaces)

    async def vector_search(
        self,
        tenant_id: str,
        vector_store_ids: Sequence[str],
        vector: Vector,
        limit: int,
        filters: Filter | None = None,
        *,
        spaces: Mapping[str, EmbeddingSpace] = FIRST_SPACES,
    ) -> dict[ChunkKey, float]:
        branches = [
            _VECTOR_SEARCH_IN_STORE.format(parameter=5 + n, vectors=vectors_of(spaces.get(store), vector))
            for n, store in enumerate(vector_store_ids)
        ]
        query = (
            f"WITH hidden AS MATERIALIZED ({_HIDDEN_ATTACHMENTS})"  # noqa: S608 - constants
            " SELECT vector_store_id, attachment, ordinal, 1 - distance AS score"
            f" FROM ({' UNION ALL '.join(branches)}) AS near ORDER BY distance, attachment, ordinal LIMIT $4"
        )
        async with self._database.tenant(tenant_id) as connection:
            stores = await connection.fetch(_PLANNER_SETTINGS, tenant_id, list(vector_store_ids))
            if any(row["space"] != number_of(spaces.get(row["vector_store_id"])) for row in stores):
                raise StoreSpaceChanged
            if filters is not None:
                search = FilteredVectorSearch(connection, tenant_id, list(vector_store_ids), filters, spaces=spaces)
                return {row_to_chunk_key(row): row["score"] for row in await search.vector_search(vector, limit)}
            rows = await connection.fetch(
                query, tenant_id, list(vector_store_ids), to_floats(vector), limit, *vector_store_ids
            )
        return {row_to_chunk_key(row): row["score"] for row in rows}

    async def keyword_search(
        self,
        tenant_id: str,
        vector_store_ids: Sequence[str],
        query: str,
        limit: int,
        filters: Filter | None = None,
    ) -> dict[ChunkKey, float]:
        statement, values = (_KEYWORD_SEARCH, []) if filters is None else keyword_search_sql(filters)
        async with self._database.tenant(tenant_id) as connection:
            rows = await connection.fetch(statement, tenant_id, list(vector_store_ids), query, limit, *values)
        return {row_to_chunk_key(row): row["score"] for row in rows}

    async def relevant(
        self,
        tenant_id: str,
        keys: Collection[ChunkKey],
        query: str,
        spaces: Mapping[str, EmbeddingSpace] = FIRST_SPACES,
    ) -> tuple[Mapping[str, float], list[Relevant]]:
        rows: list[Any] = []
        stores = sorted({*spaces, *(key.vector_store_id for key in keys)})
        async with self._database.tenant(tenant_id) as connection:
            lexemes = await connection.fetch(QUERY_LEXEMES, tenant_id, stores, query)
            for number, of_space in keys_by_space(keys, spaces).items():
                statement, values = (_RELEVANT_IN_SPACE, [number]) if number else (_RELEVANT, [])
                rows += await connection.fetch(statement, tenant_id, *keys_to_columns(of_space), *values)
        relevant = [
            Relevant(floats_to_vector(row["embedding"]), dict(zip(row["lexemes"], row["frequencies"], strict=True)))
            for row in rows
        ]
        words = len({row["place"] for row in lexemes})
        return {row["lexeme"]: 1 / words for row in lexemes}, relevant

    async def candidates(
        self,
        tenant_id: str,
        keys: Collection[ChunkKey],
        vector: Sequence[float],
        lexemes: Sequence[str],
        spaces: Mapping[str, EmbeddingSpace] = FIRST_SPACES,
    ) -> dict[ChunkKey, Candidate]:
        near: list[Any] = []
        async with self._database.tenant(tenant_id) as connection:
            for number, of_space in keys_by_space(keys, spaces).items():
                statement, values = (_NEARNESS_IN_SPACE, [number]) if number else (_NEARNESS, [])
                columns = (*keys_to_columns(of_space), list(vector))
                near += await connection.fetch(statement, tenant_id, *columns, *values)
            wanted = (tenant_id, *keys_to_columns(keys), list(lexemes))
            found = await connection.fetch(_FREQUENCIES, *wanted) if lexemes else []
        terms = {(row["attachment"], row["ordinal"]): row for row in found}
        return {
            row_to_chunk_key(row): to_candidate(row, terms.get((row["attachment"], row["ordinal"]))) for row in near
        }

    async def chunk_texts(self, tenant_id: str, keys: Collection[ChunkKey]) -> dict[ChunkKey, ChunkText]:
        async with self._database.tenant(tenant_id) as connection:
            rows = await connection.fetch(_CHUNK_TEXTS, tenant_id, *keys_to_columns(keys))
        return {
            row_to_chunk_key(row): ChunkText(
                row["file_id"],
                row["filename"],
                row["page"],
                row["text"],
                check_attributes(orjson.loads(row["attributes"])),
            )
            for row in rows
        }


def keyword_search_sql(filters: Filter) -> tuple[str, list[Parameter]]:
    """The keyword search in the files that the filters allow, as if the stores had no others, with its parameters."""
    condition, values = to_condition(filters, 5)
    allowed = allowed_attachments(condition)
    return _KEYWORD_SEARCH_IN.format(visibility=allowed, visible=ALLOWED, counted=f"AND {condition}"), values


def row_to_chunk_key(row: Any) -> ChunkKey:
    return ChunkKey(row["vector_store_id"], row["attachment"], row["ordinal"])


def to_candidate(near: Any, terms: Any) -> Candidate:
    """`terms` is None for a chunk that has none of the lexemes."""
    if terms is None:
        return Candidate(near["nearness"])
    frequencies = dict(zip(terms["lexemes"], terms["frequencies"], strict=True))
    return Candidate(near["nearness"], frequencies, terms["length"])
