"""Topics that exist for one test, on the real Kafka that ARGOSY_KAFKA_BOOTSTRAP names."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiokafka import AIOKafkaConsumer
from aiokafka.admin import AIOKafkaAdminClient
from chassis.ids import new_id
from chassis.kafka import Record, Topic, ensure_topics
from chassis.kafka.record import DEAD_LETTERS
from chassis.testing.kafka import a_kafka_section


class MissingKafka(Exception):
    """ARGOSY_KAFKA_BOOTSTRAP is not set."""


def kafka_bootstrap() -> str:
    """Return the brokers of the environment, or raise `MissingKafka`."""
    bootstrap = os.environ.get("ARGOSY_KAFKA_BOOTSTRAP")
    if not bootstrap:
        raise MissingKafka("ARGOSY_KAFKA_BOOTSTRAP names no Kafka; see CONTRIBUTING.md")
    return bootstrap


@asynccontextmanager
async def scratch_topic(partitions: int = 1) -> AsyncIterator[str]:
    """Make a topic with its dead letters and yield its name; delete both at the end."""
    name = new_id("argosy.test.").replace("_", "-")
    topic = Topic(name, "", "tests", partitions, retention_hours=1, dead_letters=name + DEAD_LETTERS)
    await ensure_topics(a_kafka_section(kafka_bootstrap()), [topic])
    try:
        yield name
    finally:
        admin = AIOKafkaAdminClient(bootstrap_servers=kafka_bootstrap())
        await admin.start()
        try:
            await admin.delete_topics([topic.name, topic.dead_letters])
        finally:
            await admin.close()


async def read_records(topic: str, count: int, within_seconds: float = 15.0) -> list[Record]:
    """Return the first `count` records of a topic, waiting for them; raise `TimeoutError` when they do not come."""
    consumer = AIOKafkaConsumer(topic, bootstrap_servers=kafka_bootstrap(), auto_offset_reset="earliest")
    await consumer.start()
    try:
        async with asyncio.timeout(within_seconds):
            return [Record.from_kafka(await consumer.getone()) for _ in range(count)]
    finally:
        await consumer.stop()
