"""Between messages and the domain."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, time, timedelta
from functools import lru_cache

from argosy.common.v1 import common_pb2 as common
from argosy.metering.v1 import metering_pb2 as pb
from chassis.errors import InvalidRequest
from chassis.grpc import proto_to_duration, proto_to_timestamp, timestamp_to_proto
from chassis.tenancy import Principal
from google.protobuf.message import Message

from metering.domain.books import RequestAccount
from metering.domain.budgets import Budget
from metering.domain.ledger import Transaction
from metering.domain.money import NanoUsd
from metering.domain.prices import Price
from metering.domain.reservations import Held, Reservation, State, Wish
from metering.domain.settlement import Outcome, Settlement
from metering.domain.usage import Source, Usage, UsageSum

STATES = {
    State.HELD: pb.RESERVATION_STATE_HELD,
    State.SETTLED: pb.RESERVATION_STATE_SETTLED,
    State.EXPIRED: pb.RESERVATION_STATE_EXPIRED,
}
OUTCOMES = {
    Outcome.BILLED: pb.SETTLEMENT_OUTCOME_BILLED,
    Outcome.RELEASED: pb.SETTLEMENT_OUTCOME_RELEASED,
    Outcome.EXPOSED: pb.SETTLEMENT_OUTCOME_EXPOSED,
}
SOURCES = {
    Source.REPORTED: common.USAGE_SOURCE_REPORTED,
    Source.COUNTED: common.USAGE_SOURCE_COUNTED,
    Source.UNKNOWN: common.USAGE_SOURCE_UNKNOWN,
}
# What is not said, or said in a way that we do not know yet, is unknown.
FROM_SOURCES = {number: source for source, number in SOURCES.items()}


def from_proto_reserve(request: pb.ReserveRequest, principal: Principal, default_lease: timedelta) -> Wish:
    """Read what a caller asks to set aside. Raises `InvalidRequest`."""
    return Wish(
        principal.tenant_id,
        request.request_id,
        tuple((bound.price_key, bound.input_tokens, bound.output_tokens) for bound in request.bounds),
        _lease(request, default_lease),
        principal.project_id,
        principal.key_id,
        principal.user_id,
    )


def from_proto_instant(message: Message, field: str) -> datetime | None:
    """Read an optional time. Raises `InvalidRequest` for one out of range."""
    if not message.HasField(field):
        return None
    try:
        return proto_to_timestamp(getattr(message, field))
    except (ValueError, OverflowError) as error:
        raise InvalidRequest(f"{field} is out of range", param=field) from error


def from_proto_cap(request: pb.SetBudgetRequest) -> NanoUsd:
    """Read a new cap. Raises `InvalidRequest` where it is absent: only an explicit zero stops a tenant."""
    if not request.HasField("cap"):
        raise InvalidRequest("cap is missing", param="cap")
    return NanoUsd(request.cap.nano_usd)


def from_proto_price(price: pb.Price) -> tuple[str, NanoUsd, NanoUsd]:
    """Read a new price. Raises `InvalidRequest` where an amount is absent: only an explicit zero is a zero."""
    for field in ("input_per_million", "output_per_million"):
        if not price.HasField(field):
            raise InvalidRequest(f"{field} is missing", param=f"price.{field}")
    return price.price_key, NanoUsd(price.input_per_million.nano_usd), NanoUsd(price.output_per_million.nano_usd)


def from_proto_usage(usage: common.TokenUsage) -> Usage:
    """Read what a call consumed."""
    return Usage(
        FROM_SOURCES.get(usage.source, Source.UNKNOWN),
        usage.input_tokens if usage.HasField("input_tokens") else None,
        usage.output_tokens if usage.HasField("output_tokens") else None,
    )


def to_proto_held(held: Held, soft_limit_percent: int) -> pb.ReserveResponse:
    """Answer a reservation."""
    return pb.ReserveResponse(
        held=to_proto_money(held.reservation.held),
        prices=[to_proto_price(bound.price) for bound in held.reservation.bounds],
        soft_limit_passed=held.budget.has_passed(soft_limit_percent),
    )


def to_proto_money(amount: NanoUsd) -> common.Money:
    """Write an amount."""
    return common.Money(nano_usd=amount)


@lru_cache(maxsize=1024)
def to_proto_price(price: Price) -> pb.Price:
    """Write a price; who puts it into a message puts a copy there."""
    return pb.Price(
        price_key=price.price_key,
        version=price.version,
        input_per_million=to_proto_money(price.input_per_million),
        output_per_million=to_proto_money(price.output_per_million),
        effective_at=timestamp_to_proto(price.effective_at),
    )


def to_proto_budget(budget: Budget) -> pb.Budget:
    """Write a budget."""
    return pb.Budget(
        cap=to_proto_money(budget.cap), spent=to_proto_money(budget.spent), held=to_proto_money(budget.held)
    )


def to_proto_sums(sums: Sequence[UsageSum]) -> pb.GetUsageResponse:
    """Write usage sums and their total."""
    return pb.GetUsageResponse(
        rows=[_to_proto_sum(row) for row in sums], total=to_proto_money(NanoUsd(sum(row.cost for row in sums)))
    )


def to_proto_account(account: RequestAccount) -> pb.GetRequestStatementResponse:
    """Write the whole account of a request."""
    return pb.GetRequestStatementResponse(
        reservation=_to_proto_reservation(account.reservation),
        settlements=[_to_proto_settlement(settlement) for settlement in account.settlements],
        entries=[entry for transaction in account.transactions for entry in _to_proto_entries(transaction)],
    )


def _lease(request: pb.ReserveRequest, default_lease: timedelta) -> timedelta:
    if not request.HasField("lease"):
        return default_lease
    try:
        return proto_to_duration(request.lease)
    except (ValueError, OverflowError) as error:
        raise InvalidRequest("the lease is out of range", param="lease") from error


def _to_proto_sum(row: UsageSum) -> pb.UsageRow:
    midnight = None if row.day is None else datetime.combine(row.day, time.min, UTC)
    return pb.UsageRow(
        day=None if midnight is None else timestamp_to_proto(midnight),
        price_key=row.price_key,
        calls=row.calls,
        input_tokens=row.input_tokens,
        output_tokens=row.output_tokens,
        cost=to_proto_money(row.cost),
    )


def _to_proto_reservation(reservation: Reservation) -> pb.Reservation:
    return pb.Reservation(
        request_id=reservation.request_id,
        held=to_proto_money(reservation.held),
        state=STATES[reservation.state],
        created_at=timestamp_to_proto(reservation.created_at),
        expires_at=timestamp_to_proto(reservation.expires_at),
    )


def _to_proto_settlement(settlement: Settlement) -> pb.Settlement:
    usage = common.TokenUsage(
        source=SOURCES[settlement.usage.source],
        input_tokens=settlement.usage.input_tokens,
        output_tokens=settlement.usage.output_tokens,
    )
    return pb.Settlement(
        attempt=settlement.attempt,
        outcome=OUTCOMES[settlement.outcome],
        usage=usage,
        price_key=settlement.price_key,
        price_version=settlement.price_version,
        cost=to_proto_money(settlement.cost),
        settled_at=timestamp_to_proto(settlement.settled_at),
    )


def _to_proto_entries(transaction: Transaction) -> list[pb.LedgerEntry]:
    return [
        pb.LedgerEntry(
            transaction_id=transaction.transaction_id,
            account=entry.account,
            amount=to_proto_money(entry.amount),
            created_at=timestamp_to_proto(transaction.created_at),
        )
        for entry in transaction.entries
    ]
