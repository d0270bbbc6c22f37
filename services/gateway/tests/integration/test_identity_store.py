"""The stores in Postgres keep the contract, and the database protects its rows even from wrong code."""

import asyncio
from datetime import timedelta

import asyncpg
import pytest
from chassis.clock import SystemClock
from chassis.errors import InvalidRequest, Unavailable
from chassis.postgres import Database
from chassis.settings import PostgresSection
from chassis.testing.network import TcpProxy
from gateway.api_keys.bootstrap import Bootstrap
from gateway.api_keys.postgres import PostgresApiKeys
from gateway.auth.api_key import mint_key
from gateway.auth.authenticate import ApiKeyAuthenticator
from gateway.web.pagination import PageRequest
from pydantic import SecretStr

from services.gateway.tests.fakes.api_keys import ttls
from services.gateway.tests.identity_contract import (
    IdentityStore,
    IdentityStoreContract,
    a_key,
    a_project,
    a_tenant,
    an_entry,
)


class TestPostgresIdentityStore(IdentityStoreContract):
    """With the fixture `store` of this folder."""


async def a_tenant_with_rows(store: IdentityStore) -> str:
    """A tenant with a project, a key and audit entries; its id."""
    tenant = a_tenant()
    project = a_project(tenant)
    await store.add_tenant(tenant, an_entry(tenant))
    await store.add_project(project, an_entry(tenant))
    await store.add_key(a_key(project), an_entry(tenant))
    return tenant.tenant_id


@pytest.mark.parametrize("table", ["tenants", "projects", "api_keys", "audit"])
async def test_a_tenant_sees_its_own_rows_only(store: IdentityStore, database: Database, table: str) -> None:
    mine, others = await a_tenant_with_rows(store), await a_tenant_with_rows(store)

    async with database.tenant(mine) as connection:
        owners = {row["tenant_id"] for row in await connection.fetch(f"SELECT tenant_id FROM {table}")}
        assert owners == {mine}
        rows = await connection.fetch(f"SELECT tenant_id FROM {table} WHERE tenant_id = $1", others)
        assert rows == []


async def test_a_tenant_writes_its_own_rows_only(store: IdentityStore, database: Database) -> None:
    mine, others = await a_tenant_with_rows(store), await a_tenant_with_rows(store)
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
        "UPDATE api_keys SET roles = '{platform_admin}'",
        "DELETE FROM tenants",
        "DELETE FROM projects",
        "TRUNCATE audit",
    ],
)
async def test_the_services_role_cannot_change_history(database: Database, statement: str) -> None:
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        async with database.system() as connection:
            await connection.execute(statement)


async def test_an_outcome_is_written_once(store: IdentityStore, database: Database) -> None:
    tenant = a_tenant()
    await store.add_tenant(tenant, an_entry(tenant))
    async with database.tenant(tenant.tenant_id) as connection:
        changed = await connection.execute("UPDATE audit SET outcome = 'refused', reason = 'late'")

    assert changed == "UPDATE 0"


async def test_only_the_digest_of_a_key_is_stored(store: IdentityStore, database: Database) -> None:
    _, text = mint_key("test")
    key = await Bootstrap(store, store, store, SystemClock()).ensure("kept", text, {"member"})

    async with database.system() as connection:
        (row,) = await connection.fetch("SELECT k::text AS whole FROM api_keys k WHERE key_id = $1", key.key_id)
    secret = text.split("_")[3]
    assert secret not in row["whole"]
    assert secret[:8] not in row["whole"]


async def test_replicas_may_bootstrap_at_the_same_time(store: IdentityStore) -> None:
    _, text = mint_key("test")
    made = await asyncio.gather(
        *(Bootstrap(store, store, store, SystemClock()).ensure("shared", text, {"member"}) for _ in range(8))
    )

    assert len({(key.tenant_id, key.project_id, key.key_id) for key in made}) == 1
    projects = (await store.list_projects(made[0].tenant_id, PageRequest())).items
    keys = (await store.list_keys(made[0].tenant_id, PageRequest())).items
    assert (len(projects), len(keys)) == (1, 1)


async def test_an_invalid_tenant_id_is_refused(store: IdentityStore) -> None:
    with pytest.raises(InvalidRequest):
        await store.get_tenant("*")


def through(wire: TcpProxy, section: PostgresSection) -> PostgresSection:
    """The same database, reached over the wire."""
    dsn = section.dsn.get_secret_value()
    host = dsn.rpartition("@")[2].partition("/")[0]
    return section.model_copy(update={"dsn": SecretStr(dsn.replace(f"@{host}/", f"@127.0.0.1:{wire.port}/"))})


def port_of(section: PostgresSection) -> int:
    return int(section.dsn.get_secret_value().rpartition("@")[2].partition("/")[0].rpartition(":")[2])


@pytest.mark.degraded(down="Postgres", area="sync", holds="an unknown key is answered 503, because it might be valid")
@pytest.mark.parametrize("how", ["cut", "freeze"])
async def test_while_postgres_is_down_verified_keys_are_accepted_and_unknown_keys_are_unavailable(
    section: PostgresSection, store: IdentityStore, how: str
) -> None:
    texts = [mint_key("test")[1] for _ in range(2)]
    for text in texts:
        await Bootstrap(store, store, store, SystemClock()).ensure("outage", text, {"member"})
    verified, unknown = (text.encode() for text in texts)
    async with TcpProxy(port_of(section)) as wire, Database(through(wire, section), "gateway") as database:
        find_key = PostgresApiKeys(database).find_key
        authenticator = ApiKeyAuthenticator(
            find_key, SystemClock(), ttls(ttl=timedelta(0)), lookup_timeout=timedelta(seconds=3)
        )
        authenticator.set_channel_healthy(True)
        await database.ping()  # connected: only an answer may take its time
        principal = await authenticator.authenticate(verified)

        if how == "cut":
            await wire.cut()
        else:
            wire.freeze()

        assert await authenticator.authenticate(verified) == principal
        with pytest.raises(Unavailable):
            await authenticator.authenticate(unknown)
        await wire.mend()
        async with asyncio.timeout(30):
            while True:
                try:
                    await authenticator.authenticate(unknown)
                    break
                except Unavailable:
                    await asyncio.sleep(0.1)
