"""Fills Postgres for the measurement of searches: 200,000 chunks over 1,000 tenants, and one tenant of large stores.

Words are as frequent as in a language without its stop words (law of Zipf and Mandelbrot): the most frequent one is in
a third of the texts. 2,000 texts are made, with the lexemes that the database makes of them, and used for each tenant.
"""

import random
import struct
from functools import cache
from itertools import accumulate
from typing import Any

from chassis.ids import new_id
from retrieval.embeddings.model import DIMENSIONS

TENANTS = 1_000
FILES_OF_A_TENANT, CHUNKS_OF_A_FILE = 2, 100
SIZES = (10, 100, 1_000, 10_000)
"""Files, of one chunk each, of the stores of one tenant."""
TEXTS, WORDS, VOCABULARY = 2_000, 60, 20_000

_TEMPLATES = """
CREATE TABLE texts AS SELECT n, (n - 1) / 100 AS file, (n - 1) % 100 AS ordinal, text, embedding::halfvec AS embedding
FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS given (text, embedding, n)
"""
_LEXEMES = """
CREATE TABLE words AS SELECT *, (sum(frequency) OVER (PARTITION BY n))::smallint AS length FROM (
    SELECT n, file, ordinal::integer, lexeme, cardinality(positions)::smallint AS frequency
    FROM texts CROSS JOIN keywords(text, '{}')
) AS found
"""
_TERMS = """
CREATE TABLE terms AS SELECT file, lexeme, array_agg(ordinal ORDER BY ordinal) AS ordinals,
    array_agg(frequency ORDER BY ordinal) AS frequencies, array_agg(length ORDER BY ordinal) AS lengths, sum(frequency)
FROM words GROUP BY file, lexeme
"""
_STORES = """
INSERT INTO vector_stores (tenant_id, vector_store_id, name) SELECT *, 'filled' FROM unnest($1::text[], $2::text[])
"""
_FILES = """
INSERT INTO files (tenant_id, file_id, filename, purpose, size_bytes)
SELECT tenant_id, 'file-' || md5(store || n), 'a.txt', 'assistants', 100
FROM unnest($1::text[], $2::text[]) AS given (tenant_id, store) CROSS JOIN generate_series(1, $3::integer) AS n
"""
_ATTACHMENTS = """
INSERT INTO attachments (tenant_id, vector_store_id, file_id, state, project_id, key_id, chunks, indexed_chunks,
                         lexeme_count)
SELECT tenant_id, store, 'file-' || md5(store || n), 'completed', 'prj', 'key', $4::integer, $4::integer,
       $4::integer * 50
FROM unnest($1::text[], $2::text[]) AS given (tenant_id, store) CROSS JOIN generate_series(1, $3::integer) AS n
"""
# An attachment has all texts of a template file, or one text.
_LONG_FILES = (
    """
    INSERT INTO chunks (tenant_id, vector_store_id, attachment, ordinal, page, text, fingerprint, embedding)
    SELECT tenant_id, vector_store_id, attachment, ordinal, 1, text,
           sha256((vector_store_id || attachment || '-' || ordinal)::bytea), embedding
    FROM attachments JOIN texts ON file = attachment % 20
    WHERE tenant_id = ANY($1::text[]) AND vector_store_id = ANY($2::text[])
    """,
    """
    INSERT INTO postings (tenant_id, vector_store_id, lexeme, attachment, first_ordinal, ordinals, frequencies, lengths)
    SELECT tenant_id, vector_store_id, lexeme, attachment, 0, ordinals, frequencies, lengths
    FROM attachments JOIN terms ON file = attachment % 20
    WHERE tenant_id = ANY($1::text[]) AND vector_store_id = ANY($2::text[])
    """,
)
_SHORT_FILES = (
    """
    INSERT INTO chunks (tenant_id, vector_store_id, attachment, ordinal, page, text, fingerprint, embedding)
    SELECT tenant_id, vector_store_id, attachment, 0, 1, text, sha256((vector_store_id || attachment)::bytea), embedding
    FROM attachments JOIN texts ON n = attachment % 2000 + 1
    WHERE tenant_id = ANY($1::text[]) AND vector_store_id = ANY($2::text[])
    """,
    """
    INSERT INTO postings (tenant_id, vector_store_id, lexeme, attachment, first_ordinal, ordinals, frequencies, lengths)
    SELECT tenant_id, vector_store_id, lexeme, attachment, 0, '{0}', ARRAY[frequency], ARRAY[length]
    FROM attachments JOIN words ON n = attachment % 2000 + 1
    WHERE tenant_id = ANY($1::text[]) AND vector_store_id = ANY($2::text[])
    """,
)


