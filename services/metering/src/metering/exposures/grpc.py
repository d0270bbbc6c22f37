"""ListSettlements and ReconcileExposure."""

from dataclasses import dataclass

from argosy.metering.v1 import metering_pb2
from chassis.errors import InvalidRequest
from chassis.tenancy import Principal
from values.protos import proto_to_nano_usd

from metering.exposures.model import (
    DEFAULT_PAGE,
    MAX_PAGE,
    ReconcileRequest,
    RequestSettlement,
    SettlementFilter,
    SettlementPage,
)
from metering.exposures.reconcile import ExposureStore, reconcile
from metering.reservations.model import is_valid_id
from metering.settlement.grpc import DECISION_TO_PROTO, settlement_to_proto
from metering.settlement.model import Decision

_PROTO_TO_FILTER = {
    metering_pb2.SETTLEMENT_FILTER_OPEN_EXPOSURE: SettlementFilter.OPEN_EXPOSURE,
    metering_pb2.SETTLEMENT_FILTER_USAGE_CLAMPED: SettlementFilter.USAGE_CLAMPED,
}
_PROTO_TO_DECISION: dict[int, Decision] = {value: decision for decision, value in DECISION_TO_PROTO.items()}


@dataclass(frozen=True, slots=True)
class ExposureHandler:
    """For admins, of any tenant; without a tenant in the request, of their own."""

    exposures: ExposureStore

    async def list(
        self, request: metering_pb2.ListSettlementsRequest, admin: Principal
    ) -> metering_pb2.ListSettlementsResponse:
        wanted = _PROTO_TO_FILTER.get(request.filter)
        if wanted is None:
            raise InvalidRequest("the filter is missing", param="filter")
        limit = request.limit or DEFAULT_PAGE
        if not 1 <= limit <= MAX_PAGE:
            raise InvalidRequest(f"limit must be between 1 and {MAX_PAGE}", param="limit")
        if not (request.after_request_id == "" or is_valid_id(request.after_request_id)):
            raise InvalidRequest("after is no settlement", param="after")
        page = SettlementPage(wanted, limit, request.after_request_id, request.after_attempt)
        settlements, has_more = await self.exposures.list(request.tenant_id or admin.tenant_id, page)
        return metering_pb2.ListSettlementsResponse(
            settlements=[request_settlement_to_proto(row) for row in settlements], has_more=has_more
        )

    async def reconcile(
        self, request: metering_pb2.ReconcileExposureRequest, admin: Principal
    ) -> metering_pb2.ReconcileExposureResponse:
        decision = _PROTO_TO_DECISION.get(request.decision)
        if decision is None:
            raise InvalidRequest("the decision is missing", param="decision")
        settlement = await reconcile(
            ReconcileRequest(
                request.tenant_id or admin.tenant_id,
                request.request_id,
                request.attempt,
                decision,
                proto_to_nano_usd(request.billed) if request.HasField("billed") else None,
                admin.key_id,
                request.note,
            ),
            exposures=self.exposures,
        )
        return metering_pb2.ReconcileExposureResponse(settlement=request_settlement_to_proto(settlement))


def request_settlement_to_proto(row: RequestSettlement) -> metering_pb2.RequestSettlement:
    return metering_pb2.RequestSettlement(
        tenant_id=row.tenant_id, request_id=row.request_id, settlement=settlement_to_proto(row.settlement)
    )
