"""What the semantic cache needs of its store."""

from collections.abc import Sequence
from typing import Protocol

from retrieval.embeddings.model import Vector
from retrieval.semantic_cache.model import MAX_PER_PARTITION, CachedPrompt, NearPrompt


class PromptStore(Protocol):
    """The prompts of all tenants; each call is of one."""

    async def has_prompts(self, tenant_id: str, partition: bytes) -> bool:
        """Whether a partition has prompts that have not expired."""

    async def find(
        self, tenant_id: str, partition: bytes, vector: Vector, min_similarity: float, limit: int
    ) -> Sequence[NearPrompt]:
        """Find prompts that have not expired, nearest first."""

    async def put(
        self,
        tenant_id: str,
        prompt: CachedPrompt,
        vector: Vector,
        max_entries: int,
        max_per_partition: int = MAX_PER_PARTITION,
    ) -> None:
        """Keep the prompt, then only those that expire last, of its partition and of the tenant."""

    async def remove(self, tenant_id: str | None, model: str | None) -> None:
        """Remove the prompts of a tenant or of all, of a model or of all."""

    async def remove_expired(self, limit: int) -> int:
        """Remove at most `limit` expired prompts of all tenants; returns how many."""
