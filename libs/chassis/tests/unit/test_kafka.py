"""Delivery, dead letters and the outbox relay, without a broker."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from chassis.aio import Backoff
from chassis.errors import ArgosyError, Unavailable
from chassis.kafka import Outbox, OutboxRelay, Record, Undecodable
from chassis.kafka.delivery import MAX_CONSECUTIVE_DEAD_LETTERS, Delivery
from chassis.kafka.publisher import RecordTooLarge
from chassis.telemetry import inject, span
from chassis.testing.traces import recorded_spans
from prometheus_client import REGISTRY


class FakeBroker:
    """Accepts records, unless it is down or `refuses` their values."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.away = False
        self.refuses: set[bytes] = set()
        self.asked = 0
        self.taken = asyncio.Event()

    async def publish_all(self, records: Sequence[Record]) -> list[ArgosyError | None]:
        self.asked += 1
        results: list[ArgosyError | None] = []
        for record in records:
            if self.away or record.value in self.refuses:
                results.append(Unavailable("away"))
            else:
                self.records.append(record)
                results.append(None)
        if None in results:
            self.taken.set()
        return results


def record(value: bytes, offset: int = 0) -> Record:
    return Record("t", b"k", value, {"traceparent": "00-1"}, partition=3, offset=offset)


def signed(_: Record) -> str | None:
    """What is wrong with the signature of a record in these tests: nothing."""
    return None


async def handle(record: Record) -> None:
    if record.value == b"junk":
        raise Undecodable("no message")
    if record.value == b"later":
        raise Unavailable("database")


async def handle_many(records: list[Record]) -> None:
    for each in records:
        await handle(each)


@pytest.fixture(params=["one by one", "in batches"])
def delivery(request: pytest.FixtureRequest, broker: FakeBroker) -> Delivery:
    if request.param == "in batches":
        return Delivery(None, handle_many, broker, signed)
    return Delivery(handle, None, broker, signed)


@pytest.fixture
def broker() -> FakeBroker:
    return FakeBroker()


async def test_what_was_handled_is_done(delivery: Delivery, broker: FakeBroker) -> None:
    assert await delivery.deliver([record(b"a"), record(b"b")]) == (2, None)
    assert broker.records == []


async def test_what_cannot_be_decoded_is_dead_lettered_with_the_reason(delivery: Delivery, broker: FakeBroker) -> None:
    assert await delivery.deliver([record(b"a", 6), record(b"junk", 7), record(b"b", 8)]) == (3, None)

    (letter,) = broker.records
    assert (letter.topic, letter.key, letter.value) == ("t.dlq", b"k", b"junk")
    assert letter.headers == {
        "traceparent": "00-1",
        "argosy-error": "no message",
        "argosy-partition": "3",
        "argosy-offset": "7",
    }


async def test_a_grave_that_cannot_be_dug_stops_the_partition(delivery: Delivery, broker: FakeBroker) -> None:
    broker.away = True

    handled, error = await delivery.deliver([record(b"junk"), record(b"b")])

    assert handled == 0
    assert isinstance(error, Unavailable)


async def test_a_failure_stops_before_the_record_that_failed(broker: FakeBroker) -> None:
    handled, error = await Delivery(handle, None, broker, signed).deliver(
        [record(b"a"), record(b"later"), record(b"b")]
    )
    assert handled == 1
    assert isinstance(error, Unavailable)

    handled, error = await Delivery(None, handle_many, broker, signed).deliver(
        [record(b"a"), record(b"later"), record(b"b")]
    )
    assert handled == 0
    assert isinstance(error, Unavailable)


async def test_records_of_several_partitions_are_handled_together_or_per_partition(
    broker: FakeBroker,
) -> None:
    together = Delivery(None, handle_many, broker, signed).deliver_together

    assert await together([record(b"a"), record(b"b")])
    assert not await together([record(b"a"), record(b"later")])
    assert not await together([record(b"a"), record(b"junk")])
    assert not await Delivery(handle, None, broker, signed).deliver_together([record(b"a")])
    assert broker.records == []


async def test_a_topic_of_junk_is_not_dead_lettered(delivery: Delivery, broker: FakeBroker) -> None:
    handled, error = await delivery.deliver([record(b"junk")] * (MAX_CONSECUTIVE_DEAD_LETTERS + 1))

    assert handled == len(broker.records) == MAX_CONSECUTIVE_DEAD_LETTERS
    assert isinstance(error, Undecodable)


async def test_good_records_between_junk_keep_the_topic_going(delivery: Delivery, broker: FakeBroker) -> None:
    for _ in range(3):
        assert await delivery.deliver([record(b"junk")] * (MAX_CONSECUTIVE_DEAD_LETTERS - 1)) == (
            MAX_CONSECUTIVE_DEAD_LETTERS - 1,
            None,
        )
        assert await delivery.deliver([record(b"a")]) == (1, None)


async def test_a_record_is_handled_in_the_trace_that_it_carries(broker: FakeBroker) -> None:
    headers: dict[str, str] = {}
    with recorded_spans() as ended:
        with span("telling"):
            inject(headers)
        await Delivery(handle, None, broker, signed).deliver([Record("t", b"k", b"a", headers)])
        telling, handling = ended()

    assert handling.name == "t handle"
    assert handling.parent is not None
    assert handling.parent.span_id == telling.context.span_id


def test_a_consumer_has_one_handler(broker: FakeBroker) -> None:
    with pytest.raises(ValueError, match="one of"):
        Delivery(handle, handle_many, broker, signed)
    with pytest.raises(ValueError, match="one of"):
        Delivery(None, None, broker, signed)


