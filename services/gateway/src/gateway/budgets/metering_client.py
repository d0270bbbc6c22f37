"""Budgets in metering, over gRPC."""

from argosy.metering.v1 import metering_pb2 as pb
from argosy.metering.v1.metering_pb2_grpc import MeteringServiceStub
from chassis.grpc import Channel
from values.money import NanoUsd, nano_usd_to_usd
from values.protos import nano_usd_to_proto, proto_to_nano_usd

from gateway.budgets.schemas import BudgetRead


class BudgetsClient:
    """Acts on behalf of the current caller. All calls raise metering's error, or Unavailable."""

    def __init__(self, channel: Channel) -> None:
        self._stub = MeteringServiceStub(channel)

    async def get(self, tenant_id: str) -> BudgetRead:
        """Read the budget of the caller's tenant, which is `tenant_id`."""
        response = await self._stub.GetBudget(pb.GetBudgetRequest())
        return proto_to_budget(response.budget, tenant_id)

    async def set_cap(self, tenant_id: str, cap: NanoUsd) -> BudgetRead:
        """Set the cap of any tenant. Raises PERMISSION_DENIED."""
        response = await self._stub.SetBudget(pb.SetBudgetRequest(tenant_id=tenant_id, cap=nano_usd_to_proto(cap)))
        return proto_to_budget(response.budget, tenant_id)


def proto_to_budget(message: pb.Budget, tenant_id: str) -> BudgetRead:
    """Read a budget, whose message has no tenant."""
    return BudgetRead(
        tenant_id=tenant_id,
        cap_usd=nano_usd_to_usd(proto_to_nano_usd(message.cap)),
        spent_usd=nano_usd_to_usd(proto_to_nano_usd(message.spent)),
        held_usd=nano_usd_to_usd(proto_to_nano_usd(message.held)),
        exposed_usd=nano_usd_to_usd(proto_to_nano_usd(message.exposed)),
    )
