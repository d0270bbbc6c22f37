"""GetRequestStatement."""

from dataclasses import dataclass

from argosy.metering.v1 import metering_pb2
from chassis.tenancy import Principal

from metering.reservations.model import RequestNotFound, is_valid_id
from metering.settlement.protos import statement_to_proto
from metering.settlement.settle import SettlementStore


@dataclass(frozen=True, slots=True)
class StatementHandler:
    settlements: SettlementStore

    async def get(
        self, request: metering_pb2.GetRequestStatementRequest, principal: Principal
    ) -> metering_pb2.GetRequestStatementResponse:
        if not is_valid_id(request.request_id):  # Postgres would refuse some of these
            raise RequestNotFound("there is no such request", param="request_id")
        return statement_to_proto(await self.settlements.statement(principal.tenant_id, request.request_id))
