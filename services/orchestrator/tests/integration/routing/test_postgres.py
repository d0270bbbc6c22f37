"""The schema keeps its promises, on a real Postgres."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, timedelta
from typing import Any

import asyncpg
import pytest
from argosy.common.v1.common_pb2 import USAGE_SOURCE_REPORTED, USAGE_SOURCE_UNKNOWN
from argosy.metering.v1.events_pb2 import UsageRecorded
from chassis.errors import Unavailable
from chassis.postgres import Database
from chassis.settings import PostgresSection
from chassis.testing import free_port
from orchestrator.adapters.postgres import PostgresRouteStore, PostgresUsageOutbox
from orchestrator.domain.routes import RouteCandidate
from pydantic import SecretStr
from services.orchestrator.tests.route_book import Change, RouteStoreContract
from services.orchestrator.tests.usage_log import UsageOutboxContract, Written, some_usage


class TestPostgresRouteBook(RouteStoreContract):
    @pytest.fixture
    def book(self, database: Database) -> PostgresRouteStore:
        return PostgresRouteStore(database)

    @pytest.fixture
    def change(self, owner: Any) -> Change:
        async def change(tenant_id: str, model: str, candidates: list[RouteCandidate]) -> None:
            async with owner.transaction():
                await owner.execute(
                    "INSERT INTO routes (tenant_id, model, task) VALUES ($1, $2, 'chat')", tenant_id, model
                )
                await owner.executemany(
                    "INSERT INTO route_candidates VALUES ($1, $2, $3, $4, $5, $6, $7)",
                    [
                        (tenant_id, model, n, one.upstream, one.model, one.max_output_tokens, one.limit_field)
                        for n, one in enumerate(candidates)
                    ],
                )

        return change

    @pytest.mark.parametrize(
        "statement",
        [
            "UPDATE route_candidates SET max_output_tokens = 7 WHERE tenant_id = 'ten_1'",
            "DELETE FROM routes WHERE tenant_id = 'ten_1'",
        ],
    )
    async def test_every_kind_of_change_makes_a_new_version(
        self, book: PostgresRouteStore, change: Change, owner: Any, statement: str
    ) -> None:
        await change("ten_1", "smollm2", [RouteCandidate("local", "small", 512)])
        before = await book.read(None)
        assert before is not None

        await owner.execute(statement)

        assert await book.read(before.version) is not None

    async def test_the_service_itself_cannot_change_a_route(self, database: Database) -> None:
        for table in ("routes", "route_candidates", "route_versions"):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await _execute(database, f"DELETE FROM {table}")


class TestPostgresUsageLog(UsageOutboxContract):
    @pytest.fixture
    def log(self, database: Database) -> PostgresUsageOutbox:
        return PostgresUsageOutbox(database, on_written=lambda: None)

    @pytest.fixture
    def written(self, owner: Any) -> Written:
        async def written() -> list[tuple[str, str]]:
            return [tuple(row) for row in await owner.fetch("SELECT tenant_id, id FROM outbox ORDER BY id")]

        return written

    async def test_an_event_says_it_all_and_when_by_the_database_clock(
        self, log: PostgresUsageOutbox, owner: Any
    ) -> None:
        usage = some_usage()

        await log.record(usage)

        row = await owner.fetchrow("SELECT topic, value, headers FROM outbox")
        event = UsageRecorded.FromString(row["value"])
        assert row["topic"] == "argosy.metering.usage-recorded.v1"
        assert json.loads(row["headers"]) == {}
        assert (event.meta.event_id, event.meta.tenant_id) == (usage.event_id, "ten_1")
        now = await owner.fetchval("SELECT clock_timestamp()")
        assert timedelta(0) <= now - event.meta.occurred_at.ToDatetime(UTC) < timedelta(seconds=30)
        assert (event.request_id, event.project_id, event.key_id) == ("req_1", "prj_1", "key_1")
        unknown, reported = event.attempts
        assert (unknown.attempt, unknown.price_key, unknown.price_version) == (
            1,
            "local/smollm2-135m-instruct",
            "prc_1",
        )
        assert unknown.usage.source == USAGE_SOURCE_UNKNOWN
        assert not unknown.usage.HasField("input_tokens")
        assert (reported.usage.source, reported.usage.input_tokens) == (USAGE_SOURCE_REPORTED, 12)
        # An explicit zero is a value.
        assert reported.usage.HasField("output_tokens")

    async def test_events_that_wait_share_a_transaction(self, database: Database) -> None:
        commits: list[int] = []
        log = PostgresUsageOutbox(database, on_written=lambda: commits.append(1))

        await asyncio.gather(*(log.record(some_usage(request_id=f"req_{n}")) for n in range(200)))

        assert len(commits) <= 2
        assert await log.pending() == 200

    async def test_a_database_that_is_away_is_unavailable(self) -> None:
        section = PostgresSection(dsn=SecretStr(f"postgresql://nobody:nothing@127.0.0.1:{free_port()}/none"))
        async with Database(section, "orchestrator") as away:
            with pytest.raises(Unavailable):
                await PostgresUsageOutbox(away, on_written=lambda: None).record(some_usage())
            with pytest.raises(Unavailable):
                await PostgresRouteStore(away).read(None)

    async def test_a_tenant_does_not_see_the_events_of_another(
        self, log: PostgresUsageOutbox, database: Database
    ) -> None:
        await log.record(some_usage("ten_1"))
        await log.record(some_usage("ten_2"))

        async with database.tenant("ten_1") as connection:
            seen = await connection.fetch("SELECT tenant_id FROM outbox")

        assert [row["tenant_id"] for row in seen] == ["ten_1"]


async def test_every_table_forces_row_level_security_and_starts_with_its_tenant(owner: Any) -> None:
    rows = await owner.fetch(
        """
        SELECT c.relname, c.relrowsecurity AND c.relforcerowsecurity AS guarded,
               (SELECT attname FROM pg_attribute WHERE attrelid = c.oid AND attnum = 1) AS first
        FROM pg_class AS c
        WHERE c.relkind = 'r' AND c.relnamespace = 'orchestration'::regnamespace AND c.relname <> 'schema_migrations'
        """
    )

    assert {row["relname"] for row in rows} == {"routes", "route_candidates", "route_versions", "outbox"}
    assert all(row["guarded"] and row["first"] == "tenant_id" for row in rows)


async def _execute(database: Database, statement: str) -> None:
    async with database.system() as connection:
        await connection.execute(statement)
