"""Plans on filled tables: a statement reads about the rows that its answer is made of, whatever the statistics know."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import retrieval
from chassis.ids import new_id
from chassis.postgres import Database
from chassis.settings import PostgresSection
from chassis.testing.postgres import scratch_database
from retrieval.deletions import postgres as deletions
from retrieval.embeddings.model import EmbeddingSpace, floats_to_vector
from retrieval.ingestion import finished_files_postgres as finished
from retrieval.ingestion import postgres as ingestion
from retrieval.search import candidates
from retrieval.search import postgres as search
from retrieval.search.contents_postgres import contents_sql
from retrieval.search.spaces import vectors_of
from retrieval.store_migrations import runs_postgres as migrations
from retrieval.store_migrations.postgres import COUNTS
from retrieval.vector_stores import postgres as vector_stores

from services.retrieval.tests.filled_tables import (
    ANALYZE,
    SPACE,
    VOCABULARY,
    WORDS_PER_CHUNK,
    fill_space,
    fill_store,
)

MIGRATIONS = Path(retrieval.__file__).parent / "migrations"
LARGE, SMALL, OTHERS = 3_000, 10, 20
"""Files in the stores of the tenant: one large store, one small one, and `OTHERS` of 20 files each."""
ELSEWHERE = 1_400
"""Files of each of two other tenants."""
ALL_FILES = LARGE + SMALL + OTHERS * 20 + 2 * ELSEWHERE
ALL_COUNTS = 8 * (OTHERS + 4)
"""The kept counts of all stores, so few that Postgres may read them all."""
OF_A_WORD = LARGE * WORDS_PER_CHUNK / VOCABULARY
"""Postings of a word in the large store."""
ALL_WORDS = 100
"""More words than tests make common."""
Names = tuple[str, str, str, str]
"""The tenant, its large and its small store, and the state of the statistics."""
QUERY = "word7 word8 word9 word500 word1200"
VECTORS = {"chunk_vectors_pkey", "chunk_vectors_by_attachment"}
"""Either finds the vectors of a chunk, of one space or of the two that a store has at most."""
_MAKE_COMMON = """
INSERT INTO common_lexemes (tenant_id, vector_store_id, lexeme, chunks) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING
"""
STATISTICS = ("none", "before the tenant came", "current")


@dataclass(frozen=True)
class FilledTenant:
    """A tenant with stores in a database whose statistics are in a given state."""

    database: Database
    tenant_id: str
    large: str
    small: str
    statistics: str

    async def plan(self, statement: str, *values: object) -> dict[str, Any]:
        """The plan of a statement that ran and was rolled back."""
        async with self.database.tenant(self.tenant_id) as connection:
            transaction = connection.transaction()
            await transaction.start()
            rows = await connection.fetch(f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}", *values)
            await transaction.rollback()
        plan: dict[str, Any] = json.loads(rows[0][0])[0]["Plan"]
        return plan

    async def plans(self, statement: str, *values: object) -> list[dict[str, Any]]:
        """The plan for these values, and the one for all values: a connection may use either."""
        literals = ", ".join(to_literal(value) for value in values)
        async with self.database.tenant(self.tenant_id) as connection:
            await connection.execute("SET LOCAL plan_cache_mode = force_generic_plan")
            await connection.execute(f"PREPARE measured AS {statement}")
            try:
                rows = await connection.fetch(f"EXPLAIN (ANALYZE, FORMAT JSON) EXECUTE measured ({literals})")
            finally:
                await connection.execute("DEALLOCATE measured")
        return [await self.plan(statement, *values), json.loads(rows[0][0])[0]["Plan"]]

    async def last_attachment(self) -> int:
        """The number of the last file in the large store."""
        async with self.database.tenant(self.tenant_id) as connection:
            number: int = await connection.fetchval(
                "SELECT max(attachment) FROM attachments WHERE tenant_id = $1 AND vector_store_id = $2",
                self.tenant_id,
                self.large,
            )
        return number

    async def make_common(self, words: list[str]) -> None:
        """Let the words be in all chunks of the large store, by what was counted."""
        async with self.database.tenant(self.tenant_id) as connection:
            for word in words:
                await connection.execute(_MAKE_COMMON, self.tenant_id, self.large, word, LARGE)

    async def rows_read(self, statement: str, *values: object) -> int:
        return rows_read(await self.plan(statement, *values))


def rows_read(plan: dict[str, Any]) -> int:
    """The rows that the plan's scans of tables have read, with those that they have thrown away, in all their loops."""
    rows = 0
    if "Relation Name" in plan and plan["Node Type"].endswith("Scan"):
        removed = plan.get("Rows Removed by Filter", 0) + plan.get("Rows Removed by Index Recheck", 0)
        rows = round((plan["Actual Rows"] + removed) * plan["Actual Loops"])
    return rows + sum(rows_read(child) for child in plan.get("Plans", ()))


