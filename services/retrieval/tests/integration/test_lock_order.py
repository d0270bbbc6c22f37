"""No operation holds a lock that comes after the one for which it waits, in the order of ADR 55.

Each operation runs while a probe holds one row, or the lock of quotas. Where the operation waits for the probe, all
that comes later in the order must be free. Without such a pair no two operations can wait for each other.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

import pytest
from chassis.errors import ArgosyError
from chassis.ids import new_id
from chassis.postgres import Database
from retrieval.ingestion.model import ClaimLost

from services.retrieval.tests.concurrent_world import OPERATIONS, Operation, World, a_world
from services.retrieval.tests.tenants import Ports, Tenant

TRY_QUOTA = "SELECT pg_try_advisory_xact_lock(hashtextextended('storage_quota ' || $1, 0))"
ORDER = {
    "vector_stores": "vector_store_id",
    "file_batches": "batch_id",
    "store_migrations": "migration_id",
    "files": "file_id",
    "attachments": "attachment",
    "store_counts": "vector_store_id",
    "lexeme_counts": "vector_store_id",
}
"""Tables in the order in which their rows are locked, each by this column. The lock of quotas comes before them."""
Place = tuple[int, Any]
"""A table's place in the order, and the row's key."""
QUOTA_LOCK: Place = (-1, "")


async def rows(connection: Any, lock: str = "") -> list[Place]:
    """Where the tenant's rows are in the order; with SKIP LOCKED, those that are free."""
    found: list[Place] = []
    for number, (table, column) in enumerate(ORDER.items()):
        keys = await connection.fetch(f"SELECT {column} AS key FROM {table} ORDER BY 1 {lock}")
        found += sorted({(number, row["key"]) for row in keys})
    return found


async def hold(connection: Any, tenant_id: str, place: Place) -> None:
    if place == QUOTA_LOCK:
        assert await connection.fetchval(TRY_QUOTA, tenant_id)
    else:
        table, column = list(ORDER.items())[place[0]]
        await connection.execute(f"SELECT FROM {table} WHERE {column} = $1 FOR UPDATE", place[1])


async def ended(running: asyncio.Task[Any]) -> None:
    """Wait for the end; an operation may find that what it works on is gone."""
    with suppress(ArgosyError, ClaimLost, asyncio.CancelledError):
        await running


async def waits_for(connection: Any, pid: int, running: asyncio.Task[Any]) -> bool:
    """Whether the operation waits for this backend, as soon as it does or ends."""
    while not running.done():
        if await connection.fetchval(
            "SELECT count(*) FROM pg_locks WHERE NOT granted AND $1 = ANY(pg_blocking_pids(pid))", pid
        ):
            return True
        await asyncio.sleep(0.001)
    return False


async def held_while_waiting(
    database: Database, world: World, operation: Operation, places: list[Place]
) -> list[Place] | None:
    """What the operation holds while it waits for one of these places, and None where it does not wait.

    One that waits is cancelled: the world is as it was.
    """
    async with database.tenant(world.id) as probe, database.tenant(world.id) as other:
        for place in places:
            await hold(probe, world.id, place)
        running = asyncio.ensure_future(operation(world))
        waiting = await waits_for(other, probe.get_server_pid(), running)
        if waiting:
            free = set(await rows(other, "FOR UPDATE SKIP LOCKED"))
            running.cancel()
        await ended(running)
        return [place for place in await rows(other) if place not in free] if waiting else None


async def places_of(database: Database, world: World, table: int) -> list[Place]:
    if table == QUOTA_LOCK[0]:
        return [QUOTA_LOCK]
    async with database.tenant(world.id) as connection:
        return [place for place in await rows(connection) if place[0] == table]


@pytest.mark.parametrize("name", OPERATIONS)
async def test_what_an_operation_holds_comes_before_what_it_waits_for(
    name: str, ports: Ports, database: Database
) -> None:
    world, operation, wrong = await a_world(Tenant(ports, new_id("ten_")), database), OPERATIONS[name], []
    for table in range(-1, len(ORDER)):
        held = await held_while_waiting(database, world, operation, await places_of(database, world, table))
        # Each row only where it waits for any of the table.
        count = 0 if held is None else len(await places_of(database, world, table))
        for number in range(count):
            place = (await places_of(database, world, table))[number]
            held = await held_while_waiting(database, world, operation, [place])
            wrong += [(place, later) for later in held or () if later > place]
            if held is None:
                world = await a_world(Tenant(ports, new_id("ten_")), database)
        if not count:
            world = await a_world(Tenant(ports, new_id("ten_")), database)

    assert [(tables(place), tables(later)) for place, later in wrong] == []


def tables(place: Place) -> tuple[str, Any]:
    return ["storage_quota", *ORDER][place[0] + 1], place[1]
