"""`/admin/v1/routes`."""

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query, Response

from gateway.audit.record import RecordAudit
from gateway.configuration.orchestrator_client import ConfigurationClient
from gateway.configuration.schemas import ConfigurationChangeList, ConfigurationRollback, ConfigurationRolledBack
from gateway.flags.schemas import MAX_VERSION, Reason
from gateway.routes.orchestrator_client import RoutesClient
from gateway.routes.schemas import (
    ModelName,
    RouteList,
    RoutePut,
    RouteRead,
    RouteResolution,
    RouteResolve,
    RouteRollback,
)
from gateway.tenants.model import TenantStore
from gateway.upstreams.schemas import TenantOrAll
from gateway.web.dependencies import DECIMAL, CurrentCaller, provided

KIND = "route"

router = APIRouter(prefix="/admin/v1/routes", tags=["Administration"])

Routes = Annotated[RoutesClient, Depends(provided(RoutesClient))]
Configuration = Annotated[ConfigurationClient, Depends(provided(ConfigurationClient))]
Audit = Annotated[RecordAudit, Depends(provided(RecordAudit))]
Tenants = Annotated[TenantStore, Depends(provided(TenantStore))]
# A model's name may have slashes, so that it is not one segment of the path.
Model = Annotated[ModelName, Path()]
Owner = Annotated[TenantOrAll, Query(description="Whose; `*` for the public one.")]


async def _with_known_tenant(body: RoutePut, tenants: Tenants) -> RoutePut:
    """Raises TenantNotFound."""
    if body.tenant_id != "*":
        await tenants.get_tenant(body.tenant_id)
    return body


@router.get("")
async def list_routes(
    routes: Routes, tenant_id: Annotated[TenantOrAll | None, Query(description="Only these; `*`: public ones.")] = None
) -> RouteList:
    """List routes, by model and tenant."""
    return await routes.list(tenant_id or "")


@router.post("/resolve")
async def resolve_route(body: RouteResolve, routes: Routes, tenants: Tenants) -> RouteResolution:
    """Try a route without a call: which candidates would be tried, in which order, and why others would not."""
    tenant = await tenants.get_tenant(body.tenant_id)
    return await routes.resolve(body, tenant.plan if body.plan is None else body.plan)


@router.get("/{model:path}/versions")
async def list_route_versions(
    model: Model,
    configuration: Configuration,
    tenant_id: Owner = "*",
    limit: Annotated[int, Query(ge=1, le=100), DECIMAL] = 20,
    before: Annotated[int, Query(ge=0, le=MAX_VERSION, description="Only versions below this one."), DECIMAL] = 0,
) -> ConfigurationChangeList:
    """List the changes of a route, the newest first: before, after, author, reason."""
    return await configuration.changes(limit=limit, before=before, kind=KIND, tenant_id=tenant_id, name=model)


@router.post("/{model:path}/rollback")
async def roll_back_route(
    model: Model, body: RouteRollback, caller: CurrentCaller, configuration: Configuration, record_audit: Audit
) -> ConfigurationRolledBack:
    """Make a route what it was at a version of the configuration, as a new change."""
    wanted = ConfigurationRollback(
        reason=body.reason, version=body.version, kind=KIND, tenant_id=body.tenant_id, name=model
    )
    return await record_audit(
        caller,
        caller.principal.tenant_id,
        "route.rollback",
        model,
        lambda: configuration.roll_back(wanted),
        reason=body.reason,
        version=str(body.version),
    )


@router.get("/{model:path}")
async def get_route(model: Model, routes: Routes, tenant_id: Owner = "*") -> RouteRead:
    """Read a route."""
    return await routes.get(model, tenant_id)


@router.put("/{model:path}")
async def put_route(
    model: Model,
    body: Annotated[RoutePut, Depends(_with_known_tenant)],
    caller: CurrentCaller,
    routes: Routes,
    record_audit: Audit,
) -> RouteRead:
    """Create or replace a route, in force within a second on every replica.

    Refused, with the name at fault: an upstream that does not exist, a candidate without a price, a fallback that leads
    back to itself, weights that sum to nothing.
    """
    return await record_audit(
        caller, caller.principal.tenant_id, "route.put", model, lambda: routes.put(model, body), reason=body.reason
    )


@router.delete("/{model:path}", status_code=204)
async def delete_route(
    *,
    model: Model,
    reason: Annotated[Reason, Query()],
    caller: CurrentCaller,
    routes: Routes,
    record_audit: Audit,
    tenant_id: Owner = "*",
) -> Response:
    """Remove a route. A tenant without its own one has the public one."""
    await record_audit(
        caller,
        caller.principal.tenant_id,
        "route.delete",
        model,
        lambda: routes.delete(model, tenant_id, reason),
        reason=reason,
    )
    return Response(status_code=204)
