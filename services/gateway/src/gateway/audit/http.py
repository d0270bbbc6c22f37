"""`/admin/v1/audit`."""

from typing import Annotated

from fastapi import APIRouter, Depends

from gateway.audit.model import AuditLog
from gateway.audit.schemas import AuditEntryRead
from gateway.web.dependencies import NEWEST_FIRST, PageQuery, QueryTenantId, provided
from gateway.web.schemas import ListResponse

router = APIRouter(prefix="/admin/v1/audit", tags=["Administration"])


@router.get("", dependencies=[NEWEST_FIRST])
async def list_audit(
    log: Annotated[AuditLog, Depends(provided(AuditLog))], tenant_id: QueryTenantId, page: PageQuery
) -> ListResponse[AuditEntryRead]:
    """List administrative writes to a tenant, newest first."""
    return ListResponse.of_page(await log.list_entries(tenant_id, page), AuditEntryRead.of)
