"""Plans that were cached while the tables were small reach rows by key when they are large."""

from __future__ import annotations

from collections.abc import AsyncIterator

import asyncpg
import pytest
from chassis.ids import new_id
from chassis.postgres import Database
from chassis.postgres.provision import with_database
from chassis.settings import PostgresSection
from chassis.testing.postgres import scratch_database, superuser_dsn

from services.metering.tests.examples import (
    EXPIRED_LEASE,
    LONG_LEASE,
    a_price,
    a_reservation,
    an_event,
    expire_overdue,
    reported,
)
from services.metering.tests.fakes import Stores
from services.metering.tests.integration.conftest import MIGRATIONS, stores_in

MANY = 20_000
PRICE = a_price()

GROW = f"""
INSERT INTO metering.reservations (tenant_id, request_id, state, held, bounds, expires_at)
SELECT 'ten_' || n % 1000, 'req_' || n, 'settled', 7, '[]', now() FROM generate_series(1, {MANY}) AS n;
INSERT INTO metering.settlements
SELECT 'ten_' || n % 1000, 'req_' || n, 1, 'billed', 'reported', 7, 0, 'a/b', 'prc', 7, 0, 'evt'
FROM generate_series(1, {MANY}) AS n;
INSERT INTO metering.budgets SELECT 'ten_' || n, 'tenant', 'ten_' || n, 100 FROM generate_series(1000, {MANY}) AS n;
"""
READ = """
SELECT relname, coalesce(seq_tup_read, 0) + coalesce(idx_tup_fetch, 0) AS read FROM pg_stat_user_tables
WHERE relname IN ('reservations', 'budgets', 'settlements')
"""


@pytest.fixture
async def section() -> AsyncIterator[PostgresSection]:
    """An empty database of this test's own."""
    async with scratch_database(MIGRATIONS, "metering", pool_size=1) as section:
        yield section


async def run_workload(stores: Stores) -> None:
    """Reserve, repeat, expire, settle and settle late, as the service does."""
    tenant = new_id("ten_")
    reservations = [a_reservation(tenant, PRICE, 7, lease=lease) for lease in (EXPIRED_LEASE, LONG_LEASE)]
    for priced in reservations:
        await stores.reservations.reserve(priced)
        await stores.reservations.reserve(priced)
    await expire_overdue(stores, 1)
    events = [an_event(priced, reported(5)) for priced in reservations]
    await stores.settlements.settle(events[1:])
    await stores.settlements.settle(events)


async def rows_read(admin: asyncpg.Connection) -> dict[str, int]:
    return {row["relname"]: row["read"] for row in await admin.fetch(READ)}


async def test_the_workload_reads_no_more_rows_when_there_are_many(section: PostgresSection) -> None:
    name = section.dsn.get_secret_value().rpartition("/")[2]
    settings = {"session_replication_role": "replica"}
    admin = await asyncpg.connect(with_database(superuser_dsn(), name), server_settings=settings)
    async with Database(section, "metering") as database:
        stores = stores_in(database)
        for _ in range(10):
            await run_workload(stores)
        await admin.execute(GROW)
        await admin.execute("SELECT pg_stat_force_next_flush()")
        before = await rows_read(admin)
        for _ in range(10):
            await run_workload(stores)
    # The statistics are complete when the connections of both pools are closed.
    async with Database(section, "metering") as database:
        await database.ping()
    after = await rows_read(admin)
    await admin.close()

    assert {table: after[table] - before[table] < MANY / 4 for table in after} == dict.fromkeys(after, True), after
