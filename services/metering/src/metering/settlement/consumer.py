"""Usage events from Kafka: decoded, priced, and settled a batch at a time."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from argosy.metering.v1 import events_pb2
from chassis.clock import Clock
from chassis.errors import ArgosyError
from chassis.kafka import Record, Undecodable
from chassis.telemetry import logger
from google.protobuf.message import DecodeError
from values.money import MAX_TOKENS
from values.protos import proto_to_cache_outcome, proto_to_exposure_cause, proto_to_timestamp, proto_to_usage
from values.usage import CacheOutcome, ExposureCause

from metering.metrics import CLAMPED, EVENTS, EXPOSED, SETTLE_LAG_SECONDS, SETTLEMENTS
from metering.prices.model import ALL_TENANTS, PriceCache, UnknownPriceVersion, validate_price_key
from metering.reservations.model import is_valid_id
from metering.settlement.hits import Hit, Hits
from metering.settlement.model import Attempt, Settlement, SettlementCase, SettlementChanges, UsageEvent, attach_prices
from metering.settlement.ports import SettlementStore
from metering.usage.model import CacheUse, RightSizingUse, is_valid_model_name

TOPIC = "argosy.metering.usage-recorded.v1"
HITS_TOPIC = "argosy.metering.hits-recorded.v1"
MAX_ATTEMPT = 1_000_000
Message = events_pb2.UsageRecorded | events_pb2.HitsRecorded
CASES_WITHOUT_RESERVATION = frozenset({SettlementCase.LATE, SettlementCase.UNRESERVED})

# An alert does not see the increase from no sample to a first one, so that all causes are 0 from the start.
_EXPOSED = {cause: EXPOSED.labels(cause) for cause in ExposureCause}

log = logger("metering.settlement")


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageConsumer:
    """Settles the records of `TOPIC`. Safe to repeat: settled calls stay as they are."""

    settlements: SettlementStore
    prices: PriceCache
    clock: Clock

    async def settle(self, records: list[Record]) -> None:
        """Settle records in one transaction.

        Raises `Undecodable`, before anything is written, when one of them can never be settled: it is no usage event,
        or its price does not exist. Waiting would not help: the price was chosen before the call. The record goes to
        the dead-letter topic, and its reservation is exposed when the lease expires.
        """
        messages = [decode(record) for record in records]
        events = [await self._priced(proto_to_event(message)) for message in messages]
        changes = await self.settlements.settle(events)
        _observe(changes)
        self._observe_lag(messages)

    async def settle_hits(self, records: list[Record]) -> None:
        """Settle records of `HITS_TOPIC`, most of them in one transaction. Raises `Undecodable` as `settle`."""
        messages = [decode_hits(record) for record in records]
        answers: list[UsageEvent] = []
        hits: list[Hit] = []
        for message in messages:
            first = len(answers)
            hits += proto_to_hits(message, first)
            answers += [await self._priced(answer) for answer in proto_to_answers(message)]
        if hits:
            _observe(await self.settlements.settle_hits(Hits(answers, hits)))
        self._observe_lag(messages)

    def _observe_lag(self, messages: Sequence[Message]) -> None:
        newest = max((time for message in messages if (time := _occurred_at(message))), default=None)
        if newest is not None:
            SETTLE_LAG_SECONDS.set(max(0.0, (self.clock.now() - newest).total_seconds()))

    async def _priced(self, event: UsageEvent) -> UsageEvent:
        try:
            return await attach_prices(event, prices=self.prices)
        except UnknownPriceVersion as error:
            raise Undecodable(f"request {event.request_id}: {error.message}") from error


def decode(record: Record) -> events_pb2.UsageRecorded:
    try:
        return events_pb2.UsageRecorded.FromString(record.value)
    except DecodeError as error:
        raise Undecodable("not an argosy.metering.v1.UsageRecorded") from error


def decode_hits(record: Record) -> events_pb2.HitsRecorded:
    try:
        return events_pb2.HitsRecorded.FromString(record.value)
    except DecodeError as error:
        raise Undecodable("not an argosy.metering.v1.HitsRecorded") from error


def proto_to_hits(message: events_pb2.HitsRecorded, first: int) -> list[Hit]:
    """Read the requests of a message, whose answers are those from `first` on. Raises `Undecodable`."""
    count = len(message.answers)
    hits = [Hit(hit.request_id, hit.project_id, hit.key_id, first + hit.answer) for hit in message.hits]
    # Most hits of a message have the same project and key.
    owners = {hit.project_id for hit in hits} | {hit.key_id for hit in hits}
    if not all(map(is_valid_id, [hit.request_id for hit in hits])):
        raise Undecodable("each hit needs the id of its request")
    if not all(text == "" or is_valid_id(text) for text in owners):
        raise Undecodable("key or project is not an id")
    if not all(first <= hit.answer < first + count for hit in hits):
        raise Undecodable("a hit names an answer that is not there")
    return hits


def proto_to_answers(message: events_pb2.HitsRecorded) -> list[UsageEvent]:
    """Read the answers of a message; each gets the id of its event in place of a request's. Raises `Undecodable`."""
    answers = []
    for answer in message.answers:
        event = events_pb2.UsageRecorded(
            meta=message.meta, request_id=message.meta.event_id, attempts=[answer.attempt], cache=answer.cache
        )
        answers.append(proto_to_event(event))
    return answers


