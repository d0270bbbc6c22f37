"""Telling Kafka."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Final, Self

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from chassis.errors import ArgosyError, Kind, Unavailable
from chassis.kafka.parcels import PARCEL_BYTES, Packing
from chassis.kafka.record import Record
from chassis.telemetry import inject, logger

# Until the brokers have acknowledged, in seconds.
ACK_SECONDS: Final = 10.0
CONNECT_SECONDS: Final = 5.0
CLOSE_SECONDS: Final = 2.0
RECORD_BYTES: Final = 1024 * 1024
# What Kafka's format adds to a header, and to a record with the batch around it.
HEADER_BYTES: Final = 10
FRAME_BYTES: Final = 128

log = logger("chassis.kafka")


class RecordTooLarge(ArgosyError, public=False):
    """The record is larger than a topic takes; it will never be published."""

    kind, reason = Kind.TOO_LARGE, "RECORD_TOO_LARGE"


class Publisher:
    """Publishes records, acknowledged by all replicas, each at least once; an async context manager.

    It connects at the first use and again after a failure, so it can be opened while Kafka is away.
    """

    def __init__(self, bootstrap: str) -> None:
        self._bootstrap = bootstrap
        self._producer: Any = None
        self._connecting = asyncio.Lock()
        self._connected = True
        self._closing: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._producer is not None:
            self._retire(self._producer)
        if self._closing:
            await asyncio.wait(self._closing, timeout=2 * CLOSE_SECONDS)

    async def publish(self, topic: str, key: bytes, value: bytes, headers: Mapping[str, str] | None = None) -> None:
        """Publish one record with the current trace context; return when it is acknowledged.

        Raises `Unavailable` when Kafka does not acknowledge in time (the record may arrive all the same) and
        `RecordTooLarge`.
        """
        carrier = dict(headers or {})
        inject(carrier)
        (failure,) = await self.publish_all([Record(topic, key, value, carrier)])
        if failure is not None:
            raise failure

    async def publish_all(self, records: Sequence[Record]) -> list[ArgosyError | None]:
        """Publish records as they are, in order; return for each what went wrong, or None. Never raises for Kafka."""
        try:
            producer = await self._connect()
        except Unavailable as error:
            return [error] * len(records)
        lost = Unavailable("kafka does not acknowledge")
        results: list[ArgosyError | None] = [_refusal(record) or lost for record in records]
        packing = Packing(producer)
        failure: Exception | None = None
        try:
            async with asyncio.timeout(ACK_SECONDS):
                for place, record in enumerate(records):
                    if results[place] is lost:
                        await packing.add(place, record)
                for parcel in packing.parcels:
                    await parcel.send(producer)
                failure = await packing.settled()
        except (KafkaError, OSError, TimeoutError) as error:
            failure = error
        # Also when others failed: what was acknowledged is not told again for as long as a broker is away.
        for place in packing.arrived():
            results[place] = None
        if failure is not None:
            # The idempotent producer retries for ever and some of its failures are for good. Begin with a new one: what
            # was not acknowledged is published again by whoever still holds it.
            for parcel in packing.parcels:
                parcel.acknowledged.add_done_callback(_heard)
            self._retire(producer)
        self._say(connected=failure is None, error=failure)
        return results

    async def _connect(self) -> Any:
        async with self._connecting:
            if self._producer is None:
                self._producer = await self._started()
            return self._producer

    async def _started(self) -> Any:
        producer = AIOKafkaProducer(
            bootstrap_servers=self._bootstrap,
            enable_idempotence=True,
            acks="all",
            max_batch_size=PARCEL_BYTES,
            max_request_size=RECORD_BYTES,
            request_timeout_ms=int(ACK_SECONDS * 1000),
            metadata_max_age_ms=30_000,
        )
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                await producer.start()
        except (KafkaError, OSError, TimeoutError) as error:
            self._retire(producer)
            self._say(connected=False, error=error)
            raise Unavailable("kafka does not answer") from error
        return producer

    def _retire(self, producer: Any) -> None:
        # In the background: it waits for a broker that says nothing, and nobody else need wait with it.
        if producer is self._producer:
            self._producer = None
        closing = asyncio.create_task(_close(producer))
        self._closing.add(closing)
        closing.add_done_callback(self._closing.discard)

    def _say(self, *, connected: bool, error: Exception | None = None) -> None:
        if connected == self._connected:
            return
        self._connected = connected
        if connected:
            log.info("kafka_publishing_again")
        else:
            log.warning("kafka_not_publishing", error=type(error).__name__)


async def _close(producer: Any) -> None:
    try:
        async with asyncio.timeout(CLOSE_SECONDS):
            await producer.stop()
    except (KafkaError, OSError, TimeoutError):
        # It waits for records that cannot be delivered; stop what it left running.
        await producer._sender.close()
        await producer.client.close()


def _refusal(record: Record) -> RecordTooLarge | None:
    headers = sum(len(name) + len(value) + HEADER_BYTES for name, value in record.sent_headers)
    if len(record.key) + len(record.value) + headers + FRAME_BYTES <= RECORD_BYTES:
        return None
    return RecordTooLarge(f"a record for {record.topic} has {len(record.value)} bytes")


def _heard(acknowledged: asyncio.Future[Any]) -> None:
    # Nobody waits for it any more; asyncio would complain of an exception that nobody looked at.
    if not acknowledged.cancelled():
        acknowledged.exception()