class FakeTable:
    """The outbox of a database that may be down."""

    def __init__(self, *values: bytes) -> None:
        self.rows = [
            {
                "tenant_id": "ten",
                "id": f"{number:03}",
                "topic": "t",
                "value": value,
                "headers": json.dumps({"a": "b"}),
                "age": 100.0 - number,
            }
            for number, value in enumerate(values)
        ]
        self.away = False
        self.looked = 0

    @asynccontextmanager
    async def system(self) -> AsyncIterator[Any]:
        self.looked += 1
        if self.away:
            raise Unavailable("postgres")
        yield self

    async def fetch(self, _: str, limit: int) -> list[dict[str, Any]]:
        return self.rows[:limit]

    async def execute(self, _: str, tenants: list[str], ids: list[str]) -> None:
        self.rows = [row for row in self.rows if row["id"] not in ids]


async def test_the_relay_publishes_in_order_and_deletes(broker: FakeBroker) -> None:
    table = FakeTable(b"a", b"b")

    assert await OutboxRelay(table, broker).relay() == (2, 2)

    assert broker.records == [Record("t", b"ten", b"a", {"a": "b"}), Record("t", b"ten", b"b", {"a": "b"})]
    assert table.rows == []


async def test_a_row_can_name_the_key_of_its_record(broker: FakeBroker) -> None:
    table = FakeTable(b"a")
    table.rows[0] |= {"headers": '{"argosy-record-key":"job_1","a":"b"}'}

    await OutboxRelay(table, broker).relay()

    assert broker.records == [Record("t", b"job_1", b"a", {"a": "b"})]


async def test_the_relay_keeps_what_was_not_acknowledged(broker: FakeBroker) -> None:
    table = FakeTable(b"a", b"b", b"c")
    broker.refuses = {b"b"}

    assert await OutboxRelay(table, broker).relay() == (3, 2)

    assert [row["value"] for row in table.rows] == [b"b"]


async def test_the_age_of_the_oldest_record_that_kafka_has_not_acknowledged_is_a_metric(broker: FakeBroker) -> None:
    table = FakeTable(b"a", b"b", b"c")
    broker.refuses = {b"b", b"c"}
    await OutboxRelay(table, broker).relay()
    assert REGISTRY.get_sample_value("argosy_outbox_oldest_seconds") == 99

    broker.refuses = set()
    await OutboxRelay(table, broker).relay()
    assert REGISTRY.get_sample_value("argosy_outbox_oldest_seconds") == 0


async def test_every_outcome_of_a_topic_has_a_series_before_its_first_record(broker: FakeBroker) -> None:
    """Otherwise an alert on an increase misses the first dead letter: it would be the first sample of its series."""
    Delivery(handle, None, broker, signed, topic="t.series")
    for outcome in ("handled", "failed", "dead_lettered", "refused"):
        assert REGISTRY.get_sample_value("argosy_kafka_records_total", {"topic": "t.series", "outcome": outcome}) == 0


async def test_the_relay_polls_when_woken_and_once_more_when_it_stops(broker: FakeBroker) -> None:
    table = FakeTable()
    relay = OutboxRelay(table, broker, poll_seconds=60)
    await relay.start()
    await asyncio.sleep(0)
    assert table.looked == 1

    table.rows = FakeTable(b"a").rows
    relay.wake()
    await broker.taken.wait()
    table.rows = FakeTable(b"b").rows
    await relay.stop()

    assert [record.value for record in broker.records] == [b"a", b"b"]


def wait_after_failures(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    def wait(backoff: Backoff) -> float:
        backoff.failures += 1
        return seconds

    monkeypatch.setattr(Backoff, "next", wait)


async def test_the_relay_survives_outages_of_both_sides(
    broker: FakeBroker, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    wait_after_failures(monkeypatch, 0.001)
    table = FakeTable(b"a")
    table.away = broker.away = True
    relay = OutboxRelay(table, broker, poll_seconds=0.001)
    await relay.start()
    while table.looked < 5:
        await asyncio.sleep(0.001)
    table.away = False
    while broker.asked < 5:
        await asyncio.sleep(0.001)
    broker.away = False
    await broker.taken.wait()
    await relay.stop()

    assert [record.value for record in broker.records] == [b"a"]
    assert table.rows == []
    lines = capsys.readouterr().out
    assert lines.count("outbox_relay_failed") == 1
    assert lines.count("outbox_relay_recovered") == 1


async def test_a_wake_does_not_shorten_the_pause_after_a_failure(
    broker: FakeBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    wait_after_failures(monkeypatch, 60.0)
    table = FakeTable(b"a")
    table.away = True
    relay = OutboxRelay(table, broker)
    await relay.start()
    for _ in range(10):
        relay.wake()
        await asyncio.sleep(0)

    assert table.looked == 1
    await relay.stop()
    assert table.looked == 2


class UnusedConnection:
    async def fetch(self, query: str, *args: object) -> list[object]:
        raise AssertionError("no statement must run")


async def test_an_event_too_large_for_a_topic_is_refused_before_it_is_stored() -> None:
    with pytest.raises(RecordTooLarge):
        await Outbox.enqueue(UnusedConnection(), "t", "ten", b"x" * 1024 * 1024)


def test_a_backoff_doubles_up_to_its_longest_and_jitters_fully() -> None:
    lowest: set[float] = set()

    def highest(low: float, high: float) -> float:
        lowest.add(low)
        return high

    backoff = Backoff(min_seconds=0.5, max_seconds=3.0, uniform=highest)

    assert [backoff.next() for _ in range(5)] == [0.5, 1.0, 2.0, 3.0, 3.0]
    backoff.reset()
    assert backoff.next() == 0.5
    assert lowest == {0.0}
