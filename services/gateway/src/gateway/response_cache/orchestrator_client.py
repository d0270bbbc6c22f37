"""The response cache of the orchestrator, over gRPC."""

from datetime import timedelta

from argosy.orchestration.v1 import cache_pb2 as pb
from argosy.orchestration.v1.cache_pb2_grpc import ResponseCacheServiceStub
from chassis.errors import RemoteError, Unavailable
from chassis.grpc import Channel


class ResponseCacheClient:
    """Acts on behalf of the current caller. Raises the orchestrator's error, or Unavailable."""

    def __init__(self, channel: Channel) -> None:
        self._stub = ResponseCacheServiceStub(channel)

    async def purge(self, tenant_id: str, model: str) -> None:
        """Forget cached answers; an empty tenant is the caller's own, an empty model all of them."""
        try:
            await self._stub.PurgeCache(pb.PurgeCacheRequest(tenant_id=tenant_id, model=model))
        except RemoteError as error:
            if error.reason == "UNIMPLEMENTED":
                message = "an orchestrator of the version before cannot purge the cache; repeat this after the update"
                raise Unavailable(message, retry_after=timedelta(seconds=30)) from error
            raise
