"""Usage events from Kafka: decoded, given their prices, settled a batch at a time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import datetime

from argosy.metering.v1 import events_pb2 as pb
from chassis.clock import Clock
from chassis.errors import ArgosyError
from chassis.grpc import proto_to_timestamp
from chassis.kafka import Record, Undecodable
from chassis.telemetry import logger
from google.protobuf.message import DecodeError

from metering.api.convert import from_proto_usage
from metering.domain.books import Ledger
from metering.domain.money import MAX_TOKENS
from metering.domain.prices import EVERYBODY, Prices, UnknownPriceVersion, check_price_key
from metering.domain.reservations import is_id
from metering.domain.settlement import Attempt, Posting, Story, UsageEvent, with_prices
from metering.metrics import EVENTS, EXPOSED, SETTLE_LAG_SECONDS, SETTLEMENTS

TOPIC = "argosy.metering.usage-recorded.v1"
MAX_ATTEMPT = 1_000_000
WITHOUT_HOLD = frozenset({Story.LATE, Story.UNRESERVED})

log = logger("metering.events")


class UsageEvents:
    """Settles what `TOPIC` says. Safe to repeat: what is in the books already stays as it is."""

    def __init__(self, *, ledger: Ledger, prices: Prices, clock: Clock) -> None:
        self._ledger = ledger
        self._prices = prices
        self._clock = clock

    async def settle(self, records: list[Record]) -> None:
        """Settle records in one transaction.

        Raises `Undecodable`, before anything is written, when one of them can never be settled: it is no usage event,
        or it names a price that does not exist. Waiting would not make that price appear: it was agreed on before the
        call. Its hold goes to exposure when the lease ends, and the record waits among the dead letters.
        """
        messages = [decode(record) for record in records]
        events = [await self._priced(from_proto_event(message)) for message in messages]
        postings = await self._ledger.settle(events)
        _count(postings)
        newest = max((when for message in messages if (when := _occurred_at(message))), default=None)
        if newest is not None:
            SETTLE_LAG_SECONDS.set(max(0.0, (self._clock.now() - newest).total_seconds()))

    async def _priced(self, event: UsageEvent) -> UsageEvent:
        try:
            return await with_prices(event, prices=self._prices)
        except UnknownPriceVersion as error:
            raise Undecodable(f"request {event.request_id}: {error.message}") from error


def decode(record: Record) -> pb.UsageRecorded:
    """Read the message. Raises `Undecodable`."""
    try:
        return pb.UsageRecorded.FromString(record.value)
    except DecodeError as error:
        raise Undecodable("not an argosy.metering.v1.UsageRecorded") from error


def from_proto_event(message: pb.UsageRecorded) -> UsageEvent:
    """Read an event. Raises `Undecodable` for what the books could not keep: it would come back for ever."""
    meta = message.meta
    if meta.tenant_id == EVERYBODY or not all(map(is_id, (meta.tenant_id, meta.event_id, message.request_id))):
        raise Undecodable("tenant, event and request need ids")
    if not all(text == "" or is_id(text) for text in (message.key_id, message.project_id)):
        raise Undecodable("key or project is not an id")
    numbers = {attempt.attempt for attempt in message.attempts}
    if len(numbers) < len(message.attempts) or not all(1 <= number <= MAX_ATTEMPT for number in numbers):
        raise Undecodable("attempts do not count from 1, each once")
    return UsageEvent(
        meta.tenant_id,
        meta.event_id,
        message.request_id,
        tuple(_attempt(attempt) for attempt in message.attempts),
        message.project_id,
        message.key_id,
    )


def _attempt(message: pb.AttemptUsage) -> Attempt:
    usage = from_proto_usage(message.usage)
    try:
        check_price_key(message.price_key, "price_key")
    except ArgosyError as error:
        raise Undecodable(f"attempt {message.attempt}: {error.message}") from error
    if not (message.price_version == "" or is_id(message.price_version)):
        raise Undecodable(f"attempt {message.attempt}: the price version is not an id")
    if any(
        tokens is not None and not 0 <= tokens <= MAX_TOKENS for tokens in (usage.input_tokens, usage.output_tokens)
    ):
        raise Undecodable(f"attempt {message.attempt}: no call consumes that many tokens")
    return Attempt(message.attempt, message.price_key, message.price_version, usage)


def _occurred_at(message: pb.UsageRecorded) -> datetime | None:
    try:
        return proto_to_timestamp(message.meta.occurred_at) if message.meta.HasField("occurred_at") else None
    except (ValueError, OverflowError):
        return None


def _count(postings: Sequence[Posting]) -> None:
    settlements = [settlement for posting in postings for settlement in posting.settlements]
    for story, count in Counter(posting.story for posting in postings).items():
        EVENTS.labels(story).inc(count)
    for outcome, count in Counter(settlement.outcome for settlement in settlements).items():
        SETTLEMENTS.labels(outcome).inc(count)
    if exposed := sum(settlement.exposed for settlement in settlements):
        EXPOSED.labels("settlement").inc(exposed)
    for posting in postings:
        if posting.story in WITHOUT_HOLD:
            log.warning(
                "usage_without_hold",
                story=posting.story,
                tenant_id=posting.reservation.tenant_id,
                request_id=posting.reservation.request_id,
            )
