"""`DELETE /v1/cache` and `DELETE /admin/v1/cache`: forget cached answers."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Response

from gateway.audit.record import RecordAudit
from gateway.response_cache.orchestrator_client import ResponseCacheClient
from gateway.web.dependencies import CurrentCaller, provided
from gateway.web.schemas import ID_PATTERN

router = APIRouter(tags=["Response cache"])

ALL_TENANTS = "*"

Cache = Annotated[ResponseCacheClient, Depends(provided(ResponseCacheClient))]
Audit = Annotated[RecordAudit, Depends(provided(RecordAudit))]
RouteName = Annotated[
    str,
    Query(max_length=256, pattern=r"^[^\x00-\x20\x7f]*$", description="Only answers of this public model name."),
]
TenantOrAll = Annotated[
    str, Query(pattern=rf"^\*$|{ID_PATTERN}", description="Whose answers; `*` for those of all tenants.")
]


@router.delete("/v1/cache", status_code=204)
async def purge_own_cache(cache: Cache, route: RouteName = "") -> Response:
    """Forget the cached answers of the tenant. From now on no replica gives one of them. Idempotent."""
    await cache.purge("", route)
    return Response(status_code=204)


@router.delete("/admin/v1/cache", status_code=204)
async def purge_cache(
    caller: CurrentCaller, cache: Cache, record_audit: Audit, tenant: TenantOrAll, route: RouteName = ""
) -> Response:
    """Forget the cached answers of a tenant, or of all tenants. Idempotent."""
    audited = caller.principal.tenant_id if tenant == ALL_TENANTS else tenant
    await record_audit(caller, audited, "cache.purge", route or "*", lambda: cache.purge(tenant, route))
    return Response(status_code=204)
