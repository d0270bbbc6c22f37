"""The gRPC service of the response cache."""

from typing import Any

from argosy.orchestration.v1 import cache_pb2 as pb
from argosy.orchestration.v1.cache_pb2_grpc import (
    ResponseCacheServiceServicer,
    add_ResponseCacheServiceServicer_to_server,
)
from chassis.grpc import Registration
from values.roles import current_member, current_platform_admin

from orchestrator.response_cache.ports import Purged
from orchestrator.response_cache.purge import PurgeCache
from orchestrator.routing.model import ALL_TENANTS


class ResponseCacheServicer(ResponseCacheServiceServicer):
    def __init__(self, purge: PurgeCache) -> None:
        self._purge = purge

    async def PurgeCache(self, request: pb.PurgeCacheRequest, context: Any) -> pb.PurgeCacheResponse:
        if request.tenant_id:
            current_platform_admin()
        tenant_id: str | None = request.tenant_id or current_member().tenant_id
        await self._purge.purge(Purged(None if tenant_id == ALL_TENANTS else tenant_id, request.model or None))
        return pb.PurgeCacheResponse()


def registration(servicer: ResponseCacheServicer) -> Registration:
    return (
        add_ResponseCacheServiceServicer_to_server,
        servicer,
        "argosy.orchestration.v1.ResponseCacheService",
    )
