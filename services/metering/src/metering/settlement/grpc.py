"""GetRequestStatement: statements and settlements as messages."""

from dataclasses import dataclass

from argosy.metering.v1 import metering_pb2
from chassis.tenancy import Principal
from values.protos import (
    cache_outcome_to_proto,
    exposure_cause_to_proto,
    nano_usd_to_proto,
    timestamp_to_proto,
    usage_to_proto,
)

from metering.ledger.model import Transaction
from metering.reservations.model import RequestNotFound, Reservation, ReservationState, is_valid_id
from metering.settlement.model import Decision, Outcome, Reconciliation, RequestStatement, Settlement
from metering.settlement.ports import SettlementStore
from metering.usage.protos import classes_to_protos

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


@dataclass(frozen=True, slots=True)
class StatementHandler:
    settlements: SettlementStore

    async def get(
        self, request: metering_pb2.GetRequestStatementRequest, principal: Principal
    ) -> metering_pb2.GetRequestStatementResponse:
        if not is_valid_id(request.request_id):  # Postgres would refuse some of these
            raise RequestNotFound("there is no such request", param="request_id")
        return statement_to_proto(await self.settlements.statement(principal.tenant_id, request.request_id))


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
        classes=classes_to_protos(settlement.classes),
    )
    usage_to_proto(settlement.usage, message.usage)
    if settlement.cause is not None:
        message.exposure_cause = exposure_cause_to_proto(settlement.cause)
    if settlement.cache is not None:
        message.cache = cache_outcome_to_proto(settlement.cache)
        message.saved.nano_usd = settlement.saved
    if settlement.right_sizing is not None:
        sized = message.right_sizing
        sized.price_key, sized.price_version, sized.saved.nano_usd = settlement.right_sizing
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
