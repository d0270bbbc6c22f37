"""The directory in Postgres keeps its promises, and the database keeps them too when the code does not."""

import asyncio
from datetime import timedelta

import asyncpg
import pytest
from chassis.clock import SystemClock
from chassis.errors import InvalidRequest, Unavailable
from chassis.postgres import Database
from chassis.settings import PostgresSection
from chassis.testing.network import TcpProxy
from gateway.adapters.postgres import PostgresDirectory
from gateway.domain.administration import Bootstrap
from gateway.domain.keys import mint_key
from gateway.domain.principals import Admission, Trust
from gateway.domain.tenants import Page
from pydantic import SecretStr

from services.gateway.tests.contract import DirectoryContract, a_key, a_project, a_tenant, an_entry


class TestPostgresDirectory(DirectoryContract):
    """With the fixture `directory` of this folder."""


async def a_whole_tenant(directory: PostgresDirectory) -> str:
    """A tenant with a project, a key and a trail; its id."""
    tenant = a_tenant()
    project = a_project(tenant)
    await directory.add_tenant(tenant, an_entry(tenant))
    await directory.add_project(project, an_entry(tenant))
    await directory.add_key(a_key(project), an_entry(tenant))
    return tenant.tenant_id


@pytest.mark.parametrize("table", ["tenants", "projects", "api_keys", "audit"])
async def test_a_tenant_sees_its_own_rows_only(directory: PostgresDirectory, database: Database, table: str) -> None:
    mine, others = await a_whole_tenant(directory), await a_whole_tenant(directory)

    async with database.tenant(mine) as connection:
        owners = {row["tenant_id"] for row in await connection.fetch(f"SELECT tenant_id FROM {table}")}
        assert owners == {mine}
        asked = await connection.fetch(f"SELECT tenant_id FROM {table} WHERE tenant_id = $1", others)
        assert asked == []


async def test_a_tenant_writes_its_own_rows_only(directory: PostgresDirectory, database: Database) -> None:
    mine, others = await a_whole_tenant(directory), await a_whole_tenant(directory)
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        async with database.tenant(mine) as connection:
            await connection.execute(
                "INSERT INTO projects (tenant_id, project_id, name, created_at) VALUES ($1, 'prj_x', 'x', now())",
                others,
            )


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM audit",
        "UPDATE audit SET action = 'nothing happened'",
        "DELETE FROM api_keys",
        "UPDATE api_keys SET sha256 = sha256",
        "UPDATE api_keys SET roles = '{admin}'",
        "DELETE FROM tenants",
        "DELETE FROM projects",
        "TRUNCATE audit",
    ],
)
async def test_what_happened_cannot_be_undone_by_the_service(database: Database, statement: str) -> None:
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        async with database.system() as connection:
            await connection.execute(statement)


async def test_a_key_is_kept_as_its_digest_alone(directory: PostgresDirectory, database: Database) -> None:
    _, text = mint_key("test")
    key = await Bootstrap(directory, SystemClock()).ensure("kept", text, {"member"})

    async with database.system() as connection:
        (row,) = await connection.fetch("SELECT k::text AS whole FROM api_keys k WHERE key_id = $1", key.key_id)
    secret = text.split("_")[3]
    assert secret not in row["whole"]
    assert secret[:8] not in row["whole"]


async def test_many_replicas_bootstrap_at_once(directory: PostgresDirectory) -> None:
    _, text = mint_key("test")
    made = await asyncio.gather(
        *(Bootstrap(directory, SystemClock()).ensure("crowded", text, {"member"}) for _ in range(8))
    )

    assert len({(key.tenant_id, key.project_id, key.key_id) for key in made}) == 1
    projects = (await directory.list_projects(made[0].tenant_id, Page())).items
    keys = (await directory.list_keys(made[0].tenant_id, Page())).items
    assert (len(projects), len(keys)) == (1, 1)


async def test_a_tenants_id_that_cannot_be_one_is_refused(directory: PostgresDirectory) -> None:
    with pytest.raises(InvalidRequest):
        await directory.get_tenant("*")


def through(wire: TcpProxy, section: PostgresSection) -> PostgresSection:
    """The same database, reached over the wire."""
    dsn = section.dsn.get_secret_value()
    host = dsn.rpartition("@")[2].partition("/")[0]
    return PostgresSection(dsn=SecretStr(dsn.replace(f"@{host}/", f"@127.0.0.1:{wire.port}/")))


def port_of(section: PostgresSection) -> int:
    return int(section.dsn.get_secret_value().rpartition("@")[2].partition("/")[0].rpartition(":")[2])


@pytest.mark.parametrize("how", ["cut", "freeze"])
async def test_while_postgres_is_away_who_was_seen_goes_on_and_strangers_wait(
    section: PostgresSection, directory: PostgresDirectory, how: str
) -> None:
    texts = [mint_key("test")[1] for _ in range(2)]
    for text in texts:
        await Bootstrap(directory, SystemClock()).ensure("away", text, {"member"})
    seen, stranger = (text.encode() for text in texts)
    trust = Trust(heard=timedelta(0), look_up=timedelta(milliseconds=300))
    async with TcpProxy(port_of(section)) as wire, Database(through(wire, section), "gateway") as database:
        admission = Admission(PostgresDirectory(database), SystemClock(), trust)
        admission.hear(True)
        known = await admission.admit(seen)

        if how == "cut":
            await wire.cut()
        else:
            wire.freeze()

        assert await admission.admit(seen) == known
        with pytest.raises(Unavailable):
            await admission.admit(stranger)
        await wire.mend()
        async with asyncio.timeout(20):
            while True:
                try:
                    await admission.admit(stranger)
                    break
                except Unavailable:
                    await asyncio.sleep(0.1)
