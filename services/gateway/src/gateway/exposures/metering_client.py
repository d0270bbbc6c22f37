"""Exposures in metering, over gRPC."""

from argosy.metering.v1 import metering_pb2 as pb
from argosy.metering.v1.metering_pb2_grpc import MeteringServiceStub
from chassis.grpc import Channel
from values.money import NanoUsd
from values.protos import nano_usd_to_proto

from gateway.exposures.schemas import ExposureReconcile, RequestSettlementRead
from gateway.usage.metering_client import proto_to_settlement
from gateway.web.pagination import PageRequest
from gateway.web.schemas import ListResponse

_DECISION_TO_PROTO = {
    "written_off": pb.RECONCILIATION_DECISION_WRITTEN_OFF,
    "billed": pb.RECONCILIATION_DECISION_BILLED,
}


class ExposuresClient:
    """Acts on behalf of the current caller, an admin. All calls raise metering's error, or Unavailable."""

    def __init__(self, channel: Channel) -> None:
        self._stub = MeteringServiceStub(channel)

    async def list_open(self, tenant_id: str, page: PageRequest) -> ListResponse[RequestSettlementRead]:
        """Exposures that are not reconciled, newest first."""
        return await self._list(tenant_id, page, pb.SETTLEMENT_FILTER_OPEN_EXPOSURE)

    async def list_clamped(self, tenant_id: str, page: PageRequest) -> ListResponse[RequestSettlementRead]:
        """Calls whose reported usage was above the bound, newest first."""
        return await self._list(tenant_id, page, pb.SETTLEMENT_FILTER_USAGE_CLAMPED)

    async def reconcile(
        self, request_id: str, body: ExposureReconcile, billed: NanoUsd | None
    ) -> RequestSettlementRead:
        """Raises EXPOSURE_NOT_FOUND, EXPOSURE_RECONCILED, INSUFFICIENT_QUOTA."""
        request = pb.ReconcileExposureRequest(
            tenant_id=body.tenant_id,
            request_id=request_id,
            attempt=body.attempt,
            decision=_DECISION_TO_PROTO[body.decision],
            note=body.note,
        )
        if billed is not None:
            request.billed.CopyFrom(nano_usd_to_proto(billed))
        response = await self._stub.ReconcileExposure(request)
        return proto_to_request_settlement(response.settlement)

    async def _list(
        self, tenant_id: str, page: PageRequest, wanted: pb.SettlementFilter.ValueType
    ) -> ListResponse[RequestSettlementRead]:
        request_id, _, attempt = page.after.rpartition(":")
        response = await self._stub.ListSettlements(
            pb.ListSettlementsRequest(
                tenant_id=tenant_id,
                filter=wanted,
                limit=page.limit,
                after_request_id=request_id,
                after_attempt=_attempt(attempt),
            )
        )
        return ListResponse.of(map(proto_to_request_settlement, response.settlements), has_more=response.has_more)


def _attempt(text: str) -> int:
    """Read the attempt in an id; text that is none is a settlement that does not exist."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 9 else 0


def proto_to_request_settlement(message: pb.RequestSettlement) -> RequestSettlementRead:
    return RequestSettlementRead(
        id=f"{message.request_id}:{message.settlement.attempt}",
        tenant_id=message.tenant_id,
        request_id=message.request_id,
        settlement=proto_to_settlement(message.settlement),
    )
