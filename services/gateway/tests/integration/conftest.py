"""The schema identity on a real Postgres: one database for a test session, tenants of its own for each test."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import gateway
import pytest
from chassis.postgres import Database
from chassis.settings import PostgresSection
from chassis.testing.postgres import scratch_database
from gateway.api_keys.postgres import PostgresApiKeys
from gateway.audit.postgres import PostgresAuditLog
from gateway.projects.postgres import PostgresProjects
from gateway.tenants.postgres import PostgresTenants, select_tenant

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


class PostgresIdentityStore(PostgresTenants, PostgresProjects, PostgresApiKeys, PostgresAuditLog):
    """All stores in one, as the contract wants them."""

    def __init__(self, database: Database) -> None:
        PostgresAuditLog.__init__(self, database, select_tenant)


@pytest.fixture
def store(database: Database) -> PostgresIdentityStore:
    return PostgresIdentityStore(database)
