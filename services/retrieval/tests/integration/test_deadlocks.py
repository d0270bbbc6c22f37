"""All writers of a tenant at once, in random groups: none is ended by Postgres, and nothing is orphaned or miscounted.

`test_lock_order` shows why. `DEADLOCK_ROUNDS` sets how many groups run (60).
"""

from __future__ import annotations

import asyncio
import os
import random
from typing import Any

import pytest
from chassis.errors import ArgosyError, Unavailable
from chassis.ids import new_id
from chassis.kafka import Outbox
from chassis.postgres import Database
from chassis.settings import PostgresSection
from retrieval.ingestion.model import ClaimLost, SpacesChanged

from services.retrieval.tests.concurrent_world import OPERATIONS, World, a_world
from services.retrieval.tests.integration.conftest import postgres_ports
from services.retrieval.tests.tenants import Tenant

ROUNDS = int(os.environ.get("DEADLOCK_ROUNDS", "60"))
AT_ONCE = 7
"""One less than the connections of the pool."""
NAME = "deadlocks"
# Rows of an attachment that is neither there nor about to be deleted, and counts that are not those of the files.
ORPHANS = """
WITH known AS (
    SELECT attachment FROM attachments UNION SELECT attachment FROM deletions WHERE attachment IS NOT NULL
)
SELECT (SELECT count(*) FROM chunks WHERE attachment NOT IN (SELECT attachment FROM known)) AS chunks,
       (SELECT count(*) FROM postings WHERE attachment NOT IN (SELECT attachment FROM known)) AS postings,
       (SELECT count(*) FROM chunk_vectors WHERE attachment NOT IN (SELECT attachment FROM known)) AS vectors,
       (SELECT count(*) FROM attachments a WHERE NOT EXISTS (
            SELECT FROM vector_stores s WHERE s.vector_store_id = a.vector_store_id)) AS attachments,
       (SELECT count(*) FROM store_migrations m WHERE NOT EXISTS (
            SELECT FROM vector_stores s WHERE s.vector_store_id = m.vector_store_id)) AS migrations,
       (SELECT coalesce(sum(chunks), 0) FROM store_counts)
       - (SELECT coalesce(sum(chunks), 0) FROM attachments WHERE state = 'completed') AS miscounted
"""


async def deadlocks(section: PostgresSection) -> int:
    """How many Postgres has counted; a backend reports its own at its end."""
    async with Database(section, "reader") as database:
        while True:
            async with database.system() as connection:
                if not await connection.fetchval(
                    "SELECT count(*) FROM pg_stat_activity WHERE application_name = $1", NAME
                ):
                    count: int = await connection.fetchval(
                        "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
                    )
                    return count
            await asyncio.sleep(0.01)


async def refused(running: Any) -> str:
    """Why an operation did not end as it should; empty where it did, or what it works on is gone."""
    try:
        await running
    except Unavailable as error:
        return str(error)
    except (ArgosyError, ClaimLost, SpacesChanged):
        pass
    return ""


async def orphans(world: World) -> dict[str, int]:
    async with world.database.tenant(world.id) as connection:
        row = await connection.fetchrow(ORPHANS)
    return {kind: int(count) for kind, count in row.items() if count}


@pytest.mark.parametrize("seed", range(2))
async def test_writers_at_once_do_not_deadlock_and_leave_nothing_behind(seed: int, section: PostgresSection) -> None:
    chosen, before, wrong = random.Random(seed), await deadlocks(section), []
    async with Database(section, NAME) as database:
        ports = postgres_ports(database, Outbox())
        for _ in range(ROUNDS // 2):
            world = await a_world(Tenant(ports, new_id("ten_")), database)
            names = chosen.choices(list(OPERATIONS), k=AT_ONCE)
            ends = await asyncio.gather(*(refused(OPERATIONS[name](world)) for name in names))
            if any(ends) or await orphans(world):
                wrong.append((names, ends, await orphans(world)))

    assert wrong == []
    assert await deadlocks(section) == before
