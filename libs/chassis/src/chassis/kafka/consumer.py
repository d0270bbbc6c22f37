"""Consumption from Kafka: every record at least once and in the order of its partition, across outages."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import timedelta
from time import monotonic
from typing import Any, Final

from aiokafka import ConsumerRebalanceListener

from chassis.aio import Backoff
from chassis.kafka.delivery import Delivery, Handle, HandleMany
from chassis.kafka.membership import GroupMember
from chassis.kafka.record import Record, SigningKeys
from chassis.settings import KafkaSection
from chassis.telemetry import logger

POLL_SECONDS: Final = 0.5
DEFAULT_MAX_RECORDS: Final = 500
SMALL_EVENT_BYTES: Final = 250  # a small event with its overhead
MAX_RETRY_SECONDS: Final = 30.0

log = logger("chassis.kafka")


class Consumer(GroupMember):
    """A component that passes the records of `topic` to `handle`, one by one, or to `handle_many`, in batches.

    Records whose signature is missing or wrong go to the dead-letter topic; handlers never receive them. Offsets are
    committed after handling, so handlers receive some records twice and must be idempotent. `Undecodable` moves the
    record to the dead-letter topic too. After any other exception the same records are delivered again with
    backoff, while other partitions go on. A partition moves to another consumer only between two batches.

    A batch has the available records of all partitions, `max_records` at most. `fetch_max_wait` makes batches larger
    where latency does not matter: the broker holds records back for that long, or until there are many.
    """

    def __init__(
        self,
        section: KafkaSection,
        topic: str,
        handle: Handle | None = None,
        *,
        handle_many: HandleMany | None = None,
        max_records: int = DEFAULT_MAX_RECORDS,
        fetch_max_wait: timedelta = timedelta(0),
    ) -> None:
        super().__init__(f"consumer {topic}", section, [topic])
        self._topic = topic
        problem = SigningKeys(section.signing_keys).problem
        self._delivery = Delivery(handle, handle_many, self._publisher, problem, topic=topic)
        self._max_records = max_records
        self._fetch_max_wait = fetch_max_wait
        # Held while records are handled. A rebalance waits for it, so no other consumer gets these records meanwhile.
        self._handling = asyncio.Lock()
        self._paused: dict[Any, tuple[Backoff, float]] = {}

    def _listener(self) -> ConsumerRebalanceListener:
        self._paused.clear()
        return _Rebalance(self._handling, self._paused)

    def _fetch_options(self) -> dict[str, int]:
        if not self._fetch_max_wait:
            return {}
        return {
            "fetch_max_wait_ms": int(self._fetch_max_wait.total_seconds() * 1000),
            "fetch_min_bytes": self._max_records * SMALL_EVENT_BYTES,
        }

    async def _poll(self, stop: asyncio.Event) -> None:
        consumer = self._consumer
        while not stop.is_set():
            self._resume_due(consumer)
            found = await consumer.getmany(timeout_ms=int(self._poll_seconds() * 1000), max_records=self._max_records)
            if len(found) < 2 or not await self._deliver_together(consumer, found):
                await self._deliver_each(consumer, found, stop)
            await self._check_connection()

    async def _deliver_together(self, consumer: Any, found: Mapping[Any, list[Any]]) -> bool:
        async with self._handling:
            assigned = {
                partition: [Record.from_kafka(record) for record in records]
                for partition, records in found.items()
                if partition in consumer.assignment()
            }
            if not assigned:
                return True
            if not await self._delivery.deliver_together(
                [record for records in assigned.values() for record in records]
            ):
                return False
            await self._commit(consumer, {partition: records[-1].offset + 1 for partition, records in assigned.items()})
            for partition in assigned:
                self._mark_handled(partition)
        return True

    async def _deliver_each(self, consumer: Any, found: Mapping[Any, list[Any]], stop: asyncio.Event) -> None:
        for partition, records in found.items():
            if stop.is_set():
                return
            async with self._handling:
                if partition in consumer.assignment():
                    await self._deliver(consumer, partition, [Record.from_kafka(record) for record in records])

    async def _deliver(self, consumer: Any, partition: Any, records: list[Record]) -> None:
        handled, error = await self._delivery.deliver(records)
        if handled:
            await self._commit(consumer, {partition: records[handled - 1].offset + 1})
        if error is None:
            self._mark_handled(partition)
            return
        backoff, _ = self._paused.pop(partition, (Backoff(max_seconds=MAX_RETRY_SECONDS), 0.0))
        if handled:
            backoff.reset()
        if backoff.failures == 0:
            log.warning("record_handling_failed", topic=self._topic, partition=partition.partition, exc_info=error)
        consumer.seek(partition, records[handled].offset)
        consumer.pause(partition)
        self._paused[partition] = (backoff, monotonic() + backoff.next())

    def _mark_handled(self, partition: Any) -> None:
        if self._paused.pop(partition, None) is not None:
            log.info("record_handling_recovered", topic=self._topic, partition=partition.partition)

    def _resume_due(self, consumer: Any) -> None:
        now = monotonic()
        due = [partition for partition, (_, until) in self._paused.items() if until <= now]
        consumer.resume(*[partition for partition in due if partition in consumer.assignment()])

    def _poll_seconds(self) -> float:
        now = monotonic()
        waits = [until - now for _, until in self._paused.values() if until > now]
        return max(0.01, min([POLL_SECONDS, *waits]))


class _Rebalance(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka is untyped
    """Delays a rebalance until the current batch is handled."""

    def __init__(self, handling: asyncio.Lock, paused: dict[Any, tuple[Backoff, float]]) -> None:
        self._handling = handling
        self._paused = paused

    async def on_partitions_revoked(self, revoked: Any) -> None:  # noqa: ARG002 - all of them
        async with self._handling:
            self._paused.clear()

    async def on_partitions_assigned(self, assigned: Any) -> None:
        log.info("partitions_assigned", partitions=sorted(partition.partition for partition in assigned))
