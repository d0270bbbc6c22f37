"""`/admin/v1/exposures` and `/admin/v1/clamped-usage`."""

from typing import Annotated

from chassis.errors import InvalidRequest
from fastapi import APIRouter, Depends
from values.money import nano_usd_to_usd

from gateway.audit.record import RecordAudit
from gateway.budgets.schemas import parse_usd
from gateway.exposures.metering_client import ExposuresClient
from gateway.exposures.schemas import ExposureReconcile, RequestSettlementRead
from gateway.web.dependencies import (
    NEWEST_FIRST,
    CurrentCaller,
    PageQuery,
    PathId,
    QueryTenantId,
    provided,
)
from gateway.web.schemas import ListResponse

router = APIRouter(prefix="/admin/v1", tags=["Administration"])

Exposures = Annotated[ExposuresClient, Depends(provided(ExposuresClient))]
Audit = Annotated[RecordAudit, Depends(provided(RecordAudit))]


@router.get("/exposures", dependencies=[NEWEST_FIRST])
async def list_exposures(
    exposures: Exposures, tenant_id: QueryTenantId, page: PageQuery
) -> ListResponse[RequestSettlementRead]:
    """List provider calls of a tenant that may have cost something and were not paid, newest first."""
    return await exposures.list_open(tenant_id, page)


@router.get("/clamped-usage", dependencies=[NEWEST_FIRST])
async def list_clamped_usage(
    exposures: Exposures, tenant_id: QueryTenantId, page: PageQuery
) -> ListResponse[RequestSettlementRead]:
    """List provider calls of a tenant whose reported usage was above the bound, and was taken at the bound."""
    return await exposures.list_clamped(tenant_id, page)


@router.post("/exposures/{request_id}/reconcile")
async def reconcile_exposure(
    request_id: PathId, body: ExposureReconcile, caller: CurrentCaller, exposures: Exposures, record_audit: Audit
) -> RequestSettlementRead:
    """Write an exposure off, or bill it (`billed_usd` is for this alone). A different second decision is refused."""
    billed = None if body.billed_usd is None else parse_usd(body.billed_usd, param="billed_usd")
    if billed is not None and body.decision != "billed":
        raise InvalidRequest("billed_usd is only for what is billed.", param="billed_usd")
    return await record_audit(
        caller,
        body.tenant_id,
        "exposure.reconcile",
        f"{request_id}:{body.attempt}",
        lambda: exposures.reconcile(request_id, body, billed),
        decision=body.decision,
        billed_usd="" if billed is None else nano_usd_to_usd(billed),
        note=body.note,
    )
