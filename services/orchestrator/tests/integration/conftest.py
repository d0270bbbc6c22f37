"""The orchestrator's schema on a real Postgres: one database per session, with the demo's routes for each test."""

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
from orchestrator.configuration.postgres import PostgresConfiguration, announce_nothing
from orchestrator.routing.postgres import PostgresRouteStore

from services.orchestrator.tests.fakes import DEMO_ENTRIES

MIGRATIONS = Path(orchestrator.__file__).parent / "migrations"


@pytest.fixture(scope="session")
def section() -> Iterator[PostgresSection]:
    with asyncio.Runner() as runner:
        scratch = scratch_database(MIGRATIONS, "orchestration", "orchestrator")
        section = runner.run(scratch.__aenter__())
        runner.run(_put_demo_routes(section))
        yield section
        runner.run(scratch.__aexit__(None, None, None))


async def _put_demo_routes(section: PostgresSection) -> None:
    async with Database(as_owner(section), "orchestrator") as database:
        store = PostgresRouteStore(database, PostgresConfiguration(database, announce_nothing))
        for entry in DEMO_ENTRIES:
            await store.put(entry)


def as_owner(section: PostgresSection) -> PostgresSection:
    return section.model_copy(update={"dsn": section.owner_dsn})


@pytest.fixture
async def owner(section: PostgresSection) -> AsyncIterator[Any]:
    """A connection as the owner, which sees all tenants. It removes what the test made."""
    assert section.owner_dsn is not None
    connection = await asyncpg.connect(section.owner_dsn.get_secret_value(), server_settings={"argosy.tenant": "*"})
    yield connection
    await connection.execute("DELETE FROM outbox; DELETE FROM routes WHERE tenant_id <> '*'")
    await connection.close()


@pytest.fixture
async def database(section: PostgresSection, owner: Any) -> AsyncIterator[Database]:
    async with Database(section, "orchestrator") as database:
        yield database


@pytest.fixture
async def editor(section: PostgresSection, owner: Any) -> AsyncIterator[PostgresRouteStore]:
    """The route store as the schema's owner opens it."""
    async with Database(as_owner(section), "orchestrator") as database:
        yield PostgresRouteStore(database, PostgresConfiguration(database, announce_nothing))
