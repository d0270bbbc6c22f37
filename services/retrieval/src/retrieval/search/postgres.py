"""Vector and keyword search in Postgres: exact or HNSW scan of `chunks`, BM25 over `postings`."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import orjson
from chassis.postgres import Database
from values.attributes import Filter, check_attributes

from retrieval.embeddings.model import EmbeddingSpace, Vector, floats_to_vector, to_floats
from retrieval.search.candidates import FREQUENCIES, NEARNESS, NEARNESS_IN_SPACE, WANTED_CHUNKS, WANTED_VECTORS
from retrieval.search.common_words import ALL_WORDS, LARGE_STORE_CHUNKS, MAX_CANDIDATES, RARE_WORDS
from retrieval.search.conditions import Parameter, to_condition
from retrieval.search.contents_postgres import contents_sql
from retrieval.search.feedback import Candidate, Relevant
from retrieval.search.filtered import ALLOWED, FilteredVectorSearch, allowed_attachments
from retrieval.search.model import ChunkKey, ChunkText, StoreContents, StoreSpaceChanged
from retrieval.search.query_lexemes import QUERY_LEXEMES
from retrieval.search.spaces import FIRST_SPACES, keys_by_space, keys_to_columns, number_of, vectors_of
from retrieval.vector_stores.attachments_postgres import SET_ACTIVE
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
 ORDER BY (embedding <=> $3::real[]::halfvec) {exactly} LIMIT $4)
"""
# Custom plans, because a partial index matches values, not parameters. The iterative scan continues past hidden rows.
# With 200 instead of 400 candidates of HNSW, 0.86 instead of 0.96 of the hundred nearest of 10,000 are found where the
# vectors are sums of forty random ones, in two thirds of the time; vectors of a model are easier.
# Sorts are avoided, so that a store's HNSW index is used wherever there is one. The planner would compare all vectors
# instead, as it multiplies the share of a tenant by that of its store, and takes a store of 10,000 chunks for 2,000.
_PLANNER_SETTINGS = """
SELECT set_config('plan_cache_mode', 'force_custom_plan', true), set_config('hnsw.ef_search', '400', true),
       set_config('hnsw.iterative_scan', 'strict_order', true), set_config('enable_sort', 'off', true),
       vector_store_id, space
FROM vector_stores WHERE tenant_id = $1 AND vector_store_id = ANY($2::text[])
"""
# Okapi BM25 with k1 = 1.2 and b = 0.75, and the variant of the inverse document frequency that is never negative.
_IDF = "ln(1 + (size - least(documents, size) + 0.5) / (least(documents, size) + 0.5))"
_SCORE = "weights[word] * frequency * 2.2 / (frequency + 1.2 * (0.25 + 0.75::float8 * length / average_length))"
# The postings of each word that is read. MATERIALIZED: the planner may otherwise put a subquery inside a join and
# evaluate it for each posting. The weights of the words are an array for the same reason: the planner cannot know how
# many postings there are, and a join of them may be a loop.
_READ = f"""
WITH {{visibility}},
query AS MATERIALIZED ({QUERY_LEXEMES}),
collection AS MATERIALIZED (
    SELECT sum(chunks)::float8 AS size, sum({{lexemes}})::float8 / nullif(sum(chunks), 0) AS average_length
    FROM {{counted}}
), words AS MATERIALIZED ({{words}}),
hits AS MATERIALIZED (
    SELECT vector_store_id, attachment, unnest(ordinals) AS ordinal, unnest(frequencies)::float8 AS frequency,
           unnest(lengths) AS length, word
    FROM words CROSS JOIN LATERAL (
        SELECT vector_store_id, attachment, ordinals, frequencies, lengths FROM postings
        WHERE tenant_id = $1 AND vector_store_id = ANY($2::text[]) AND lexeme = words.lexeme AND {{visible}} OFFSET 0
    ) AS found WHERE is_read
), weights AS MATERIALIZED (
    SELECT array_agg({_IDF} ORDER BY word) AS weights FROM (
        SELECT word, CASE WHEN is_read THEN coalesce(found.documents, 0) ELSE words.documents END AS documents
        FROM words LEFT JOIN (SELECT word, count(*) AS documents FROM hits GROUP BY word) AS found USING (word)
    ) AS counted CROSS JOIN collection
), best AS MATERIALIZED (
    SELECT min(vector_store_id) AS vector_store_id, attachment, ordinal, sum({_SCORE}) AS score
    FROM hits CROSS JOIN weights CROSS JOIN collection GROUP BY attachment, ordinal
    ORDER BY score DESC, attachment, ordinal LIMIT {{candidates}}
)
"""  # noqa: S608 - constants
_KEYWORD_SEARCH_IN = f"{_READ.replace('{candidates}', '$4')} SELECT * FROM best"  # noqa: S608 - constants
# The words that were not read are looked up in the best chunks by those that were.
_KEYWORD_SEARCH_IN_LARGE_STORES = f"""
{_READ}, looked_up AS (
    SELECT of.vector_store_id, of.attachment, unnest(ordinals) AS ordinal, unnest(frequencies)::float8 AS frequency,
           unnest(lengths) AS length, word
    FROM words CROSS JOIN (SELECT DISTINCT vector_store_id, attachment FROM best) AS of CROSS JOIN LATERAL (
        SELECT ordinals, frequencies, lengths FROM postings
        WHERE tenant_id = (SELECT $1::text) AND vector_store_id = of.vector_store_id
          AND (lexeme, attachment) >= (words.lexeme, of.attachment)
          AND (lexeme, attachment) <= (words.lexeme, of.attachment) OFFSET 0
    ) AS found WHERE NOT is_read
)
SELECT min(vector_store_id) AS vector_store_id, attachment, ordinal, sum(score) AS score FROM (
    SELECT * FROM best
    UNION ALL
    SELECT vector_store_id, attachment, ordinal, {_SCORE} FROM looked_up CROSS JOIN weights CROSS JOIN collection
    WHERE ((attachment, ordinal) IN (SELECT attachment, ordinal FROM best)) IS TRUE
) AS scored GROUP BY attachment, ordinal ORDER BY score DESC, attachment, ordinal LIMIT $4
""".replace("{candidates}", str(MAX_CANDIDATES))  # noqa: S608 - constants
_ALL_FILES = {
    "visibility": f"hidden AS MATERIALIZED ({_HIDDEN_ATTACHMENTS})",
    "visible": "attachment NOT IN (SELECT attachment FROM hidden)",
    "lexemes": "lexemes",
    "counted": "store_counts WHERE tenant_id = $1 AND vector_store_id = ANY($2::text[])",
}
_KEYWORD_SEARCH = _KEYWORD_SEARCH_IN.format(words=ALL_WORDS, **_ALL_FILES)
_KEYWORD_SEARCH_IN_LARGE = _KEYWORD_SEARCH_IN_LARGE_STORES.format(words=RARE_WORDS, **_ALL_FILES)
_CHUNK_TEXTS = f"""
SELECT wanted.vector_store_id, wanted.attachment, wanted.ordinal, a.file_id, f.filename, c.page, c.text, a.attributes
{WANTED_CHUNKS} CROSS JOIN LATERAL (
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
{WANTED_CHUNKS} {_TERMS} WHERE c.embedding IS NOT NULL
"""
_RELEVANT_IN_SPACE = f"""
SELECT v.embedding::real[] AS embedding, terms.lexemes, terms.frequencies
{WANTED_CHUNKS} {WANTED_VECTORS.format(space="$5")} {_TERMS}
"""


