"""Upstreams and sealed credentials on a real Postgres."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
from chassis.errors import Unavailable
from chassis.postgres import Database
from chassis.settings import PostgresSection
from chassis.testing import free_port
from orchestrator.configuration.model import ChangeFilter, ConfigurationKind
from orchestrator.configuration.postgres import PostgresConfiguration
from orchestrator.configuration.rollback import History, Scope
from orchestrator.routing.edit import make_route_entry
from orchestrator.routing.postgres import PostgresRouteStore, models_of_upstream
from orchestrator.upstreams.model import UpstreamInUse
from orchestrator.upstreams.postgres import PostgresUpstreamStore
from orchestrator.upstreams.vault import Vault
from pydantic import SecretStr

from services.orchestrator.tests.fake_upstreams import NEW_KEY, OLD_KEY
from services.orchestrator.tests.upstream_store_contract import (
    EDIT,
    UpstreamStoreContract,
    credential,
    put,
    snapshot_of,
    upstream,
)

CANARY = "sk-canary-d41d8cd98f00b204"


async def _announce_nothing(_: int) -> None:
    return


@pytest.fixture
def log(database: Database) -> PostgresConfiguration:
    return PostgresConfiguration(database, _announce_nothing)


@pytest.fixture
async def store(database: Database, log: PostgresConfiguration) -> AsyncIterator[PostgresUpstreamStore]:
    """The log's rows are never changed, so a test's upstreams are deleted, and the log grows."""
    yield store_with(database, log, OLD_KEY)
    async with database.system() as connection:
        await connection.execute("DELETE FROM upstreams; DELETE FROM data_keys; DELETE FROM upstream_credentials")


@pytest.fixture
def resealed(database: Database, log: PostgresConfiguration) -> PostgresUpstreamStore:
    return store_with(database, log, NEW_KEY, OLD_KEY)


def store_with(database: Database, log: PostgresConfiguration, *keys: str) -> PostgresUpstreamStore:
    return PostgresUpstreamStore(database, log, Vault(keys), models_of_upstream)


async def tables_as_text(owner: Any, *, but: Sequence[str] = ()) -> dict[str, str]:
    """All rows of all tables of the schema."""
    names = await owner.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'orchestration'")
    return {
        row["tablename"]: str(await owner.fetch(f"SELECT t::text FROM orchestration.{row['tablename']} AS t"))
        for row in names
        if row["tablename"] not in but
    }


class TestPostgresUpstreamStore(UpstreamStoreContract):
    async def test_a_secret_stands_in_no_table_and_the_log_has_no_more_than_its_settings(
        self, store: PostgresUpstreamStore, log: PostgresConfiguration, owner: Any
    ) -> None:
        await put(store, upstream())
        one = await store.add_credential(credential("ten_1"), CANARY, EDIT)
        await store.edit_credential(one.key, EDIT, lambda _: None)
        await store.add_credential(credential("ten_1"), CANARY, EDIT)

        tables = await tables_as_text(owner)

        assert {"upstream_credentials", "data_keys", "configuration_changes"} <= set(tables)
        for text in tables.values():
            assert CANARY not in text
            assert CANARY.encode().hex() not in text
        changes = await log.list_changes(ChangeFilter(10, kind=ConfigurationKind.CREDENTIAL))
        documents = [document for change in changes[:3] for document in (change.before, change.after) if document]
        assert {field for document in documents for field in document} == {"label", "weight", "enabled"}

    async def test_an_upstream_that_a_route_needs_is_not_deleted(
        self, store: PostgresUpstreamStore, database: Database, log: PostgresConfiguration
    ) -> None:
        await put(store, upstream("needed"))
        await PostgresRouteStore(database, log).put(make_route_entry("m", ["needed/m"], tenant_id="ten_1"))

        with pytest.raises(UpstreamInUse, match="route of m"):
            await store.edit("needed", EDIT, lambda _: None)

        assert await store.find("needed") is not None

    async def test_a_rollback_restores_upstreams_and_revokes_no_revocation(
        self, store: PostgresUpstreamStore, log: PostgresConfiguration
    ) -> None:
        await put(store, upstream())
        one = await store.add_credential(credential(), "sk-secret-1", EDIT)
        version = await log.version()
        await put(store, upstream(max_connections=7))
        await store.edit_credential(one.key, EDIT, lambda _: None)

        result = await History(log, {ConfigurationKind.UPSTREAM: store}).rollback(version, EDIT, Scope())

        assert [found.upstream for found in await store.list()] == [upstream()]
        assert [kept.key.kind for kept in result.kept] == [ConfigurationKind.CREDENTIAL]
        assert (await snapshot_of(store)).credentials == ()

    async def test_without_postgres_it_is_unavailable(self) -> None:
        section = PostgresSection(dsn=SecretStr(f"postgresql://nobody:nothing@127.0.0.1:{free_port()}/none"))
        async with Database(section, "orchestrator") as unreachable:
            log = PostgresConfiguration(unreachable, _announce_nothing)
            with pytest.raises(Unavailable):
                await store_with(unreachable, log, OLD_KEY).read(None)