def loops(plan: dict[str, Any]) -> int:
    """The most loops of a scan of a table."""
    own = plan["Actual Loops"] if "Relation Name" in plan else 0
    return max([own, *(loops(child) for child in plan.get("Plans", ()))])


def indexes(plan: dict[str, Any]) -> set[str]:
    """The indexes that the plan reads, and the tables that it reads without one."""
    own = {plan.get("Index Name") or plan["Relation Name"]} if "Relation Name" in plan else set()
    own |= {plan["Index Name"]} if plan["Node Type"] == "Bitmap Index Scan" else set()
    return own.union(*(indexes(child) for child in plan.get("Plans", ())))


def to_literal(value: object) -> str:
    """A value in SQL; those of the tests need no escapes."""
    if isinstance(value, list):
        return "'{" + ",".join(map(str, value)) + "}'"
    return f"'{value}'"


@pytest.fixture(scope="module", params=STATISTICS)
def section(request: pytest.FixtureRequest) -> Iterator[tuple[PostgresSection, Names]]:
    with asyncio.Runner() as runner:
        scratch = scratch_database(MIGRATIONS, "retrieval", extensions=("vector",), pool_size=2)
        section = runner.run(scratch.__aenter__())
        yield section, runner.run(_fill(section, request.param))
        runner.run(scratch.__aexit__(None, None, None))


async def _fill(section: PostgresSection, statistics: str) -> Names:
    assert section.owner_dsn is not None
    owner: Any = await asyncpg.connect(
        section.owner_dsn.get_secret_value(), server_settings={"argosy.tenant": "*", "search_path": "retrieval,public"}
    )
    for table in (
        "files",
        "vector_stores",
        "attachments",
        "store_counts",
        "common_lexemes",
        "chunks",
        "chunk_vectors",
        "postings",
        "deletions",
    ):
        await owner.execute(f"ALTER TABLE {table} SET (autovacuum_enabled = false)")
    for _ in range(2):
        elsewhere = new_id("ten_")
        await fill_space(owner, elsewhere, await fill_store(owner, elsewhere, ELSEWHERE))
    if statistics != "none":
        await owner.execute(ANALYZE)
    tenant_id = new_id("ten_")
    large, small = await fill_store(owner, tenant_id, LARGE), await fill_store(owner, tenant_id, SMALL)
    await fill_space(owner, tenant_id, large)
    await fill_space(owner, tenant_id, small)
    for _ in range(OTHERS):
        await fill_store(owner, tenant_id, 20)
    if statistics == "current":
        await owner.execute(ANALYZE)
    await owner.close()
    return (tenant_id, large, small, statistics)


@pytest.fixture
async def filled(section: tuple[PostgresSection, Names]) -> AsyncIterator[FilledTenant]:
    settings, tenant = section
    async with Database(settings, "retrieval") as database:
        yield FilledTenant(database, *tenant)


async def test_a_keyword_search_reads_the_postings_of_its_words_once(filled: FilledTenant) -> None:
    for plan in await filled.plans(search._KEYWORD_SEARCH, filled.tenant_id, [filled.large], QUERY, 100):
        assert loops(plan) <= len(QUERY.split())
        assert rows_read(plan) <= ALL_COUNTS + OTHERS + 4 + 2 * OF_A_WORD * len(QUERY.split())
        assert "postings_pkey" in indexes(plan)
        assert not {"postings", "postings_by_attachment"} & indexes(plan)
    for plan in await filled.plans(search._KEYWORD_SEARCH, filled.tenant_id, [filled.small], QUERY, 100):
        # And the stores, of which there are too few for an index.
        assert rows_read(plan) <= ALL_COUNTS + 3 * SMALL + OTHERS + 4


