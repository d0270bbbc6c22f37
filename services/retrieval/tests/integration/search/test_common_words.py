"""Common words of large stores: how they are counted, and what a search finds that does not read all of them."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from chassis.postgres import Database
from retrieval.search.common_words import LARGE_STORE_CHUNKS, READ_POSTINGS
from retrieval.search.postgres import PostgresSearchIndex
from retrieval.search.words_postgres import LargeStore, PostgresCommonWords, count_common_words

from services.retrieval.tests.tenants import Tenant

FILES = 4_000
# "common0" is in all of the files, "common1" in half of them, and so on; "rare0" to "rare99" are in forty each.
_FILES = """
INSERT INTO files (tenant_id, file_id, filename, purpose, size_bytes)
SELECT $1, 'file-' || md5($2 || n), 'a.txt', 'assistants', 1 FROM generate_series(1, $3) AS n
"""
_ATTACHMENTS = """
INSERT INTO attachments (tenant_id, vector_store_id, file_id, state, project_id, key_id, chunks, indexed_chunks,
                         lexeme_count, lexeme_version)
SELECT $1, $2, 'file-' || md5($2 || n), 'completed', 'prj', 'key', 1, 1, 20, 32767 FROM generate_series(1, $3) AS n
"""
_POSTINGS = """
INSERT INTO postings (tenant_id, vector_store_id, lexeme, attachment, first_ordinal, ordinals, frequencies, lengths)
SELECT $1, $2, word, attachment, 0, '{0}', ARRAY[1 + n % 3]::smallint[], ARRAY[15 + n % 11]::smallint[]
FROM (
    SELECT attachment, row_number() OVER (ORDER BY attachment) AS n FROM attachments
    WHERE tenant_id = $1 AND vector_store_id = $2
) AS numbered CROSS JOIN LATERAL (
    SELECT 'rare' || n % 100 AS word UNION ALL
    SELECT 'common' || m FROM generate_series(0, 3) AS m WHERE n % (m + 1) = 0
) AS found
"""


async def filled(tenant: Tenant, database: Database) -> str:
    store = (await tenant.store()).vector_store_id
    async with database.tenant(tenant.tenant_id) as connection:
        await connection.execute(_FILES, tenant.tenant_id, store, FILES)
        await connection.execute(_ATTACHMENTS, tenant.tenant_id, store, FILES)
        await connection.execute(_POSTINGS, tenant.tenant_id, store)
    return store


async def common(tenant: Tenant, database: Database) -> dict[str, int]:
    async with database.tenant(tenant.tenant_id) as connection:
        rows = await connection.fetch("SELECT lexeme, chunks FROM common_lexemes")
    return {row["lexeme"]: row["chunks"] for row in rows}


async def due(words: PostgresCommonWords, tenant: Tenant) -> list[LargeStore]:
    return [store for store in await words.due(1_000) if store.tenant_id == tenant.tenant_id]


async def set_due(tenant: Tenant, database: Database) -> None:
    async with database.tenant(tenant.tenant_id) as connection:
        await connection.execute("UPDATE lexeme_counts SET due_at = now()")


@pytest.mark.parametrize("postings_at_once", [100_000, 5_000, 700], ids=["at once", "in pages", "larger than a page"])
async def test_the_common_words_of_a_large_store_are_counted(
    one: Tenant, database: Database, postings_at_once: int
) -> None:
    await filled(one, database)
    words = PostgresCommonWords(database, postings_at_once=postings_at_once)
    [store] = await due(words, one)

    assert await words.count(store)

    expected = {"common0": FILES, "common1": FILES // 2, "common2": FILES // 3, "common3": FILES // 4}
    assert await common(one, database) == expected
    assert await due(words, one) == []


async def test_a_store_is_counted_by_one_process_at_a_time(one: Tenant, database: Database) -> None:
    await filled(one, database)
    words = PostgresCommonWords(database)
    [store] = await due(words, one)

    assert await words.count(store)
    assert not await words.count(store)


async def test_a_store_that_shrinks_is_counted_anew_and_forgotten_when_it_is_small(
    one: Tenant, database: Database
) -> None:
    store = await filled(one, database)
    words = PostgresCommonWords(database)
    await words.count((await due(words, one))[0])
    async with database.tenant(one.tenant_id) as connection:
        await connection.execute("DELETE FROM attachments WHERE attachment % 10 > 1 AND vector_store_id = $1", store)
    assert await due(words, one) == []  # not at once
    await set_due(one, database)

    [smaller] = await due(words, one)
    assert smaller.chunks < LARGE_STORE_CHUNKS
    await words.count(smaller)

    assert await common(one, database) == {}


async def test_nothing_is_kept_of_a_large_store_that_is_deleted(one: Tenant, database: Database) -> None:
    store = await filled(one, database)
    words = PostgresCommonWords(database)
    [large] = await due(words, one)
    await words.count(large)

    await one.ports.stores.delete(one.tenant_id, store)

    assert await common(one, database) == {}
    async with database.tenant(one.tenant_id) as connection:
        assert await connection.fetchval("SELECT count(*) FROM lexeme_counts") == 0


async def test_nothing_is_kept_of_a_store_that_is_deleted_before_it_is_counted(one: Tenant, database: Database) -> None:
    store = await filled(one, database)
    words = PostgresCommonWords(database)
    [large] = await due(words, one)
    await one.ports.stores.delete(one.tenant_id, store)

    assert not await words.count(large)

    assert await common(one, database) == {}
    async with database.tenant(one.tenant_id) as connection:
        assert await connection.fetchval("SELECT count(*) FROM lexeme_counts") == 0


class DeletedMeanwhile(PostgresCommonWords):
    """Its stores are deleted after their words were read."""

    def __init__(self, tenant: Tenant, database: Database) -> None:
        super().__init__(database)
        self._tenant = tenant

    async def _common(self, store: LargeStore) -> dict[str, int]:
        found = await super()._common(store)
        await self._tenant.ports.stores.delete(store.tenant_id, store.vector_store_id)
        return found


async def test_nothing_is_kept_of_a_store_that_is_deleted_while_it_is_counted(one: Tenant, database: Database) -> None:
    await filled(one, database)
    words = DeletedMeanwhile(one, database)
    [large] = await due(words, one)

    assert not await words.count(large)

    assert await common(one, database) == {}


async def test_words_are_not_written_while_their_store_is_being_deleted(one: Tenant, database: Database) -> None:
    store = await filled(one, database)
    words = PostgresCommonWords(database)
    [large] = await due(words, one)
    async with database.tenant(one.tenant_id) as connection:
        await connection.execute("DELETE FROM attachments WHERE vector_store_id = $1", store)
        await connection.execute("DELETE FROM vector_stores WHERE vector_store_id = $1", store)
        counting = asyncio.create_task(words.count(large))
        await waits_for(connection)

    assert not await counting
    assert await common(one, database) == {}


async def waits_for(connection: Any) -> None:
    """Return once another transaction waits for the one of the connection."""
    async with asyncio.timeout(60):
        while not await connection.fetchval(
            "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE pg_backend_pid() = ANY(pg_blocking_pids(pid)))"
        ):
            await asyncio.sleep(0.01)
            await connection.execute("SELECT pg_stat_clear_snapshot()")


async def test_small_stores_are_not_counted(one: Tenant, database: Database) -> None:
    await one.indexed("the red lighthouse")

    assert await due(PostgresCommonWords(database), one) == []
    assert await count_common_words(PostgresCommonWords(database), 0) == 0


@pytest.mark.parametrize(
    "query",
    [
        "rare7 rare23 common0 common1 common2 common3",
        "rare7 common0",
        "common0 common3 common2",
        "common0 common1 common2 common3",
        "common0",
        "rare7",
        "unknown",
    ],
)
async def test_the_best_chunks_are_those_of_a_search_that_reads_all_words(
    one: Tenant, database: Database, query: str
) -> None:
    assert FILES > READ_POSTINGS
    store = await filled(one, database)
    words = PostgresCommonWords(database)
    await words.count((await due(words, one))[0])
    index: Any = PostgresSearchIndex(database)

    every = await index.keyword_search(one.tenant_id, [store], query, 100)
    found = await index.keyword_search(one.tenant_id, [store], query, 100, chunks=FILES)

    exact, scores = list(every.items()), list(found.items())
    assert [key for key, _ in scores[:10]] == [key for key, _ in exact[:10]]
    assert [score for _, score in scores[:10]] == pytest.approx([score for _, score in exact[:10]])
    assert len(found.keys() & every.keys()) >= 0.95 * len(every)
