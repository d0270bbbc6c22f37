"""The drill of webhooks: 2,000 events over Kafka, endpoints that misbehave in every way, two replicas, one is killed.

The replicas are processes of their own, with a database of their own and the schedule of days in seconds. Every event
is published twice. It prints a table, and the time from publishing to the first attempt for each endpoint.
"""

from __future__ import annotations

import asyncio
import random
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from pathlib import Path
from time import monotonic
from typing import Any

import httpx
import orchestrator
import psutil
import pytest
from argosy.common.v1.common_pb2 import EventMeta
from chassis.ids import new_id
from chassis.kafka import Publisher, Record
from chassis.postgres import Database
from chassis.settings import KafkaSection, PostgresSection
from chassis.testing import free_port
from chassis.testing.postgres import scratch_database
from orchestrator.webhooks.cipher import AesSecretCipher
from orchestrator.webhooks.consumer import SOURCES
from orchestrator.webhooks.model import EndpointChange
from orchestrator.webhooks.postgres import PostgresDeliveries, PostgresWebhooks
from orchestrator.webhooks.sign import new_secret

from services.orchestrator.tests.webhook_drill import (
    PLAN,
    SCHEDULE_SECONDS,
    TIMEOUT_SECONDS,
    Subscriber,
    check,
    reply_of,
    report,
    to_record,
)
from services.orchestrator.tests.webhook_receiver import Reply, always, receiving
from tests.fleet.client import Fleet
from tests.fleet.environment import PATHS

pytestmark = [pytest.mark.fleet, pytest.mark.timeout(600)]

MIGRATIONS = Path(orchestrator.__file__).parent / "migrations"
SECRET_KEY = "a key for this drill that is long enough to be one"
TENANT = new_id("ten_")


class Replica:
    """An orchestrator process."""

    def __init__(self, environment: dict[str, str]) -> None:
        self._ops_port = free_port()
        self._environment = environment | {
            "ORCHESTRATOR_OPS__PORT": str(self._ops_port),
            "ORCHESTRATOR_GRPC__BIND": f"127.0.0.1:{free_port()}",
        }

    async def start(self) -> None:
        with PATHS.log("webhook-drill").open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "orchestrator", env=self._environment, stdout=log, stderr=log
            )
        async with httpx.AsyncClient() as http:
            while True:
                assert self._process.returncode is None, f"it did not start; see {PATHS.log('webhook-drill')}"
                try:
                    if (await http.get(f"http://127.0.0.1:{self._ops_port}/readyz")).status_code == 200:
                        return
                except httpx.TransportError:
                    pass
                await asyncio.sleep(0.2)

    @property
    def cpu_seconds(self) -> float:
        """User and system time of the process until now; 0 when it has ended."""
        if self._process.returncode is not None:
            return 0.0
        times = psutil.Process(self._process.pid).cpu_times()
        return float(times.user + times.system)

    async def kill(self) -> None:
        if self._process.returncode is None:
            self._process.kill()
        await self._process.wait()


def environment_of(fleet: Fleet, section: PostgresSection) -> dict[str, str]:
    return psutil.Process(fleet.pid_of("orchestrator")).environ() | {
        "ORCHESTRATOR_POSTGRES__DSN": section.dsn.get_secret_value(),
        "ORCHESTRATOR_KAFKA__GROUP": new_id("webhook-drill-"),
        "ORCHESTRATOR_WEBHOOKS__SECRET_KEYS": SECRET_KEY,
        "ORCHESTRATOR_WEBHOOKS__SCHEDULE": ",".join(map(str, SCHEDULE_SECONDS)),
        "ORCHESTRATOR_WEBHOOKS__TIMEOUT": str(TIMEOUT_SECONDS),
        "ORCHESTRATOR_WEBHOOKS__POLL_INTERVAL": "0.2",
        "ORCHESTRATOR_WEBHOOKS__ALLOWED_TARGETS": "127.0.0.1/32",
        "ORCHESTRATOR_TELEMETRY__LOG_LEVEL": "info",
    }


@asynccontextmanager
async def publishing(environment: dict[str, str]) -> AsyncIterator[Publisher]:
    section = KafkaSection.model_validate(
        {
            "bootstrap": environment["ORCHESTRATOR_KAFKA__BOOTSTRAP"],
            "signing_keys": environment["ORCHESTRATOR_KAFKA__SIGNING_KEYS"],
            "group": "unused",
        }
    )
    async with Publisher(section) as publisher:
        yield publisher


def event_id_of(record: Record) -> str:
    kind, _ = SOURCES[record.topic]
    meta: EventMeta = kind.FromString(record.value).meta
    return meta.event_id


