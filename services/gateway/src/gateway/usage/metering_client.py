"""The tenant's account, through metering."""

from collections.abc import Sequence
from datetime import datetime

from argosy.common.v1 import common_pb2
from argosy.metering.v1 import metering_pb2 as pb
from argosy.metering.v1.metering_pb2_grpc import MeteringServiceStub
from chassis.grpc import Channel, proto_to_timestamp, timestamp_to_proto

from gateway.domain.accounts import (
    Budget,
    LedgerEntry,
    Outcome,
    Price,
    RequestAccount,
    Reservation,
    ReservationState,
    Settlement,
    Usage,
    UsageRow,
)
from gateway.domain.money import NanoUsd

from .convert import from_proto_tokens, to_proto_money

STATES: dict[int, ReservationState] = {
    pb.RESERVATION_STATE_HELD: ReservationState.HELD,
    pb.RESERVATION_STATE_SETTLED: ReservationState.SETTLED,
    pb.RESERVATION_STATE_EXPIRED: ReservationState.EXPIRED,
}
OUTCOMES: dict[int, Outcome] = {
    pb.SETTLEMENT_OUTCOME_BILLED: Outcome.BILLED,
    pb.SETTLEMENT_OUTCOME_RELEASED: Outcome.RELEASED,
    pb.SETTLEMENT_OUTCOME_EXPOSED: Outcome.EXPOSED,
}
SOURCES: dict[int, str] = {
    common_pb2.USAGE_SOURCE_REPORTED: "reported",
    common_pb2.USAGE_SOURCE_COUNTED: "counted",
}
UNKNOWN = "unknown"


class GrpcAccounts:
    """`Accounts` over gRPC."""

    def __init__(self, channel: Channel) -> None:
        self._stub = MeteringServiceStub(channel)

    async def usage(self, start: datetime | None, end: datetime | None, *, by_day: bool) -> Usage:
        """Sum up what the caller's tenant used."""
        request = pb.GetUsageRequest(by_day=by_day)
        if start is not None:
            request.start.CopyFrom(timestamp_to_proto(start))
        if end is not None:
            request.end.CopyFrom(timestamp_to_proto(end))
        response = await self._stub.GetUsage(request)
        return Usage([from_proto_usage_row(row) for row in response.rows], NanoUsd(response.total.nano_usd))

    async def request(self, request_id: str) -> RequestAccount:
        """Read the account of one request."""
        response = await self._stub.GetRequestStatement(pb.GetRequestStatementRequest(request_id=request_id))
        return RequestAccount(
            request_id=request_id,
            reservation=from_proto_reservation(response.reservation),
            settlements=[from_proto_settlement(settlement) for settlement in response.settlements],
            entries=[from_proto_entry(entry) for entry in response.entries],
        )

    async def budget(self) -> Budget:
        """Read the budget of the caller's tenant."""
        response = await self._stub.GetBudget(pb.GetBudgetRequest())
        return from_proto_budget(response.budget)

    async def set_budget(self, tenant_id: str, cap: NanoUsd) -> Budget:
        """Set any tenant's cap."""
        response = await self._stub.SetBudget(pb.SetBudgetRequest(tenant_id=tenant_id, cap=to_proto_money(cap)))
        return from_proto_budget(response.budget)

    async def prices(self) -> Sequence[Price]:
        """Prices in force now."""
        response = await self._stub.ListPrices(pb.ListPricesRequest())
        return [from_proto_price(price) for price in response.prices]

    async def set_price(self, price_key: str, input_per_million: NanoUsd, output_per_million: NanoUsd) -> Price:
        """Put a new price in force."""
        price = pb.Price(
            price_key=price_key,
            input_per_million=to_proto_money(input_per_million),
            output_per_million=to_proto_money(output_per_million),
        )
        response = await self._stub.SetPrice(pb.SetPriceRequest(price=price))
        return from_proto_price(response.price)


def from_proto_usage_row(row: pb.UsageRow) -> UsageRow:
    """Read one sum."""
    return UsageRow(
        day=proto_to_timestamp(row.day) if row.HasField("day") else None,
        price_key=row.price_key,
        calls=row.calls,
        input_tokens=row.input_tokens,
        output_tokens=row.output_tokens,
        cost=NanoUsd(row.cost.nano_usd),
    )


def from_proto_reservation(reservation: pb.Reservation) -> Reservation:
    """Read a reservation; a state that is not known here still holds the money, as far as a client can tell."""
    return Reservation(
        held=NanoUsd(reservation.held.nano_usd),
        state=STATES.get(reservation.state, ReservationState.HELD),
        created_at=proto_to_timestamp(reservation.created_at),
        expires_at=proto_to_timestamp(reservation.expires_at),
    )


def from_proto_settlement(settlement: pb.Settlement) -> Settlement:
    """Read a settlement."""
    return Settlement(
        attempt=settlement.attempt,
        outcome=OUTCOMES.get(settlement.outcome, Outcome.EXPOSED),
        tokens=from_proto_tokens(settlement.usage),
        tokens_from=SOURCES.get(settlement.usage.source, UNKNOWN),
        price_key=settlement.price_key,
        price_version=settlement.price_version,
        cost=NanoUsd(settlement.cost.nano_usd),
        settled_at=proto_to_timestamp(settlement.settled_at),
    )


def from_proto_entry(entry: pb.LedgerEntry) -> LedgerEntry:
    """Read a line of the ledger."""
    return LedgerEntry(
        entry.transaction_id, entry.account, NanoUsd(entry.amount.nano_usd), proto_to_timestamp(entry.created_at)
    )


def from_proto_budget(budget: pb.Budget) -> Budget:
    """Read a budget."""
    return Budget(
        cap=NanoUsd(budget.cap.nano_usd), spent=NanoUsd(budget.spent.nano_usd), held=NanoUsd(budget.held.nano_usd)
    )


def from_proto_price(price: pb.Price) -> Price:
    """Read a price."""
    return Price(
        price_key=price.price_key,
        version=price.version,
        input_per_million=NanoUsd(price.input_per_million.nano_usd),
        output_per_million=NanoUsd(price.output_per_million.nano_usd),
        effective_at=proto_to_timestamp(price.effective_at),
    )
