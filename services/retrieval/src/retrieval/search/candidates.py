"""Chunks that are named by their keys, as SQL: texts and vectors to join, nearness, frequencies of lexemes."""

# Of each key its chunk. LIMIT keeps the order of the joins: the planner may otherwise read all files of a tenant first,
# because it takes those of a tenant that is new since the last ANALYZE for one. The tenant comes from a subquery, whose
# value it does not look up in the statistics.
WANTED_CHUNKS = """
FROM unnest($2::text[], $3::bigint[], $4::integer[]) AS wanted (vector_store_id, attachment, ordinal)
CROSS JOIN LATERAL (
    SELECT page, text, embedding FROM chunks
    WHERE tenant_id = (SELECT $1::text) AND vector_store_id = wanted.vector_store_id
      AND attachment = wanted.attachment AND ordinal = wanted.ordinal LIMIT 1
) AS c
"""
# In space 0 the vectors stand in the rows of the chunks, and every other space has rows of its own.
WANTED_VECTORS = """
CROSS JOIN LATERAL (
    SELECT embedding FROM chunk_vectors
    WHERE tenant_id = (SELECT $1::text) AND vector_store_id = wanted.vector_store_id AND space = {space}
      AND attachment = wanted.attachment AND ordinal = wanted.ordinal LIMIT 1
) AS v
"""
NEARNESS = f"""
SELECT wanted.vector_store_id, wanted.attachment, wanted.ordinal,
       -(c.embedding <#> $5::real[]::halfvec) AS nearness {WANTED_CHUNKS} WHERE c.embedding IS NOT NULL
"""
NEARNESS_IN_SPACE = f"""
SELECT wanted.vector_store_id, wanted.attachment, wanted.ordinal,
       -(v.embedding <#> $5::real[]::halfvec) AS nearness
FROM unnest($2::text[], $3::bigint[], $4::integer[]) AS wanted (vector_store_id, attachment, ordinal)
{WANTED_VECTORS.format(space="$6")}
"""  # noqa: S608 - constants
# Rare words are read, and common ones are looked up in each file. A lookup compares rows, because the planner would
# take the index by file for a comparison of files alone, also with an array of them, and read all words of the files.
# IS TRUE keeps a condition a lookup in a hash table; a join may become a loop within a loop.
FREQUENCIES = """
WITH files AS MATERIALIZED (
    SELECT DISTINCT * FROM unnest($2::text[], $3::bigint[]) AS keys (vector_store_id, attachment)
), stores AS MATERIALIZED (SELECT array_agg(DISTINCT vector_store_id) AS ids FROM files),
words AS MATERIALIZED (
    SELECT lexeme, EXISTS (
        SELECT FROM common_lexemes c WHERE c.tenant_id = $1 AND c.lexeme = wanted.lexeme
           AND c.vector_store_id = ANY((SELECT ids FROM stores)::text[])
    ) AS is_common FROM unnest($5::text[]) AS wanted (lexeme)
), found AS (
    SELECT attachment, words.lexeme, unnest(ordinals) AS ordinal, unnest(frequencies) AS frequency,
           unnest(lengths) AS length
    FROM words CROSS JOIN LATERAL (
        SELECT attachment, ordinals, frequencies, lengths FROM postings
        WHERE tenant_id = (SELECT $1::text) AND vector_store_id = ANY((SELECT ids FROM stores)::text[])
          AND lexeme = words.lexeme AND (attachment IN (SELECT attachment FROM files)) IS TRUE OFFSET 0
    ) AS of_word WHERE NOT is_common
    UNION ALL
    SELECT files.attachment, words.lexeme, unnest(ordinals), unnest(frequencies), unnest(lengths)
    FROM words CROSS JOIN files CROSS JOIN LATERAL (
        SELECT ordinals, frequencies, lengths FROM postings
        WHERE tenant_id = (SELECT $1::text) AND vector_store_id = files.vector_store_id
          AND (lexeme, attachment) >= (words.lexeme, files.attachment)
          AND (lexeme, attachment) <= (words.lexeme, files.attachment) OFFSET 0
    ) AS of_file WHERE is_common
)
SELECT attachment, ordinal, array_agg(lexeme) AS lexemes, array_agg(frequency) AS frequencies, max(length) AS length
FROM found WHERE ((attachment, ordinal) IN (SELECT * FROM unnest($3::bigint[], $4::integer[]))) IS TRUE
GROUP BY attachment, ordinal
"""
