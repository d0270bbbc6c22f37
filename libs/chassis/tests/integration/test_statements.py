"""Single statements over all tenants on a real Postgres."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import asyncpg
import pytest
import pytest_asyncio
from chassis.errors import Unavailable
from chassis.postgres import Database, database, statements
from chassis.settings import PostgresSection
from chassis.testing import free_port
from chassis.testing.network import TcpProxy
from chassis.testing.postgres import scratch_database, superuser_dsn
from pydantic import SecretStr

NOTES = """
CREATE TABLE notes (tenant_id text NOT NULL, id text NOT NULL, PRIMARY KEY (tenant_id, id));
ALTER TABLE notes ENABLE ROW LEVEL SECURITY;
ALTER TABLE notes FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON notes
    USING (tenant_id = current_setting('argosy.tenant', true) OR current_setting('argosy.tenant', true) = '*')
    WITH CHECK (tenant_id = current_setting('argosy.tenant', true) OR current_setting('argosy.tenant', true) = '*');
"""
ADD = "INSERT INTO notes SELECT 'ten_' || id, id FROM unnest($1::text[]) AS id RETURNING id"
IDS = "SELECT id FROM notes ORDER BY id"
SLEEP = "SELECT pg_sleep(30)"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def section(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[PostgresSection]:
    folder = tmp_path_factory.mktemp("migrations")
    (folder / "0001_notes.sql").write_text(NOTES)
    async with scratch_database(folder, "chassis_test", pool_size=2) as section:
        yield section


@pytest.fixture
async def db(section: PostgresSection) -> AsyncIterator[Database]:
    async with Database(section, "notes") as db:
        yield db
        await db.system().fetch("DELETE FROM notes")


async def ids(db: Database) -> list[str]:
    return [row["id"] for row in await db.system().fetch(IDS)]


async def count_connections(section: PostgresSection, condition: str = "true") -> int:
    admin = await asyncpg.connect(superuser_dsn())
    try:
        name = section.dsn.get_secret_value().rpartition("/")[2]
        query = f"SELECT count(*) FROM pg_stat_activity WHERE datname = $1 AND {condition}"
        found: int = await admin.fetchval(query, name)
    finally:
        await admin.close()
    return found


async def until_sleeping(section: PostgresSection, statements: int) -> None:
    """Wait until the server runs this many statements that sleep."""
    async with asyncio.timeout(30):
        while await count_connections(section, f"state = 'active' AND query = '{SLEEP}'") < statements:
            await asyncio.sleep(0.01)


async def terminate(section: PostgresSection) -> None:
    admin = await asyncpg.connect(superuser_dsn())
    try:
        name = section.dsn.get_secret_value().rpartition("/")[2]
        await admin.fetch("SELECT pg_terminate_backend(pid, 1000) FROM pg_stat_activity WHERE datname = $1", name)
    finally:
        await admin.close()


async def test_a_statement_is_committed_and_sees_every_tenant(db: Database) -> None:
    assert [tuple(row) for row in await db.system().fetch(ADD, ["a", "b"])] == [("a",), ("b",)]

    assert await ids(db) == ["a", "b"]
    async with db.tenant("ten_a") as connection:
        assert await connection.fetchval("SELECT string_agg(id, ',') FROM notes") == "a"


async def test_a_statement_is_parsed_once(db: Database) -> None:
    for _ in range(4):
        await ids(db)

    kept = await db.system().fetch("SELECT statement, generic_plans + custom_plans AS runs FROM pg_prepared_statements")
    assert ("SELECT id FROM notes ORDER BY id", 4) in [tuple(row) for row in kept]


async def test_a_statement_that_fails_changes_nothing_and_keeps_its_connection(
    db: Database, section: PostgresSection
) -> None:
    for _ in range(3):
        with pytest.raises(asyncpg.UniqueViolationError):
            await db.system().fetch(ADD, ["a", "b", "a"])

    assert await ids(db) == []
    assert await count_connections(section) == 1


async def test_an_argument_that_is_wrong_is_no_reason_to_try_again(db: Database, section: PostgresSection) -> None:
    with pytest.raises(asyncpg.DataError):
        await db.system().fetch(ADD, [1])

    assert await ids(db) == []
    assert await count_connections(section) == 1


async def test_there_are_no_more_connections_than_the_pool_may_have(
    db: Database, section: PostgresSection, monkeypatch: pytest.MonkeyPatch
) -> None:
    sleeping = [asyncio.create_task(db.system().fetch(SLEEP)) for _ in range(5)]
    await until_sleeping(section, 2)
    assert await count_connections(section) == 2
    with monkeypatch.context() as hurried:
        hurried.setattr(statements, "ACQUIRE_TIMEOUT_SECONDS", 0.02)
        with pytest.raises(Unavailable):
            await ids(db)
    for task in sleeping:
        task.cancel()
    await asyncio.gather(*sleeping, return_exceptions=True)
    assert await ids(db) == []


async def test_lost_idle_connections_are_replaced(db: Database, section: PostgresSection) -> None:
    await asyncio.gather(ids(db), ids(db))
    await terminate(section)
    assert isinstance(db._statements, statements.Statements)
    async with asyncio.timeout(30):
        while not all(line.connection.is_closed() for line in db._statements._free):
            await asyncio.sleep(0.01)

    assert await ids(db) == []


async def test_a_connection_that_dies_under_its_statement_is_unavailable(
    db: Database, section: PostgresSection
) -> None:
    sleeping = asyncio.create_task(db.system().fetch(SLEEP))
    await until_sleeping(section, 1)
    await terminate(section)

    with pytest.raises(Unavailable, match="the database of notes does not answer"):
        await sleeping
    assert await ids(db) == []


async def test_a_cancelled_caller_s_connection_is_not_used_again(db: Database, section: PostgresSection) -> None:
    for _ in range(3):
        sleeping = asyncio.create_task(db.system().fetch(SLEEP))
        await until_sleeping(section, 1)
        sleeping.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sleeping
        assert isinstance(db._statements, statements.Statements)
        assert db._statements._free == []
    assert await ids(db) == []
    assert not await db.system().fetch("SELECT FROM pg_stat_activity WHERE query = $1 AND state = 'active'", SLEEP)


async def test_an_unresponsive_server_is_unavailable(section: PostgresSection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "CONNECT_TIMEOUT_SECONDS", 2)
    monkeypatch.setattr(database, "CLIENT_TIMEOUT_SECONDS", 2)
    dsn = section.dsn.get_secret_value()
    port = urlsplit(dsn).port or 5432
    async with TcpProxy(port) as wire:
        far = PostgresSection(dsn=SecretStr(dsn.replace(f":{port}/", f":{wire.port}/")), pool_size=2)
        async with Database(far, "notes") as db:
            await ids(db)
            wire.freeze()
            for _ in range(2):
                with pytest.raises(Unavailable):
                    await ids(db)
            await wire.mend()
            assert await ids(db) == []


async def test_a_server_that_is_down_is_unavailable(section: PostgresSection) -> None:
    nowhere = PostgresSection(dsn=SecretStr(f"postgresql://a:b@127.0.0.1:{free_port()}/c"))
    async with Database(nowhere, "notes") as db:
        with pytest.raises(Unavailable):
            await ids(db)


async def test_nothing_stays_connected_when_the_database_is_closed(section: PostgresSection) -> None:
    async with Database(section, "notes") as db:
        await ids(db)
    async with asyncio.timeout(30):
        while await count_connections(section):
            await asyncio.sleep(0.01)
