"""Results of the publisher when only some records are acknowledged."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from aiokafka.errors import KafkaError, TopicAuthorizationFailedError
from aiokafka.producer.message_accumulator import BatchBuilder
from chassis.errors import Unavailable
from chassis.kafka import Publisher, Record, publisher
from chassis.testing.kafka import a_kafka_section

BAD, GOOD = "bad", "good"


class FakeProducer:
    """Acknowledges records for `GOOD` after a moment; `BAD` gets `failure`, or no answer."""

    def __init__(self, failure: KafkaError | None) -> None:
        self.failure = failure
        self.stopped = asyncio.Event()
        self.sent: list[str] = []

    async def partitions_for(self, _: str) -> set[int]:
        return {0}

    def create_batch(self) -> BatchBuilder:
        return BatchBuilder(1024, 0)

    async def send_batch(self, _: BatchBuilder, topic: str, *, partition: int) -> asyncio.Future[int]:
        self.sent.append(topic)
        loop = asyncio.get_running_loop()
        acknowledged: asyncio.Future[int] = loop.create_future()
        if topic == GOOD:
            loop.call_later(0.01, acknowledged.set_result, partition)
        elif self.failure is not None:
            acknowledged.set_exception(self.failure)
        return acknowledged

    async def stop(self) -> None:
        self.stopped.set()


def record(topic: str) -> Record:
    return Record(topic, b"k", b"v")


@pytest.mark.parametrize("failure", [None, TopicAuthorizationFailedError(BAD)])
async def test_acknowledged_records_are_published_whatever_happens_to_the_rest(
    failure: KafkaError | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    producer = FakeProducer(failure)

    async def started(_: Publisher) -> Any:
        return producer

    monkeypatch.setattr(Publisher, "_start_producer", started)
    monkeypatch.setattr(publisher, "ACK_TIMEOUT_SECONDS", 0.1)
    async with Publisher(a_kafka_section("nowhere:1")) as telling:
        lost, *published = await telling.publish_all([record(BAD), record(GOOD), record(GOOD)])

        assert isinstance(lost, Unavailable)
        assert published == [None, None]
        await producer.stopped.wait()


async def test_nothing_to_publish_is_published(monkeypatch: pytest.MonkeyPatch) -> None:
    producer = FakeProducer(None)

    async def started(_: Publisher) -> Any:
        return producer

    monkeypatch.setattr(Publisher, "_start_producer", started)
    async with Publisher(a_kafka_section("nowhere:1")) as telling:
        assert await telling.publish_all([]) == []
        assert not producer.stopped.is_set()