def proto_to_event(message: events_pb2.UsageRecorded) -> UsageEvent:
    """Read an event. Raises `Undecodable` for one that Postgres would refuse each time it is delivered."""
    meta = message.meta
    if meta.tenant_id == ALL_TENANTS or not all(map(is_valid_id, (meta.tenant_id, meta.event_id, message.request_id))):
        raise Undecodable("tenant, event and request need ids")
    if not all(text == "" or is_valid_id(text) for text in (message.key_id, message.project_id)):
        raise Undecodable("key or project is not an id")
    numbers = {attempt.attempt for attempt in message.attempts}
    if len(numbers) < len(message.attempts) or not all(1 <= number <= MAX_ATTEMPT for number in numbers):
        raise Undecodable("attempts do not count from 1, each once")
    cache = _proto_to_cache_use(message.cache) if message.HasField("cache") else None
    return UsageEvent(
        meta.tenant_id,
        meta.event_id,
        message.request_id,
        tuple(_proto_to_attempt(attempt, cache) for attempt in message.attempts),
        message.project_id,
        message.key_id,
        cache,
        _proto_to_right_sizing(message.right_sizing) if message.HasField("right_sizing") else None,
    )


def _proto_to_cache_use(message: events_pb2.CacheUse) -> CacheUse:
    if not is_valid_model_name(message.model):
        raise Undecodable("the cache's model is not a name")
    # An outcome of a newer version counts as one that this version knows: the answer did come from the cache.
    outcome = proto_to_cache_outcome(message.outcome) or CacheOutcome.HIT
    return CacheUse(outcome, message.model, message.attempt)


def _proto_to_right_sizing(message: events_pb2.RightSizing) -> RightSizingUse | None:
    """Read what right-sizing did; None when Postgres would refuse it: calls are billed without."""
    is_valid = is_valid_model_name(message.model) and is_valid_id(message.price_version)
    if not is_valid:
        return None
    attempts = frozenset(message.attempts)
    answer = message.answer if message.answer in attempts else 0
    return RightSizingUse(message.model, message.price_key, message.price_version, attempts, answer)


def _proto_to_attempt(message: events_pb2.AttemptUsage, cache: CacheUse | None) -> Attempt:
    usage = proto_to_usage(message.usage)
    try:
        validate_price_key(message.price_key, "price_key")
    except ArgosyError as error:
        raise Undecodable(f"attempt {message.attempt}: {error.message}") from error
    if not (message.price_version == "" or is_valid_id(message.price_version)):
        raise Undecodable(f"attempt {message.attempt}: the price version is not an id")
    if any(
        tokens is not None and not 0 <= tokens <= MAX_TOKENS for tokens in (usage.input_tokens, usage.output_tokens)
    ):
        raise Undecodable(f"attempt {message.attempt}: no call consumes that many tokens")
    # A cause that is not said, or of a newer version, is the provider's: the tenant does not pay for it.
    cause = proto_to_exposure_cause(message.exposure_cause) or ExposureCause.PROVIDER
    cached = cache.outcome if cache is not None and cache.attempt == message.attempt else None
    return Attempt(message.attempt, message.price_key, message.price_version, usage, cause=cause, cache=cached)


def _occurred_at(message: Message) -> datetime | None:
    try:
        return proto_to_timestamp(message.meta.occurred_at) if message.meta.HasField("occurred_at") else None
    except (ValueError, OverflowError):
        return None


def _observe(changes: Sequence[SettlementChanges]) -> None:
    for case, count in Counter(change.case for change in changes).items():
        EVENTS.labels(case).inc(count)
    observe_settlements([settlement for change in changes for settlement in change.settlements])
    for change in changes:
        if change.case in CASES_WITHOUT_RESERVATION and change.cache is None:
            log.warning(
                "usage_without_reservation",
                case=change.case,
                tenant_id=change.reservation.tenant_id,
                request_id=change.reservation.request_id,
            )


def observe_settlements(settlements: Sequence[Settlement]) -> None:
    """Show settlements of events and of expired leases in the metrics."""
    for outcome, count in Counter(settlement.outcome for settlement in settlements).items():
        SETTLEMENTS.labels(outcome).inc(count)
    for settlement in settlements:
        if settlement.exposed and settlement.cause is not None:
            _EXPOSED[settlement.cause].inc(settlement.exposed)
    CLAMPED.inc(sum([settlement.reported is not None for settlement in settlements]))
