"""Usage events and statements as messages."""

from argosy.metering.v1 import events_pb2, metering_pb2
from chassis.errors import ArgosyError
from chassis.grpc import timestamp_to_proto
from chassis.kafka import Undecodable
from values.money import MAX_TOKENS
from values.protos import exposure_cause_to_proto, nano_usd_to_proto, proto_to_usage, usage_to_proto

from metering.ledger.model import Transaction
from metering.prices.model import ALL_TENANTS, validate_price_key
from metering.reservations.model import Reservation, ReservationState, is_valid_id
from metering.reservations.protos import proto_to_cause
from metering.settlement.model import (
    Attempt,
    Decision,
    Outcome,
    Reconciliation,
    RequestStatement,
    Settlement,
    UsageEvent,
)

MAX_ATTEMPT = 1_000_000

_STATE_TO_PROTO = {
    ReservationState.HELD: metering_pb2.RESERVATION_STATE_HELD,
    ReservationState.SETTLED: metering_pb2.RESERVATION_STATE_SETTLED,
    ReservationState.EXPIRED: metering_pb2.RESERVATION_STATE_EXPIRED,
}
_OUTCOME_TO_PROTO = {
    Outcome.BILLED: metering_pb2.SETTLEMENT_OUTCOME_BILLED,
    Outcome.RELEASED: metering_pb2.SETTLEMENT_OUTCOME_RELEASED,
    Outcome.EXPOSED: metering_pb2.SETTLEMENT_OUTCOME_EXPOSED,
}

DECISION_TO_PROTO = {
    Decision.WRITTEN_OFF: metering_pb2.RECONCILIATION_DECISION_WRITTEN_OFF,
    Decision.BILLED: metering_pb2.RECONCILIATION_DECISION_BILLED,
}


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
    return UsageEvent(
        meta.tenant_id,
        meta.event_id,
        message.request_id,
        tuple(_proto_to_attempt(attempt) for attempt in message.attempts),
        message.project_id,
        message.key_id,
    )


def _proto_to_attempt(message: events_pb2.AttemptUsage) -> Attempt:
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
    cause = proto_to_cause(message.exposure_cause)
    return Attempt(message.attempt, message.price_key, message.price_version, usage, cause=cause)


def statement_to_proto(statement: RequestStatement) -> metering_pb2.GetRequestStatementResponse:
    return metering_pb2.GetRequestStatementResponse(
        reservation=_reservation_to_proto(statement.reservation),
        settlements=[settlement_to_proto(settlement) for settlement in statement.settlements],
        entries=[entry for transaction in statement.transactions for entry in _entries_to_protos(transaction)],
    )


def _reservation_to_proto(reservation: Reservation) -> metering_pb2.Reservation:
    return metering_pb2.Reservation(
        request_id=reservation.request_id,
        held=nano_usd_to_proto(reservation.held),
        state=_STATE_TO_PROTO[reservation.state],
        created_at=timestamp_to_proto(reservation.created_at),
        expires_at=timestamp_to_proto(reservation.expires_at),
    )


def settlement_to_proto(settlement: Settlement) -> metering_pb2.Settlement:
    message = metering_pb2.Settlement(
        attempt=settlement.attempt,
        outcome=_OUTCOME_TO_PROTO[settlement.outcome],
        price_key=settlement.price_key,
        price_version=settlement.price_version,
        cost=nano_usd_to_proto(settlement.cost),
        settled_at=timestamp_to_proto(settlement.settled_at),
        exposed=nano_usd_to_proto(settlement.exposed),
        counted=nano_usd_to_proto(settlement.counted),
        usage_clamped=settlement.reported is not None,
    )
    usage_to_proto(settlement.usage, message.usage)
    if settlement.cause is not None:
        message.exposure_cause = exposure_cause_to_proto(settlement.cause)
    if settlement.reported is not None:
        usage_to_proto(settlement.reported, message.reported_usage)
    if settlement.reconciliation is not None:
        _fill_reconciliation(settlement.reconciliation, message.reconciliation)
    return message


def _fill_reconciliation(reconciliation: Reconciliation, message: metering_pb2.Reconciliation) -> None:
    message.decision = DECISION_TO_PROTO[reconciliation.decision]
    message.billed.nano_usd = reconciliation.cost
    message.key_id = reconciliation.key_id
    message.note = reconciliation.note
    message.reconciled_at.CopyFrom(timestamp_to_proto(reconciliation.reconciled_at))


def _entries_to_protos(transaction: Transaction) -> list[metering_pb2.LedgerEntry]:
    return [
        metering_pb2.LedgerEntry(
            transaction_id=transaction.transaction_id,
            account=entry.account,
            amount=nano_usd_to_proto(entry.amount),
            created_at=timestamp_to_proto(transaction.created_at),
        )
        for entry in transaction.entries
    ]
