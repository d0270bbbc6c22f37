"""Counts the common words of large stores: tables `lexeme_counts` and `common_lexemes`."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from chassis.postgres import Database

from retrieval.locks.postgres import lock_to_write
from retrieval.search.common_words import COMMON_CHUNKS, LARGE_STORE_CHUNKS

# Read at once: a second or less.
POSTINGS_AT_ONCE = 100_000
# Another process counts the store when the one that began has died.
CLAIM = timedelta(minutes=10)
PAUSE = timedelta(minutes=1)

# Stores whose size has changed by a tenth, and an hour later those that have changed at all. One that is no longer
# large is among them, so that what was counted is forgotten.
_DUE = """
SELECT s.* FROM (
    SELECT tenant_id, vector_store_id, sum(chunks)::bigint AS chunks, sum(lexemes)::bigint AS lexemes
    FROM store_counts GROUP BY tenant_id, vector_store_id
) AS s LEFT JOIN lexeme_counts c USING (tenant_id, vector_store_id)
WHERE CASE WHEN c.due_at IS NULL THEN s.chunks >= $2
      ELSE c.due_at <= now() AND (abs(s.chunks - c.chunks) * 10 > c.chunks
           OR (s.chunks, s.lexemes) <> (c.chunks, c.lexemes) AND c.due_at <= now() - interval '1 hour') END
ORDER BY c.due_at NULLS FIRST LIMIT $1
"""
_CLAIM = """
INSERT INTO lexeme_counts AS c (tenant_id, vector_store_id, due_at) VALUES ($1, $2, now() + $3)
ON CONFLICT (tenant_id, vector_store_id) DO UPDATE SET due_at = excluded.due_at WHERE c.due_at <= now() RETURNING 1
"""
# The last word may go on beyond the page; it is read again with the next one.
_PAGE = """
SELECT lexeme, sum(chunks)::bigint AS chunks, count(*) AS postings FROM (
    SELECT lexeme, cardinality(ordinals) AS chunks FROM postings
    WHERE tenant_id = $1 AND vector_store_id = $2 AND lexeme >= $3 ORDER BY lexeme LIMIT $4
) AS page GROUP BY lexeme ORDER BY lexeme
"""
_ONE_WORD = """
SELECT sum(cardinality(ordinals))::bigint FROM postings
WHERE tenant_id = $1 AND vector_store_id = $2 AND lexeme = $3
"""
_NEXT_WORD = """
SELECT min(lexeme) FROM postings WHERE tenant_id = $1 AND vector_store_id = $2 AND lexeme > $3
"""
_FORGET = "DELETE FROM common_lexemes WHERE tenant_id = $1 AND vector_store_id = $2"
_REMEMBER = """
INSERT INTO common_lexemes (tenant_id, vector_store_id, lexeme, chunks)
SELECT $1, $2, * FROM unnest($3::text[], $4::bigint[])
"""
_FINISH = """
UPDATE lexeme_counts SET chunks = $3, lexemes = $4, due_at = now() + $5
WHERE tenant_id = $1 AND vector_store_id = $2
"""


@dataclass(frozen=True, slots=True)
class LargeStore:
    """A store whose common words are to be counted, and what it holds now."""

    tenant_id: str
    vector_store_id: str
    chunks: int
    lexemes: int


class PostgresCommonWords:
    """Counts common words store by store; safe to interrupt, and to run in several processes."""

    def __init__(
        self,
        database: Database,
        large_store_chunks: int = LARGE_STORE_CHUNKS,
        common_chunks: int = COMMON_CHUNKS,
        postings_at_once: int = POSTINGS_AT_ONCE,
    ) -> None:
        self._database = database
        self._large_store_chunks = large_store_chunks
        self._common_chunks = common_chunks
        self._postings_at_once = postings_at_once

    async def due(self, limit: int) -> Sequence[LargeStore]:
        """Stores that have grown or shrunk since they were counted."""
        async with self._database.system() as connection:
            rows = await connection.fetch(_DUE, limit, self._large_store_chunks)
        return [LargeStore(**row) for row in rows]

    async def count(self, store: LargeStore) -> bool:
        """Count the words of the store, in short transactions; False where another process does, or it is deleted."""
        key = (store.tenant_id, store.vector_store_id)
        async with self._database.tenant(store.tenant_id) as connection:
            # Nothing is written for a store that is gone.
            there = await lock_to_write(connection, *key)
            if there is None or not await connection.fetchval(_CLAIM, *key, CLAIM):
                return False
        common = await self._common(store) if store.chunks >= self._large_store_chunks else {}
        async with self._database.tenant(store.tenant_id) as connection:
            if await lock_to_write(connection, *key) is None:
                return False
            await connection.execute(_FINISH, *key, store.chunks, store.lexemes, PAUSE)
            await connection.execute(_FORGET, *key)
            await connection.execute(_REMEMBER, *key, list(common), list(common.values()))
        return True

    async def _common(self, store: LargeStore) -> dict[str, int]:
        key, common = (store.tenant_id, store.vector_store_id), dict[str, int]()
        first: str | None = ""
        while first is not None:
            async with self._database.tenant(store.tenant_id) as connection:
                rows: list[Any] = await connection.fetch(_PAGE, *key, first, self._postings_at_once)
                found = {row["lexeme"]: row["chunks"] for row in rows}
                if sum(row["postings"] for row in rows) < self._postings_at_once:
                    first = None
                elif len(rows) > 1:
                    first = rows[-1]["lexeme"]
                    del found[first]
                else:
                    found = {first: await connection.fetchval(_ONE_WORD, *key, first) for first in found}
                    first = await connection.fetchval(_NEXT_WORD, *key, *found)
            common |= {lexeme: chunks for lexeme, chunks in found.items() if chunks > self._common_chunks}
        return common


async def count_common_words(words: PostgresCommonWords, limit: int = 20) -> int:
    """Count some stores that are due; how many were."""
    return sum([await words.count(store) for store in await words.due(limit)])
