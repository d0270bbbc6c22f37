"""Delivery of consumed records: each is verified, then handled, dead-lettered, or delivered again later."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Protocol

from chassis.errors import ArgosyError
from chassis.kafka.publisher import RecordTooLarge
from chassis.kafka.record import DEAD_LETTERS, ERROR_HEADER, OFFSET_HEADER, PARTITION_HEADER, Record, Undecodable
from chassis.telemetry import counter, extract, logger, span
from chassis.telemetry.rate_limited import RateLimitedLog

Handle = Callable[[Record], Awaitable[None]]
HandleMany = Callable[[list[Record]], Awaitable[None]]

# More undecodable records in a row than this mean a bad deployment, not bad records: the consumer stops instead of
# moving the whole topic to the dead letters.
MAX_CONSECUTIVE_DEAD_LETTERS: Final = 100

RECORDS = counter("argosy_kafka_records_total", "Consumed records, by topic and outcome.", ("topic", "outcome"))

log = logger("chassis.kafka")


def start_series(topic: str) -> None:
    """Show all outcomes of a topic as 0: the increase from no sample to a first one is not seen by Prometheus."""
    for outcome in ("handled", "failed", "dead_lettered", "refused"):
        RECORDS.labels(topic, outcome)


class DeadLetterPublisher(Protocol):
    """Publishes dead letters."""

    async def publish_all(self, records: Sequence[Record]) -> list[ArgosyError | None]:
        """Publish in order; return for each record its error, or None."""


class Delivery:
    """Passes records to their handler and publishes those that cannot be decoded to the dead-letter topic."""

    def __init__(
        self,
        handle: Handle | None,
        handle_many: HandleMany | None,
        dead_letters: DeadLetterPublisher,
        problem: Callable[[Record], str | None],
        *,
        topic: str | None = None,
    ) -> None:
        """`problem` says what is wrong with a record's signature, if anything; `topic` gets its metrics at once."""
        if (handle is None) == (handle_many is None):
            raise ValueError("a consumer needs one of handle and handle_many")
        self._handle = handle
        self._handle_many = handle_many
        self._dead_letters = dead_letters
        self._problem = problem
        self._failure_log = RateLimitedLog(log)
        self._consecutive_dead_letters = 0
        if topic is not None:
            start_series(topic)

    async def deliver_together(self, records: list[Record]) -> bool:
        """Pass records of several partitions in one call; False: deliver them one partition at a time."""
        if self._handle_many is None:
            return False
        signed, forged = self._split(records)
        try:
            if signed:
                await self._handle_many(signed)
        except Exception:  # noqa: BLE001 - the failing record is unknown; it is reported when its partition fails alone
            return False
        if await self._refuse(forged) is not None:
            return False
        self._count_handled(signed)
        return True

    async def deliver(self, records: list[Record]) -> tuple[int, Exception | None]:
        """Return how many of `records`, from the first, are done, and the error of the next one."""
        signed, forged = self._split(records)
        if not forged:
            return await self._deliver_signed(records)
        handled, error = await self._deliver_signed(signed)
        done = len(records) if error is None else records.index(signed[handled])
        failure = await self._refuse([(record, problem) for record, problem in forged if records.index(record) < done])
        if failure is not None:
            return 0, failure
        return done, error

    def _split(self, records: list[Record]) -> tuple[list[Record], list[tuple[Record, str]]]:
        """Separate the records with a valid signature from the others."""
        signed: list[Record] = []
        forged: list[tuple[Record, str]] = []
        for record in records:
            problem = self._problem(record)
            if problem is None:
                signed.append(record)
            else:
                forged.append((record, problem))
        return signed, forged

    async def _refuse(self, forged: list[tuple[Record, str]]) -> Exception | None:
        """Move records without a valid signature to the dead letters.

        Any number of them: otherwise their sender could stop the consumer.
        """
        for record, problem in forged:
            failure = await publish_letter(self._dead_letters, record, problem)
            if failure is not None:
                return failure
            RECORDS.labels(record.topic, "refused").inc()
            self._failure_log.warning(
                "record_refused",
                key=problem,
                topic=record.topic,
                partition=record.partition,
                offset=record.offset,
                reason=problem,
            )
        return None

    async def _deliver_signed(self, records: list[Record]) -> tuple[int, Exception | None]:
        if self._handle_many is None:
            return await self._deliver_each(records)
        if not records:
            return 0, None
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
        if not records:
            return
        self._consecutive_dead_letters = 0
        RECORDS.labels(records[0].topic, "handled").inc(len(records))

    async def _dead_letter(self, record: Record, cause: Undecodable) -> Exception | None:
        if self._consecutive_dead_letters >= MAX_CONSECUTIVE_DEAD_LETTERS:
            return cause
        failure = await publish_letter(self._dead_letters, record, cause.message)
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


async def publish_letter(publisher: DeadLetterPublisher, record: Record, reason: str) -> ArgosyError | None:
    """Publish a record to the dead letters of its topic, with the reason; return the error, if any."""
    why = {
        ERROR_HEADER: reason,
        PARTITION_HEADER: str(record.partition),
        OFFSET_HEADER: str(record.offset),
    }
    topic = record.topic + DEAD_LETTERS
    letter = Record(topic, record.key, record.value, {**record.headers, **why})
    (failure,) = await publisher.publish_all([letter])
    if isinstance(failure, RecordTooLarge):
        # With the reason it is larger than the topic accepts; the record itself stays readable at its offset.
        (failure,) = await publisher.publish_all([Record(topic, record.key[:1024], b"", why)])
    return failure
