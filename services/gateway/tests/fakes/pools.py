"""The orchestrator's pools."""

from typing import Any

from argosy.orchestration.v1 import pools_pb2 as pb
from argosy.orchestration.v1.pools_pb2_grpc import PoolServiceServicer
from chassis.errors import Kind, RemoteError

from services.gateway.tests.fakes.jobs import require_admin


class FakePools(PoolServiceServicer):
    """Keeps what it is given. A test may set `supported`, and `refusal`, the error of the next change."""

    def __init__(self) -> None:
        self.supported = True
        self.refusal: RemoteError | None = None
        self.pools: dict[str, pb.Pool] = {}

    async def PutPool(self, request: pb.PutPoolRequest, context: Any) -> pb.PutPoolResponse:
        self._check()
        if self.refusal is not None:
            raise self.refusal
        pool = pb.Pool(
            name=request.name,
            tenant_ids=sorted(request.tenant_ids),
            min_replicas=request.min_replicas,
            max_replicas=request.max_replicas,
            state=pb.POOL_STATE_ACTIVE,
        )
        pool.created_at.FromSeconds(1_700_000_000)
        self.pools[request.name] = pool
        return pb.PutPoolResponse(pool=pool)

    async def GetPool(self, request: pb.GetPoolRequest, context: Any) -> pb.GetPoolResponse:
        self._check()
        return pb.GetPoolResponse(pool=self._find(request.name))

    async def ListPools(self, request: pb.ListPoolsRequest, context: Any) -> pb.ListPoolsResponse:
        self._check()
        return pb.ListPoolsResponse(pools=[pool for _, pool in sorted(self.pools.items())])

    async def DeletePool(self, request: pb.DeletePoolRequest, context: Any) -> pb.DeletePoolResponse:
        self._check()
        pool = self._find(request.name)
        pool.state = pb.POOL_STATE_DRAINING
        pool.ClearField("tenant_ids")
        return pb.DeletePoolResponse(pool=pool)

    def _check(self) -> None:
        require_admin()
        if not self.supported:
            raise RemoteError(Kind.UNPROCESSABLE, "POOLS_NOT_SUPPORTED", "There is no cluster.")

    def _find(self, name: str) -> pb.Pool:
        if name not in self.pools:
            raise RemoteError(Kind.NOT_FOUND, "POOL_NOT_FOUND", f"There is no pool {name}.")
        return self.pools[name]
