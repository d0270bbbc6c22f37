"""Filtered vector searches on a filled table: what they find, compared with all distances, and what they read."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import retrieval
from chassis.ids import new_id
from chassis.postgres import Database
from chassis.settings import PostgresSection
from chassis.testing.postgres import scratch_database
from pydantic import SecretStr
from retrieval.embeddings.model import floats_to_vector
from retrieval.search import filtered, postgres
from retrieval.search.conditions import to_condition
from retrieval.search.filtered import FilteredVectorSearch
from retrieval.search.indexes_postgres import index_statements
from retrieval.search.postgres import (
    _HIDDEN_ATTACHMENTS,
    _PLANNER_SETTINGS,
    _VECTOR_SEARCH_IN_STORE,
    PostgresSearchIndex,
    keyword_search_sql,
)
from values.attributes import Filter, to_filter

from services.retrieval.tests.filled_tables import ANALYZE, VOCABULARY, WORDS_PER_CHUNK, fill_store

MIGRATIONS = Path(retrieval.__file__).parent / "migrations"
FILES, ELSEWHERE = 4_000, 1_000
LIMIT = 10
# Of a thousand files one has 0, ten have at most 9, and so on.
BY_SELECTIVITY = {0.001: 1, 0.01: 10, 0.2: 200}
_BRUTE_FORCE = """
SELECT c.attachment FROM chunks c JOIN attachments a USING (tenant_id, attachment)
WHERE c.tenant_id = $1 AND c.vector_store_id = $2 AND (a.attributes ->> 'place')::integer < $3
ORDER BY (c.embedding <=> $4::real[]::halfvec) + 0, c.attachment LIMIT $5
"""
_HIDE_NEAREST = """
UPDATE attachments SET state = 'in_progress' WHERE tenant_id = $1 AND attachment IN (
    SELECT attachment FROM chunks WHERE tenant_id = $1 AND vector_store_id = $2
    ORDER BY (embedding <=> $3::real[]::halfvec) + 0 LIMIT $4)
