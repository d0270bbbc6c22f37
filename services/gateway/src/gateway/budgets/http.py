"""`/v1/budgets` and `/admin/v1/tenants/{id}/budget`."""

from typing import Annotated

from fastapi import APIRouter, Depends
from values.money import nano_usd_to_usd

from gateway.audit.record import RecordAudit
from gateway.budgets.metering_client import BudgetsClient
from gateway.budgets.schemas import BudgetList, BudgetRead, BudgetUpdate, parse_usd
from gateway.web.dependencies import ADMINS_ONLY, CurrentCaller, PathId, provided

router = APIRouter(tags=["Budgets"])

Budgets = Annotated[BudgetsClient, Depends(provided(BudgetsClient))]
Audit = Annotated[RecordAudit, Depends(provided(RecordAudit))]


@router.get("/v1/budgets")
async def list_budgets(budgets: Budgets, caller: CurrentCaller) -> BudgetList:
    """Read the tenant's budget: its cap, what is spent, held and exposed."""
    return BudgetList(data=[await budgets.get(caller.principal.tenant_id)])


@router.put("/admin/v1/tenants/{tenant_id}/budget", dependencies=[ADMINS_ONLY])
async def set_budget(
    tenant_id: PathId, body: BudgetUpdate, caller: CurrentCaller, budgets: Budgets, record_audit: Audit
) -> BudgetRead:
    """Set the cap of a tenant's budget. Idempotent."""
    cap = parse_usd(body.cap_usd, param="cap_usd")
    await record_audit(caller, tenant_id, "budget.set", tenant_id, cap_usd=nano_usd_to_usd(cap))
    return await budgets.set_cap(tenant_id, cap)
