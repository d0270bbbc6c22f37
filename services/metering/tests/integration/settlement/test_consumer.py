"""Usage events through a real Kafka: at least once there, exactly once in the books."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
from aiokafka import AIOKafkaConsumer
from argosy.common.v1 import common_pb2 as common
from argosy.metering.v1 import events_pb2 as pb
from chassis.clock import SystemClock
from chassis.ids import new_id
from chassis.kafka import Consumer, Publisher, Topic, ensure_topics
from metering.api.events import UsageEvents
from metering.domain.money import NanoUsd
from metering.domain.prices import Price, Prices
from metering.domain.reservations import Hold, State

from services.metering.tests.examples import a_hold
from services.metering.tests.fakes import Books


@pytest.fixture
async def topic() -> str:
    """A topic of this test's own: the fleet's metering must not settle what it never held."""
    name = f"argosy.test.{new_id('t')}.v1"
    description = Topic(name, "argosy.metering.v1.UsageRecorded", "metering", 3, 1, f"{name}.dlq")
    await ensure_topics(bootstrap(), [description])
    return name


@pytest.fixture
async def price(books: Books) -> Price:
    return await books.price_book.add(f"local/{new_id('m')}", NanoUsd(1_000_000), NanoUsd(2_000_000))


@pytest.fixture
async def consumers(books: Books, other_books: Books, topic: str) -> AsyncIterator[list[Consumer]]:
    """Two consumers of one group, as two replicas have them."""
    clock, group = SystemClock(), new_id("g")
    consumers = [
        Consumer(
            bootstrap(),
            group,
            topic,
            handle_many=UsageEvents(
                ledger=replica.ledger, prices=Prices(replica.price_book, clock, timedelta(seconds=5)), clock=clock
            ).settle,
            max_records=7,
        )
        for replica in (books, other_books)
    ]
    for consumer in consumers:
        await consumer.start()
    yield consumers
    for consumer in consumers:
        await consumer.stop()


def bootstrap() -> str:
    return os.environ["ARGOSY_KAFKA_BOOTSTRAP"]


def an_event(hold: Hold, version: str | None = None) -> bytes:
    """Tell of one call of 3 tokens read and 1 written."""
    price = hold.bounds[0].price
    usage = common.TokenUsage(source=common.USAGE_SOURCE_REPORTED, input_tokens=3, output_tokens=1)
    attempt = pb.AttemptUsage(attempt=1, price_key=price.price_key, price_version=version or price.version, usage=usage)
    return pb.UsageRecorded(
        meta=common.EventMeta(event_id=new_id("evt_"), tenant_id=hold.tenant_id),
        request_id=hold.request_id,
        attempts=[attempt],
    ).SerializeToString()


async def until_settled(books: Books, holds: list[Hold]) -> None:
    """Wait until nothing is held."""
    async with asyncio.timeout(60):
        for hold in holds:
            while (await books.ledger.account(hold.tenant_id, hold.request_id)).reservation.state is State.HELD:
                await asyncio.sleep(0.05)


async def test_each_request_is_settled_once_however_often_it_is_told_and_what_cannot_be_settled_is_buried(
    books: Books, topic: str, price: Price, consumers: list[Consumer]
) -> None:
    holds = [a_hold(f"ten_{number % 5}{new_id('')}", price, 10) for number in range(30)]
    await asyncio.gather(*(books.reservations.hold(hold) for hold in holds))
    poison = [b"\xff", an_event(holds[0], version="prc_none")]
    async with Publisher(bootstrap()) as publisher:
        for number, hold in enumerate(holds):
            for _ in range(3):
                await publisher.publish(topic, hold.tenant_id.encode(), an_event(hold))
            if number < len(poison):
                await publisher.publish(topic, hold.tenant_id.encode(), poison[number])

    await until_settled(books, holds)

    for hold in holds:
        account = await books.ledger.account(hold.tenant_id, hold.request_id)
        assert [(row.attempt, row.cost) for row in account.settlements] == [(1, 5)]
        assert (await books.budgets.read(hold.tenant_id)).spent == 5
    assert await buried(topic, set(poison)) == set(poison)


async def buried(topic: str, wanted: set[bytes]) -> set[bytes]:
    """Read the dead letters until the wanted ones are among them; like all records, they may be there twice."""
    consumer = AIOKafkaConsumer(f"{topic}.dlq", bootstrap_servers=bootstrap(), auto_offset_reset="earliest")
    await consumer.start()
    letters: set[bytes] = set()
    try:
        async with asyncio.timeout(30):
            while not wanted <= letters:
                found = await consumer.getmany(timeout_ms=200)
                letters |= {record.value for records in found.values() for record in records}
    finally:
        await consumer.stop()
    return letters
