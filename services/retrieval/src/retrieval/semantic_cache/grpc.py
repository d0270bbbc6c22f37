"""SemanticCacheService. The tenant is the caller's, except where a platform admin removes prompts."""

from typing import Any, Final

from argosy.retrieval.v1 import semantic_cache_pb2 as pb
from argosy.retrieval.v1.semantic_cache_pb2_grpc import (
    SemanticCacheServiceServicer,
    add_SemanticCacheServiceServicer_to_server,
)
from chassis.grpc import Registration
from values.protos import proto_to_duration
from values.roles import current_member, current_platform_admin

from retrieval import metrics
from retrieval.embeddings.model import Embedder
from retrieval.files.page import page_size
from retrieval.semantic_cache.find import find_prompts, put_prompt
from retrieval.semantic_cache.model import CachedPrompt, NearPrompt, PromptQuery
from retrieval.semantic_cache.ports import PromptStore

DEFAULT_PROMPTS: Final = 4
MAX_PROMPTS: Final = 20
ALL_TENANTS: Final = "*"


class SemanticCacheServicer(SemanticCacheServiceServicer):
    def __init__(self, store: PromptStore, embedder: Embedder, max_entries: int) -> None:
        self._store = store
        self._embedder = embedder
        self._max_entries = max_entries

    async def FindPrompts(self, request: pb.FindPromptsRequest, context: Any) -> pb.FindPromptsResponse:
        tenant_id = current_member().tenant_id
        limit = page_size(request.limit, default=DEFAULT_PROMPTS, maximum=MAX_PROMPTS)
        query = PromptQuery(request.partition, request.prompt, request.min_similarity, limit)
        with metrics.CACHED_PROMPT_SECONDS.time():
            found = await find_prompts(tenant_id, query, store=self._store, embedder=self._embedder)
        return pb.FindPromptsResponse(prompts=map(near_prompt_to_proto, found))

    async def PutPrompt(self, request: pb.PutPromptRequest, context: Any) -> pb.PutPromptResponse:
        tenant_id = current_member().tenant_id
        prompt = proto_to_cached_prompt(request)
        await put_prompt(tenant_id, prompt, store=self._store, embedder=self._embedder, max_entries=self._max_entries)
        return pb.PutPromptResponse()

    async def RemovePrompts(self, request: pb.RemovePromptsRequest, context: Any) -> pb.RemovePromptsResponse:
        if request.tenant_id:
            current_platform_admin()
        tenant_id = request.tenant_id or current_member().tenant_id
        await self._store.remove(None if tenant_id == ALL_TENANTS else tenant_id, request.model or None)
        return pb.RemovePromptsResponse()


def near_prompt_to_proto(found: NearPrompt) -> pb.NearPrompt:
    return pb.NearPrompt(entry_id=found.entry_id, prompt=found.prompt, similarity=found.similarity)


def proto_to_cached_prompt(request: pb.PutPromptRequest) -> CachedPrompt:
    return CachedPrompt(
        request.partition,
        request.entry_id,
        request.model,
        request.prompt,
        proto_to_duration(request.lifetime),
    )


def registration(servicer: SemanticCacheServicer) -> Registration:
    return add_SemanticCacheServiceServicer_to_server, servicer, "argosy.retrieval.v1.SemanticCacheService"
