"""Hearing from Kafka: every record at least once, in the order of its partition, whatever is down meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import timedelta
from time import monotonic
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener
from aiokafka.errors import CommitFailedError, IllegalStateError, KafkaError

from chassis.backoff import Backoff
from chassis.errors import Unavailable
from chassis.kafka.delivery import Delivery, Handle, HandleMany
from chassis.kafka.publisher import Publisher
from chassis.kafka.record import Record
from chassis.lifecycle import Loop
from chassis.telemetry import logger

POLL_SECONDS: Final = 0.5
COMMIT_SECONDS: Final = 5.0
CLOSE_SECONDS: Final = 3.0
PING_SECONDS: Final = 1.0
CHECK_SECONDS: Final = 5.0
BATCH: Final = 500
EVENT_BYTES: Final = 250  # of a small event with its overhead
LONGEST_WAIT_SECONDS: Final = 30.0

log = logger("chassis.kafka")


class Consumer(Loop):
    """A component that hands the records of `topic` to `handle`, one by one, or to `handle_many`, in batches.

    A record is committed after it was handled, so handlers see some twice and must not mind. `Undecodable` sends the
    record to the topic's dead letters; after any other exception the same records come again, with growing pauses,
    while other partitions go on. A partition that moves to another consumer is let go between two batches.

    A batch has what is there of all partitions, `max_records` at most. `fetch_max_wait` makes batches larger where latency
    does not matter: the broker holds records back for that long, or until there are many.
    """

    def __init__(
        self,
        bootstrap: str,
        group: str,
        topic: str,
        handle: Handle | None = None,
        *,
        handle_many: HandleMany | None = None,
        max_records: int = BATCH,
        fetch_max_wait: timedelta = timedelta(0),
    ) -> None:
        super().__init__(f"consumer {topic}", self._consume)
        self._bootstrap = bootstrap
        self._group = group
        self._topic = topic
        self._publisher = Publisher(bootstrap)
        self._delivery = Delivery(handle, handle_many, self._publisher)
        self._max_records = max_records
        self._fetch_max_wait = fetch_max_wait
        self._consumer: Any = None
        self._connected = True
        # Held while records are being handled: a rebalance waits for it, so nobody else is given the same records yet.
        self._turn = asyncio.Lock()
        self._resting: dict[Any, tuple[Backoff, float]] = {}

    async def ping(self) -> None:
        """Return when a broker answers; raise `Unavailable` when none does."""
        if self._consumer is None:
            raise Unavailable("kafka does not answer")
        try:
            async with asyncio.timeout(PING_SECONDS):
                await self._consumer.topics()
        except (KafkaError, OSError, TimeoutError) as error:
            raise Unavailable("kafka does not answer") from error

    async def _consume(self, stop: asyncio.Event) -> None:
        backoff = Backoff(first=0.2, longest=5.0)
        try:
            while not stop.is_set():
                try:
                    await self._connect()
                    self._say(connected=True)
                    backoff.reset()
                    await self._poll(stop)
                except (KafkaError, OSError, TimeoutError) as error:
                    self._say(connected=False, error=error)
                    await _pause(stop, backoff.next())
                finally:
                    await self._disconnect()
        finally:
            await self._publisher.__aexit__()

    async def _connect(self) -> None:
        consumer = AIOKafkaConsumer(
            bootstrap_servers=self._bootstrap,
            group_id=self._group,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            # What a killed consumer held is taken over after this long.
            session_timeout_ms=6_000,
            heartbeat_interval_ms=1_000,
            request_timeout_ms=10_000,
            metadata_max_age_ms=30_000,
            retry_backoff_ms=250,
            **self._patience(),
        )
        self._resting.clear()
        consumer.subscribe([self._topic], listener=_Rebalance(self._turn, self._resting))
        self._consumer = consumer
        await consumer.start()

    def _patience(self) -> dict[str, int]:
        if not self._fetch_max_wait:
            return {}
        return {
            "fetch_max_wait_ms": int(self._fetch_max_wait.total_seconds() * 1000),
            "fetch_min_bytes": self._max_records * EVENT_BYTES,
        }

    async def _disconnect(self) -> None:
        consumer, self._consumer = self._consumer, None
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                await consumer.stop()
        except (KafkaError, OSError, TimeoutError):
            await consumer._client.close()

    async def _poll(self, stop: asyncio.Event) -> None:
        consumer = self._consumer
        checked = monotonic()
        while not stop.is_set():
            self._resume(consumer)
            found = await consumer.getmany(timeout_ms=int(self._next_look() * 1000), max_records=self._max_records)
            if len(found) < 2 or not await self._deliver_together(consumer, found):
                await self._deliver_each(consumer, found, stop)
            if monotonic() - checked > CHECK_SECONDS:
                await self._check()
                checked = monotonic()

    async def _check(self) -> None:
        # A consumer whose broker is gone polls on and finds nothing; say so once.
        try:
            await self.ping()
        except Unavailable as error:
            self._say(connected=False, error=error)
        else:
            self._say(connected=True)

    async def _deliver_together(self, consumer: Any, found: Mapping[Any, list[Any]]) -> bool:
        async with self._turn:
            ours = {
                partition: [Record.received(record) for record in records]
                for partition, records in found.items()
                if partition in consumer.assignment()
            }
            if not ours:
                return True
            if not await self._delivery.deliver_together([record for records in ours.values() for record in records]):
                return False
            await self._commit(consumer, {partition: records[-1].offset + 1 for partition, records in ours.items()})
            for partition in ours:
                self._handled(partition)
        return True

    async def _deliver_each(self, consumer: Any, found: Mapping[Any, list[Any]], stop: asyncio.Event) -> None:
        for partition, records in found.items():
            if stop.is_set():
                return
            async with self._turn:
                if partition in consumer.assignment():
                    await self._deliver(consumer, partition, [Record.received(record) for record in records])

    async def _deliver(self, consumer: Any, partition: Any, records: list[Record]) -> None:
        handled, error = await self._delivery.deliver(records)
        if handled:
            await self._commit(consumer, {partition: records[handled - 1].offset + 1})
        if error is None:
            self._handled(partition)
            return
        backoff, _ = self._resting.pop(partition, (Backoff(longest=LONGEST_WAIT_SECONDS), 0.0))
        if handled:
            backoff.reset()
        if backoff.failures == 0:
            log.warning("record_not_handled", topic=self._topic, partition=partition.partition, exc_info=error)
        consumer.seek(partition, records[handled].offset)
        consumer.pause(partition)
        self._resting[partition] = (backoff, monotonic() + backoff.next())

    def _handled(self, partition: Any) -> None:
        if self._resting.pop(partition, None) is not None:
            log.info("records_handled_again", topic=self._topic, partition=partition.partition)

    async def _commit(self, consumer: Any, offsets: Mapping[Any, int]) -> None:
        # Waited for, not cancelled: the request goes on inside aiokafka, and its end must be heard.
        committing = asyncio.ensure_future(consumer.commit(dict(offsets)))
        await asyncio.wait([committing], timeout=COMMIT_SECONDS)
        committing.add_done_callback(self._committed)

    def _committed(self, committing: asyncio.Future[Any]) -> None:
        error = None if committing.cancelled() else committing.exception()
        if isinstance(error, CommitFailedError | IllegalStateError):
            log.info("partition_moved", topic=self._topic)
        elif error is not None:
            # The next commit covers this one; without one, the records come again.
            log.warning("offset_not_committed", topic=self._topic, error=type(error).__name__)

    def _resume(self, consumer: Any) -> None:
        now = monotonic()
        due = [partition for partition, (_, until) in self._resting.items() if until <= now]
        consumer.resume(*[partition for partition in due if partition in consumer.assignment()])

    def _next_look(self) -> float:
        now = monotonic()
        waits = [until - now for _, until in self._resting.values() if until > now]
        return max(0.01, min([POLL_SECONDS, *waits]))

    def _say(self, *, connected: bool, error: Exception | None = None) -> None:
        if connected == self._connected:
            return
        self._connected = connected
        if connected:
            log.info("kafka_consuming_again", topic=self._topic)
        else:
            log.warning("kafka_not_consuming", topic=self._topic, error=type(error).__name__)


class _Rebalance(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka is untyped
    """Lets a rebalance go on between two batches, never within one."""

    def __init__(self, turn: asyncio.Lock, resting: dict[Any, tuple[Backoff, float]]) -> None:
        self._turn = turn
        self._resting = resting

    async def on_partitions_revoked(self, revoked: Any) -> None:  # noqa: ARG002 - all of them
        """Wait for the batch in hand."""
        async with self._turn:
            self._resting.clear()

    async def on_partitions_assigned(self, assigned: Any) -> None:
        """Note what is ours now."""
        log.info("partitions_assigned", partitions=sorted(partition.partition for partition in assigned))


async def _pause(stop: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await stop.wait()
    except TimeoutError:
        return
