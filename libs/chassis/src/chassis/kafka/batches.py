"""Batches of records per partition: the producer is called once per batch instead of once per record."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from typing import Any, Final

from aiokafka.errors import KafkaError
from aiokafka.partitioner import DefaultPartitioner

from chassis.kafka.record import Record

MAX_BATCH_BYTES: Final = 256 * 1024  # a larger single record still fits

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
