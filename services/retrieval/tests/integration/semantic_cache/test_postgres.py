"""The contract of PromptStore on Postgres, and its plans on a filled table."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta
from typing import Any

import asyncpg
import pytest
from chassis.ids import new_id
from chassis.postgres import Database
from chassis.settings import PostgresSection
from retrieval.embeddings.model import floats_to_vector
from retrieval.semantic_cache import postgres
from retrieval.semantic_cache.model import MAX_PER_PARTITION
from retrieval.semantic_cache.postgres import PostgresPromptStore

from services.retrieval.tests.contracts.cached_prompts import ONE, PromptStoreContract, a_prompt, put
from services.retrieval.tests.filled_tables import fill_prompts

ENTRIES, OTHERS = 1_000, 2_000
DAY = timedelta(days=1)


class TestPostgresPromptStore(PromptStoreContract):
    @pytest.fixture
    def prompts(self, database: Database) -> PostgresPromptStore:
        return PostgresPromptStore(database)


async def test_prompts_that_are_kept_at_once_do_not_exceed_the_bound(database: Database) -> None:
    store, tenant = PostgresPromptStore(database), new_id("ten_")

    await asyncio.gather(*(put(store, tenant, a_prompt(f"prompt {number}"), 5) for number in range(20)))

    async with database.tenant(tenant) as connection:
        assert await connection.fetchval("SELECT count(*) FROM cached_prompts") == 5


async def test_a_partition_keeps_the_prompts_that_expire_last_and_finds_all_of_them(
    database: Database, section: PostgresSection
) -> None:
    assert section.owner_dsn is not None
    owner: Any = await asyncpg.connect(
        section.owner_dsn.get_secret_value(), server_settings={"argosy.tenant": "*", "search_path": "retrieval,public"}
    )
    store, tenant = PostgresPromptStore(database), new_id("ten_")
    await fill_prompts(owner, tenant, ONE, MAX_PER_PARTITION + 500)
    await fill_prompts(owner, new_id("ten_"), ONE, 10)
    await put(store, tenant, a_prompt("new", lifetime=2 * DAY), 10_000)

    kept = await owner.fetch(
        "SELECT entry_id, embedding::real[] AS vector FROM cached_prompts WHERE tenant_id = $1 AND entry_id <> 'new'"
        " ORDER BY expires_at",
        tenant,
    )
    await owner.close()
    assert len(kept) == MAX_PER_PARTITION - 1
    recalled = 0
    for row in kept[::50]:
        near = await store.find(tenant, ONE, floats_to_vector(row["vector"]), 0.95, 1)
        recalled += [one.entry_id for one in near] == [row["entry_id"]]
    print(f"recall at 0.95 among the prompts of a full partition: {recalled} of {len(kept[::50])}")
    assert recalled == len(kept[::50])


def read(plan: dict[str, Any]) -> int:
    """The rows that the plan's scans have read."""
    own = 0
    if "Relation Name" in plan:
        own = round((plan["Actual Rows"] + plan.get("Rows Removed by Filter", 0)) * plan["Actual Loops"])
    return own + sum(map(read, plan.get("Plans", ())))


@pytest.mark.parametrize("analyzed", [False, True], ids=["no statistics", "after ANALYZE"])
async def test_a_statement_reads_the_prompts_of_its_tenant_and_partition_only(
    database: Database, section: PostgresSection, *, analyzed: bool
) -> None:
    assert section.owner_dsn is not None
    owner: Any = await asyncpg.connect(
        section.owner_dsn.get_secret_value(), server_settings={"argosy.tenant": "*", "search_path": "retrieval,public"}
    )
    tenant, partition = new_id("ten_"), new_id("").encode()[:32].ljust(32, b"0")
    await fill_prompts(owner, new_id("ten_"), ONE, OTHERS)
    await fill_prompts(owner, tenant, partition, ENTRIES)
    await fill_prompts(owner, tenant, ONE, 10)
    if analyzed:
        await owner.execute("ANALYZE cached_prompts")
    await owner.close()

    async def rows(statement: str, *values: object) -> int:
        async with database.tenant(tenant) as connection:
            transaction = connection.transaction()
            await transaction.start()
            found = await connection.fetch(f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}", *values)
            await transaction.rollback()
        return read(json.loads(found[0][0])[0]["Plan"])

    assert await rows(postgres.HAS_PROMPTS, tenant, partition) <= 1
    assert await rows(postgres.FIND, tenant, ONE, [0.1] * 384, 0.95, 4) <= 10 + 4
    assert await rows(postgres.FIND, tenant, partition, [0.1] * 384, 0.95, 4) <= ENTRIES + 4
    assert await rows(postgres.PARTITION_BOUND, tenant, ONE, 5) <= 2 * (10 + 4)
    assert await rows(postgres.BOUND, tenant, ENTRIES) <= ENTRIES + 10 + 3 * 10
