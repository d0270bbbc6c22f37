"""Stores in a real Postgres: one database per test session, tenants of its own for each test."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import metering
import pytest
from chassis.postgres import Database
from chassis.settings import PostgresSection
from chassis.testing.postgres import scratch_database
from metering.budgets.postgres import PostgresBudgetStore
from metering.exposures.postgres import PostgresExposureStore
from metering.ledger.postgres import PostgresLedgerAudit
from metering.prices.postgres import PostgresPriceBook
from metering.reservations.postgres import PostgresReservationStore
from metering.settlement.postgres import PostgresSettlementStore
from metering.usage.postgres import PostgresUsageStore

from services.metering.tests.fakes import DEFAULT_CAP, Stores

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
async def stores(database: Database) -> Stores:
    return stores_in(database)


@pytest.fixture
async def other_stores(section: PostgresSection) -> AsyncIterator[Stores]:
    """The stores of another replica, over the same database."""
    async with Database(section, "metering") as database:
        yield stores_in(database)


def stores_in(database: Database) -> Stores:
    settlements = PostgresSettlementStore(database, DEFAULT_CAP)
    reservations = PostgresReservationStore(database, DEFAULT_CAP, max_batch=64)
    return Stores(
        reservations=reservations,
        hits=reservations,
        attempts=reservations,
        settlements=settlements,
        leases=reservations,
        ledger=PostgresLedgerAudit(database),
        budgets=PostgresBudgetStore(database, DEFAULT_CAP),
        usage=PostgresUsageStore(database),
        exposures=PostgresExposureStore(database, DEFAULT_CAP),
        price_book=PostgresPriceBook(database),
    )
