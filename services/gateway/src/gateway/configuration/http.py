"""`/admin/v1/configuration`: the log of all changes of routes, upstreams, credentials and flags."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query

from gateway.audit.record import RecordAudit
from gateway.configuration.orchestrator_client import ConfigurationClient
from gateway.configuration.schemas import (
    ConfigurationChangeList,
    ConfigurationDiff,
    ConfigurationRollback,
    ConfigurationRolledBack,
)
from gateway.flags.schemas import MAX_VERSION
from gateway.web.dependencies import DECIMAL, CurrentCaller, provided
from gateway.web.schemas import OptionalName

router = APIRouter(prefix="/admin/v1/configuration", tags=["Administration"])

Configuration = Annotated[ConfigurationClient, Depends(provided(ConfigurationClient))]
Audit = Annotated[RecordAudit, Depends(provided(RecordAudit))]
Version = Annotated[int, Query(ge=0, le=MAX_VERSION), DECIMAL]
KindQuery = Annotated[OptionalName, Query(description="Only objects of this kind.")]
TenantQuery = Annotated[OptionalName, Query(description="Only objects of this tenant; `*`: for all tenants.")]
NameQuery = Annotated[OptionalName, Query(description="Only the object of this name.")]


@router.get("/changes")
async def list_changes(
    *,
    configuration: Configuration,
    limit: Annotated[int, Query(ge=1, le=100), DECIMAL] = 20,
    before: Version = 0,
    kind: KindQuery = "",
    tenant_id: TenantQuery = "",
    name: NameQuery = "",
) -> ConfigurationChangeList:
    """List the changes, the newest first, with author and reason; `before`: only versions below this one."""
    return await configuration.changes(limit=limit, before=before, kind=kind, tenant_id=tenant_id, name=name)


@router.get("/diff")
async def diff_versions(
    *,
    configuration: Configuration,
    after: Annotated[int, Query(ge=0, le=MAX_VERSION, description="The older version."), DECIMAL],
    until: Annotated[int | None, Query(ge=0, le=MAX_VERSION, description="The newest by default."), DECIMAL] = None,
    kind: KindQuery = "",
    tenant_id: TenantQuery = "",
    name: NameQuery = "",
) -> ConfigurationDiff:
    """Say which objects differ between two versions, and how."""
    return await configuration.diff(after, until, kind=kind, tenant_id=tenant_id, name=name)


@router.post("/rollback")
async def roll_back(
    body: ConfigurationRollback, caller: CurrentCaller, configuration: Configuration, record_audit: Audit
) -> ConfigurationRolledBack:
    """Make objects what they were at a version, by new changes; all of them or none. Credentials stay as they are."""
    return await record_audit(
        caller,
        caller.principal.tenant_id,
        "configuration.rollback",
        str(body.version),
        lambda: configuration.roll_back(body),
        reason=body.reason,
    )
