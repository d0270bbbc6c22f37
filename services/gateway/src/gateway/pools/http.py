"""`/admin/v1/pools`."""

from typing import Annotated

from fastapi import APIRouter, Depends, Path

from gateway.audit.record import RecordAudit
from gateway.pools.orchestrator_client import PoolsClient
from gateway.pools.schemas import POOL_NAME, PoolList, PoolPut, PoolRead, PoolStatus
from gateway.web.dependencies import CurrentCaller, provided

router = APIRouter(prefix="/admin/v1/pools", tags=["Administration"])

Pools = Annotated[PoolsClient, Depends(provided(PoolsClient))]
Audit = Annotated[RecordAudit, Depends(provided(RecordAudit))]
Name = Annotated[
    str, Path(pattern=POOL_NAME, description="1 to 30 small letters, digits and dashes; a letter first, no dash last.")
]


@router.get("")
async def list_pools(pools: Pools) -> PoolList:
    """List the pools of workers that were made at run time, by name."""
    return await pools.list()


@router.get("/{name}")
async def get_pool(name: Name, pools: Pools) -> PoolStatus:
    """Read a pool, with its workers as the cluster has them."""
    return await pools.get(name)


@router.put("/{name}")
async def put_pool(name: Name, body: PoolPut, caller: CurrentCaller, pools: Pools, record_audit: Audit) -> PoolRead:
    """Create a pool of workers for some tenants, or change it; new jobs of these tenants run there and nowhere else.

    Jobs that were accepted before stay where they are. A pool that drains becomes active again. Idempotent.
    """
    tenant_id = caller.principal.tenant_id
    return await record_audit(caller, tenant_id, "pool.put", name, lambda: pools.put(name, body))


@router.delete("/{name}", status_code=202)
async def delete_pool(name: Name, caller: CurrentCaller, pools: Pools, record_audit: Audit) -> PoolRead:
    """Drain a pool: new jobs go to the pool of the tenant's plan, and it is removed when its own have ended.

    Then it is not found any more. Idempotent until then.
    """
    return await record_audit(caller, caller.principal.tenant_id, "pool.delete", name, lambda: pools.delete(name))
