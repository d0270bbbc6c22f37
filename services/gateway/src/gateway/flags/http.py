"""`/admin/v1/flags`, and the switch of what no other service switches."""

from collections.abc import Awaitable, Callable
from typing import Annotated

from chassis.errors import ArgosyError, Kind
from fastapi import APIRouter, Depends, Path, Query, Response

from gateway.audit.record import RecordAudit
from gateway.flags.orchestrator_client import FlagsClient
from gateway.flags.schemas import (
    MAX_VERSION,
    FlagChangeList,
    FlagEvaluate,
    FlagEvaluationList,
    FlagKey,
    FlagList,
    FlagPut,
    FlagRead,
    FlagReason,
    FlagRollback,
    Reason,
)
from gateway.tenants.model import TenantNotFound, TenantStore
from gateway.web.dependencies import DECIMAL, CurrentCaller, provided

router = APIRouter(prefix="/admin/v1/flags", tags=["Administration"])

Flags = Annotated[FlagsClient, Depends(provided(FlagsClient))]
Audit = Annotated[RecordAudit, Depends(provided(RecordAudit))]
Tenants = Annotated[TenantStore, Depends(provided(TenantStore))]
# A model's name may have slashes, so that the key is not one segment of the path.
Key = Annotated[FlagKey, Path()]

# After these errors of the orchestrator a feature that it does not execute goes on: it does not depend on it.
_DOWN = frozenset({Kind.UNAVAILABLE, Kind.TIMED_OUT, Kind.INTERNAL})


def requires_feature(feature: str) -> Callable[[FlagsClient], Awaitable[None]]:
    """Make a dependency that raises FEATURE_DISABLED while a feature is off for the caller.

    For routes whose work another service than the orchestrator does. While the orchestrator is down they go on.
    """

    async def check(flags: Flags) -> None:
        try:
            await flags.check_feature(feature)
        except ArgosyError as error:
            if error.kind not in _DOWN:
                raise

    return check


async def _with_known_tenants(body: FlagPut, tenants: Tenants) -> FlagPut:
    """Raises TenantNotFound."""
    named = {tenant: f"rules[{number}].tenants" for number, rule in enumerate(body.rules) for tenant in rule.tenants}
    for tenant_id, where in named.items():
        try:
            await tenants.get_tenant(tenant_id)
        except TenantNotFound:
            raise TenantNotFound(f"There is no tenant {tenant_id!r}.", param=where) from None
    return body


@router.get("")
async def list_flags(flags: Flags) -> FlagList:
    """List all flags, by key. What no flag names is on."""
    return await flags.list()


@router.post("/evaluate")
async def evaluate_flags(body: FlagEvaluate, flags: Flags, tenants: Tenants) -> FlagEvaluationList:
    """Evaluate flags for a tenant, without a request of it: what each gives, and why."""
    tenant = await tenants.get_tenant(body.tenant_id)
    return await flags.evaluate(body, body.plan or tenant.plan)


@router.post("/{key:path}/kill")
async def kill_flag(key: Key, body: FlagReason, caller: CurrentCaller, flags: Flags, record_audit: Audit) -> FlagRead:
    """Turn a flag off for all, within a second on every replica. A switch need not exist before. Safe to repeat."""
    return await record_audit(
        caller, caller.principal.tenant_id, "flag.kill", key, lambda: flags.kill(key, body.reason), reason=body.reason
    )


@router.post("/{key:path}/restore")
async def restore_flag(
    key: Key, body: FlagReason, caller: CurrentCaller, flags: Flags, record_audit: Audit
) -> FlagRead:
    """End a kill: the rules decide again."""
    return await record_audit(
        caller,
        caller.principal.tenant_id,
        "flag.restore",
        key,
        lambda: flags.restore(key, body.reason),
        reason=body.reason,
    )


@router.post("/{key:path}/rollback", response_model=FlagRead, responses={204: {"description": "There was no flag."}})
async def roll_back_flag(
    key: Key, body: FlagRollback, caller: CurrentCaller, flags: Flags, record_audit: Audit
) -> FlagRead | Response:
    """Make a flag what it was at an earlier version, as a new change. 204: there was no flag at that version."""
    flag = await record_audit(
        caller,
        caller.principal.tenant_id,
        "flag.rollback",
        key,
        lambda: flags.roll_back(key, body.version, body.reason),
        reason=body.reason,
        version=str(body.version),
    )
    return Response(status_code=204) if flag is None else flag


@router.get("/{key:path}/versions")
async def list_flag_versions(
    key: Key,
    flags: Flags,
    limit: Annotated[int, Query(ge=1, le=100), DECIMAL] = 20,
    before: Annotated[int, Query(ge=0, le=MAX_VERSION, description="Only versions below this one."), DECIMAL] = 0,
) -> FlagChangeList:
    """List the changes of a flag, the newest first: before, after, author, reason."""
    return await flags.versions(key, limit, before)


@router.get("/{key:path}")
async def get_flag(key: Key, flags: Flags) -> FlagRead:
    """Read a flag."""
    return await flags.get(key)


@router.put("/{key:path}")
async def put_flag(
    key: Key,
    body: Annotated[FlagPut, Depends(_with_known_tenants)],
    caller: CurrentCaller,
    flags: Flags,
    record_audit: Audit,
) -> FlagRead:
    """Create or replace a flag. A killed flag stays killed. Unknown names in the key or in a rule are refused."""
    return await record_audit(
        caller, caller.principal.tenant_id, "flag.put", key, lambda: flags.put(key, body), reason=body.reason
    )


@router.delete("/{key:path}", status_code=204)
async def delete_flag(
    key: Key,
    reason: Annotated[Reason, Query()],
    caller: CurrentCaller,
    flags: Flags,
    record_audit: Audit,
) -> Response:
    """Remove a flag: what it switched is on. Its history is kept. A killed flag is restored first."""
    await record_audit(
        caller, caller.principal.tenant_id, "flag.delete", key, lambda: flags.delete(key, reason), reason=reason
    )
    return Response(status_code=204)
