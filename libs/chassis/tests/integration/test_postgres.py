"""Transactions on a real Postgres."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import pytest
import pytest_asyncio
from chassis.errors import InvalidRequest, Unavailable
from chassis.postgres import Database, database
from chassis.postgres.provision import with_database, with_user
from chassis.settings import PostgresSection
from chassis.testing import free_port
from chassis.testing.network import TcpProxy
from chassis.testing.postgres import scratch_database, superuser_dsn
from pydantic import SecretStr

NOTES = """
CREATE TABLE notes (
    tenant_id text NOT NULL,
    id text NOT NULL,
    text text NOT NULL,
    PRIMARY KEY (tenant_id, id)
);
ALTER TABLE notes ENABLE ROW LEVEL SECURITY;
ALTER TABLE notes FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON notes
    USING (tenant_id = current_setting('argosy.tenant', true) OR current_setting('argosy.tenant', true) = '*')
    WITH CHECK (tenant_id = current_setting('argosy.tenant', true) OR current_setting('argosy.tenant', true) = '*');
INSERT INTO notes VALUES ('ten_seed', 'a', 'seeded by the owner');
"""


ONE = "INSERT INTO notes VALUES ('ten_a', '1', 'x')"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "0001_notes.sql").write_text(NOTES)
    return tmp_path


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[PostgresSection]:
    folder = tmp_path_factory.mktemp("migrations")
    (folder / "0001_notes.sql").write_text(NOTES)
    async with scratch_database(folder, "chassis_test", pool_size=2) as section:
        yield section


@pytest.fixture
async def section(shared: PostgresSection) -> AsyncIterator[PostgresSection]:
    """A database that others use too, left as it was found."""
    yield shared
    async with Database(shared, "cleaner") as db, db.system() as connection:
        await connection.execute("DELETE FROM notes WHERE text <> 'seeded by the owner'")


@pytest.fixture
async def db(section: PostgresSection) -> AsyncIterator[Database]:
    async with Database(section, "notes") as db:
        yield db


@pytest.fixture
async def own(folder: Path) -> AsyncIterator[PostgresSection]:
    """A database that the test may migrate."""
    async with scratch_database(folder, "chassis_test", pool_size=2) as section:
        yield section


async def note(db: Database, tenant: str, key: str) -> None:
    async with db.tenant(tenant) as connection:
        await connection.execute("INSERT INTO notes VALUES ($1, $2, 'x')", tenant, key)


async def run(transaction: Any, *statements: str) -> None:
    async with transaction as connection:
        for statement in statements:
            await connection.execute(statement)


async def seen(transaction: Any) -> list[str]:
    async with transaction as connection:
        return [row["id"] for row in await connection.fetch("SELECT id FROM notes WHERE text = 'x' ORDER BY id")]


async def test_plans_are_generic_for_the_transactions_that_ask_for_it(section: PostgresSection) -> None:
    async with Database(section, "chassis_test") as notes:
        modes = []
        for generic_plans in (True, False, True):
            async with notes.tenant("ten_a", generic_plans=generic_plans) as connection:
                modes.append(await connection.fetchval("SHOW plan_cache_mode"))
                assert await connection.fetchval("SELECT current_setting('argosy.tenant')") == "ten_a"

    assert modes == ["force_generic_plan", "auto", "force_generic_plan"]


async def test_a_tenant_sees_and_writes_its_own_rows_only(db: Database) -> None:
    await note(db, "ten_a", "1")
    await note(db, "ten_b", "2")

    assert await seen(db.tenant("ten_a")) == ["1"]
    assert await seen(db.tenant("ten_c")) == []
    assert await seen(db.system()) == ["1", "2"]
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await run(db.tenant("ten_a"), "INSERT INTO notes VALUES ('ten_b', '3', 'x')")
    async with db.tenant("ten_a") as connection:
        assert await connection.execute("DELETE FROM notes WHERE tenant_id = 'ten_b'") == "DELETE 0"


@pytest.mark.parametrize("tenant", ["*", "", "a' OR '1'='1", "a\n", "a;b", "ten_é", "-a", "a" * 200])
async def test_a_tenant_id_that_is_none_opens_nothing(db: Database, tenant: str) -> None:
    with pytest.raises(InvalidRequest):
        async with db.tenant(tenant):
            pass


async def test_the_tenant_is_set_in_the_round_trip_that_begins(db: Database) -> None:
    printed: list[str] = []
    async with db.tenant("ten_a") as connection:
        connection._con.add_query_logger(lambda record: printed.append(record.query))
    async with db.tenant("ten_b") as connection:
        await connection.fetchval("SELECT 1")

    assert printed[0] == "COMMIT;"
    assert printed[1].startswith("BEGIN")
    assert "'ten_b'" in printed[1]
    assert printed[2:] == ["SELECT 1", "COMMIT;"]


async def test_nothing_of_a_tenant_stays_on_its_connection(section: PostgresSection) -> None:
    narrow = section.model_copy(update={"pool_size": 1})
    async with Database(narrow, "notes") as db:
        await note(db, "ten_a", "1")
        async with db._pool.acquire() as connection:
            assert await connection.fetchval("SELECT current_setting('argosy.tenant', true)") in (None, "")
            assert await connection.fetchval("SELECT count(*) FROM notes") == 0


async def fail(db: Database) -> None:
    async with db.tenant("ten_a") as connection:
        await connection.execute(ONE)
        raise ZeroDivisionError


async def test_a_block_that_raises_changes_nothing(db: Database) -> None:
    with pytest.raises(ZeroDivisionError):
        await fail(db)

    assert await seen(db.system()) == []


async def test_a_savepoint_gives_up_a_part(db: Database) -> None:
    async with db.tenant("ten_a") as connection:
        await connection.execute(ONE)
        with pytest.raises(asyncpg.UniqueViolationError):
            async with connection.transaction():
                await connection.execute(ONE)
        await connection.execute("INSERT INTO notes VALUES ('ten_a', '2', 'x')")

    assert await seen(db.system()) == ["1", "2"]


async def swallow(db: Database) -> None:
    async with db.tenant("ten_a") as connection:
        await connection.execute(ONE)
        with suppress(asyncpg.UniqueViolationError):
            await connection.execute(ONE)


async def test_a_failure_that_was_swallowed_is_no_commit(db: Database) -> None:
    with pytest.raises(asyncpg.InFailedSQLTransactionError):
        await swallow(db)

    assert await seen(db.system()) == []


async def test_the_app_owns_nothing(db: Database) -> None:
    for statement in (
        "CREATE TABLE mine (id int)",
        "ALTER TABLE notes DISABLE ROW LEVEL SECURITY",
        "DROP POLICY tenant ON notes",
        "TRUNCATE notes",
        "DELETE FROM schema_migrations",
        "SET ROLE chassis_test_owner",
        "CREATE TABLE public.mine (id int)",
    ):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            async with db.system() as connection:
                await connection.execute(statement)


async def test_lost_idle_connections_are_replaced(db: Database) -> None:
    async with db.system(), db.system():
        pass
    assert await terminate(db) == 2

    await asyncio.gather(note(db, "ten_a", "1"), note(db, "ten_a", "2"), note(db, "ten_a", "3"))

    assert await seen(db.system()) == ["1", "2", "3"]


async def die(db: Database, *, before: bool) -> None:
    async with db.tenant("ten_a") as connection:
        if before:
            await terminate(db)
        await connection.execute(ONE)
        if not before:
            await terminate(db)


async def test_a_connection_that_dies_within_a_transaction_is_unavailable(db: Database) -> None:
    with pytest.raises(Unavailable, match="the database of notes does not answer"):
        await die(db, before=True)
    with pytest.raises(Unavailable):
        await die(db, before=False)

    assert await seen(db.system()) == []


@pytest.mark.parametrize("limit", ["SET LOCAL statement_timeout = '20ms'", "SET LOCAL transaction_timeout = '20ms'"])
async def test_a_statement_that_takes_too_long_is_unavailable(db: Database, limit: str) -> None:
    with pytest.raises(Unavailable):
        await run(db.system(), limit, "SELECT pg_sleep(5)")

    await db.ping()


async def test_a_lock_that_takes_too_long_is_unavailable(db: Database) -> None:
    await note(db, "ten_a", "1")
    async with db.system() as holder:
        await holder.execute("UPDATE notes SET text = 'y'")
        with pytest.raises(Unavailable):
            await run(db.system(), "SET LOCAL lock_timeout = '20ms'", "UPDATE notes SET text = 'z'")


async def test_no_free_connection_is_unavailable(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    async with db.system(), db.system():
        with monkeypatch.context() as hurried:
            hurried.setattr(database, "ACQUIRE_TIMEOUT_SECONDS", 0.02)
            with pytest.raises(Unavailable):
                await db.ping()

    await db.ping()


async def test_a_server_that_is_full_is_unavailable(own: PostgresSection) -> None:
    dsn = own.dsn.get_secret_value()
    name = dsn.rpartition("/")[2]
    admin = await asyncpg.connect(superuser_dsn())
    try:
        await admin.execute(f'ALTER DATABASE "{name}" CONNECTION LIMIT 1')
    finally:
        await admin.close()
    async with Database(own, "notes") as db, db.system():
        with pytest.raises(Unavailable, match="TooManyConnections"):
            await db.ping()


async def test_the_database_opens_while_the_server_is_down_and_is_unavailable(section: PostgresSection) -> None:
    nowhere = PostgresSection(dsn=SecretStr(f"postgresql://a:b@127.0.0.1:{free_port()}/c"))
    dsn = section.dsn.get_secret_value()
    refused = PostgresSection(dsn=SecretStr(with_user(dsn, "chassis_test_app", "wrong")))
    no_client = PostgresSection(dsn=SecretStr(with_user(dsn, "nobody_we_know", "wrong")))
    missing = PostgresSection(dsn=SecretStr(with_database(dsn, "nothing")))
    for away in (nowhere, refused, no_client, missing):
        async with Database(away, "notes") as db:
            with pytest.raises(Unavailable):
                await db.ping()


async def freeze(wire: TcpProxy, db: Database) -> None:
    async with db.system() as connection:
        wire.freeze()
        await connection.execute("SELECT 1")


async def test_an_unresponsive_server_is_unavailable(section: PostgresSection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "CONNECT_TIMEOUT_SECONDS", 2)
    monkeypatch.setattr(database, "CLIENT_TIMEOUT_SECONDS", 2)
    monkeypatch.setattr(database, "ROLLBACK_TIMEOUT_SECONDS", 0.2)
    async with through_a_wire(section) as (wire, db):
        with pytest.raises(Unavailable):
            await freeze(wire, db)
        with pytest.raises(Unavailable):
            await db.ping()
        await wire.mend()
        await db.ping()


async def test_a_cancelled_caller_does_not_wait_for_a_silent_server(
    section: PostgresSection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "ROLLBACK_TIMEOUT_SECONDS", 0.1)
    monkeypatch.setattr(database, "CLIENT_TIMEOUT_SECONDS", 600)  # what the caller must not wait for
    async with through_a_wire(section) as (wire, db):

        async def ask(begun: asyncio.Event) -> None:
            async with db.system() as connection:
                wire.freeze()
                begun.set()
                await connection.execute("SELECT 1")

        begun = asyncio.Event()
        task = asyncio.create_task(ask(begun))
        await begun.wait()
        async with asyncio.timeout(30):
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task


async def test_a_server_that_was_cut_off_is_used_again_at_once(section: PostgresSection) -> None:
    async with through_a_wire(section) as (wire, db):
        await db.ping()
        await wire.cut()
        with pytest.raises(Unavailable):
            await db.ping()
        await wire.mend()
        await asyncio.gather(*(db.ping() for _ in range(10)))


@asynccontextmanager
async def through_a_wire(section: PostgresSection) -> AsyncIterator[tuple[TcpProxy, Database]]:
    dsn = section.dsn.get_secret_value()
    port = urlsplit(dsn).port or 5432
    async with TcpProxy(port) as wire:
        far = PostgresSection(dsn=SecretStr(dsn.replace(f":{port}/", f":{wire.port}/")), pool_size=2)
        async with Database(far, "notes") as db:
            yield wire, db


async def test_a_cancelled_statement_gives_its_connection_back(
    section: PostgresSection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "ROLLBACK_TIMEOUT_SECONDS", 0.2)
    narrow = section.model_copy(update={"pool_size": 1})
    async with Database(narrow, "notes") as db:

        async def sleep(begun: asyncio.Event) -> None:
            async with db.system() as connection:
                begun.set()
                await connection.execute("SELECT pg_sleep(30)")

        for _ in range(3):
            begun = asyncio.Event()
            task = asyncio.create_task(sleep(begun))
            await begun.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await db.ping()


async def terminate(db: Database) -> int:
    """Kill every connection of the database under test, from outside."""
    admin = await asyncpg.connect(superuser_dsn())
    try:
        killed: int = await admin.fetchval(
            "SELECT count(pg_terminate_backend(pid, 1000)) FROM pg_stat_activity WHERE datname = $1",
            db._section.dsn.get_secret_value().rpartition("/")[2],
        )
    finally:
        await admin.close()
    return killed