async def test_common_words_are_looked_up_in_the_best_chunks_of_the_rare_ones(filled: FilledTenant) -> None:
    await filled.make_common(QUERY.split()[1:])
    statement, _ = search.keyword_search_sql(None, LARGE)

    for plan in await filled.plans(statement, filled.tenant_id, [filled.large], QUERY, 100):
        # The rare word and the first of the common ones are read; the chunks that have them have few of the others.
        assert rows_read(plan) <= 2 * ALL_COUNTS + 3 * OF_A_WORD * 2 + OTHERS + 4
        assert "postings_pkey" in indexes(plan)
        assert not {"postings", "postings_by_attachment"} & indexes(plan)


async def test_the_size_of_a_store_is_not_counted(filled: FilledTenant) -> None:
    statement, _ = contents_sql()

    for store in (filled.large, filled.small):
        for plan in await filled.plans(statement, filled.tenant_id, [store]):
            assert rows_read(plan) <= ALL_COUNTS + OTHERS + 4  # no file


async def test_a_vector_search_reads_the_chunks_of_its_store(filled: FilledTenant) -> None:
    vector = floats_to_vector([0.1] * 384)
    in_space = LARGE + SMALL + 2 * ELSEWHERE
    for space, stored in ((EmbeddingSpace(), ALL_FILES), (EmbeddingSpace("fake", SPACE), in_space)):
        branch = search._VECTOR_SEARCH_IN_STORE.format(parameter=5, vectors=vectors_of(space, vector), exactly="")
        statement = f"WITH hidden AS MATERIALIZED ({search._HIDDEN_ATTACHMENTS}) {branch}"

        for store, files in ((filled.large, stored), (filled.small, SMALL)):
            values = (filled.tenant_id, [store], [0.1] * 384, 100, store)
            assert await filled.rows_read(statement, *values) <= files


async def test_texts_are_read_by_their_keys(filled: FilledTenant) -> None:
    last = await filled.last_attachment()
    keys = ([filled.large] * 10, list(range(last - 9, last + 1)), [0] * 10)

    for plan in await filled.plans(search._CHUNK_TEXTS, filled.tenant_id, *keys):
        assert rows_read(plan) <= 30
        assert indexes(plan) == {"chunks_pkey", "attachments_by_number", "files_pkey"}


async def test_feedback_reads_the_candidates_alone(filled: FilledTenant) -> None:
    last = await filled.last_attachment()
    keys = ([filled.large] * 100, list(range(last - 99, last + 1)), [0] * 100)

    for plan in await filled.plans(candidates.NEARNESS, filled.tenant_id, *keys, [0.1] * 384):
        assert rows_read(plan) <= 100
        assert indexes(plan) == {"chunks_pkey"}
    # Each chunk, and the languages of its file.
    for plan in await filled.plans(search._RELEVANT, filled.tenant_id, *(column[:5] for column in keys)):
        assert rows_read(plan) <= 10
        assert indexes(plan) == {"chunks_pkey", "attachments_by_number"}
    five = [column[:5] for column in keys]
    for plan in await filled.plans(candidates.NEARNESS_IN_SPACE, filled.tenant_id, *keys, [0.1] * 384, SPACE):
        assert rows_read(plan) <= 100
        assert indexes(plan) <= VECTORS
    for plan in await filled.plans(search._RELEVANT_IN_SPACE, filled.tenant_id, *five, SPACE):
        assert rows_read(plan) <= 15
        assert "chunks_pkey" in indexes(plan) <= {"chunks_pkey", "attachments_by_number", *VECTORS}


async def test_feedback_reads_the_wanted_words_of_the_candidates_alone(filled: FilledTenant) -> None:
    last = await filled.last_attachment()
    keys = ([filled.large] * 100, list(range(last - 99, last + 1)), [0] * 100)
    words = [f"word{number}" for number in range(0, VOCABULARY, 75)]

    for plan in await filled.plans(candidates.FREQUENCIES, filled.tenant_id, *keys, words):
        assert rows_read(plan) <= ALL_WORDS + len(words) * OF_A_WORD * 2  # all files that have them
        assert "postings_pkey" in indexes(plan)
        assert not {"postings", "postings_by_attachment"} & indexes(plan)


