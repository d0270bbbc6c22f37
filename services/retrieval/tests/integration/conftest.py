"""Stores on a real Postgres: one database for the test session, new tenants for each test."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from pathlib import Path

import pytest
import retrieval
from chassis.clock import SystemClock
from chassis.ids import new_id
from chassis.kafka import Outbox, ensure_topics, load_topics
from chassis.postgres import Database
from chassis.settings import KafkaConnection, PostgresSection
from chassis.tenancy import Caller, PrincipalSigner, as_caller
from chassis.testing import SECRET, a_principal
from chassis.testing.postgres import scratch_database
from retrieval.deletions.postgres import PostgresDeletionQueue
from retrieval.file_batches.postgres import PostgresFileBatches
from retrieval.files.postgres import PostgresFiles
from retrieval.ingestion.postgres import PostgresIngestionStore
from retrieval.search.postgres import PostgresSearchIndex
from retrieval.store_migrations.postgres import PostgresStoreMigrations
from retrieval.store_migrations.runs_postgres import PostgresMigrationRuns
from retrieval.vector_stores.postgres import PostgresVectorStores

from services.retrieval.tests.integration.own_service import ServiceRunner, service_runner
from services.retrieval.tests.tenants import Ports, Tenant

TOPICS = Path(__file__).parents[4] / "proto" / "topics"
MIGRATIONS = Path(retrieval.__file__).parent / "migrations"


@pytest.fixture(scope="session")
def section() -> Iterator[PostgresSection]:
    with asyncio.Runner() as runner:
        scratch = scratch_database(MIGRATIONS, "retrieval", extensions=("vector",), pool_size=8)
        yield runner.run(scratch.__aenter__())
        runner.run(scratch.__aexit__(None, None, None))


@pytest.fixture
async def database(section: PostgresSection) -> AsyncIterator[Database]:
    async with Database(section, "retrieval") as database:
        yield database


def postgres_ports(database: Database, outbox: Outbox) -> Ports:
    return Ports(
        PostgresFiles(database),
        PostgresVectorStores(database, outbox, lambda: None),
        PostgresIngestionStore(database, overdue_after=timedelta(0)),
        PostgresSearchIndex(database),
        PostgresDeletionQueue(database),
        PostgresFileBatches(database, outbox, lambda: None),
        PostgresStoreMigrations(database),
        PostgresMigrationRuns(database, overdue_after=timedelta(0)),
    )


@pytest.fixture
def ports(database: Database) -> Ports:
    return postgres_ports(database, Outbox())


@pytest.fixture
async def service(section: PostgresSection, tmp_path: Path) -> ServiceRunner:
    await ensure_topics(KafkaConnection(bootstrap=os.environ["ARGOSY_KAFKA_BOOTSTRAP"]), load_topics(TOPICS))
    return service_runner(section, tmp_path)


@pytest.fixture
def tenant_id() -> Iterator[str]:
    """The tenant of all calls of the test."""
    principal = a_principal(new_id("ten_"))
    token = PrincipalSigner(SECRET, "tests", SystemClock()).sign(principal)
    with as_caller(Caller(principal, token, new_id("req_"))):
        yield principal.tenant_id


@pytest.fixture
def one(ports: Ports) -> Tenant:
    return Tenant(ports, new_id("ten_"))


@pytest.fixture
def other(ports: Ports) -> Tenant:
    return Tenant(ports, new_id("ten_"))
