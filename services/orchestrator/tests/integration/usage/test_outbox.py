"""Usage events in the outbox, on a real Postgres."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, timedelta
from typing import Any

import pytest
from argosy.common.v1.common_pb2 import (
    EXPOSURE_CAUSE_CLIENT,
    EXPOSURE_CAUSE_UNSPECIFIED,
    USAGE_SOURCE_REPORTED,
    USAGE_SOURCE_UNKNOWN,
)
from argosy.metering.v1.events_pb2 import HitsRecorded, UsageRecorded
from chassis.errors import Unavailable
from chassis.postgres import Database
from chassis.settings import PostgresSection
from chassis.testing import free_port
from orchestrator.usage.model import CacheUse, Hits
from orchestrator.usage.outbox import PostgresUsageOutbox
from pydantic import SecretStr
from values.usage import CacheOutcome

from services.orchestrator.tests.usage_outbox_contract import UsageOutboxContract, Written, some_usage


class TestPostgresUsageOutbox(UsageOutboxContract):
    @pytest.fixture
    def outbox(self, database: Database) -> PostgresUsageOutbox:
        return PostgresUsageOutbox(database, on_written=lambda: None)

    @pytest.fixture
    def written(self, owner: Any) -> Written:
        async def written() -> list[tuple[str, str]]:
            return [tuple(row) for row in await owner.fetch("SELECT tenant_id, id FROM outbox ORDER BY id")]

        return written

    async def test_an_event_holds_the_usage_and_the_time_of_the_database(
        self, outbox: PostgresUsageOutbox, owner: Any
    ) -> None:
        usage = some_usage()

        await outbox.write(usage)

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
        assert unknown.exposure_cause == EXPOSURE_CAUSE_CLIENT
        assert reported.exposure_cause == EXPOSURE_CAUSE_UNSPECIFIED
        # An explicit zero is a value.
        assert reported.usage.HasField("output_tokens")

    async def test_a_waiting_event_is_found_by_an_index(self, outbox: PostgresUsageOutbox, owner: Any) -> None:
        await outbox.write(some_usage())
        await owner.execute(
            "INSERT INTO outbox (tenant_id, id, topic, value, request_id)"
            " SELECT 'ten_' || n % 50, 'evt_' || n, 'topic', '', 'req_' || n FROM generate_series(1, 5000) AS n"
        )
        await owner.execute("ANALYZE outbox")

        plan = await owner.fetch(
            "EXPLAIN SELECT DISTINCT tenant_id, request_id FROM outbox"
            " JOIN unnest($1::text[], $2::text[]) AS asked (tenant_id, request_id) USING (tenant_id, request_id)",
            ["ten_1"],
            ["req_1"],
        )

        assert "outbox_by_request" in "\n".join(row[0] for row in plan)

    async def test_waiting_events_share_a_transaction(self, database: Database) -> None:
        commits: list[int] = []
        outbox = PostgresUsageOutbox(database, on_written=lambda: commits.append(1))

        await asyncio.gather(*(outbox.write(some_usage(request_id=f"req_{n}")) for n in range(200)))

        assert len(commits) <= 2
        assert await outbox.count_pending() == 200

    async def test_without_postgres_it_is_unavailable(self) -> None:
        section = PostgresSection(dsn=SecretStr(f"postgresql://nobody:nothing@127.0.0.1:{free_port()}/none"))
        async with Database(section, "orchestrator") as unreachable:
            with pytest.raises(Unavailable):
                await PostgresUsageOutbox(unreachable, on_written=lambda: None).write(some_usage())

    async def test_a_tenant_does_not_see_the_events_of_another(
        self, outbox: PostgresUsageOutbox, database: Database
    ) -> None:
        await outbox.write(some_usage("ten_1"))
        await outbox.write(some_usage("ten_2"))

        async with database.tenant("ten_1") as connection:
            seen = await connection.fetch("SELECT tenant_id FROM outbox")

        assert [row["tenant_id"] for row in seen] == ["ten_1"]


async def test_hits_are_a_row_for_each_tenant_and_written_again_change_nothing(database: Database, owner: Any) -> None:
    written = 0

    def on_written() -> None:
        nonlocal written
        written += 1

    outbox = PostgresUsageOutbox(database, on_written=on_written)
    use = CacheUse(CacheOutcome.HIT, "smollm2", 1)
    together = [
        Hits(f"evt_{tenant}", tenant, tuple(some_usage(tenant, f"req_{n}")._replace(cache=use) for n in range(3)))
        for tenant in ("ten_1", "ten_2")
    ]

    await outbox.write_hits(together)
    await outbox.write_hits(together)

    rows = await owner.fetch("SELECT tenant_id, id, topic, value FROM outbox ORDER BY id")
    assert [(row["tenant_id"], row["id"], row["topic"]) for row in rows] == [
        (tenant, f"evt_{tenant}", "argosy.metering.hits-recorded.v1") for tenant in ("ten_1", "ten_2")
    ]
    message = HitsRecorded.FromString(rows[1]["value"])
    assert message.meta.tenant_id == "ten_2"
    assert [hit.request_id for hit in message.hits] == ["req_0", "req_1", "req_2"]
    assert written == 2


@pytest.mark.parametrize("kind", ["usage", "hits"])
async def test_events_that_two_replicas_write_at_once_are_locked_in_one_order(
    database: Database, owner: Any, kind: str
) -> None:
    outbox = PostgresUsageOutbox(database, on_written=lambda: None)
    usages = [some_usage("ten_1", f"req_{event_id}")._replace(event_id=event_id) for event_id in ("evt_2", "evt_1")]
    insert = "INSERT INTO outbox (tenant_id, id, topic, value) VALUES ('ten_1', $1, 'argosy.test.v1', '')"

    async with owner.transaction():
        await owner.execute(insert, "evt_1")
        writing: asyncio.Future[Any]
        if kind == "usage":
            writing = asyncio.gather(*(outbox.write(usage) for usage in usages))
        else:
            hits = [Hits(usage.event_id, "ten_1", (usage,)) for usage in usages]
            writing = asyncio.ensure_future(outbox.write_hits(hits))
        while not await owner.fetchval(
            "SELECT count(*) > 0 FROM pg_locks WHERE pg_backend_pid() = ANY (pg_blocking_pids(pid))"
        ):
            await asyncio.sleep(0.001)
        # It would wait for the writer, which waits for the first event.
        await owner.execute("SET LOCAL lock_timeout = '200ms'")
        await owner.execute(insert, "evt_2")
    await writing

    assert await outbox.count_pending() == 2
