"""The gRPC service: it translates, checks the role, counts; the domain decides. The tenant is always the caller's."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from argosy.metering.v1 import metering_pb2 as pb
from argosy.metering.v1 import metering_pb2_grpc as rpc
from chassis.errors import ArgosyError
from chassis.grpc import Registration
from chassis.tenancy import Principal, current_caller

from metering.api.convert import (
    from_proto_cap,
    from_proto_instant,
    from_proto_price,
    from_proto_reserve,
    to_proto_account,
    to_proto_budget,
    to_proto_held,
    to_proto_price,
    to_proto_sums,
)
from metering.domain.books import Ledger, show
from metering.domain.budgets import Budgets, set_cap
from metering.domain.prices import PriceNews, Prices, set_price
from metering.domain.reservations import Reservations, reserve
from metering.domain.usage import UsageReports, sum_up
from metering.metrics import RESERVATIONS

ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class ReservePolicy:
    """How long money stays aside, and when a budget is called nearly spent (percent of the cap)."""

    default_lease: timedelta
    max_lease: timedelta
    soft_limit_percent: int


class MeteringServicer(rpc.MeteringServiceServicer):
    """argosy.metering.v1.MeteringService."""

    def __init__(
        self,
        *,
        prices: Prices,
        news: PriceNews,
        budgets: Budgets,
        reservations: Reservations,
        ledger: Ledger,
        reports: UsageReports,
        policy: ReservePolicy,
    ) -> None:
        self._prices = prices
        self._news = news
        self._budgets = budgets
        self._reservations = reservations
        self._ledger = ledger
        self._reports = reports
        self._policy = policy
        self._held = RESERVATIONS.labels("held")
        self._repeated = RESERVATIONS.labels("repeated")

    async def Reserve(self, request: pb.ReserveRequest, context: Any) -> pb.ReserveResponse:
        """Set the most that a request can cost aside, or refuse."""
        try:
            wish = from_proto_reserve(request, _principal(), self._policy.default_lease)
            held = await reserve(
                wish, prices=self._prices, reservations=self._reservations, max_lease=self._policy.max_lease
            )
        except ArgosyError as error:
            RESERVATIONS.labels(error.code).inc()
            raise
        (self._repeated if held.repeated else self._held).inc()
        return to_proto_held(held, self._policy.soft_limit_percent)

    async def GetUsage(self, request: pb.GetUsageRequest, context: Any) -> pb.GetUsageResponse:
        """Sum up what the tenant used."""
        start, end = from_proto_instant(request, "start"), from_proto_instant(request, "end")
        sums = await sum_up(_principal().tenant_id, start, end, by_day=request.by_day, reports=self._reports)
        return to_proto_sums(sums)

    async def GetRequestStatement(
        self, request: pb.GetRequestStatementRequest, context: Any
    ) -> pb.GetRequestStatementResponse:
        """Show the whole account of one request."""
        account = await show(_principal().tenant_id, request.request_id, ledger=self._ledger)
        return to_proto_account(account)

    async def GetBudget(self, request: pb.GetBudgetRequest, context: Any) -> pb.GetBudgetResponse:
        """Show the tenant's budget."""
        return pb.GetBudgetResponse(budget=to_proto_budget(await self._budgets.read(_principal().tenant_id)))

    async def SetBudget(self, request: pb.SetBudgetRequest, context: Any) -> pb.SetBudgetResponse:
        """Set the cap of any tenant; without a tenant, of the caller's."""
        principal = _admin()
        tenant_id = request.tenant_id or principal.tenant_id
        budget = await set_cap(tenant_id, from_proto_cap(request), budgets=self._budgets)
        return pb.SetBudgetResponse(budget=to_proto_budget(budget))

    async def ListPrices(self, request: pb.ListPricesRequest, context: Any) -> pb.ListPricesResponse:
        """Show what the tenant pays now."""
        prices = await self._prices.current(_principal().tenant_id)
        return pb.ListPricesResponse(prices=[to_proto_price(price) for price in prices])

    async def SetPrice(self, request: pb.SetPriceRequest, context: Any) -> pb.SetPriceResponse:
        """Put a new price for everybody in force."""
        _admin()
        price = await set_price(*from_proto_price(request.price), prices=self._prices, news=self._news)
        return pb.SetPriceResponse(price=to_proto_price(price))


def registration(servicer: MeteringServicer) -> Registration:
    """Return what a `GrpcServer` needs to serve it."""
    return rpc.add_MeteringServiceServicer_to_server, servicer, "argosy.metering.v1.MeteringService"


def _principal() -> Principal:
    return current_caller().principal


def _admin() -> Principal:
    principal = _principal()
    principal.require(ADMIN)
    return principal
