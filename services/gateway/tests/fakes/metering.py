"""Metering's gRPC service, answering out of the fake accounts: what the adapter is tested against."""
# ruff: noqa: N802 - the names are the protos'

from datetime import UTC
from typing import Any

from argosy.common.v1 import common_pb2
from argosy.metering.v1 import metering_pb2
from argosy.metering.v1.metering_pb2_grpc import MeteringServiceServicer
from chassis.grpc import timestamp_to_proto
from gateway.domain.accounts import Budget, Outcome, Price, ReservationState
from gateway.domain.inference import Tokens
from gateway.domain.money import NanoUsd

from services.gateway.tests.fakes.accounts import FakeAccounts

STATES = {
    ReservationState.HELD: metering_pb2.RESERVATION_STATE_HELD,
    ReservationState.SETTLED: metering_pb2.RESERVATION_STATE_SETTLED,
    ReservationState.EXPIRED: metering_pb2.RESERVATION_STATE_EXPIRED,
}
OUTCOMES = {
    Outcome.BILLED: metering_pb2.SETTLEMENT_OUTCOME_BILLED,
    Outcome.RELEASED: metering_pb2.SETTLEMENT_OUTCOME_RELEASED,
    Outcome.EXPOSED: metering_pb2.SETTLEMENT_OUTCOME_EXPOSED,
}


def to_proto_usage(tokens: Tokens, source: str = "USAGE_SOURCE_REPORTED") -> common_pb2.TokenUsage:
    number = common_pb2.UsageSource.Value(source)
    return common_pb2.TokenUsage(source=number, input_tokens=tokens.input, output_tokens=tokens.output)


def to_proto_money(amount: NanoUsd) -> common_pb2.Money:
    return common_pb2.Money(nano_usd=amount)


def to_proto_budget(budget: Budget) -> metering_pb2.Budget:
    return metering_pb2.Budget(
        cap=to_proto_money(budget.cap), spent=to_proto_money(budget.spent), held=to_proto_money(budget.held)
    )


def to_proto_price(price: Price) -> metering_pb2.Price:
    return metering_pb2.Price(
        price_key=price.price_key,
        version=price.version,
        input_per_million=to_proto_money(price.input_per_million),
        output_per_million=to_proto_money(price.output_per_million),
        effective_at=timestamp_to_proto(price.effective_at),
    )


class Metering(MeteringServiceServicer):
    """Answers out of fake accounts."""

    def __init__(self, accounts: FakeAccounts) -> None:
        self._accounts = accounts

    async def Reserve(self, request: Any, context: Any) -> Any:
        raise NotImplementedError

    async def GetUsage(self, request: metering_pb2.GetUsageRequest, context: Any) -> metering_pb2.GetUsageResponse:
        start = request.start.ToDatetime(tzinfo=UTC) if request.HasField("start") else None
        end = request.end.ToDatetime(tzinfo=UTC) if request.HasField("end") else None
        usage = await self._accounts.usage(start, end, by_day=request.by_day)
        rows = [
            metering_pb2.UsageRow(
                day=timestamp_to_proto(row.day) if row.day else None,
                price_key=row.price_key,
                calls=row.calls,
                input_tokens=row.input_tokens,
                output_tokens=row.output_tokens,
                cost=to_proto_money(row.cost),
            )
            for row in usage.rows
        ]
        return metering_pb2.GetUsageResponse(rows=rows, total=to_proto_money(usage.total))

    async def GetRequestStatement(
        self, request: metering_pb2.GetRequestStatementRequest, context: Any
    ) -> metering_pb2.GetRequestStatementResponse:
        account = await self._accounts.request(request.request_id)
        reservation = metering_pb2.Reservation(
            request_id=account.request_id,
            held=to_proto_money(account.reservation.held),
            state=STATES[account.reservation.state],
            created_at=timestamp_to_proto(account.reservation.created_at),
            expires_at=timestamp_to_proto(account.reservation.expires_at),
        )
        settlements = [
            metering_pb2.Settlement(
                attempt=settlement.attempt,
                outcome=OUTCOMES[settlement.outcome],
                usage=to_proto_usage(settlement.tokens, f"USAGE_SOURCE_{settlement.tokens_from.upper()}"),
                price_key=settlement.price_key,
                price_version=settlement.price_version,
                cost=to_proto_money(settlement.cost),
                settled_at=timestamp_to_proto(settlement.settled_at),
            )
            for settlement in account.settlements
        ]
        entries = [
            metering_pb2.LedgerEntry(
                transaction_id=entry.transaction_id,
                account=entry.account,
                amount=to_proto_money(entry.amount),
                created_at=timestamp_to_proto(entry.created_at),
            )
            for entry in account.entries
        ]
        return metering_pb2.GetRequestStatementResponse(
            reservation=reservation, settlements=settlements, entries=entries
        )

    async def GetBudget(self, request: Any, context: Any) -> metering_pb2.GetBudgetResponse:
        return metering_pb2.GetBudgetResponse(budget=to_proto_budget(await self._accounts.budget()))

    async def SetBudget(self, request: metering_pb2.SetBudgetRequest, context: Any) -> metering_pb2.SetBudgetResponse:
        budget = await self._accounts.set_budget(request.tenant_id, NanoUsd(request.cap.nano_usd))
        return metering_pb2.SetBudgetResponse(budget=to_proto_budget(budget))

    async def ListPrices(self, request: Any, context: Any) -> metering_pb2.ListPricesResponse:
        return metering_pb2.ListPricesResponse(
            prices=[to_proto_price(price) for price in await self._accounts.prices()]
        )

    async def SetPrice(self, request: metering_pb2.SetPriceRequest, context: Any) -> metering_pb2.SetPriceResponse:
        price = await self._accounts.set_price(
            request.price.price_key,
            NanoUsd(request.price.input_per_million.nano_usd),
            NanoUsd(request.price.output_per_million.nano_usd),
        )
        return metering_pb2.SetPriceResponse(price=to_proto_price(price))
