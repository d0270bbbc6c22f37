"""Prompts by meaning, in retrieval."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Final

from argosy.retrieval.v1 import semantic_cache_pb2 as pb
from argosy.retrieval.v1.semantic_cache_pb2_grpc import SemanticCacheServiceStub
from chassis.grpc import Channel
from chassis.tenancy import current_caller
from values.protos import duration_to_proto
from values.roles import PLATFORM_ADMIN

from orchestrator.response_cache.ports import NearPrompt

PUT_SECONDS: Final = 30.0
REMOVE_SECONDS: Final = 10.0


class GrpcPromptIndex:
    """Implements PromptIndex and PurgeListener, as the current caller."""

    def __init__(self, channel: Channel) -> None:
        self._stub = SemanticCacheServiceStub(channel)

    async def find(
        self, partition: bytes, prompt: str, min_similarity: float, limit: int, timeout: timedelta
    ) -> Sequence[NearPrompt]:
        request = pb.FindPromptsRequest(partition=partition, prompt=prompt, min_similarity=min_similarity, limit=limit)
        found = await self._stub.FindPrompts(request, timeout=timeout.total_seconds())
        return [NearPrompt(one.entry_id, one.prompt) for one in found.prompts]

    async def put(self, partition: bytes, entry_id: str, model: str, prompt: str, lifetime: timedelta) -> None:
        request = pb.PutPromptRequest(
            partition=partition, entry_id=entry_id, model=model, prompt=prompt, lifetime=duration_to_proto(lifetime)
        )
        await self._stub.PutPrompt(request, timeout=PUT_SECONDS)

    async def purge(self, tenant_id: str | None, model: str | None) -> None:
        # A member's own tenant is not named: retrieval takes it from the caller.
        of = (tenant_id or "*") if PLATFORM_ADMIN in current_caller().principal.roles else ""
        await self._stub.RemovePrompts(pb.RemovePromptsRequest(tenant_id=of, model=model or ""), timeout=REMOVE_SECONDS)
