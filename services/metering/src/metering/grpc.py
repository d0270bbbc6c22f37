"""argosy.metering.v1.MeteringService: finds the caller, checks its role, and delegates to the features."""

from dataclasses import dataclass
from typing import Any

from argosy.metering.v1 import metering_pb2, metering_pb2_grpc
from chassis.grpc import Registration
from chassis.tenancy import current_caller
from values.roles import MEMBER, PLATFORM_ADMIN, SERVICE, current_member, current_platform_admin

from metering.budgets.grpc import BudgetHandler
from metering.exposures.grpc import ExposureHandler
from metering.prices.grpc import PriceHandler
from metering.reservations.grpc import ReservationHandler
from metering.settlement.grpc import StatementHandler
from metering.usage.grpc import UsageHandler


@dataclass(frozen=True, eq=False, kw_only=True)
class MeteringServicer(metering_pb2_grpc.MeteringServiceServicer):
    """The tenant is the caller's, but for `ReserveHits`, which services call for any tenants."""

    reservations: ReservationHandler
    statements: StatementHandler
    usage: UsageHandler
    budgets: BudgetHandler
    prices: PriceHandler
    exposures: ExposureHandler

    async def Reserve(self, request: metering_pb2.ReserveRequest, context: Any) -> metering_pb2.ReserveResponse:
        return await self.reservations.reserve(request, current_member())

    async def ReserveHits(
        self, request: metering_pb2.ReserveHitsRequest, context: Any
    ) -> metering_pb2.ReserveHitsResponse:
        current_caller().principal.require(SERVICE)
        return await self.reservations.reserve_hits(request)

    async def StartAttempt(
        self, request: metering_pb2.StartAttemptRequest, context: Any
    ) -> metering_pb2.StartAttemptResponse:
        return await self.reservations.start_attempt(request, current_member())

    async def GetUsage(self, request: metering_pb2.GetUsageRequest, context: Any) -> metering_pb2.GetUsageResponse:
        return await self.usage.get(request, current_member())

    async def GetRequestStatement(
        self, request: metering_pb2.GetRequestStatementRequest, context: Any
    ) -> metering_pb2.GetRequestStatementResponse:
        return await self.statements.get(request, current_member())

    async def GetBudget(self, request: metering_pb2.GetBudgetRequest, context: Any) -> metering_pb2.GetBudgetResponse:
        return await self.budgets.get(current_member())

    async def SetBudget(self, request: metering_pb2.SetBudgetRequest, context: Any) -> metering_pb2.SetBudgetResponse:
        return await self.budgets.set(request, current_platform_admin())

    async def ListSettlements(
        self, request: metering_pb2.ListSettlementsRequest, context: Any
    ) -> metering_pb2.ListSettlementsResponse:
        return await self.exposures.list(request, current_platform_admin())

    async def ReconcileExposure(
        self, request: metering_pb2.ReconcileExposureRequest, context: Any
    ) -> metering_pb2.ReconcileExposureResponse:
        return await self.exposures.reconcile(request, current_platform_admin())

    async def ListPrices(
        self, request: metering_pb2.ListPricesRequest, context: Any
    ) -> metering_pb2.ListPricesResponse:
        principal = current_caller().principal
        principal.require(PLATFORM_ADMIN, MEMBER, SERVICE)
        return await self.prices.list(principal)

    async def SetPrice(self, request: metering_pb2.SetPriceRequest, context: Any) -> metering_pb2.SetPriceResponse:
        return await self.prices.set(request, current_platform_admin())

    async def ListPriceVersions(
        self, request: metering_pb2.ListPriceVersionsRequest, context: Any
    ) -> metering_pb2.ListPriceVersionsResponse:
        current_platform_admin()
        return await self.prices.versions(request)


def registration(servicer: MeteringServicer) -> Registration:
    """Return what a `GrpcServer` needs to serve it."""
    return (metering_pb2_grpc.add_MeteringServiceServicer_to_server, servicer, "argosy.metering.v1.MeteringService")
