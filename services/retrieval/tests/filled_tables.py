"""Fills Postgres with many files of one chunk each, faster than by uploads."""

from __future__ import annotations

from typing import Any

from chassis.ids import new_id

WORDS_PER_CHUNK = 12
VOCABULARY = 1_500
ANALYZE = """
ANALYZE files, vector_stores, attachments, store_counts, common_lexemes, chunks, chunk_vectors, postings, deletions
"""
SPACE = 2

_FILL = (
    "INSERT INTO vector_stores (tenant_id, vector_store_id, name) VALUES ($1, $2, 'filled')",
    """
    INSERT INTO files (tenant_id, file_id, filename, purpose, size_bytes)
    SELECT $1, 'file-' || md5($2 || n), 'a.txt', 'assistants', 100 FROM generate_series(1, $3) AS n
    """,
    """
    INSERT INTO attachments (tenant_id, vector_store_id, file_id, state, project_id, key_id, chunks, indexed_chunks,
                             lexeme_count, usage_bytes)
    SELECT $1, $2, 'file-' || md5($2 || n), 'completed', 'prj', 'key', 1, 1, $4, 1000 FROM generate_series(1, $3) AS n
    """,
    # `0 * attachment` makes the subquery depend on the row, so that each row gets a vector of its own.
    """
    INSERT INTO chunks (tenant_id, vector_store_id, attachment, ordinal, page, text, fingerprint, embedding)
    SELECT $1, $2, attachment, 0, 1, 'text of chunk ' || attachment, sha256(($2 || attachment)::bytea),
           (SELECT array_agg(random() - 0.5 + 0 * attachment * n) FROM generate_series(1, 384) AS n)::halfvec
    FROM attachments WHERE tenant_id = $1 AND vector_store_id = $2
    """,
    """
    INSERT INTO postings (tenant_id, vector_store_id, lexeme, attachment, first_ordinal, ordinals, frequencies, lengths)
    SELECT $1, $2, 'word' || (attachment * 7 + n * 131) % $4, attachment, 0, '{0}', '{1}', ARRAY[$3::smallint]
    FROM attachments CROSS JOIN generate_series(1, $3) AS n WHERE tenant_id = $1 AND vector_store_id = $2
    """,
)


async def fill_store(owner: Any, tenant_id: str, files: int) -> str:
    """Create a store with this many completed files of one chunk and return its id. `owner` may write all tenants."""
    store = new_id("vs_")
    await owner.execute(_FILL[0], tenant_id, store)
    await owner.execute(_FILL[1], tenant_id, store, files)
    await owner.execute(_FILL[2], tenant_id, store, files, WORDS_PER_CHUNK)
    await owner.execute(_FILL[3], tenant_id, store)
    await owner.execute(_FILL[4], tenant_id, store, WORDS_PER_CHUNK, VOCABULARY)
    return store


_FILL_SPACE = """
INSERT INTO chunk_vectors (tenant_id, vector_store_id, space, attachment, ordinal, fingerprint, embedding)
SELECT tenant_id, vector_store_id, $3, attachment, ordinal, sha256(fingerprint), embedding FROM chunks
WHERE tenant_id = $1 AND vector_store_id = $2
"""


async def fill_space(owner: Any, tenant_id: str, store: str) -> None:
    """Give each chunk of the store a vector in `SPACE`, too."""
    await owner.execute(_FILL_SPACE, tenant_id, store, SPACE)


_FILL_PROMPTS = """
INSERT INTO cached_prompts (tenant_id, partition, entry_id, model, prompt, embedding, expires_at)
SELECT $1, $2, md5($1 || n), 'filled', 'What is the price of article number ' || n || '?',
       (SELECT array_agg(random() - 0.5 + 0 * n * m) FROM generate_series(1, 384) AS m)::halfvec,
       now() + interval '1 day' + n * interval '1 second'
FROM generate_series(1, $3) AS n
"""


async def fill_prompts(owner: Any, tenant_id: str, partition: bytes, prompts: int) -> None:
    """Keep this many prompts of random vectors. `owner` may write all tenants."""
    await owner.execute(_FILL_PROMPTS, tenant_id, partition, prompts)
