"""The orchestrator's response cache."""

from typing import Any

from argosy.orchestration.v1 import cache_pb2 as pb
from argosy.orchestration.v1.cache_pb2_grpc import ResponseCacheServiceServicer

from services.gateway.tests.fakes.jobs import require_admin


class FakeResponseCache(ResponseCacheServiceServicer):
    """Keeps what was purged: a tenant, which is empty for the caller's own, and a model."""

    def __init__(self) -> None:
        self.purged: list[tuple[str, str]] = []
        self.is_older = False
        """An orchestrator of a version that has no cache."""

    async def PurgeCache(self, request: pb.PurgeCacheRequest, context: Any) -> pb.PurgeCacheResponse:
        if self.is_older:
            raise NotImplementedError
        if request.tenant_id:
            require_admin()
        self.purged.append((request.tenant_id, request.model))
        return pb.PurgeCacheResponse()
