"""What becomes of a batch: handled, buried, or back again."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Protocol

from chassis.errors import ArgosyError
from chassis.kafka.record import DEAD_LETTERS, Record, Undecodable
from chassis.telemetry import counter, extract, logger, span

Handle = Callable[[Record], Awaitable[None]]
HandleMany = Callable[[list[Record]], Awaitable[None]]

# So many undecodable records one after another are no bad records but a bad deploy: stop, do not bury the topic.
BURIED_IN_A_ROW: Final = 100

RECORDS = counter("argosy_kafka_records_total", "Records by topic and what became of them.", ("topic", "outcome"))

log = logger("chassis.kafka")


class Graveyard(Protocol):
    """Where dead letters go."""

    async def publish_all(self, records: Sequence[Record]) -> list[ArgosyError | None]:
        """Publish in order; say for each what went wrong, or None."""


class Delivery:
    """Hands records to their handler and buries those that can never be handled."""

    def __init__(self, handle: Handle | None, handle_many: HandleMany | None, graveyard: Graveyard) -> None:
        if (handle is None) == (handle_many is None):
            raise ValueError("a consumer needs one of handle and handle_many")
        self._handle = handle
        self._handle_many = handle_many
        self._graveyard = graveyard
        self._buried_in_a_row = 0

    async def deliver_together(self, records: list[Record]) -> bool:
        """Hand records of several partitions over at once; False: deliver them a partition at a time."""
        if self._handle_many is None:
            return False
        try:
            await self._handle_many(records)
        except Exception:  # noqa: BLE001 - whose fault it was is not known; it is told when it fails alone
            return False
        self._count(records)
        return True

    async def deliver(self, records: list[Record]) -> tuple[int, Exception | None]:
        """Return how many of `records`, from the first, are done with, and what stopped the next one."""
        if self._handle_many is not None:
            try:
                await self._handle_many(records)
            except Undecodable:
                # Which one it was is not known: go through them one by one.
                return await self._deliver_each(records)
            except Exception as error:  # noqa: BLE001 - whatever it was, the records come again
                RECORDS.labels(records[0].topic, "failed").inc()
                return 0, error
            self._count(records)
            return len(records), None
        return await self._deliver_each(records)

    async def _deliver_each(self, records: list[Record]) -> tuple[int, Exception | None]:
        for index, record in enumerate(records):
            error = await self._deliver_one(record)
            if error is not None:
                RECORDS.labels(record.topic, "failed").inc()
                return index, error
        return len(records), None

    async def _deliver_one(self, record: Record) -> Exception | None:
        try:
            with extract(record.headers), span(f"{record.topic} handle", kind="consumer"):
                if self._handle is not None:
                    await self._handle(record)
                elif self._handle_many is not None:
                    await self._handle_many([record])
        except Undecodable as error:
            return await self._bury(record, error)
        except Exception as error:  # noqa: BLE001 - whatever it was, the record comes again
            return error
        self._count([record])
        return None

    def _count(self, handled: list[Record]) -> None:
        self._buried_in_a_row = 0
        RECORDS.labels(handled[0].topic, "handled").inc(len(handled))

    async def _bury(self, record: Record, why: Undecodable) -> Exception | None:
        if self._buried_in_a_row >= BURIED_IN_A_ROW:
            return why
        headers = {
            **record.headers,
            "argosy-error": why.message,
            "argosy-partition": str(record.partition),
            "argosy-offset": str(record.offset),
        }
        letter = Record(record.topic + DEAD_LETTERS, record.key, record.value, headers)
        (failure,) = await self._graveyard.publish_all([letter])
        if failure is not None:
            return failure
        self._buried_in_a_row += 1
        RECORDS.labels(record.topic, "buried").inc()
        log.error(
            "record_buried", topic=record.topic, partition=record.partition, offset=record.offset, reason=why.message
        )
        return None
