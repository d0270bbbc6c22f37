"""Pools in the orchestrator, over gRPC."""

from typing import Any, Literal

from argosy.orchestration.v1 import pools_pb2 as pb
from argosy.orchestration.v1.pools_pb2_grpc import PoolServiceStub
from chassis.grpc import Channel

from gateway.pools.schemas import PoolList, PoolPut, PoolRead, PoolStatus

STATES: dict[int, Literal["active", "draining"]] = {
    pb.POOL_STATE_ACTIVE: "active",
    pb.POOL_STATE_DRAINING: "draining",
}


class PoolsClient:
    """Acts on behalf of the current caller, an admin. All calls raise POOLS_NOT_SUPPORTED, or Unavailable."""

    def __init__(self, channel: Channel) -> None:
        self._stub = PoolServiceStub(channel)

    async def put(self, name: str, body: PoolPut) -> PoolRead:
        """Raises POOL_NAME_TAKEN, POOL_QUOTA_EXCEEDED, TENANT_HAS_POOL."""
        request = pb.PutPoolRequest(
            name=name, tenant_ids=body.tenant_ids, min_replicas=body.min_replicas, max_replicas=body.max_replicas
        )
        return PoolRead(**_fields((await self._stub.PutPool(request)).pool))

    async def get(self, name: str) -> PoolStatus:
        """Raises POOL_NOT_FOUND."""
        pool = (await self._stub.GetPool(pb.GetPoolRequest(name=name))).pool
        return PoolStatus(
            **_fields(pool),
            replicas=pool.replicas if pool.HasField("replicas") else None,
            ready_replicas=pool.ready_replicas if pool.HasField("ready_replicas") else None,
        )

    async def list(self) -> PoolList:
        response = await self._stub.ListPools(pb.ListPoolsRequest())
        return PoolList(data=[PoolRead(**_fields(pool)) for pool in response.pools])

    async def delete(self, name: str) -> PoolRead:
        """Raises POOL_NOT_FOUND."""
        return PoolRead(**_fields((await self._stub.DeletePool(pb.DeletePoolRequest(name=name))).pool))


def _fields(pool: pb.Pool) -> dict[str, Any]:
    return {
        "name": pool.name,
        "tenant_ids": list(pool.tenant_ids),
        "min_replicas": pool.min_replicas,
        "max_replicas": pool.max_replicas,
        "state": STATES[pool.state],
        "created_at": pool.created_at.seconds,
        "unfinished_jobs": pool.unfinished_jobs,
    }