def _vector_search_sql(vectors: Sequence[str], *, exactly: bool) -> str:
    """The nearest chunks of stores whose ids are the parameters from $5 on, and that have these vectors.

    An index orders by the distance itself. `exactly` orders by an expression of it, so that none is used.
    """
    branches = [
        _VECTOR_SEARCH_IN_STORE.format(parameter=5 + n, vectors=own, exactly="+ 0" if exactly else "")
        for n, own in enumerate(vectors)
    ]
    return (
        f"WITH hidden AS MATERIALIZED ({_HIDDEN_ATTACHMENTS})"  # noqa: S608 - constants
        " SELECT vector_store_id, attachment, ordinal, 1 - distance AS score"
        f" FROM ({' UNION ALL '.join(branches)}) AS near ORDER BY distance, attachment, ordinal LIMIT $4"
    )


class PostgresSearchIndex:
    """Implements SearchIndex.

    Statements have generic plans, except for vectors and behind filters: to plan the others for each value takes longer
    than to run them in a store of ten files, and their plans do not depend on the values.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def contents(
        self, tenant_id: str, vector_store_ids: Sequence[str], filters: Filter | None = None
    ) -> StoreContents:
        statement, values = contents_sql(filters)
        async with self._database.tenant(tenant_id, generic_plans=filters is None) as connection:
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
        chunks: int = 0,
    ) -> dict[ChunkKey, float]:
        tables = [vectors_of(spaces.get(store), vector) for store in vector_store_ids]
        async with self._database.tenant(tenant_id) as connection:
            stores = await connection.fetch(_PLANNER_SETTINGS, tenant_id, list(vector_store_ids))
            if any(row["space"] != number_of(spaces.get(row["vector_store_id"])) for row in stores):
                raise StoreSpaceChanged
            if filters is not None:
                search = FilteredVectorSearch(connection, tenant_id, list(vector_store_ids), filters, spaces=spaces)
                return {row_to_chunk_key(row): row["score"] for row in await search.vector_search(vector, limit)}
            values = (tenant_id, list(vector_store_ids), to_floats(vector), limit, *vector_store_ids)
            rows = await connection.fetch(_vector_search_sql(tables, exactly=False), *values)
            if len(rows) < min(limit, chunks):
                # An index has given up among chunks that are hidden.
                rows = await connection.fetch(_vector_search_sql(tables, exactly=True), *values)
        return {row_to_chunk_key(row): row["score"] for row in rows}

    async def keyword_search(
        self,
        tenant_id: str,
        vector_store_ids: Sequence[str],
        query: str,
        limit: int,
        filters: Filter | None = None,
        *,
        chunks: int = 0,
    ) -> dict[ChunkKey, float]:
        statement, values = keyword_search_sql(filters, chunks)
        async with self._database.tenant(tenant_id, generic_plans=filters is None) as connection:
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
        async with self._database.tenant(tenant_id, generic_plans=True) as connection:
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
        async with self._database.tenant(tenant_id, generic_plans=True) as connection:
            for number, of_space in keys_by_space(keys, spaces).items():
                statement, values = (NEARNESS_IN_SPACE, [number]) if number else (NEARNESS, [])
                columns = (*keys_to_columns(of_space), list(vector))
                near += await connection.fetch(statement, tenant_id, *columns, *values)
            wanted = (tenant_id, *keys_to_columns(keys), list(lexemes))
            found = await connection.fetch(FREQUENCIES, *wanted) if lexemes else []
        terms = {(row["attachment"], row["ordinal"]): row for row in found}
        return {
            row_to_chunk_key(row): to_candidate(row, terms.get((row["attachment"], row["ordinal"]))) for row in near
        }

    async def chunk_texts(self, tenant_id: str, keys: Collection[ChunkKey]) -> dict[ChunkKey, ChunkText]:
        async with self._database.tenant(tenant_id, generic_plans=True) as connection:
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


def keyword_search_sql(filters: Filter | None, chunks: int = 0) -> tuple[str, list[Parameter]]:
    """The keyword search in stores of this size, with its parameters.

    Behind a filter it is as if the stores had no other files, whose common words nobody has counted.
    """
    if filters is None:
        return (_KEYWORD_SEARCH if chunks < LARGE_STORE_CHUNKS else _KEYWORD_SEARCH_IN_LARGE), []
    condition, values = to_condition(filters, 5)
    allowed = allowed_attachments(condition)
    statement = _KEYWORD_SEARCH_IN.format(
        visibility=allowed, visible=ALLOWED, lexemes="lexeme_count", counted="allowed", words=ALL_WORDS
    )
    return statement, values


def row_to_chunk_key(row: Any) -> ChunkKey:
    return ChunkKey(row["vector_store_id"], row["attachment"], row["ordinal"])


def to_candidate(near: Any, terms: Any) -> Candidate:
    """`terms` is None for a chunk that has none of the lexemes."""
    if terms is None:
        return Candidate(near["nearness"])
    frequencies = dict(zip(terms["lexemes"], terms["frequencies"], strict=True))
    return Candidate(near["nearness"], frequencies, terms["length"])
