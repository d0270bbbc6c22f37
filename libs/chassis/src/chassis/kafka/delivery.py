"""Delivery of consumed records: each is handled, dead-lettered, or delivered again later."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Protocol

from chassis.errors import ArgosyError
from chassis.kafka.record import DEAD_LETTERS, Record, Undecodable
from chassis.telemetry import counter, extract, logger, span

Handle = Callable[[Record], Awaitable[None]]
HandleMany = Callable[[list[Record]], Awaitable[None]]

# More undecodable records in a row than this mean a bad deployment, not bad records: the consumer stops instead of
# moving the whole topic to the dead letters.
MAX_CONSECUTIVE_DEAD_LETTERS: Final = 100

RECORDS = counter("argosy_kafka_records_total", "Consumed records, by topic and outcome.", ("topic", "outcome"))

log = logger("chassis.kafka")


class DeadLetterPublisher(Protocol):
    """Publishes dead letters."""

    async def publish_all(self, records: Sequence[Record]) -> list[ArgosyError | None]:
        """Publish in order; return for each record its error, or None."""


class Delivery:
    """Passes records to their handler and publishes those that cannot be decoded to the dead-letter topic."""

    def __init__(
        self, handle: Handle | None, handle_many: HandleMany | None, dead_letters: DeadLetterPublisher
    ) -> None:
        if (handle is None) == (handle_many is None):
            raise ValueError("a consumer needs one of handle and handle_many")
        self._handle = handle
        self._handle_many = handle_many
        self._dead_letters = dead_letters
        self._consecutive_dead_letters = 0

    async def deliver_together(self, records: list[Record]) -> bool:
        """Pass records of several partitions in one call; False: deliver them one partition at a time."""
        if self._handle_many is None:
            return False
        try:
            await self._handle_many(records)
        except Exception:  # noqa: BLE001 - the failing record is unknown; it is reported when its partition fails alone
            return False
        self._count_handled(records)
        return True

    async def deliver(self, records: list[Record]) -> tuple[int, Exception | None]:
        """Return how many of `records`, from the first, are done, and the error of the next one."""
        if self._handle_many is not None:
            try:
                await self._handle_many(records)
            except Undecodable:
                # The record is not known; find it by delivering one by one.
                return await self._deliver_each(records)
            except Exception as error:  # noqa: BLE001 - after any error the records are delivered again
                RECORDS.labels(records[0].topic, "failed").inc()
                return 0, error
            self._count_handled(records)
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
            return await self._dead_letter(record, error)
        except Exception as error:  # noqa: BLE001 - after any error the record is delivered again
            return error
        self._count_handled([record])
        return None

    def _count_handled(self, records: list[Record]) -> None:
        self._consecutive_dead_letters = 0
        RECORDS.labels(records[0].topic, "handled").inc(len(records))

    async def _dead_letter(self, record: Record, cause: Undecodable) -> Exception | None:
        if self._consecutive_dead_letters >= MAX_CONSECUTIVE_DEAD_LETTERS:
            return cause
        headers = {
            **record.headers,
            "argosy-error": cause.message,
            "argosy-partition": str(record.partition),
            "argosy-offset": str(record.offset),
        }
        letter = Record(record.topic + DEAD_LETTERS, record.key, record.value, headers)
        (failure,) = await self._dead_letters.publish_all([letter])
        if failure is not None:
            return failure
        self._consecutive_dead_letters += 1
        RECORDS.labels(record.topic, "dead_lettered").inc()
        log.error(
            "record_dead_lettered",
            topic=record.topic,
            partition=record.partition,
            offset=record.offset,
            reason=cause.message,
        )
        return None
