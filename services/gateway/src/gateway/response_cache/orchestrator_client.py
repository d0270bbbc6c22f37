"""The response cache of the orchestrator, over gRPC."""

from argosy.orchestration.v1 import cache_pb2 as pb
from argosy.orchestration.v1.cache_pb2_grpc import ResponseCacheServiceStub
from chassis.grpc import Channel


class ResponseCacheClient:
    """Acts on behalf of the current caller. Raises the orchestrator's error, or Unavailable."""

    def __init__(self, channel: Channel) -> None:
        self._stub = ResponseCacheServiceStub(channel)

    async def purge(self, tenant_id: str, model: str) -> None:
        """Forget cached answers; an empty tenant is the caller's own, an empty model all of them."""
        await self._stub.PurgeCache(pb.PurgeCacheRequest(tenant_id=tenant_id, model=model))
