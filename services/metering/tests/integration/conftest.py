"""The books on a real Postgres: one database for a test session, tenants of its own for each test."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import metering
import pytest
from chassis.postgres import Database
from chassis.settings import PostgresSection
from chassis.testing.postgres import scratch_database
from metering.adapters.budgets import PostgresBudgets
from metering.adapters.ledger import PostgresLedger
from metering.adapters.prices import PostgresPriceBook
from metering.adapters.reservations import PostgresReservations
from metering.adapters.usage import PostgresUsageReports

from services.metering.tests.fakes import DEFAULT_CAP, Books

MIGRATIONS = Path(metering.__file__).parent / "migrations"


@pytest.fixture(scope="session")
def section() -> Iterator[PostgresSection]:
    with asyncio.Runner() as runner:
        scratch = scratch_database(MIGRATIONS, "metering", pool_size=8)
        yield runner.run(scratch.__aenter__())
        runner.run(scratch.__aexit__(None, None, None))


@pytest.fixture
async def database(section: PostgresSection) -> AsyncIterator[Database]:
    async with Database(section, "metering") as database:
        yield database


@pytest.fixture
async def books(database: Database) -> Books:
    return books_in(database)


@pytest.fixture
async def other_books(section: PostgresSection) -> AsyncIterator[Books]:
    """The same books, as another replica has them."""
    async with Database(section, "metering") as database:
        yield books_in(database)


def books_in(database: Database) -> Books:
    return Books(
        PostgresReservations(database, DEFAULT_CAP, max_batch=64),
        PostgresLedger(database, DEFAULT_CAP),
        PostgresBudgets(database, DEFAULT_CAP),
        PostgresUsageReports(database),
        PostgresPriceBook(database),
    )