async def test_every_event_is_delivered_or_exhausted_by_the_schedule(
    fleet: Fleet, chaos_seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    sys.stdout.write(f"seed {chaos_seed}\n")
    monkeypatch.setenv("ARGOSY_POSTGRES_DSN", fleet.postgres_dsn)
    async with AsyncExitStack() as stack:
        section = await stack.enter_async_context(scratch_database(MIGRATIONS, "orchestration", "orchestrator"))
        database = await stack.enter_async_context(Database(section, "orchestrator"))
        await Drill(fleet, section, database, random.Random(chaos_seed)).run(stack)


class Drill:
    def __init__(self, fleet: Fleet, section: PostgresSection, database: Database, chance: random.Random) -> None:
        self.environment = environment_of(fleet, section)
        self.database = database
        self.chance = chance
        self.endpoints = PostgresWebhooks(database, AesSecretCipher([SECRET_KEY]))
        self.deliveries = PostgresDeliveries(database)
        self.subscribers: dict[str, Subscriber] = {}
        self.ids: dict[str, str] = {}
        self.published_at: dict[str, float] = {}

    async def run(self, stack: AsyncExitStack) -> None:
        sentinel = await stack.enter_async_context(receiving(always(Reply())))
        for name, (event_type, _) in PLAN.items():
            subscriber = Subscriber(name, new_secret(), reply_of(name, self.chance, sentinel))
            receiver = await stack.enter_async_context(receiving(subscriber.script))
            change = EndpointChange(f"http://127.0.0.1:{receiver.port}/{name}", name, (event_type,))
            made = await self.endpoints.create(TENANT, change, subscriber.secret, max_endpoints=20)
            self.subscribers[name], self.ids[name] = subscriber, made.id
        replicas = [Replica(self.environment) for _ in range(3)]
        try:
            await asyncio.gather(*(replica.start() for replica in replicas[:2]))
            started = sum(replica.cpu_seconds for replica in replicas[:2])
            await self.publish()
            await self.until(lambda: len(self.subscribers["healthy"].acknowledged) > 200)
            used = replicas[0].cpu_seconds + replicas[1].cpu_seconds - started
            attempts = sum(subscriber.statuses.total() for subscriber in self.subscribers.values())
            sys.stdout.write(f"CPU of the orchestrators: {used / attempts * 1_000:.1f} ms per attempt\n")
            await replicas[0].kill()
            await replicas[2].start()
            await self.rotate()
            await self.wait_for_the_end()
        finally:
            for replica in replicas:
                if hasattr(replica, "_process"):
                    await replica.kill()
        await self.compare(sentinel.connections)

    async def publish(self) -> None:
        records = [to_record(TENANT, event_type) for event_type, count in PLAN.values() for _ in range(count)]
        self.chance.shuffle(records)
        async with publishing(self.environment) as publisher:
            for start in range(0, len(records), 100):
                batch = records[start : start + 100]
                self.published_at |= {event_id_of(record): monotonic() for record in batch}
                assert await publisher.publish_all([*batch, *batch]) == [None] * 2 * len(batch)

    async def rotate(self) -> None:
        rotating, renewed = self.subscribers["rotating"], new_secret()
        await self.endpoints.rotate(TENANT, self.ids["rotating"], renewed, timedelta(hours=1))
        before = len(rotating.acknowledged)
        await self.until(lambda: len(rotating.acknowledged) > min(before + 50, PLAN["rotating"][1] - 50))
        rotating.secret = renewed  # deployed later than it was rotated

    async def wait_for_the_end(self) -> None:
        """Until every event was consumed, but those of an endpoint that was disabled, and no delivery waits."""
        expected = sum(count for name, (_, count) in PLAN.items() if name != "ended")
        query = (
            "SELECT count(*) FILTER (WHERE endpoint_id <> $1), count(*) FILTER (WHERE state = 'pending')"
            " FROM webhook_deliveries"
        )
        while True:
            async with self.database.tenant(TENANT) as connection:
                made, waiting = await connection.fetchrow(query, self.ids["ended"])
            if (made, waiting) == (expected, 0):
                return
            await asyncio.sleep(0.5)

    async def compare(self, sentinel_hits: int) -> None:
        async with self.database.tenant(TENANT) as connection:
            rows = await connection.fetch(
                "SELECT endpoint_id, state, count(*) AS count, sum(attempts) AS attempts, min(attempts) AS fewest"
                " FROM webhook_deliveries GROUP BY 1, 2"
            )
        report(rows, self.ids, self.subscribers, PLAN)
        self.report_waits()
        check(rows, self.ids, self.subscribers, PLAN, await self.endpoints.get(TENANT, self.ids["ended"]))
        assert sentinel_hits == 0

    def report_waits(self) -> None:
        for name, subscriber in self.subscribers.items():
            waits = sorted(seen - self.published_at[event] for event, seen in subscriber.first_seen.items())
            p50, p95 = waits[len(waits) // 2], waits[len(waits) * 95 // 100]
            sys.stdout.write(
                f"{name:>10}  first attempt after {p50:.2f} s p50, {p95:.2f} s p95, {waits[-1]:.2f} s max\n"
            )

    @staticmethod
    async def until(condition: Any) -> None:
        while not condition():
            await asyncio.sleep(0.05)
