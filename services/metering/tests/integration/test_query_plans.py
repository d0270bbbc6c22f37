"""Plans that were made while the tables were small still reach rows by key when they are large."""

from __future__ import annotations

from collections.abc import AsyncIterator

import asyncpg
import pytest
from chassis.ids import new_id
from chassis.postgres import Database
from chassis.postgres.provision import with_database
from chassis.settings import PostgresSection
from chassis.testing.postgres import scratch_database, superuser_dsn

from services.metering.tests.examples import OVER, a_hold, a_price, an_event, reported
from services.metering.tests.fakes import Books
from services.metering.tests.integration.conftest import MIGRATIONS, books_in

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
    """Books of this test's own, which are empty."""
    async with scratch_database(MIGRATIONS, "metering", pool_size=1) as section:
        yield section


async def live(books: Books) -> None:
    """Do what the service does all day."""
    tenant = new_id("ten_")
    holds = [a_hold(tenant, PRICE, 7, lease=lease) for lease in (OVER, a_hold(tenant, PRICE, 7).lease)]
    for hold in holds:
        await books.reservations.hold(hold)
        await books.reservations.hold(hold)
    await books.ledger.expire(1)
    events = [an_event(hold, reported(5)) for hold in holds]
    await books.ledger.settle(events[1:])
    await books.ledger.settle(events)


async def read(admin: asyncpg.Connection) -> dict[str, int]:
    return {row["relname"]: row["read"] for row in await admin.fetch(READ)}


async def test_what_is_done_all_day_reads_no_more_rows_when_there_are_many(section: PostgresSection) -> None:
    name = section.dsn.get_secret_value().rpartition("/")[2]
    settings = {"session_replication_role": "replica"}
    admin = await asyncpg.connect(with_database(superuser_dsn(), name), server_settings=settings)
    async with Database(section, "metering") as database:
        books = books_in(database)
        for _ in range(10):
            await live(books)
        await admin.execute(GROW)
        await admin.execute("SELECT pg_stat_force_next_flush()")
        before = await read(admin)
        for _ in range(10):
            await live(books)
    # What the two connections read is known when they are closed.
    async with Database(section, "metering") as database:
        await database.ping()
    after = await read(admin)
    await admin.close()

    assert {table: after[table] - before[table] < MANY / 4 for table in after} == dict.fromkeys(after, True), after
