"""Behind a real PgBouncer: transactions of a tenant, and what a pooler of sessions or transactions refuses."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import asyncpg
import pytest
from chassis.errors import Unavailable
from chassis.postgres import Database, migrate, readiness_check
from chassis.postgres.migrate import PooledOwner
from chassis.settings import PostgresSection
from chassis.testing import pgbouncer as pooler
from chassis.testing.pgbouncer import pgbouncer
from chassis.testing.postgres import scratch_database, with_port
from pydantic import SecretStr

pytestmark = pytest.mark.skipif(pooler.program() is None, reason=pooler.MISSING)

PARAMETERS = "statement_timeout,lock_timeout,idle_in_transaction_session_timeout,jit,argosy.tenant,search_path,options"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "0001_notes.sql").write_text(
        "CREATE TABLE notes (tenant_id text NOT NULL, id text NOT NULL); SELECT isolate_tenants('notes');"
    )
    return tmp_path


@pytest.fixture
async def direct(folder: Path) -> AsyncIterator[PostgresSection]:
    async with scratch_database(folder, "chassis_test", pool_size=6) as section:
        yield section


@pytest.fixture
def port() -> Iterator[int]:
    with pgbouncer() as port:
        yield port


def behind(direct: PostgresSection, port: int, pooling: str) -> PostgresSection:
    dsn = SecretStr(with_port(direct.dsn.get_secret_value(), port))
    return direct.model_copy(update={"dsn": dsn, "pooling": pooling})


async def test_tenants_stay_apart_on_connections_that_the_pooler_shares(
    direct: PostgresSection, folder: Path, port: int
) -> None:
    """Twelve clients on three connections: each tenant's transactions run where another tenant's just ran."""
    async with (
        Database(behind(direct, port, "transaction"), "one") as one,
        Database(behind(direct, port, "transaction"), "two") as two,
    ):
        await readiness_check(one, folder)()

        async def use(number: int) -> tuple[str, list[str]]:
            tenant, db = f"ten_{number % 4}", (one, two)[number % 2]
            async with db.tenant(tenant) as connection:
                await connection.execute("INSERT INTO notes VALUES ($1, $2)", tenant, str(number))
                await asyncio.sleep(0)
                rows = await connection.fetch("SELECT DISTINCT tenant_id FROM notes")
            return tenant, [row["tenant_id"] for row in rows]

        for tenant, seen in await asyncio.gather(*(use(number) for number in range(60))):
            assert seen == [tenant]
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            async with one.tenant("ten_0") as connection:
                await connection.execute("INSERT INTO notes VALUES ('ten_1', 'x')")
        counts = await asyncio.gather(*(one.system().fetch("SELECT count(*) FROM notes") for _ in range(20)))
        assert {rows[0]["count"] for rows in counts} == {60}


async def test_nothing_of_a_transaction_stays_on_the_poolers_connection(direct: PostgresSection, port: int) -> None:
    async with Database(behind(direct, port, "transaction"), "notes") as db:
        await asyncio.gather(*(db.ping() for _ in range(6)))
        async with db.tenant("ten_a") as connection:
            await connection.execute("INSERT INTO notes VALUES ('ten_a', '1')")

    outside = await asyncpg.connect(with_port(direct.dsn.get_secret_value(), port), statement_cache_size=0)
    try:
        for _ in range(6):
            async with outside.transaction():
                row = await outside.fetchrow(
                    "SELECT current_setting('argosy.tenant', true) AS tenant,"
                    " current_setting('statement_timeout') AS t, (SELECT count(*) FROM notes) AS notes"
                )
                assert (row["tenant"] or "", row["t"], row["notes"]) == ("", "0", 0)
    finally:
        await outside.close()


async def test_a_statement_that_runs_too_long_is_ended_there_too(direct: PostgresSection, port: int) -> None:
    async with Database(behind(direct, port, "transaction"), "notes") as db, db.system() as connection:
        assert await connection.fetchval("SHOW statement_timeout") == "10s"
        assert await connection.fetchval("SHOW lock_timeout") == "5s"
        assert await connection.fetchval("SHOW timezone") == "UTC"


@pytest.mark.parametrize("ignored", ["", PARAMETERS], ids=["refuses parameters", "drops parameters"])
@pytest.mark.parametrize("mode", ["session", "transaction"])
async def test_pooling_by_session_is_not_ready_behind_it_and_names_the_setting(
    direct: PostgresSection, folder: Path, mode: str, ignored: str
) -> None:
    with pgbouncer(mode, ignored) as port:
        async with Database(behind(direct, port, "session"), "notes") as db:
            with pytest.raises(Unavailable, match="POSTGRES__POOLING=transaction"):
                await readiness_check(db, folder)()


@pytest.mark.parametrize("ignored", ["", PARAMETERS], ids=["refuses parameters", "drops parameters"])
async def test_migrations_through_it_are_refused_with_the_setting(
    direct: PostgresSection, folder: Path, ignored: str
) -> None:
    assert direct.owner_dsn is not None
    refused = pytest.raises(PooledOwner, match="POSTGRES__OWNER_DSN leads through a connection pooler")
    with pgbouncer("transaction", ignored) as port, refused:
        await migrate(with_port(direct.owner_dsn.get_secret_value(), port), folder, "chassis_test")


async def test_a_pooler_that_goes_away_and_comes_back_is_used_again(direct: PostgresSection, folder: Path) -> None:
    with pgbouncer() as port:
        db = Database(behind(direct, port, "transaction"), "notes")
        await db.__aenter__()
        await db.ping()
    try:
        with pytest.raises(Unavailable):
            await db.ping()
        with pgbouncer(port=port):
            await db.ping()
            await readiness_check(db, folder)()
    finally:
        await db.__aexit__(None, None, None)
