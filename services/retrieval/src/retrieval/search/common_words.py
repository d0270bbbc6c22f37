"""Which words of a query are read, as SQL.

A common word may be in a third of all chunks: its postings are most of what a keyword search in a large store would
read, and decide least. So the rare words of a query are read, and common ones only as far as there are too few rare
ones. The others are looked up in the best chunks of these. Their document frequencies are counted in the background.
"""

# In smaller stores all words are read.
LARGE_STORE_CHUNKS = 2_000
# A word of more chunks in a store is common there.
COMMON_CHUNKS = 300
# Common words are read, the rarest first, until they have this many postings.
READ_POSTINGS = 2_000
# So many words are read in any case, unless they have too many postings: a chunk is known by more than one of them.
READ_WORDS, MAX_READ_POSTINGS = 3, 10_000
# The best chunks by the words that are read.
MAX_CANDIDATES = 300

RARE_WORDS = f"""
SELECT lexeme, documents, row_number() OVER () AS word,
       postings < {READ_POSTINGS} OR place <= {READ_WORDS} AND postings < {MAX_READ_POSTINGS} AS is_read
FROM (
    SELECT lexeme, documents::float8, coalesce(sum(documents) OVER rarer, 0) AS postings,
           row_number() OVER (ORDER BY documents NULLS FIRST, lexeme) AS place
    FROM query LEFT JOIN LATERAL (
        SELECT sum(chunks) AS documents FROM common_lexemes
        WHERE tenant_id = $1 AND vector_store_id = ANY($2::text[]) AND lexeme = query.lexeme
    ) AS common ON true
    WINDOW rarer AS (ORDER BY documents NULLS FIRST, lexeme ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING)
) AS ordered
"""  # noqa: S608 - constants
# Behind a filter the frequencies are those of the allowed files, which nobody has counted.
ALL_WORDS = "SELECT lexeme, NULL::float8 AS documents, true AS is_read, row_number() OVER () AS word FROM query"