async def test_feedback_looks_common_words_up_in_the_candidates_alone(filled: FilledTenant) -> None:
    last = await filled.last_attachment()
    keys = ([filled.large] * 100, list(range(last - 99, last + 1)), [0] * 100)
    words = [f"word{number}" for number in range(1, VOCABULARY, 75)]
    await filled.make_common(words)

    for plan in await filled.plans(candidates.FREQUENCIES, filled.tenant_id, *keys, words):
        assert rows_read(plan) <= ALL_WORDS + 100 * WORDS_PER_CHUNK * len(words) / VOCABULARY * 4
        assert "postings_pkey" in indexes(plan)
        assert not {"postings", "postings_by_attachment"} & indexes(plan)


async def test_known_vectors_are_read_by_their_fingerprints(filled: FilledTenant) -> None:
    unknown = [bytes([number]) * 32 for number in range(100)]

    assert await filled.rows_read(ingestion.KNOWN_VECTORS, filled.tenant_id, unknown) == 0


async def test_a_page_of_a_stores_files_is_read_alone(filled: FilledTenant) -> None:
    for store in (filled.large, filled.small):
        for state in (None, "completed", "failed"):
            values = (filled.tenant_id, store, None, state, 10)
            assert await filled.rows_read(vector_stores._LIST_ATTACHMENTS, *values) <= 10


async def test_a_page_of_stores_reads_each_file_at_most_once(filled: FilledTenant) -> None:
    read = await filled.rows_read(vector_stores._LIST, filled.tenant_id, "", 21)

    assert read <= ALL_FILES + 2 * (OTHERS + 4)  # the files, and the stores


async def test_a_page_of_a_migration_reads_its_chunks_alone(filled: FilledTenant) -> None:
    store = (filled.tenant_id, filled.large)
    page = (filled.tenant_id, filled.large, SPACE, await filled.last_attachment() - 100, 0, 50)

    # Each chunk, its file and its vector.
    assert await filled.rows_read(migrations.CHUNKS, *page) <= 50 * 3
    # Each file of the store twice, and each vector once.
    assert await filled.rows_read(COUNTS, *store, SPACE) <= 2 * ALL_FILES + LARGE + SMALL + 2 * ELSEWHERE
    # Under a lock: the vectors of the files that may have changed alone.
    assert (
        await filled.rows_read(migrations.COUNTS_OF_FILES, *store, SPACE, page[3] + 98, [page[3]]) <= 2 * ALL_FILES + 9
    )
    cleared = (*store, *page[3:5], 50)
    assert await filled.rows_read(migrations._CLEAR_FIRST_SPACE, *cleared) <= 150
    assert await filled.rows_read(migrations._DELETE_SPACE, *cleared, SPACE) <= 150


async def test_files_that_are_claimed_and_finished_together_are_read_alone(filled: FilledTenant) -> None:
    last = await filled.last_attachment()
    numbers = [last - 2, last - 1, last]

    stores = [filled.large] * 3
    claims = finished.ATTACHMENTS._claim_some
    assert await filled.rows_read(claims, timedelta(seconds=30), [filled.tenant_id] * 3, stores, ["a", "b", "c"]) <= 12
    assert await filled.rows_read(finished._LOCK_ATTACHMENTS, filled.tenant_id, numbers, [0, 0, 0]) <= 9
    assert await filled.rows_read(finished._FILES, filled.tenant_id, stores, ["a", "b", "c"]) <= 12
    indexed = (filled.tenant_id, filled.large, [0, last + 1, last + 2], ["", "", "german"])
    assert await filled.rows_read(finished._INDEX_KEYWORDS, *indexed) <= 12


async def test_one_file_is_indexed_and_deleted_alone(filled: FilledTenant) -> None:
    key = (filled.tenant_id, filled.large, await filled.last_attachment())

    assert await filled.rows_read(ingestion.INDEX_KEYWORDS, *key, 1, 1_000) == 0
    assert await filled.rows_read(deletions._DELETE_CHUNKS, *key, 1_000) <= 4
    assert await filled.rows_read(deletions._DELETE_POSTINGS, *key) <= 40
    assert await filled.rows_read(deletions._DELETE_VECTORS, filled.tenant_id, key[2], 1_000) <= 4