def make_texts(choose: random.Random) -> list[str]:
    """Texts of words that are of no language; the n-th is used as often as 1 / (20 + n)."""
    letters = "bcdfghjklmnpqrstvwz"
    words = ["".join(choose.choice(letters) + choose.choice("aeiou") for _ in range(4)) for _ in range(VOCABULARY)]
    weights = list(accumulate(1 / (20 + rank) for rank in range(1, VOCABULARY + 1)))
    return [" ".join(choose.choices(words, cum_weights=weights, k=WORDS)) for _ in range(TEXTS)]


def make_vector(choose: random.Random) -> list[float]:
    """A direction, with a length of about 1."""
    return [choose.gauss(0, DIMENSIONS**-0.5) for _ in range(DIMENSIONS)]


@cache
def vector_of_word(word: str) -> list[float]:
    """The same direction each time."""
    return make_vector(random.Random(word))


def vector_of_words(text: str) -> list[float]:
    """The mean direction of the words: texts are near each other if they have words in common."""
    words = text.split()
    return [sum(column) / len(words) for column in zip(*map(vector_of_word, words), strict=True)]


def make_queries(
    texts: list[str], choose: random.Random, count: int, *, of_words: bool = False
) -> list[tuple[str, str]]:
    """Questions of eight words of a text, with their vectors as hexadecimal digits."""
    queries = []
    for _ in range(count):
        words = " ".join(choose.sample(choose.choice(texts).split(), 8))
        vector = vector_of_words(words) if of_words else make_vector(choose)
        queries.append((words, struct.pack(f"<{DIMENSIONS}f", *vector).hex()))
    return queries


async def fill(
    owner: Any, texts: list[str], choose: random.Random, *, of_words: bool = False
) -> dict[str, list[tuple[str, str]]]:
    """Fill the tables and gather statistics; returns tenants and stores by what they are.

    `owner` may write the rows of all tenants.
    """
    vectors = [str(vector_of_words(text) if of_words else make_vector(choose)) for text in texts]
    for statement, values in ((_TEMPLATES, (texts, vectors)), (_LEXEMES, ()), (_TERMS, ())):
        await owner.execute(statement, *values)
    await owner.execute("ANALYZE texts, words, terms")
    many = [(new_id("ten_"), new_id("vs_")) for _ in range(TENANTS)]
    await _fill_stores(owner, many, FILES_OF_A_TENANT, CHUNKS_OF_A_FILE)
    tenant_id = new_id("ten_")
    stores = {f"{size} files": [(tenant_id, new_id("vs_"))] for size in SIZES}
    for size, [store] in zip(SIZES, stores.values(), strict=True):
        await _fill_stores(owner, [store], size, 1)
    await owner.execute("DROP TABLE texts, words, terms")
    await owner.execute("VACUUM (ANALYZE) files, vector_stores, attachments, chunks, postings, deletions")
    return {"1,000 tenants": many} | stores


async def _fill_stores(owner: Any, stores: list[tuple[str, str]], files: int, chunks: int) -> None:
    columns = tuple(list(column) for column in zip(*stores, strict=True))
    await owner.execute(_STORES, *columns)
    await owner.execute(_FILES, *columns, files)
    await owner.execute(_ATTACHMENTS, *columns, files, chunks)
    for statement in _SHORT_FILES if chunks == 1 else _LONG_FILES:
        await owner.execute(statement, *columns)
