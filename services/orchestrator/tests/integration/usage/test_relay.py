"""Usage reaches Kafka from the outbox."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka.admin import AIOKafkaAdminClient
from argosy.metering.v1.events_pb2 import UsageRecorded
from chassis.ids import new_id
from chassis.kafka import OutboxRelay, Publisher, Topic, ensure_topics
from chassis.postgres import Database
from chassis.testing import free_port
from chassis.testing.kafka import a_kafka_section
from orchestrator.usage.outbox import PostgresUsageOutbox

from services.orchestrator.tests.usage_outbox_contract import some_usage


@pytest.fixture
async def topic() -> AsyncIterator[str]:
    """A topic for this test: a fleet that runs at the same time would settle events on the real one."""
    name = f"test.{new_id('usage-')}"
    bootstrap = os.environ["ARGOSY_KAFKA_BOOTSTRAP"]
    await ensure_topics(a_kafka_section(bootstrap), [Topic(name, "UsageRecorded", "tests", 3, 1, "")])
    yield name
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    await admin.delete_topics([name])
    await admin.close()


async def test_events_arrive_keyed_by_their_tenant_and_leave_the_outbox(
    database: Database, owner: Any, topic: str
) -> None:
    bootstrap = os.environ["ARGOSY_KAFKA_BOOTSTRAP"]
    usages = [some_usage(f"ten_{n % 2}", f"req_{n}") for n in range(20)]
    outbox = PostgresUsageOutbox(database, on_written=lambda: None)
    await asyncio.gather(*(outbox.write(usage) for usage in usages))
    await owner.execute("UPDATE outbox SET topic = $1", topic)

    async with Publisher(a_kafka_section(bootstrap)) as publisher:
        relay = OutboxRelay(database, publisher)
        await relay.start()
        await relay.stop()

    consumer = AIOKafkaConsumer(topic, bootstrap_servers=bootstrap, auto_offset_reset="earliest")
    await consumer.start()
    try:
        arrived = [await _next(consumer) for _ in usages]
    finally:
        await consumer.stop()
    assert sorted(arrived) == sorted((usage.tenant_id.encode(), usage.event_id) for usage in usages)
    assert await outbox.count_pending() == 0


@pytest.mark.degraded(down="Kafka", area="sync", holds="events wait in the outbox in their order")
async def test_while_kafka_is_unavailable_events_wait_in_the_outbox(database: Database, owner: Any) -> None:
    async with Publisher(a_kafka_section(f"127.0.0.1:{free_port()}")) as publisher:
        relay = OutboxRelay(database, publisher)
        outbox = PostgresUsageOutbox(database, on_written=lambda: None)

        await outbox.write(some_usage())
        found, published = await relay.relay()

    assert (found, published) == (1, 0)
    assert await outbox.count_pending() == 1


async def _next(consumer: Any) -> tuple[bytes, str]:
    async with asyncio.timeout(30):
        record = await consumer.getone()
    return record.key, UsageRecorded.FromString(record.value).meta.event_id
