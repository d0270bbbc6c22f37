"""The gRPC service of pools. Every method needs the role `platform_admin`."""

from typing import Any

from argosy.orchestration.v1 import pools_pb2 as pb
from argosy.orchestration.v1.pools_pb2_grpc import PoolServiceServicer, add_PoolServiceServicer_to_server
from chassis.grpc import Registration
from values.roles import current_platform_admin

from orchestrator.pools.manage import ManagePools
from orchestrator.pools.model import PoolsNotSupported
from orchestrator.pools.protos import pool_to_proto, proto_to_spec


class PoolServicer(PoolServiceServicer):
    """Without a cluster, `pools` is None, and there are no pools."""

    def __init__(self, pools: ManagePools | None) -> None:
        self._pools = pools

    async def PutPool(self, request: pb.PutPoolRequest, context: Any) -> pb.PutPoolResponse:
        pools = self._checked()
        return pb.PutPoolResponse(pool=pool_to_proto(await pools.put(proto_to_spec(request))))

    async def GetPool(self, request: pb.GetPoolRequest, context: Any) -> pb.GetPoolResponse:
        pool, workers = await self._checked().get(request.name)
        return pb.GetPoolResponse(pool=pool_to_proto(pool, workers))

    async def ListPools(self, request: pb.ListPoolsRequest, context: Any) -> pb.ListPoolsResponse:
        return pb.ListPoolsResponse(pools=map(pool_to_proto, await self._checked().list()))

    async def DeletePool(self, request: pb.DeletePoolRequest, context: Any) -> pb.DeletePoolResponse:
        return pb.DeletePoolResponse(pool=pool_to_proto(await self._checked().delete(request.name)))

    def _checked(self) -> ManagePools:
        current_platform_admin()
        if self._pools is None:
            raise PoolsNotSupported(
                "this installation does not make pools at run time: on Kubernetes, set global.runtimePools.enabled"
            )
        return self._pools


def registration(servicer: PoolServicer) -> Registration:
    return add_PoolServiceServicer_to_server, servicer, "argosy.orchestration.v1.PoolService"
