"""GetBudget and SetBudget."""

from dataclasses import dataclass

from argosy.metering.v1 import metering_pb2
from chassis.errors import InvalidRequest
from chassis.tenancy import Principal
from values.protos import nano_usd_to_proto, proto_to_nano_usd

from metering.budgets.model import Budget
from metering.budgets.set_cap import BudgetStore, set_cap


@dataclass(frozen=True, slots=True)
class BudgetHandler:
    """An admin may set the cap of any tenant; without a tenant in the request, of its own."""

    budgets: BudgetStore

    async def get(self, principal: Principal) -> metering_pb2.GetBudgetResponse:
        return metering_pb2.GetBudgetResponse(budget=budget_to_proto(await self.budgets.read(principal.tenant_id)))

    async def set(self, request: metering_pb2.SetBudgetRequest, admin: Principal) -> metering_pb2.SetBudgetResponse:
        if not request.HasField("cap"):  # only an explicit zero stops a tenant
            raise InvalidRequest("cap is missing", param="cap")
        tenant_id = request.tenant_id or admin.tenant_id
        budget = await set_cap(tenant_id, proto_to_nano_usd(request.cap), budgets=self.budgets)
        return metering_pb2.SetBudgetResponse(budget=budget_to_proto(budget))


def budget_to_proto(budget: Budget) -> metering_pb2.Budget:
    return metering_pb2.Budget(
        cap=nano_usd_to_proto(budget.cap),
        spent=nano_usd_to_proto(budget.spent),
        held=nano_usd_to_proto(budget.held),
        exposed=nano_usd_to_proto(budget.exposed),
    )
