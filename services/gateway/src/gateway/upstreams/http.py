"""`/admin/v1/upstreams`, and their credentials."""

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query, Response
from values.roles import PLATFORM_ADMIN

from gateway.audit.record import RecordAudit
from gateway.flags.schemas import Reason
from gateway.tenants.model import TenantNotFound, TenantStore
from gateway.upstreams.orchestrator_client import UpstreamsClient
from gateway.upstreams.schemas import (
    CredentialCreate,
    CredentialList,
    CredentialPatch,
    CredentialRead,
    Shred,
    Shredded,
    TenantOrAll,
    UpstreamHealth,
    UpstreamList,
    UpstreamName,
    UpstreamPut,
    UpstreamRead,
)
from gateway.web.dependencies import CurrentCaller, provided
from gateway.web.schemas import Id

router = APIRouter(prefix="/admin/v1/upstreams", tags=["Administration"])

Upstreams = Annotated[UpstreamsClient, Depends(provided(UpstreamsClient))]
Audit = Annotated[RecordAudit, Depends(provided(RecordAudit))]
Tenants = Annotated[TenantStore, Depends(provided(TenantStore))]
UpstreamPath = Annotated[UpstreamName, Path()]
CredentialPath = Annotated[Id, Path()]
ReasonQuery = Annotated[Reason, Query()]
TenantQuery = Annotated[TenantOrAll, Query(description="Whose; `*` for the house's.")]


async def _check_tenant(tenant_id: str, tenants: TenantStore) -> None:
    """Raises TenantNotFound."""
    if tenant_id == "*":
        return
    try:
        await tenants.get_tenant(tenant_id)
    except TenantNotFound:
        raise TenantNotFound(f"There is no tenant {tenant_id!r}.", param="tenant_id") from None


@router.get("")
async def list_upstreams(upstreams: Upstreams) -> UpstreamList:
    """List the upstreams that were declared here, by name. Those of the workers' settings are not listed."""
    return await upstreams.list()


@router.post("/shred")
async def shred_credentials(body: Shred, caller: CurrentCaller, upstreams: Upstreams, record_audit: Audit) -> Shredded:
    """Delete the data key of a tenant with all its credentials: no backup of them can be opened. Cannot be undone."""
    deleted = await record_audit(
        caller,
        caller.principal.tenant_id,
        "credentials.shred",
        body.tenant_id,
        lambda: upstreams.shred(body.tenant_id, body.reason),
        reason=body.reason,
    )
    return Shredded(tenant_id=body.tenant_id, deleted=deleted)


@router.get("/{name}")
async def get_upstream(name: UpstreamPath, upstreams: Upstreams) -> UpstreamRead:
    """Read an upstream."""
    return await upstreams.get(name)


@router.get("/{name}/health")
async def get_upstream_health(name: UpstreamPath, upstreams: Upstreams) -> UpstreamHealth:
    """Read whether calls to an upstream are made: the circuits of its models and credentials.

    One of the workers answers; they tell each other what opens, closes and rests. Upstreams of their settings are known
    here, too.
    """
    return await upstreams.health(name)


@router.put("/{name}")
async def put_upstream(
    name: UpstreamPath, body: UpstreamPut, caller: CurrentCaller, upstreams: Upstreams, record_audit: Audit
) -> UpstreamRead:
    """Create or replace an upstream, in force within a second on every worker. Running calls end as they began.

    It replaces an upstream of the workers' settings that has its name. Its credentials stay.
    """
    return await record_audit(
        caller,
        caller.principal.tenant_id,
        "upstream.put",
        name,
        lambda: upstreams.put(name, body),
        reason=body.reason,
    )


@router.delete("/{name}", status_code=204)
async def delete_upstream(
    name: UpstreamPath, reason: ReasonQuery, caller: CurrentCaller, upstreams: Upstreams, record_audit: Audit
) -> Response:
    """Remove an upstream and its credentials. Refused while a route has candidates of it."""
    await record_audit(
        caller,
        caller.principal.tenant_id,
        "upstream.delete",
        name,
        lambda: upstreams.delete(name, reason),
        reason=reason,
    )
    return Response(status_code=204)


@router.get("/{name}/credentials")
async def list_credentials(
    name: UpstreamPath,
    upstreams: Upstreams,
    tenant_id: Annotated[TenantOrAll | None, Query(description="Only of this tenant.")] = None,
) -> CredentialList:
    """List the credentials of an upstream, without their secrets."""
    return await upstreams.credentials(name, tenant_id or "")


@router.post("/{name}/credentials", status_code=201)
async def add_credential(
    *,
    name: UpstreamPath,
    body: CredentialCreate,
    caller: CurrentCaller,
    upstreams: Upstreams,
    tenants: Tenants,
    record_audit: Audit,
) -> CredentialRead:
    """Add a credential, in force within a second on every worker. A tenant that brings its own uses no other."""
    caller.principal.require(PLATFORM_ADMIN)
    await _check_tenant(body.tenant_id, tenants)
    return await record_audit(
        caller,
        caller.principal.tenant_id,
        "credential.add",
        name,
        lambda: upstreams.add_credential(name, body),
        reason=body.reason,
        brought_by=body.tenant_id,
    )


@router.patch("/{name}/credentials/{credential_id}")
async def change_credential(
    *,
    name: UpstreamPath,
    credential_id: CredentialPath,
    body: CredentialPatch,
    caller: CurrentCaller,
    upstreams: Upstreams,
    record_audit: Audit,
) -> CredentialRead:
    """Turn a credential off or on, or change its weight or label."""
    return await record_audit(
        caller,
        caller.principal.tenant_id,
        "credential.change",
        f"{name}/{credential_id}",
        lambda: upstreams.change_credential(name, credential_id, body),
        reason=body.reason,
    )


@router.delete("/{name}/credentials/{credential_id}", status_code=204)
async def delete_credential(
    *,
    name: UpstreamPath,
    credential_id: CredentialPath,
    reason: ReasonQuery,
    caller: CurrentCaller,
    upstreams: Upstreams,
    record_audit: Audit,
    tenant_id: TenantQuery = "*",
) -> Response:
    """Revoke a credential: no call begins with it a second later, on any worker. It cannot be brought back."""
    await record_audit(
        caller,
        caller.principal.tenant_id,
        "credential.delete",
        f"{name}/{credential_id}",
        lambda: upstreams.delete_credential(name, tenant_id, credential_id, reason),
        reason=reason,
    )
    return Response(status_code=204)
