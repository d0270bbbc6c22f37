"""Publishing to Kafka, in batches per partition: the producer is called once per batch instead of once per record."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, Self

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError
from aiokafka.partitioner import DefaultPartitioner

from chassis.aio import ConnectionLog
from chassis.errors import ArgosyError, Kind, Unavailable
from chassis.kafka.broker_security import client_options
from chassis.kafka.record import Record, SigningKeys
from chassis.settings import KafkaSection
from chassis.telemetry import inject, logger

MAX_BATCH_BYTES: Final = 256 * 1024  # a larger single record still fits
ACK_TIMEOUT_SECONDS: Final = 10.0
CONNECT_TIMEOUT_SECONDS: Final = 5.0
CLOSE_TIMEOUT_SECONDS: Final = 2.0
MAX_RECORD_BYTES: Final = 1024 * 1024
# What Kafka's format adds to each header, and to a record with its batch.
HEADER_OVERHEAD_BYTES: Final = 10
RECORD_OVERHEAD_BYTES: Final = 128

log = logger("chassis.kafka")
_partition_for = DefaultPartitioner()


class Batch:
    """Records of one partition in order; `positions` are their places among all records of the `BatchBuilder`."""

    __slots__ = ("_batch", "acknowledged", "partition", "positions", "topic")

    def __init__(self, producer: Any, topic: str, partition: int) -> None:
        self._batch = producer.create_batch()
        self.topic = topic
        self.partition = partition
        self.positions: list[int] = []
        self.acknowledged: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    def append(self, position: int, record: Record, timestamp_ms: int) -> bool:
        """Add a record; False when the batch is full."""
        added = self._batch.append(
            timestamp=timestamp_ms, key=record.key, value=record.value, headers=record.kafka_headers
        )
        if added is None:
            return False
        self.positions.append(position)
        return True

    async def send(self, producer: Any) -> None:
        """Hand the batch to the producer; from then on `acknowledged` is its future."""
        self.acknowledged = await producer.send_batch(self._batch, self.topic, partition=self.partition)


class BatchBuilder:
    """Adds records to batches; `batches` are in the order in which they must be sent."""

    def __init__(self, producer: Any) -> None:
        self._producer = producer
        self._timestamp_ms = time.time_ns() // 1_000_000
        self._partitions: dict[tuple[str, bytes], int] = {}
        self._open: dict[tuple[str, int], Batch] = {}
        self.batches: list[Batch] = []

    async def add(self, position: int, record: Record) -> None:
        """Add a record to the batch of its partition. Raises `KafkaError` when the brokers do not know its topic."""
        partition = self._partitions.get((record.topic, record.key))
        if partition is None:
            partition = await self._choose_partition(record.topic, record.key)
        batch = self._open.get((record.topic, partition))
        if batch is None or not batch.append(position, record, self._timestamp_ms):
            batch = self._open[record.topic, partition] = Batch(self._producer, record.topic, partition)
            self.batches.append(batch)
            batch.append(position, record, self._timestamp_ms)

    async def wait(self) -> Exception | None:
        """Wait until every batch is acknowledged or has failed; return the first failure, if any."""
        failure: Exception | None = None
        for batch in self.batches:
            try:
                await batch.acknowledged
            except (KafkaError, OSError) as error:
                failure = failure or error
        return failure

    def acknowledged(self) -> Iterator[int]:
        """Yield the positions of the records that are acknowledged by now."""
        for batch in self.batches:
            future = batch.acknowledged
            if future.done() and not future.cancelled() and future.exception() is None:
                yield from batch.positions

    async def _choose_partition(self, topic: str, key: bytes) -> int:
        # Kafka's default partitioner: all producers of a topic must agree on the partition of a key.
        partitions = sorted(await self._producer.partitions_for(topic))
        partition: int = _partition_for(key, partitions, partitions)
        self._partitions[topic, key] = partition
        return partition


class RecordTooLarge(ArgosyError, public=False):
    """The record is larger than a topic accepts, so it can never be published."""

    kind, reason = Kind.TOO_LARGE, "RECORD_TOO_LARGE"


class Publisher:
    """Publishes records at least once, acknowledged by all replicas; an async context manager.

    It connects at the first use and again after a failure, so it can be opened while Kafka is down.
    """

    def __init__(self, section: KafkaSection, *, sign: bool = True) -> None:
        """With `sign`, records are signed as they are published; dead letters keep the headers that they came with."""
        self._options = client_options(section)
        self._sign = SigningKeys(section.signing_keys).sign if sign else _unchanged
        self._producer: Any = None
        self._connecting = asyncio.Lock()
        self._connection_log = ConnectionLog(log, "kafka_publishing_failed", "kafka_publishing_recovered")
        self._closing: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._producer is not None:
            self._retire(self._producer)
        if self._closing:
            await asyncio.wait(self._closing, timeout=2 * CLOSE_TIMEOUT_SECONDS)

    async def publish(self, topic: str, key: bytes, value: bytes, headers: Mapping[str, str] | None = None) -> None:
        """Publish one record with the current trace context; return when it is acknowledged.

        Raises `RecordTooLarge`, and `Unavailable` when Kafka does not acknowledge in time; the record may still arrive.
        """
        carrier = dict(headers or {})
        inject(carrier)
        (failure,) = await self.publish_all([Record(topic, key, value, carrier)])
        if failure is not None:
            raise failure

    async def publish_all(self, records: Sequence[Record]) -> list[ArgosyError | None]:
        """Publish records in order; return for each its error, or None. Failures of Kafka are never raised."""
        try:
            producer = await self._connect()
        except Unavailable as error:
            return [error] * len(records)
        records = [self._sign(record) for record in records]
        results: list[ArgosyError | None] = [_check_size(record) for record in records]
        unacknowledged = {position for position, error in enumerate(results) if error is None}
        builder = BatchBuilder(producer)
        failure: Exception | None = None
        try:
            async with asyncio.timeout(ACK_TIMEOUT_SECONDS):
                for position in sorted(unacknowledged):
                    await builder.add(position, records[position])
                for batch in builder.batches:
                    await batch.send(producer)
                failure = await builder.wait()
        except (KafkaError, OSError, TimeoutError) as error:
            failure = error
        # Also after a failure: acknowledged records must not be published again for as long as one broker is down.
        unacknowledged.difference_update(builder.acknowledged())
        for position in unacknowledged:
            results[position] = Unavailable("kafka does not acknowledge")
        if failure is not None:
            # The idempotent producer retries for ever, and some of its failures are permanent, so the next call starts
            # with a new one. Unacknowledged records are published again by the caller.
            for batch in builder.batches:
                batch.acknowledged.add_done_callback(_retrieve_exception)
            self._retire(producer)
            self._connection_log.set(connected=False, error=describe(failure))
        else:
            self._connection_log.set(connected=True)
        return results

    async def _connect(self) -> Any:
        async with self._connecting:
            if self._producer is None:
                self._producer = await self._start_producer()
            return self._producer

    async def _start_producer(self) -> Any:
        producer = AIOKafkaProducer(
            **self._options,
            enable_idempotence=True,
            acks="all",
            max_batch_size=MAX_BATCH_BYTES,
            max_request_size=MAX_RECORD_BYTES,
            request_timeout_ms=int(ACK_TIMEOUT_SECONDS * 1000),
            metadata_max_age_ms=30_000,
        )
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_SECONDS):
                await producer.start()
        except (KafkaError, OSError, TimeoutError) as error:
            self._retire(producer)
            self._connection_log.set(connected=False, error=describe(error))
            raise Unavailable("kafka does not answer") from error
        return producer

    def _retire(self, producer: Any) -> None:
        # Closed in the background, because closing waits for a broker that may not answer.
        if producer is self._producer:
            self._producer = None
        closing = asyncio.create_task(_close(producer))
        self._closing.add(closing)
        closing.add_done_callback(self._closing.discard)


async def _close(producer: Any) -> None:
    try:
        async with asyncio.timeout(CLOSE_TIMEOUT_SECONDS):
            await producer.stop()
    except (KafkaError, OSError, TimeoutError):
        # `stop` waits for records that cannot be delivered. aiokafka (0.14) has no public way to close without waiting,
        # and without this its sender task and connections would stay.
        await producer._sender.close()
        await producer.client.close()


def describe(error: Exception) -> str:
    """Return the reason that Kafka, or its client, gave; it names brokers and users but no data."""
    name, text = type(error).__name__, str(error)
    return text if name in text else f"{name}: {text}".removesuffix(": ")


def _unchanged(record: Record) -> Record:
    return record


def _check_size(record: Record) -> RecordTooLarge | None:
    headers = sum(len(name) + len(value) + HEADER_OVERHEAD_BYTES for name, value in record.kafka_headers)
    if len(record.key) + len(record.value) + headers + RECORD_OVERHEAD_BYTES <= MAX_RECORD_BYTES:
        return None
    return RecordTooLarge(f"a record for {record.topic} has {len(record.value)} bytes")


def _retrieve_exception(acknowledged: asyncio.Future[Any]) -> None:
    # Otherwise asyncio would warn about an exception that was never retrieved.
    if not acknowledged.cancelled():
        acknowledged.exception()
