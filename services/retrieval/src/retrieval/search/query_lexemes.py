"""The lexemes that a query is searched for by, as SQL."""

# They bound the postings that one query reads, for a query that is a pasted page: the question is at its end, or first.
FIRST_WORDS, LAST_WORDS = 24, 40
# A word has a stem in each language of the stores. Where these are more, the words in the middle are left out.
MAX_LEXEMES = 128

# The stems of the words of $3, in English and in the languages of the stores $2 of the tenant $1.
QUERY_LEXEMES = f"""
SELECT lexeme, place FROM (
    SELECT lexeme, dense_rank() OVER (ORDER BY positions[1]) AS place,
           dense_rank() OVER (ORDER BY positions[cardinality(positions)] DESC) AS place_from_end
    FROM keywords($3, (
        SELECT ARRAY['english'] || coalesce(array_agg(DISTINCT language), ARRAY[]::text[])
        FROM vector_stores CROSS JOIN unnest(languages) AS language
        WHERE tenant_id = $1 AND vector_store_id = ANY($2::text[]) AND language <> 'english'
    ))
) AS placed WHERE place <= {FIRST_WORDS} OR place_from_end <= {LAST_WORDS}
ORDER BY least(place, place_from_end), lexeme LIMIT {MAX_LEXEMES}
"""  # noqa: S608 - constants
