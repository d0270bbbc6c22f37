"""`/admin/v1/tenants`."""

from typing import Annotated

from fastapi import APIRouter, Depends

from gateway.tenants.create import CreateTenant
from gateway.tenants.model import TenantStore
from gateway.tenants.schemas import TenantCreate, TenantRead
from gateway.web.dependencies import NEWEST_FIRST, CurrentCaller, PageQuery, PathId, provided
from gateway.web.schemas import ListResponse

router = APIRouter(prefix="/admin/v1/tenants", tags=["Administration"])

Tenants = Annotated[TenantStore, Depends(provided(TenantStore))]


@router.post("", status_code=201)
async def create_tenant(
    body: TenantCreate, caller: CurrentCaller, create: Annotated[CreateTenant, Depends(provided(CreateTenant))]
) -> TenantRead:
    """Create a tenant. Its name must be unique."""
    return TenantRead.of(await create(caller, body.name, body.plan))


@router.get("", dependencies=[NEWEST_FIRST])
async def list_tenants(tenants: Tenants, page: PageQuery) -> ListResponse[TenantRead]:
    """List all tenants, newest first."""
    return ListResponse.of_page(await tenants.list_tenants(page), TenantRead.of)


@router.get("/{tenant_id}")
async def get_tenant(tenant_id: PathId, tenants: Tenants) -> TenantRead:
    """Read a tenant."""
    return TenantRead.of(await tenants.get_tenant(tenant_id))
