"""Whether all usage events are settled, asked of a real Kafka: alone, behind, and frozen."""

from __future__ import annotations

import asyncio
import os
from datetime import timedelta

import pytest
from chassis.errors import Unavailable
from chassis.ids import new_id
from chassis.kafka import Consumer, Publisher, Record, Topic, ensure_topics
from chassis.testing.kafka import a_kafka_section
from chassis.testing.network import TcpProxy
from metering.settlement.kafka import KafkaUsageEvents

PATIENT = timedelta(seconds=60)
SHORT = timedelta(seconds=5)
"""Of the questions whose answer is no: they wait for the group until it ends."""


@pytest.fixture
async def topic() -> str:
    name = f"argosy.test.{new_id('t')}.v1"
    description = Topic(name, "argosy.metering.v1.UsageRecorded", "metering", 3, 1, f"{name}.dlq")
    await ensure_topics(a_kafka_section(bootstrap()), [description])
    return name


def bootstrap() -> str:
    return os.environ["ARGOSY_KAFKA_BOOTSTRAP"]


def events_of(topic: str, group: str, timeout: timedelta = PATIENT, address: str = "") -> KafkaUsageEvents:
    return KafkaUsageEvents(a_kafka_section(address or bootstrap(), group), topic, timeout)


async def publish(topic: str, count: int) -> None:
    async with Publisher(a_kafka_section(bootstrap())) as publisher:
        for number in range(count):
            await publisher.publish(topic, f"ten_{number}".encode(), b"event")


async def test_an_empty_topic_has_nothing_to_settle(topic: str) -> None:
    assert await events_of(topic, new_id("g")).all_settled()


async def test_published_events_wait_until_the_group_has_committed_them(topic: str) -> None:
    group = new_id("g")
    events = events_of(topic, group, SHORT)
    await publish(topic, 9)
    assert not await events.all_settled()

    async def handle(records: list[Record]) -> None:
        await asyncio.sleep(0.1)

    consumer = Consumer(a_kafka_section(bootstrap(), group), topic, handle_many=handle)
    await consumer.start()
    try:
        # It waits for what is being settled now, as there always is something under load.
        assert await events_of(topic, group).all_settled()
    finally:
        await consumer.stop()
    await publish(topic, 1)
    assert not await events.all_settled()


async def test_while_kafka_is_frozen_or_away_no_answer_is_given_and_it_comes_back(topic: str) -> None:
    async with TcpProxy(int(bootstrap().rpartition(":")[2])) as proxy:
        address, group = f"127.0.0.1:{proxy.port}", new_id("g")
        events = events_of(topic, group, timedelta(seconds=2), address)
        proxy.freeze()
        async with asyncio.timeout(30):
            with pytest.raises(Unavailable):
                await events.all_settled()
        await proxy.cut()
        with pytest.raises(Unavailable):
            await events.all_settled()
        await proxy.mend()
        assert await events_of(topic, group, PATIENT, address).all_settled()


async def test_a_topic_that_does_not_exist_is_no_answer() -> None:
    with pytest.raises(Unavailable):
        await events_of(f"argosy.test.{new_id('none')}.v1", new_id("g")).all_settled()
