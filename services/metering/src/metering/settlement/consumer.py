"""Usage events from Kafka: decoded, priced, and settled a batch at a time."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from argosy.metering.v1 import events_pb2
from chassis.clock import Clock
from chassis.grpc import proto_to_timestamp
from chassis.kafka import Record, Undecodable
from chassis.telemetry import logger
from google.protobuf.message import DecodeError

from metering.metrics import CLAMPED, EVENTS, EXPOSED, SETTLE_LAG_SECONDS, SETTLEMENTS
from metering.prices.cache import PriceCache
from metering.prices.model import UnknownPriceVersion
from metering.settlement.model import Settlement, SettlementCase, SettlementChanges, UsageEvent
from metering.settlement.protos import proto_to_event
from metering.settlement.settle import SettlementStore, attach_prices

TOPIC = "argosy.metering.usage-recorded.v1"
CASES_WITHOUT_RESERVATION = frozenset({SettlementCase.LATE, SettlementCase.UNRESERVED})

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


def _occurred_at(message: events_pb2.UsageRecorded) -> datetime | None:
    try:
        return proto_to_timestamp(message.meta.occurred_at) if message.meta.HasField("occurred_at") else None
    except (ValueError, OverflowError):
        return None


def _observe(changes: Sequence[SettlementChanges]) -> None:
    for case, count in Counter(change.case for change in changes).items():
        EVENTS.labels(case).inc(count)
    observe_settlements([settlement for change in changes for settlement in change.settlements])
    for change in changes:
        if change.case in CASES_WITHOUT_RESERVATION:
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
            EXPOSED.labels(settlement.cause).inc(settlement.exposed)
    CLAMPED.inc(sum([settlement.reported is not None for settlement in settlements]))
