"""Records packed for their partitions: the producer is asked once for many of them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from typing import Any, Final

from aiokafka.errors import KafkaError
from aiokafka.partitioner import DefaultPartitioner

from chassis.kafka.record import Record

# Of one parcel; a single record may have more.
PARCEL_BYTES: Final = 256 * 1024

_choose = DefaultPartitioner()


class Parcel:
    """Records of one partition in their order; `places` says which they are of all that are packed."""

    __slots__ = ("_batch", "acknowledged", "partition", "places", "topic")

    def __init__(self, producer: Any, topic: str, partition: int) -> None:
        self._batch = producer.create_batch()
        self.topic = topic
        self.partition = partition
        self.places: list[int] = []
        self.acknowledged: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    def take(self, place: int, record: Record, now: int) -> bool:
        """Put a record in, dated `now` in milliseconds; False when the parcel is full."""
        taken = self._batch.append(timestamp=now, key=record.key, value=record.value, headers=record.sent_headers)
        if taken is None:
            return False
        self.places.append(place)
        return True

    async def send(self, producer: Any) -> None:
        """Hand it to the producer; from then on `acknowledged` is about it."""
        self.acknowledged = await producer.send_batch(self._batch, self.topic, partition=self.partition)


class Packing:
    """Packs records one by one: `parcels` are in the order in which they are to be sent."""

    def __init__(self, producer: Any) -> None:
        self._producer = producer
        self._now = time.time_ns() // 1_000_000
        self._partitions: dict[tuple[str, bytes], int] = {}
        self._open: dict[tuple[str, int], Parcel] = {}
        self.parcels: list[Parcel] = []

    async def add(self, place: int, record: Record) -> None:
        """Put a record with those of its partition. Raises `KafkaError` when the brokers do not know its topic."""
        partition = self._partitions.get((record.topic, record.key))
        if partition is None:
            partition = await self._look_up(record.topic, record.key)
        parcel = self._open.get((record.topic, partition))
        if parcel is None or not parcel.take(place, record, self._now):
            parcel = self._open[record.topic, partition] = Parcel(self._producer, record.topic, partition)
            self.parcels.append(parcel)
            parcel.take(place, record, self._now)

    async def settled(self) -> Exception | None:
        """Wait until each parcel that was sent is acknowledged or has failed; return the first failure, if any."""
        failure: Exception | None = None
        for parcel in self.parcels:
            try:
                await parcel.acknowledged
            except (KafkaError, OSError) as error:
                failure = failure or error
        return failure

    def arrived(self) -> Iterator[int]:
        """Say which records are acknowledged by now, by their places."""
        for parcel in self.parcels:
            done = parcel.acknowledged
            if done.done() and not done.cancelled() and done.exception() is None:
                yield from parcel.places

    async def _look_up(self, topic: str, key: bytes) -> int:
        # The one that Kafka's own clients choose for a key; all that publish on a topic have to agree.
        everywhere = sorted(await self._producer.partitions_for(topic))
        partition: int = _choose(key, everywhere, everywhere)
        self._partitions[topic, key] = partition
        return partition