"""


def below(place: int) -> Filter:
    return to_filter({"type": "lt", "key": "place", "value": place})


def a_query(seed: int) -> list[float]:
    dice = random.Random(seed)
    return [dice.random() - 0.5 for _ in range(384)]


@pytest.fixture(scope="module")
def section() -> Iterator[tuple[PostgresSection, str, str]]:
    with asyncio.Runner() as runner:
        scratch = scratch_database(MIGRATIONS, "retrieval", extensions=("vector",), pool_size=2)
        section = runner.run(scratch.__aenter__())
        yield section, *runner.run(_fill(section))
        runner.run(scratch.__aexit__(None, None, None))


async def _fill(section: PostgresSection) -> tuple[str, str]:
    """A store with an HNSW index, whose files have a place from 0 to 999, among others."""
    assert section.owner_dsn is not None
    owner: Any = await asyncpg.connect(
        section.owner_dsn.get_secret_value(), server_settings={"argosy.tenant": "*", "search_path": "retrieval,public"}
    )
    tenant_id = new_id("ten_")
    await fill_store(owner, new_id("ten_"), ELSEWHERE)
    store = await fill_store(owner, tenant_id, FILES)
    await fill_store(owner, tenant_id, ELSEWHERE)
    await owner.execute(
        "UPDATE attachments SET attributes = jsonb_build_object('place', attachment % 1000) WHERE vector_store_id = $1",
        store,
    )
    async with Database(section, "retrieval") as database:
        proposed = [statement async for statement in index_statements(database, FILES - 1)]
    for statement in proposed:
        await owner.execute(statement)
    await owner.execute(ANALYZE)
    await owner.close()
    return tenant_id, store


class Filled:
    def __init__(self, database: Database, tenant_id: str, store: str) -> None:
        self.database = database
        self.tenant_id = tenant_id
        self.store = store

    async def exact(self, place: int, query: list[float]) -> list[int]:
        async with self.database.tenant(self.tenant_id) as connection:
            rows = await connection.fetch(_BRUTE_FORCE, self.tenant_id, self.store, place, query, LIMIT)
        return [row["attachment"] for row in rows]

    async def found(self, place: int, query: list[float], max_exact_chunks: int) -> list[int]:
        async with self.database.tenant(self.tenant_id) as connection:
            await connection.fetch(_PLANNER_SETTINGS, self.tenant_id, [self.store])
            search = FilteredVectorSearch(connection, self.tenant_id, [self.store], below(place), max_exact_chunks)
            return [row["attachment"] for row in await search.vector_search(floats_to_vector(query), LIMIT)]

    async def plan(self, statement: str, *values: object) -> dict[str, Any]:
        async with self.database.tenant(self.tenant_id) as connection:
            await connection.fetch(_PLANNER_SETTINGS, self.tenant_id, [self.store])
            rows = await connection.fetch(f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}", *values)
        plan: dict[str, Any] = json.loads(rows[0][0])[0]["Plan"]
        return plan


@pytest.fixture
async def filled(section: tuple[PostgresSection, str, str]) -> AsyncIterator[Filled]:
    settings, tenant_id, store = section
    async with Database(settings, "retrieval") as database:
        yield Filled(database, tenant_id, store)


def scans(plan: dict[str, Any], table: str) -> list[dict[str, Any]]:
    own = [plan] if plan.get("Relation Name") == table else []
    return own + [scan for child in plan.get("Plans", ()) for scan in scans(child, table)]


@pytest.mark.parametrize("max_exact_chunks", [20_000, 0], ids=["few", "many"])
@pytest.mark.parametrize("selectivity", BY_SELECTIVITY)
async def test_the_nearest_of_the_allowed_chunks_are_found(
    filled: Filled, selectivity: float, max_exact_chunks: int
) -> None:
    place, hits, wanted = BY_SELECTIVITY[selectivity], 0, 0

    for seed in range(20):
        query = a_query(seed)
        exact = await filled.exact(place, query)
        found = await filled.found(place, query, max_exact_chunks)
        assert len(found) == len(exact) == min(LIMIT, FILES * place // 1000)
        hits, wanted = hits + len(set(found) & set(exact)), wanted + len(exact)

    # All of few are compared. Of many, an index may have found the nearest.
    assert hits / wanted >= (0.95 if max_exact_chunks == 0 else 1.0)


async def test_few_allowed_chunks_are_read_alone(filled: Filled) -> None:
    condition, values = to_condition(below(10), 3)
    async with filled.database.tenant(filled.tenant_id) as connection:
        rows = await connection.fetch(
            filtered._ALLOWED_ATTACHMENTS.format(condition=condition), filled.tenant_id, [filled.store], *values
        )
    attachments = [row["attachment"] for row in rows]

    plan = await filled.plan(
        filtered.SEARCH_ATTACHMENTS.format(vectors="chunks"),
        filled.tenant_id,
        [filled.store] * 40,
        attachments,
        a_query(1),
        LIMIT,
    )

    [scan] = scans(plan, "chunks")
    assert (scan["Index Name"], scan["Actual Loops"], scan["Actual Rows"]) == ("chunks_pkey", 40, 1)
    assert "Rows Removed by Filter" not in scan or scan["Rows Removed by Filter"] == 0


async def test_many_allowed_chunks_are_found_by_the_index_until_there_are_enough(filled: Filled) -> None:
    condition, values = to_condition(below(200), 6)
    arguments = (filled.tenant_id, [filled.store], a_query(1), LIMIT, filled.store, *values)
    statement = filtered.search_stores_sql(["chunks"], condition, exactly=False)

    plan = await filled.plan(statement, *arguments)
    exact = await filled.plan(filtered.search_stores_sql(["chunks"], condition, exactly=True), *arguments)

    [scan], [other] = scans(plan, "chunks"), scans(exact, "chunks")
    assert scan["Index Name"].startswith("chunks_hnsw_")
    assert scan["Actual Rows"] == LIMIT
    assert not other.get("Index Name", "").startswith("chunks_hnsw_")


async def test_the_index_of_a_store_is_used_though_its_tenant_is_taken_for_a_small_one(filled: Filled) -> None:
    branch = _VECTOR_SEARCH_IN_STORE.format(parameter=5, vectors="chunks", exactly="")
    statement = f"WITH hidden AS MATERIALIZED ({_HIDDEN_ATTACHMENTS}) {branch}"

    plan = await filled.plan(statement, filled.tenant_id, [filled.store], a_query(1), LIMIT, filled.store)

    [scan] = scans(plan, "chunks")
    assert scan["Index Name"].startswith("chunks_hnsw_")
    assert scan["Actual Rows"] == LIMIT


async def test_the_index_finds_what_a_comparison_of_all_vectors_finds(filled: Filled) -> None:
    index, hits = PostgresSearchIndex(filled.database), 0

    for seed in range(20):
        found = await index.vector_search(filled.tenant_id, [filled.store], floats_to_vector(a_query(seed)), LIMIT)
        hits += len({key.attachment for key in found} & set(await filled.exact(1_000, a_query(seed))))

    assert hits >= 0.95 * 20 * LIMIT


async def test_chunks_are_found_where_the_index_gives_up_among_those_that_are_hidden(
    filled: Filled, section: tuple[PostgresSection, str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    dsn = section[0].dsn.get_secret_value()
    early = f"{dsn}{'&' if '?' in dsn else '?'}hnsw.max_scan_tuples=1"
    query, tenant_id, store = a_query(3), filled.tenant_id, filled.store
    async with filled.database.tenant(tenant_id) as connection:
        await connection.execute(_HIDE_NEAREST, tenant_id, store, query, FILES - 20)
    try:
        async with Database(section[0].model_copy(update={"dsn": SecretStr(early)}), "retrieval") as database:
            index = PostgresSearchIndex(database)
            monkeypatch.setattr(postgres, "_PLANNER_SETTINGS", _PLANNER_SETTINGS.replace("'400'", "'10'"))
            found = await index.vector_search(tenant_id, [store], floats_to_vector(query), LIMIT, chunks=20)
    finally:
        async with filled.database.tenant(tenant_id) as connection:
            await connection.execute("UPDATE attachments SET state = 'completed' WHERE vector_store_id = $1", store)
    assert len(found) == LIMIT


async def test_a_filtered_keyword_search_reads_the_postings_of_its_words_once(filled: Filled) -> None:
    statement, values = keyword_search_sql(below(200))

    plan = await filled.plan(statement, filled.tenant_id, [filled.store], "word7 word8 word9", 100, *values)

    [postings] = scans(plan, "postings")
    assert postings["Actual Loops"] == 3  # once for each word
    assert (
        postings["Actual Rows"] + postings.get("Rows Removed by Filter", 0) <= FILES * WORDS_PER_CHUNK / VOCABULARY * 2
    )
    assert [scan["Actual Loops"] for scan in scans(plan, "attachments")] == [1]


async def test_a_search_compares_all_chunks_of_the_few_files_that_are_allowed(filled: Filled) -> None:
    index, query = PostgresSearchIndex(filled.database), a_query(3)

    found = await index.vector_search(filled.tenant_id, [filled.store], floats_to_vector(query), LIMIT, below(10))

    assert [key.attachment for key in found] == await filled.exact(10, query)
    assert (await index.contents(filled.tenant_id, [filled.store], below(10))).chunks == FILES // 100
