"""The schema identity on a real Postgres: one database for a test session, tenants of its own for each test."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import gateway
import pytest
from chassis.postgres import Database
from chassis.settings import PostgresSection
from chassis.testing.postgres import scratch_database
from gateway.adapters.postgres import PostgresDirectory

MIGRATIONS = Path(gateway.__file__).parent / "migrations"


@pytest.fixture(scope="session")
def section() -> Iterator[PostgresSection]:
    with asyncio.Runner() as runner:
        scratch = scratch_database(MIGRATIONS, "identity", "gateway")
        yield runner.run(scratch.__aenter__())
        runner.run(scratch.__aexit__(None, None, None))


@pytest.fixture
async def database(section: PostgresSection) -> AsyncIterator[Database]:
    async with Database(section, "gateway") as database:
        yield database


@pytest.fixture
def directory(database: Database) -> PostgresDirectory:
    return PostgresDirectory(database)
