"""Usage events through a real Kafka: delivered at least once, settled exactly once."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from argosy.common.v1 import common_pb2
from argosy.metering.v1 import events_pb2
from chassis.clock import SystemClock
from chassis.ids import new_id
from chassis.kafka import Consumer, Publisher, Topic, ensure_topics
from chassis.testing.kafka import a_kafka_section
from metering.prices.model import PriceCache, PriceRow
from metering.reservations.model import PricedReservation, ReservationState
from metering.settlement.consumer import UsageConsumer
from values.money import NanoUsd

from services.metering.tests.examples import a_reservation
from services.metering.tests.fakes import Stores


@pytest.fixture
async def topic() -> str:
    """A topic of this test's own: metering of the fleet must not settle these events."""
    name = f"argosy.test.{new_id('t')}.v1"
    description = Topic(name, "argosy.metering.v1.UsageRecorded", "metering", 3, 1, f"{name}.dlq")
    await ensure_topics(a_kafka_section(bootstrap()), [description])
    return name


@pytest.fixture
async def price(stores: Stores) -> PriceRow:
    return await stores.price_book.add(f"local/{new_id('m')}", NanoUsd(1_000_000), NanoUsd(2_000_000))


@pytest.fixture
async def consumers(stores: Stores, other_stores: Stores, topic: str) -> AsyncIterator[list[Consumer]]:
    """Two consumers of one group, as two replicas have them."""
    clock, group = SystemClock(), new_id("g")
    consumers = [
        Consumer(
            a_kafka_section(bootstrap(), group),
            topic,
            handle_many=UsageConsumer(
                settlements=replica.settlements,
                prices=PriceCache(replica.price_book, clock, timedelta(seconds=5)),
                clock=clock,
            ).settle,
            max_records=7,
        )
        for replica in (stores, other_stores)
    ]
    for consumer in consumers:
        await consumer.start()
    yield consumers
    for consumer in consumers:
        await consumer.stop()


def bootstrap() -> str:
    return os.environ["ARGOSY_KAFKA_BOOTSTRAP"]


def an_event(priced: PricedReservation, version: str | None = None) -> bytes:
    """Make an event with one call of 5 input tokens."""
    price = priced.bounds[0].row.price
    usage = common_pb2.TokenUsage(source=common_pb2.USAGE_SOURCE_REPORTED, input_tokens=5, output_tokens=0)
    attempt = events_pb2.AttemptUsage(
        attempt=1, price_key=price.key, price_version=version or price.version, usage=usage
    )
    return events_pb2.UsageRecorded(
        meta=common_pb2.EventMeta(event_id=new_id("evt_"), tenant_id=priced.request.tenant_id),
        request_id=priced.request.request_id,
        attempts=[attempt],
    ).SerializeToString()


async def until_settled(stores: Stores, reservations: list[PricedReservation]) -> None:
    """Wait until nothing is held."""
    async with asyncio.timeout(60):
        for priced in reservations:
            while (
                await stores.settlements.statement(priced.request.tenant_id, priced.request.request_id)
            ).reservation.state is ReservationState.HELD:
                await asyncio.sleep(0.05)


async def test_each_request_is_settled_once_and_events_that_cannot_be_settled_are_dead_lettered(
    stores: Stores, topic: str, price: PriceRow, consumers: list[Consumer]
) -> None:
    reservations = [a_reservation(f"ten_{number % 5}{new_id('')}", price, 10) for number in range(30)]
    await asyncio.gather(*(stores.reservations.reserve(priced) for priced in reservations))
    undecodable = [b"\xff", an_event(reservations[0], version="prc_none")]
    async with Publisher(a_kafka_section(bootstrap())) as publisher:
        for number, priced in enumerate(reservations):
            for _ in range(3):
                await publisher.publish(topic, priced.request.tenant_id.encode(), an_event(priced))
            if number < len(undecodable):
                await publisher.publish(topic, priced.request.tenant_id.encode(), undecodable[number])

    await until_settled(stores, reservations)

    for priced in reservations:
        statement = await stores.settlements.statement(priced.request.tenant_id, priced.request.request_id)
        assert [(row.attempt, row.cost) for row in statement.settlements] == [(1, 5)]
        assert (await stores.budgets.read(priced.request.tenant_id)).spent == 5
    assert await dead_letters(topic, set(undecodable)) == set(undecodable)


async def test_an_event_that_no_service_has_signed_is_never_settled(
    stores: Stores, topic: str, price: PriceRow, consumers: list[Consumer]
) -> None:
    forged, genuine = (a_reservation(f"ten_{new_id('')}", price, 10) for _ in range(2))
    for priced in (forged, genuine):
        await stores.reservations.reserve(priced)
    event = an_event(forged)
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap())
    await producer.start()
    await producer.send_and_wait(topic, key=forged.request.tenant_id.encode(), value=event)
    await producer.stop()
    async with Publisher(a_kafka_section(bootstrap())) as publisher:
        await publisher.publish(topic, genuine.request.tenant_id.encode(), an_event(genuine))

    await until_settled(stores, [genuine])

    assert await dead_letters(topic, {event}) == {event}
    assert (await stores.budgets.read(forged.request.tenant_id)).spent == 0


async def dead_letters(topic: str, wanted: set[bytes]) -> set[bytes]:
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
