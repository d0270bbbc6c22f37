"""Usage reaches Kafka from the outbox."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer
from argosy.metering.v1.events_pb2 import UsageRecorded
from chassis.kafka import OutboxRelay, Publisher, ensure_topics, load_topics
from chassis.postgres import Database
from chassis.testing import free_port
from orchestrator.adapters.events import USAGE_RECORDED
from orchestrator.adapters.postgres import PostgresUsageLog

from services.orchestrator.tests.usage_log import some_usage

TOPICS = Path(__file__).parents[4] / "proto" / "topics"


@pytest.fixture
async def bootstrap() -> str:
    bootstrap = os.environ["ARGOSY_KAFKA_BOOTSTRAP"]
    await ensure_topics(bootstrap, [topic for topic in load_topics(TOPICS) if topic.name == USAGE_RECORDED])
    return bootstrap


async def test_events_arrive_keyed_by_their_tenant_and_leave_the_outbox(
    database: Database, owner: Any, bootstrap: str
) -> None:
    usages = [some_usage(f"ten_{n % 2}", f"req_{n}") for n in range(20)]
    consumer = AIOKafkaConsumer(USAGE_RECORDED, bootstrap_servers=bootstrap, auto_offset_reset="earliest")
    async with Publisher(bootstrap) as publisher:
        relay = OutboxRelay(database, publisher)
        log = PostgresUsageLog(database, on_written=relay.wake)
        await relay.start()
        await asyncio.gather(*(log.record(usage) for usage in usages))
        await relay.stop()

    await consumer.start()
    try:
        arrived = await _those_of(consumer, {usage.event_id for usage in usages})
    finally:
        await consumer.stop()
    assert sorted(arrived) == sorted((usage.tenant_id.encode(), usage.event_id) for usage in usages)
    assert await log.pending() == 0


async def test_while_kafka_is_away_events_wait_in_the_outbox(database: Database, owner: Any) -> None:
    async with Publisher(f"127.0.0.1:{free_port()}") as publisher:
        relay = OutboxRelay(database, publisher)
        log = PostgresUsageLog(database, on_written=relay.wake)

        await log.record(some_usage())
        found, published = await relay.relay()

    assert (found, published) == (1, 0)
    assert await log.pending() == 1


async def _those_of(consumer: Any, wanted: set[str]) -> list[tuple[bytes, str]]:
    arrived: list[tuple[bytes, str]] = []
    async with asyncio.timeout(30):
        while len(arrived) < len(wanted):
            record = await consumer.getone()
            event = UsageRecorded.FromString(record.value)
            # Other tests, and a fleet beside them, use the topic too.
            if event.meta.event_id in wanted:
                arrived.append((record.key, event.meta.event_id))
    return arrived
