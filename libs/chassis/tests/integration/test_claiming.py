"""The consumer of long work, on a real Kafka: what is claimed is done, whatever the work or the group does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta

import pytest
from aiokafka import AIOKafkaProducer
from chassis.errors import Unavailable
from chassis.ids import new_id
from chassis.kafka import ClaimingConsumer, Publisher, Record, Undecodable
from chassis.testing.kafka import a_kafka_section

from libs.chassis.tests.integration.test_kafka import committed
from libs.chassis.tests.topics import kafka_bootstrap, read_records, scratch_topic

AT_ONCE = timedelta(0)
SESSION_SECONDS = 6.0


class Claims:
    """A claim that records what it gets; its work lasts until `finish` is set."""

    def __init__(self) -> None:
        self.claimed: list[bytes] = []
        self.ended: list[bytes] = []
        self.failures: dict[bytes, int] = {}
        self.hold_claims = asyncio.Event()
        self.hold_claims.set()
        self.finish = asyncio.Event()
        self.asked: list[bytes] = []
        self._changed = asyncio.Condition()

    async def __call__(self, record: Record) -> Callable[[], Awaitable[None]] | None:
        await self._note(self.asked, record.value)
        await self.hold_claims.wait()
        if record.value.startswith(b"junk"):
            raise Undecodable("no message")
        if self.failures.get(record.value, 0) > 0:
            self.failures[record.value] -= 1
            raise Unavailable("the owner does not answer")
        await self._note(self.claimed, record.value)
        return None if record.value.startswith(b"stale") else lambda: self._work(record)

    async def _work(self, record: Record) -> None:
        await self.finish.wait()
        await self._note(self.ended, record.value)

    async def _note(self, values: list[bytes], value: bytes) -> None:
        async with self._changed:
            values.append(value)
            self._changed.notify_all()

    async def until(self, condition: Callable[[], bool], seconds: float = 60) -> None:
        async with asyncio.timeout(seconds), self._changed:
            await self._changed.wait_for(condition)


class ListenedConsumer(ClaimingConsumer):
    """Counts its rebalances."""

    rebalances = 0

    async def prepare_rebalance(self) -> None:
        self.rebalances += 1
        await super().prepare_rebalance()


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
    claims: Claims,
    *topics: str,
    group: str = "",
    slots: int = 4,
    handicap: timedelta = AT_ONCE,
    member_name: str = "",
) -> AsyncIterator[ListenedConsumer]:
    section = a_kafka_section(kafka_bootstrap(), group or new_id("group-"))
    waits = {topic: number * handicap for number, topic in enumerate(topics)}
    consumer = ListenedConsumer(section, waits, claims, slots=slots, member_name=member_name)
    await consumer.start()
    try:
        yield consumer
    finally:
        claims.hold_claims.set()
        claims.finish.set()
        await consumer.stop()


async def until_committed(group: str, topic: str, offsets: dict[int, int]) -> None:
    async with asyncio.timeout(30):
        while await committed(group, topic) != offsets:
            await asyncio.sleep(0.05)


async def test_an_offset_is_committed_after_the_claim_while_the_work_still_runs(
    topic: str, publisher: Publisher
) -> None:
    claims, group = Claims(), new_id("group-")
    await publisher.publish_all([Record(topic, b"k", b"%d" % number) for number in range(3)])

    async with consuming(claims, topic, group=group) as consumer:
        await claims.until(lambda: len(claims.claimed) == 3)
        await until_committed(group, topic, {0: 3})

        assert claims.ended == []
        assert consumer.slots_used == 3
    assert sorted(claims.ended) == [b"0", b"1", b"2"]


async def test_no_record_is_claimed_without_a_free_slot(topic: str, publisher: Publisher) -> None:
    claims, group = Claims(), new_id("group-")
    await publisher.publish_all([Record(topic, b"k", b"%d" % number) for number in range(5)])

    async with consuming(claims, topic, group=group, slots=2):
        await claims.until(lambda: len(claims.claimed) == 2)
        await until_committed(group, topic, {0: 2})
        assert claims.asked == [b"0", b"1"]
        claims.finish.set()
        await claims.until(lambda: len(claims.ended) == 5)
        await until_committed(group, topic, {0: 5})

    assert claims.asked == [b"0", b"1", b"2", b"3", b"4"]


async def test_a_record_that_needs_no_work_frees_its_slot_at_once(topic: str, publisher: Publisher) -> None:
    claims, group = Claims(), new_id("group-")
    await publisher.publish_all([Record(topic, b"k", b"stale%d" % number) for number in range(20)])

    async with consuming(claims, topic, group=group, slots=1):
        await until_committed(group, topic, {0: 20})

    assert len(claims.claimed) == 20


async def test_the_urgent_topic_goes_first_and_the_other_does_not_starve(publisher: Publisher) -> None:
    claims = Claims()
    async with (
        scratch_topic() as urgent,
        scratch_topic() as patient,
        consuming(claims, urgent, patient, slots=1, handicap=timedelta(seconds=8)) as consumer,
    ):
        # With the slot taken, all wait in the consumer's memory.
        await publisher.publish(urgent, b"k", b"first")
        await claims.until(lambda: claims.claimed == [b"first"])
        await publisher.publish(patient, b"k", b"patient")
        await until_waiting(consumer, 1)
        await publisher.publish(urgent, b"k", b"urgent")
        await until_waiting(consumer, 2)
        await asyncio.sleep(8.1)  # so that the patient one is due before what is published next
        await publisher.publish(urgent, b"k", b"late")
        await until_waiting(consumer, 3)
        claims.finish.set()
        await claims.until(lambda: len(claims.ended) == 4)

    assert claims.claimed == [b"first", b"urgent", b"patient", b"late"]


async def until_waiting(consumer: ClaimingConsumer, count: int) -> None:
    async with asyncio.timeout(30):
        while len(consumer._waiting) < count:
            await asyncio.sleep(0.02)


async def test_a_record_whose_claim_fails_is_claimed_again_and_holds_up_no_other(
    topic: str, publisher: Publisher
) -> None:
    claims, group = Claims(), new_id("group-")
    claims.failures[b"0"] = 3
    await publisher.publish_all([Record(topic, b"k", b"%d" % number) for number in range(4)])

    async with consuming(claims, topic, group=group, slots=1):
        claims.finish.set()
        await claims.until(lambda: len(claims.claimed) == 4)
        await until_committed(group, topic, {0: 4})

    assert claims.claimed[-1] == b"0"
    assert claims.asked.count(b"0") == 4


async def test_what_is_not_claimed_is_not_committed_and_comes_to_the_next_consumer(
    topic: str, publisher: Publisher
) -> None:
    first, second, group = Claims(), Claims(), new_id("group-")
    first.failures[b"1"] = 1_000_000
    await publisher.publish_all([Record(topic, b"k", b"%d" % number) for number in range(3)])

    async with consuming(first, topic, group=group):
        await first.until(lambda: len(first.claimed) == 2)
        await until_committed(group, topic, {0: 1})
    async with consuming(second, topic, group=group):
        await second.until(lambda: len(second.claimed) == 2)

    assert first.claimed == [b"0", b"2"]
    assert second.claimed == [b"1", b"2"]  # the owner of the work refuses the second claim of 2


async def test_forged_and_undecodable_records_become_dead_letters_with_a_reason(
    topic: str, publisher: Publisher
) -> None:
    claims, group = Claims(), new_id("group-")
    stranger = AIOKafkaProducer(bootstrap_servers=kafka_bootstrap())
    await stranger.start()
    try:
        await stranger.send_and_wait(topic, key=b"k", value=b"forged")
    finally:
        await stranger.stop()
    await publisher.publish_all([Record(topic, b"k", value) for value in (b"junk", b"good")])

    async with consuming(claims, topic, group=group):
        await claims.until(lambda: claims.claimed == [b"good"])
        await until_committed(group, topic, {0: 3})
        letters = await read_records(f"{topic}.dlq", 2)

    reasons = {letter.value: letter.headers["argosy-error"] for letter in letters}
    assert reasons == {b"forged": "the event is not signed", b"junk": "no message"}


async def test_work_that_outlasts_the_session_and_the_poll_interval_causes_no_rebalance(
    topic: str, publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    # aiokafka leaves the group when it is not polled for this long; in production it is five minutes.
    monkeypatch.setattr(ListenedConsumer, "_fetch_options", lambda self: {"max_poll_interval_ms": 7_000})
    claims, group = Claims(), new_id("group-")
    async with consuming(claims, topic, group=group, slots=1) as consumer:
        await publisher.publish_all([Record(topic, b"k", b"%d" % number) for number in range(300)])
        await claims.until(lambda: len(claims.claimed) == 1)
        joined = consumer.rebalances

        await asyncio.sleep(SESSION_SECONDS + 4)  # the subject of the test

        assert consumer.rebalances == joined
        assert claims.asked == [b"0"]
        assert consumer._consumer.paused() == consumer._consumer.assignment()
        claims.finish.set()
        await claims.until(lambda: len(claims.ended) == 300)
        await until_committed(group, topic, {0: 300})
        assert consumer.rebalances == joined
    assert len(claims.claimed) == len(set(claims.claimed)) == 300


async def test_a_rebalance_loses_nothing_and_repeats_no_claim_while_work_runs(publisher: Publisher) -> None:
    first, second, group = Claims(), Claims(), new_id("group-")
    async with scratch_topic(partitions=4) as topic, AsyncExitStack() as stack:
        sent = [b"%d" % number for number in range(40)]
        consumer = await stack.enter_async_context(consuming(first, topic, group=group, slots=5))
        await publisher.publish_all([Record(topic, value, value) for value in sent])
        await first.until(lambda: len(first.claimed) == 5)
        joined = consumer.rebalances

        await stack.enter_async_context(consuming(second, topic, group=group, slots=5))
        await second.until(lambda: len(second.claimed) == 5)

        assert consumer.rebalances > joined
        assert first.ended == []  # what ran before the rebalance goes on
        first.finish.set()
        second.finish.set()
        await first.until(lambda: len(first.ended) >= 5)
        async with asyncio.timeout(60):
            while len(first.claimed) + len(second.claimed) < len(sent):
                await asyncio.sleep(0.05)

    claimed = first.claimed + second.claimed
    assert sorted(claimed) == sorted(sent)


async def test_a_claim_in_flight_delays_a_rebalance_until_it_is_committed(publisher: Publisher) -> None:
    first, second, group = Claims(), Claims(), new_id("group-")
    async with scratch_topic(partitions=2) as topic, AsyncExitStack() as stack:
        consumer = await stack.enter_async_context(consuming(first, topic, group=group, slots=8))
        first.hold_claims.clear()
        sent = [b"%d" % number for number in range(8)]
        await publisher.publish_all([Record(topic, value, value) for value in sent])
        await first.until(lambda: len(first.asked) == 8)
        joined = consumer.rebalances

        await stack.enter_async_context(consuming(second, topic, group=group, slots=16))
        async with asyncio.timeout(30):
            while consumer.rebalances == joined:
                await asyncio.sleep(0.02)
        first.hold_claims.set()
        first.finish.set()
        await first.until(lambda: len(first.ended) == 8)
        late = [b"late" + value for value in sent]
        await publisher.publish_all([Record(topic, value, value) for value in late])
        async with asyncio.timeout(60):
            while len(first.claimed) + len(second.claimed) < 16:
                await asyncio.sleep(0.05)

    assert sorted(first.claimed + second.claimed) == sorted([*sent, *late])


async def test_when_a_consumer_dies_the_other_gets_what_it_had_not_claimed(publisher: Publisher) -> None:
    dead, alive, group = Claims(), Claims(), new_id("group-")
    section = a_kafka_section(kafka_bootstrap(), group)
    async with scratch_topic(partitions=4) as topic:
        doomed = ListenedConsumer(section, {topic: AT_ONCE}, dead, slots=3)
        await doomed.start()
        sent = [b"%d" % number for number in range(20)]
        await publisher.publish_all([Record(topic, value, value) for value in sent])
        await dead.until(lambda: len(dead.claimed) == 3)
        await kill(doomed)

        async with consuming(alive, topic, group=group, slots=4):
            alive.finish.set()
            await alive.until(lambda: set(sent) <= {*dead.claimed, *alive.claimed})
            async with asyncio.timeout(30):
                while sum((await committed(group, topic)).values()) < len(sent):
                    await asyncio.sleep(0.1)

    # At most those are claimed twice that were claimed, and not committed, when it died.
    assert len(alive.claimed) <= len(sent)


async def test_a_named_member_that_dies_and_comes_back_has_its_partitions_without_a_rebalance(
    publisher: Publisher,
) -> None:
    dead, again, other, group = Claims(), Claims(), Claims(), new_id("group-")
    section, sent = a_kafka_section(kafka_bootstrap(), group), [b"%d" % number for number in range(20)]
    async with scratch_topic(partitions=4) as topic, AsyncExitStack() as stack:
        # The first of a group is its leader, who assigns the partitions.
        doomed = ListenedConsumer(section, {topic: AT_ONCE}, dead, slots=1000, member_name="one")
        await doomed.start()
        await publisher.publish_all([Record(topic, value, value) for value in sent])
        await dead.until(lambda: len(dead.claimed) == 20)
        bystander = await stack.enter_async_context(consuming(other, topic, group=group, slots=1000, member_name="two"))
        await publish_until(publisher, topic, lambda: bool(dead.claimed[20:]) and bool(other.claimed))
        settled = bystander.rebalances
        await kill(doomed)

        back = await stack.enter_async_context(consuming(again, topic, group=group, slots=1000, member_name="one"))
        late = [b"late %d" % number for number in range(40)]
        await publisher.publish_all([Record(topic, value, value) for value in late])
        await again.until(lambda: set(late) <= {*again.claimed, *other.claimed})

        assert bystander.rebalances == settled
        assert set(late) & set(again.claimed)

        # One that leaves is not waited for.
        back.stop_taking()
        last = [b"last %d" % number for number in range(10)]
        await publisher.publish_all([Record(topic, value, value) for value in last])
        await other.until(lambda: set(last) <= {*again.claimed, *other.claimed}, SESSION_SECONDS)


async def publish_until(publisher: Publisher, topic: str, condition: Callable[[], bool]) -> None:
    """Publish a record to any partition, again and again."""
    async with asyncio.timeout(60):
        while not condition():
            value = new_id("any_").encode()
            await publisher.publish_all([Record(topic, value, value)])
            await asyncio.sleep(0.1)


async def kill(consumer: ListenedConsumer) -> None:
    """End a consumer as `kill -9` does: without leaving its group."""
    client = consumer._consumer
    for task in (consumer._task, *consumer._running, client._coordinator._coordination_task):
        task.cancel()
    if client._coordinator._heartbeat_task is not None:
        client._coordinator._heartbeat_task.cancel()
    client._coordinator.generation = -1  # so that its end does not leave the group
    await asyncio.gather(consumer._task, return_exceptions=True)


async def test_leaving_hands_the_partitions_over_at_once_while_work_runs(publisher: Publisher) -> None:
    leaving, staying, group = Claims(), Claims(), new_id("group-")
    async with scratch_topic(partitions=2) as topic, AsyncExitStack() as stack:
        first = await stack.enter_async_context(consuming(leaving, topic, group=group, slots=2))
        await publisher.publish_all([Record(topic, b"%d" % number, b"%d" % number) for number in range(10)])
        await leaving.until(lambda: len(leaving.claimed) == 2)
        await stack.enter_async_context(consuming(staying, topic, group=group, slots=20))

        first.stop_taking()
        await staying.until(lambda: len(staying.claimed) == 8)

        assert leaving.ended == []
        assert first.slots_used == 2
    assert len({*leaving.claimed, *staying.claimed}) == 10
