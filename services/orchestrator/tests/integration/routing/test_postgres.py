"""Routes on a real Postgres: read as the service, changed as the schema's owner."""

from __future__ import annotations

import asyncio
from typing import Any

import asyncpg
import pytest
from chassis.errors import Unavailable
from chassis.postgres import Database
from chassis.settings import PostgresSection
from chassis.testing import free_port
from orchestrator.configuration.model import ChangeFilter, ConfigurationKind, Edit, ObjectKey
from orchestrator.configuration.postgres import PostgresConfiguration, announce_nothing
from orchestrator.configuration.rollback import History, Scope
from orchestrator.routing.document import document_to_entry, entry_to_document
from orchestrator.routing.edit import make_route_entry
from orchestrator.routing.model import RouteCandidate
from orchestrator.routing.postgres import PostgresRouteStore
from pydantic import SecretStr

from services.orchestrator.tests.route_store_contract import RouteStoreContract, chat_route


class TestPostgresRouteStore(RouteStoreContract):
    @pytest.fixture
    def store(self, database: Database) -> PostgresRouteStore:
        return PostgresRouteStore(database, PostgresConfiguration(database, announce_nothing))

    @pytest.mark.parametrize(
        "statement",
        [
            "UPDATE route_candidates SET max_output_tokens = 7 WHERE tenant_id = 'ten_1'",
            "DELETE FROM routes WHERE tenant_id = 'ten_1'",
        ],
    )
    async def test_every_kind_of_change_makes_a_new_version(
        self, store: PostgresRouteStore, editor: PostgresRouteStore, owner: Any, statement: str
    ) -> None:
        await editor.put(chat_route("ten_1", RouteCandidate("local", "small", 512)))
        before = await store.read(None)
        assert before is not None

        await owner.execute(statement)

        assert await store.read(before.version) is not None

    @pytest.mark.parametrize("table", ["route_versions", "configuration_changes"])
    async def test_the_service_itself_cannot_change_versions_and_history(self, database: Database, table: str) -> None:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await _execute(database, f"DELETE FROM {table}")

    async def test_the_service_itself_changes_a_route_with_a_line_in_the_log(
        self, store: PostgresRouteStore, database: Database
    ) -> None:
        entry = make_route_entry("gpt", ["a/1"], tenant_id="ten_1")
        stored = await store.edit("ten_1", "gpt", Edit("usr_1", "a trial"), lambda _: entry)

        log = PostgresConfiguration(database, announce_nothing)
        (change,) = await log.list_changes(ChangeFilter(1, kind=ConfigurationKind.ROUTE))
        assert stored is not None
        assert (stored.entry, stored.version) == (entry, change.version)
        assert (change.key, change.author) == (ObjectKey("route", "ten_1", "gpt"), "usr_1")
        assert change.after == entry_to_document(entry)

    async def test_a_rollback_restores_routes_with_their_policy(
        self, store: PostgresRouteStore, database: Database
    ) -> None:
        document = {"strategy": "cheapest", "candidates": [{"upstream": "a", "model": "1", "weight": 3}]}
        first = document_to_entry("ten_1", "gpt", document)
        await store.put(first)
        log = PostgresConfiguration(database, announce_nothing)
        version = await log.version()
        await store.put(make_route_entry("gpt", ["b/2"], tenant_id="ten_1"))
        await store.put(make_route_entry("other", ["b/2"], tenant_id="ten_1"))

        history = History(log, {ConfigurationKind.ROUTE: store})
        await history.rollback(version, Edit("usr_1", "back"), Scope(tenant_id="ten_1"))

        assert await store.entries("ten_1") == [first]

    async def test_concurrent_puts_of_a_route_leave_one_of_them_complete(self, editor: PostgresRouteStore) -> None:
        entries = [make_route_entry("gpt", [f"{name}/1", f"{name}/2"], tenant_id="ten_1") for name in "abcd"]

        await asyncio.gather(*(editor.put(entry) for entry in entries))

        (entry,) = await editor.entries("ten_1")
        assert entry in entries

    async def test_replacing_a_route_keeps_its_creation_time(self, editor: PostgresRouteStore, owner: Any) -> None:
        created_at = "SELECT created_at FROM routes WHERE tenant_id = 'ten_1'"
        await editor.put(make_route_entry("gpt", ["a/1"], tenant_id="ten_1"))
        before = await owner.fetchval(created_at)

        await editor.put(make_route_entry("gpt", ["b/2"], tenant_id="ten_1"))

        assert await owner.fetchval(created_at) == before

    async def test_without_postgres_it_is_unavailable(self) -> None:
        section = PostgresSection(dsn=SecretStr(f"postgresql://nobody:nothing@127.0.0.1:{free_port()}/none"))
        async with Database(section, "orchestrator") as unreachable:
            with pytest.raises(Unavailable):
                await PostgresRouteStore(unreachable, PostgresConfiguration(unreachable, announce_nothing)).read(None)


async def test_every_table_forces_row_level_security_and_starts_with_its_tenant(owner: Any) -> None:
    rows = await owner.fetch(
        """
        SELECT c.relname, c.relrowsecurity AND c.relforcerowsecurity AS guarded,
               (SELECT attname FROM pg_attribute WHERE attrelid = c.oid AND attnum = 1) AS first
        FROM pg_class AS c
        WHERE c.relkind = 'r' AND c.relnamespace = 'orchestration'::regnamespace
            AND c.relname NOT IN ('schema_migrations', 'schema_functions')
        """
    )

    tables = {row["relname"] for row in rows if not row["relname"].startswith("finished_jobs_")}
    assert tables == {
        *("routes", "route_candidates", "route_versions", "outbox", "idempotency_keys"),
        *("jobs", "tenant_queues", "job_rounds", "queue_pauses", "job_workers"),
        *("worker_pools", "pool_tenants"),
        *("flags", "configuration_changes", "configuration_versions"),
        *("upstreams", "data_keys", "upstream_credentials"),
        *("batches", "batch_line_errors", "webhook_endpoints", "webhook_deliveries", "webhook_attempts"),
    }
    assert all(row["guarded"] and row["first"] == "tenant_id" for row in rows)


async def _execute(database: Database, statement: str) -> None:
    async with database.system() as connection:
        await connection.execute(statement)
