"""The orchestrator's schema on a real Postgres: one database for a session, empty for each test."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import asyncpg
import orchestrator
import pytest
from chassis.postgres import Database
from chassis.settings import PostgresSection
from chassis.testing.postgres import scratch_database

MIGRATIONS = Path(orchestrator.__file__).parent / "migrations"


@pytest.fixture(scope="session")
def section() -> Iterator[PostgresSection]:
    with asyncio.Runner() as runner:
        scratch = scratch_database(MIGRATIONS, "orchestration", "orchestrator")
        yield runner.run(scratch.__aenter__())
        runner.run(scratch.__aexit__(None, None, None))


@pytest.fixture
async def owner(section: PostgresSection) -> AsyncIterator[Any]:
    """The owner's connection, which sees all tenants. It takes away what the test made."""
    assert section.owner_dsn is not None
    connection = await asyncpg.connect(section.owner_dsn.get_secret_value(), server_settings={"argosy.tenant": "*"})
    yield connection
    await connection.execute("DELETE FROM outbox; DELETE FROM routes WHERE tenant_id <> '*'")
    await connection.close()


@pytest.fixture
async def database(section: PostgresSection, owner: Any) -> AsyncIterator[Database]:
    async with Database(section, "orchestrator") as database:
        yield database
