"""Consumption from Kafka: every record at least once and in the order of its partition, across outages."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import timedelta
from time import monotonic
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener
from aiokafka.errors import CommitFailedError, IllegalStateError, KafkaError

from chassis.aio import Backoff, ConnectionLog, Loop, wait_or_stop
from chassis.errors import Unavailable
from chassis.kafka.broker_security import client_options
from chassis.kafka.delivery import Delivery, Handle, HandleMany
from chassis.kafka.publisher import Publisher, describe
from chassis.kafka.record import Record, SigningKeys
from chassis.settings import KafkaSection
from chassis.telemetry import logger
from chassis.telemetry.rate_limited import RateLimitedLog

POLL_SECONDS: Final = 0.5
COMMIT_TIMEOUT_SECONDS: Final = 5.0
CLOSE_TIMEOUT_SECONDS: Final = 3.0
PING_TIMEOUT_SECONDS: Final = 1.0
CHECK_INTERVAL_SECONDS: Final = 5.0
DEFAULT_MAX_RECORDS: Final = 500
SMALL_EVENT_BYTES: Final = 250  # a small event with its overhead
MAX_RETRY_SECONDS: Final = 30.0

log = logger("chassis.kafka")


class Consumer(Loop):
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
        super().__init__(f"consumer {topic}", self._consume)
        self._options = client_options(section)
        self._group = section.group
        self._topic = topic
        self._publisher = Publisher(section, sign=False)
        self._delivery = Delivery(handle, handle_many, self._publisher, SigningKeys(section.signing_keys).problem)
        self._max_records = max_records
        self._fetch_max_wait = fetch_max_wait
        self._consumer: Any = None
        self._failure_log = RateLimitedLog(log)
        self._connection_log = ConnectionLog(log, "kafka_consuming_failed", "kafka_consuming_recovered", topic=topic)
        # Held while records are handled. A rebalance waits for it, so no other consumer gets these records meanwhile.
        self._handling = asyncio.Lock()
        self._paused: dict[Any, tuple[Backoff, float]] = {}

    async def ping(self) -> None:
        """Raise `Unavailable` unless a broker answers."""
        if self._consumer is None:
            raise Unavailable("kafka does not answer")
        try:
            async with asyncio.timeout(PING_TIMEOUT_SECONDS):
                await self._consumer.topics()
        except (KafkaError, OSError, TimeoutError) as error:
            raise Unavailable("kafka does not answer") from error

    async def _consume(self, stop: asyncio.Event) -> None:
        backoff = Backoff(min_seconds=0.2, max_seconds=5.0)
        try:
            while not stop.is_set():
                try:
                    await self._connect()
                    self._connection_log.set(connected=True)
                    backoff.reset()
                    await self._poll(stop)
                except (KafkaError, OSError, TimeoutError) as error:
                    self._connection_log.set(connected=False, error=describe(error))
                    await wait_or_stop(stop, backoff.next())
                except Exception as error:  # noqa: BLE001 - what a broker answers must not end the service
                    self._failure_log.warning("kafka_consuming_failed", key=type(error).__name__, exc_info=error)
                    await wait_or_stop(stop, backoff.next())
                finally:
                    await self._disconnect()
        finally:
            await self._publisher.__aexit__()

    async def _connect(self) -> None:
        consumer = AIOKafkaConsumer(
            **self._options,
            group_id=self._group,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            # The partitions of a killed consumer are taken over after this time.
            session_timeout_ms=6_000,
            heartbeat_interval_ms=1_000,
            request_timeout_ms=10_000,
            metadata_max_age_ms=30_000,
            retry_backoff_ms=250,
            **self._fetch_options(),
        )
        self._paused.clear()
        consumer.subscribe([self._topic], listener=_Rebalance(self._handling, self._paused))
        self._consumer = consumer
        await consumer.start()

    def _fetch_options(self) -> dict[str, int]:
        if not self._fetch_max_wait:
            return {}
        return {
            "fetch_max_wait_ms": int(self._fetch_max_wait.total_seconds() * 1000),
            "fetch_min_bytes": self._max_records * SMALL_EVENT_BYTES,
        }

    async def _disconnect(self) -> None:
        consumer, self._consumer = self._consumer, None
        if consumer is None:
            return
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT_SECONDS):
                await consumer.stop()
        except (KafkaError, OSError, TimeoutError):
            # `stop` waits for the broker. aiokafka (0.14) has no public way to close without waiting, and without this
            # its connections would stay.
            await consumer._client.close()

    async def _poll(self, stop: asyncio.Event) -> None:
        consumer = self._consumer
        checked_at = monotonic()
        while not stop.is_set():
            self._resume_due(consumer)
            found = await consumer.getmany(timeout_ms=int(self._poll_seconds() * 1000), max_records=self._max_records)
            if len(found) < 2 or not await self._deliver_together(consumer, found):
                await self._deliver_each(consumer, found, stop)
            if monotonic() - checked_at > CHECK_INTERVAL_SECONDS:
                await self._check_connection()
                checked_at = monotonic()

    async def _check_connection(self) -> None:
        # aiokafka polls on without an error when its broker is down.
        try:
            await self.ping()
        except Unavailable as error:
            self._connection_log.set(connected=False, error=error.message)
        else:
            self._connection_log.set(connected=True)

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

    async def _commit(self, consumer: Any, offsets: Mapping[Any, int]) -> None:
        # Not cancelled after the timeout: the request goes on inside aiokafka, and its result must be retrieved.
        committing = asyncio.ensure_future(consumer.commit(dict(offsets)))
        await asyncio.wait([committing], timeout=COMMIT_TIMEOUT_SECONDS)
        committing.add_done_callback(self._on_committed)

    def _on_committed(self, committing: asyncio.Future[Any]) -> None:
        error = None if committing.cancelled() else committing.exception()
        if isinstance(error, CommitFailedError | IllegalStateError):
            log.info("partition_moved", topic=self._topic)
        elif error is not None:
            # The next commit covers this one; without a next one the records are delivered again.
            log.warning("offset_commit_failed", topic=self._topic, error=type(error).__name__)

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
