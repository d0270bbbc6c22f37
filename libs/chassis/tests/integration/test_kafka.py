"""Publishing, consuming and the outbox, on a real Kafka and a real Postgres."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from chassis.errors import Unavailable
from chassis.ids import new_id
from chassis.kafka import Consumer, Outbox, OutboxRelay, Publisher, Record, Topic, Undecodable, ensure_topics
from chassis.kafka.publisher import RecordTooLarge
from chassis.postgres import Database
from chassis.testing import free_port
from chassis.testing.kafka import a_kafka_section
from chassis.testing.postgres import scratch_database

from libs.chassis.tests.topics import kafka_bootstrap, read_records, scratch_topic

OTHER_KEY = "other:a-key-of-events-that-no-consumer-knows-at-all"
OUTBOX = """
CREATE TABLE outbox (
    tenant_id text NOT NULL,
    id text NOT NULL,
    topic text NOT NULL,
    value bytea NOT NULL,
    headers jsonb NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, id)
);
CREATE INDEX outbox_in_order ON outbox (id);
"""


class Handler:
    """Records what it handles and fails for the given records."""

    def __init__(self) -> None:
        self.handled: list[bytes] = []
        self.failures: dict[bytes, int] = {}
        self._noted = asyncio.Condition()

    async def __call__(self, record: Record) -> None:
        if record.value.startswith(b"junk"):
            raise Undecodable("no message")
        if self.failures.get(record.value, 0) > 0:
            self.failures[record.value] -= 1
            raise Unavailable("database")
        async with self._noted:
            self.handled.append(record.value)
            self._noted.notify_all()

    async def many(self, records: list[Record]) -> None:
        for record in records:
            await self(record)

    async def until(self, condition: Callable[[list[bytes]], bool]) -> None:
        async with asyncio.timeout(30), self._noted:
            await self._noted.wait_for(lambda: condition(self.handled))


@pytest.fixture
async def topic() -> AsyncIterator[str]:
    async with scratch_topic() as topic:
        yield topic


@pytest.fixture
async def publisher() -> AsyncIterator[Publisher]:
    async with Publisher(a_kafka_section(kafka_bootstrap())) as publisher:
        yield publisher


@asynccontextmanager
async def consuming(
    topic: str, handler: Handler, group: str | None = None, *, many: bool = False
) -> AsyncIterator[Consumer]:
    consumer = Consumer(
        a_kafka_section(kafka_bootstrap(), group or new_id("group-")),
        topic,
        None if many else handler,
        handle_many=handler.many if many else None,
    )
    await consumer.start()
    try:
        yield consumer
    finally:
        await consumer.stop()


async def committed(group: str, topic: str) -> dict[int, int]:
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka_bootstrap())
    await admin.start()
    try:
        offsets = await admin.list_consumer_group_offsets(group)
    finally:
        await admin.close()
    return {at.partition: found.offset for at, found in offsets.items() if at.topic == topic}


async def test_what_is_published_is_handled_with_key_and_headers(topic: str, publisher: Publisher) -> None:
    received: list[Record] = []
    arrived = asyncio.Event()

    async def keep(record: Record) -> None:
        received.append(record)
        arrived.set()

    await publisher.publish(topic, b"ten_a", b"value", {"traceparent": "x"})
    consumer = Consumer(a_kafka_section(kafka_bootstrap(), new_id("group-")), topic, keep)
    await consumer.start()
    async with asyncio.timeout(30):
        await arrived.wait()
    await consumer.ping()
    await consumer.stop()

    (record,) = received
    assert record[:3] == (topic, b"ten_a", b"value")
    assert record.headers["traceparent"] == "x"


@pytest.mark.parametrize("many", [False, True])
async def test_failing_records_are_redelivered_in_order_and_undecodable_ones_dead_lettered(
    topic: str, publisher: Publisher, *, many: bool
) -> None:
    handler = Handler()
    handler.failures[b"3"] = 2
    values = [b"1", b"junk", b"2", b"3", b"4"]
    await publisher.publish_all([Record(topic, b"k", value) for value in values])
    group = new_id("group-")

    async with consuming(topic, handler, group, many=many):
        await handler.until(lambda handled: b"4" in handled)

    kept = list(dict.fromkeys(handler.handled))
    assert kept == [b"1", b"2", b"3", b"4"]
    assert await committed(group, topic) == {0: 5}
    (letter,) = await read_records(topic + ".dlq", 1)
    assert (letter.value, letter.headers["argosy-error"]) == (b"junk", "no message")


async def test_what_was_not_committed_comes_to_the_next_consumer(topic: str, publisher: Publisher) -> None:
    group, first, second = new_id("group-"), Handler(), Handler()
    first.failures[b"2"] = 1_000
    await publisher.publish_all([Record(topic, b"k", value) for value in (b"1", b"2", b"3")])

    async with consuming(topic, first, group):
        await first.until(lambda handled: handled == [b"1"])
        while first.failures[b"2"] == 1_000:
            await asyncio.sleep(0.01)
    async with consuming(topic, second, group):
        await second.until(lambda handled: len(handled) == 2)

    assert first.handled == [b"1"]
    assert second.handled == [b"2", b"3"]


@pytest.mark.parametrize("many", [False, True])
async def test_a_partition_that_fails_does_not_hold_up_the_others(publisher: Publisher, *, many: bool) -> None:
    handler = Handler()
    async with scratch_topic(partitions=2) as topic:
        keys = await keys_of_partitions(publisher, topic)
        handler.failures[b"bad"] = 1_000
        await publisher.publish(topic, keys[0], b"bad")
        async with consuming(topic, handler, many=many):
            while handler.failures[b"bad"] == 1_000:
                await asyncio.sleep(0.01)
            for number in range(5):
                await publisher.publish(topic, keys[1], b"good%d" % number)
            await handler.until(lambda handled: b"good4" in handled)
    assert b"bad" not in handler.handled


async def test_records_of_all_partitions_are_handled_and_committed_together(publisher: Publisher) -> None:
    batches: list[list[Record]] = []
    group, done = new_id("group-"), asyncio.Event()

    async def keep(records: list[Record]) -> None:
        batches.append(records)
        if sum(map(len, batches)) == 40:
            done.set()

    async with scratch_topic(partitions=3) as topic:
        consumer = Consumer(
            a_kafka_section(kafka_bootstrap(), group),
            topic,
            handle_many=keep,
            max_records=30,
            fetch_max_wait=timedelta(milliseconds=300),
        )
        await publisher.publish_all([Record(topic, b"%d" % n, b"early%d" % n) for n in range(20)])
        await consumer.start()
        while not batches:
            await asyncio.sleep(0.01)
        for number in range(20):
            await publisher.publish(topic, b"%d" % number, b"late%d" % number)
        async with asyncio.timeout(30):
            await done.wait()
        await consumer.stop()

        assert len({record.partition for record in batches[0]}) == 3
        assert max(map(len, batches)) <= 30
        assert len(batches) < 10
        assert sum((await committed(group, topic)).values()) == 40
        assert len({record.value for batch in batches for record in batch}) == 40


async def keys_of_partitions(publisher: Publisher, topic: str) -> dict[int, bytes]:
    await publisher.publish_all([Record(topic, b"key%d" % number, b"probe%d" % number) for number in range(20)])
    return {record.partition: record.key for record in await read_records(topic, 20)}


async def test_two_consumers_share_and_lose_nothing_when_one_leaves(publisher: Publisher) -> None:
    group, first, second = new_id("group-"), Handler(), Handler()
    async with scratch_topic(partitions=4) as topic, consuming(topic, first, group):
        await publisher.publish_all([Record(topic, b"%d" % n, b"a%d" % n) for n in range(50)])
        await first.until(lambda handled: len(handled) == 50)
        async with consuming(topic, second, group):
            sent = {b"a%d" % n for n in range(50)}
            while not second.handled:
                values = {b"b%d" % (len(sent) + n) for n in range(20)}
                await publisher.publish_all([Record(topic, value, value) for value in values])
                sent |= values
        await first.until(lambda handled: set(handled) | set(second.handled) == sent)

    assert second.handled


async def test_a_consumer_starts_while_the_broker_is_down_and_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    nowhere = f"127.0.0.1:{free_port()}"
    consumer = Consumer(a_kafka_section(nowhere), "topic", Handler())
    await consumer.start()
    async with Publisher(a_kafka_section(nowhere)) as publisher:
        with pytest.raises(Unavailable):
            await publisher.publish("topic", b"k", b"v")
    with pytest.raises(Unavailable):
        await consumer.ping()
    with pytest.raises(Unavailable):
        await ensure_topics(a_kafka_section(nowhere), [Topic("t", "m", "o", 1, 1, "")], request_seconds=0.5)
    async with asyncio.timeout(30):
        await consumer.stop()


async def test_a_record_that_is_too_large_fails_alone(topic: str, publisher: Publisher) -> None:
    large = Record(topic, b"k", b"x" * 2 * 1024 * 1024)

    failures = await publisher.publish_all([Record(topic, b"k", b"a"), large, Record(topic, b"k", b"b")])

    assert failures[0] is None
    assert isinstance(failures[1], RecordTooLarge)
    assert failures[2] is None
    assert [record.value for record in await read_records(topic, 2)] == [b"a", b"b"]


async def test_more_than_a_batch_holds_arrives_in_order(topic: str, publisher: Publisher) -> None:
    values = [b"%d" % number * 100_000 for number in range(7)]

    failures = await publisher.publish_all([Record(topic, b"k", value) for value in values])

    assert failures == [None] * len(values)
    assert [record.value for record in await read_records(topic, len(values))] == values


async def test_topics_are_made_once_with_their_dead_letters() -> None:
    async with scratch_topic() as existing:
        new = existing + "-b"
        wanted = [Topic(name, "m", "o", 3, 2, name + ".dlq") for name in (existing, new)]
        try:
            created = await asyncio.gather(
                *(ensure_topics(a_kafka_section(kafka_bootstrap()), wanted) for _ in range(2))
            )
            assert sorted(name for names in created for name in names) == [new, new + ".dlq"]
            assert await ensure_topics(a_kafka_section(kafka_bootstrap()), wanted) == []
            await read_partitions(new, 3)
        finally:
            admin = AIOKafkaAdminClient(bootstrap_servers=kafka_bootstrap())
            await admin.start()
            await admin.delete_topics([new, new + ".dlq"])
            await admin.close()


async def read_partitions(topic: str, count: int) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka_bootstrap())
    await admin.start()
    try:
        (described,) = await admin.describe_topics([topic])
    finally:
        await admin.close()
    assert len(described["partitions"]) == count


async def test_events_are_published_when_their_transaction_commits(
    topic: str, publisher: Publisher, tmp_path: Path
) -> None:
    (tmp_path / "0001_outbox.sql").write_text(OUTBOX)
    async with scratch_database(tmp_path, "chassis_test") as section, Database(section, "outbox") as db:
        relays = [OutboxRelay(db, publisher) for _ in range(3)]
        for relay in relays:
            await relay.start()
        for number in range(20):
            async with db.tenant("ten_a") as connection:
                await Outbox.enqueue(connection, topic, "ten_a", b"%d" % number)
            relays[number % 3].wake()
        with pytest.raises(ZeroDivisionError):
            await break_off(db, topic)
        records = await read_records(topic, 20)
        for relay in relays:
            await relay.stop()
        async with db.system() as connection:
            assert await connection.fetchval("SELECT count(*) FROM outbox") == 0

    assert {record.value for record in records} == {b"%d" % number for number in range(20)}
    assert {record.key for record in records} == {b"ten_a"}


async def break_off(db: Database, topic: str) -> None:
    async with db.tenant("ten_a") as connection:
        await Outbox.enqueue(connection, topic, "ten_a", b"never")
        raise ZeroDivisionError


async def test_an_event_of_a_stranger_is_a_dead_letter_and_never_handled(topic: str, publisher: Publisher) -> None:
    handler = Handler()
    stranger = AIOKafkaProducer(bootstrap_servers=kafka_bootstrap())
    await stranger.start()
    try:
        await stranger.send_and_wait(topic, key=b"ten_a", value=b"forged", headers=[("by", b"a stranger")])
    finally:
        await stranger.stop()
    async with Publisher(a_kafka_section(kafka_bootstrap(), signing_keys=OTHER_KEY)) as other:
        await other.publish(topic, b"ten_a", b"signed by a key of nobody")
    await publisher.publish(topic, b"ten_a", b"genuine")

    async with consuming(topic, handler, many=True):
        await handler.until(lambda handled: b"genuine" in handled)
        letters = await read_records(f"{topic}.dlq", 2)

    assert handler.handled == [b"genuine"]
    assert [letter.value for letter in letters] == [b"forged", b"signed by a key of nobody"]
    assert letters[0].headers == {
        "by": "a stranger",
        "argosy-error": "the event is not signed",
        "argosy-partition": "0",
        "argosy-offset": "0",
    }
    assert letters[1].headers["argosy-error"] == "the event is signed with an unknown key"
    assert letters[1].headers["argosy-key-id"] == "other"
