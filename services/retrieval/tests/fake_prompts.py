"""Cached prompts in memory."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from retrieval.embeddings.model import Vector
from retrieval.semantic_cache.model import MAX_PER_PARTITION, CachedPrompt, NearPrompt

from services.retrieval.tests.texts import cosine


class FakePromptStore:
    """Implements PromptStore. `later` is how far its clock is ahead."""

    def __init__(self) -> None:
        self.kept: dict[tuple[str, bytes, str], tuple[CachedPrompt, Vector, datetime]] = {}
        self.later = timedelta(0)

    def _now(self) -> datetime:
        return datetime.now(UTC) + self.later

    async def has_prompts(self, tenant_id: str, partition: bytes) -> bool:
        return any(
            key[:2] == (tenant_id, partition) and expires_at > self._now()
            for key, (_, _, expires_at) in self.kept.items()
        )

    async def find(
        self, tenant_id: str, partition: bytes, vector: Vector, min_similarity: float, limit: int
    ) -> Sequence[NearPrompt]:
        near = [
            NearPrompt(prompt.entry_id, prompt.prompt, cosine(vector, kept_vector))
            for (owner, kept_in, _), (prompt, kept_vector, expires_at) in self.kept.items()
            if (owner, kept_in) == (tenant_id, partition) and expires_at > self._now()
        ]
        near = sorted(near, key=lambda one: -one.similarity)[:limit]
        return [one for one in near if one.similarity >= min_similarity]

    async def put(
        self,
        tenant_id: str,
        prompt: CachedPrompt,
        vector: Vector,
        max_entries: int,
        max_per_partition: int = MAX_PER_PARTITION,
    ) -> None:
        self.kept[tenant_id, prompt.partition, prompt.entry_id] = prompt, vector, self._now() + prompt.lifetime
        self._keep_last((tenant_id, prompt.partition), max_per_partition)
        self._keep_last((tenant_id,), max_entries)

    def _keep_last(self, of: tuple[object, ...], maximum: int) -> None:
        kept = sorted((row[2], key) for key, row in self.kept.items() if key[: len(of)] == of)
        for _, key in kept[: max(0, len(kept) - maximum)]:
            del self.kept[key]

    async def remove(self, tenant_id: str | None, model: str | None) -> None:
        for key, (prompt, _, _) in list(self.kept.items()):
            if tenant_id in {None, key[0]} and model in {None, prompt.model}:
                del self.kept[key]

    async def remove_expired(self, limit: int) -> int:
        expired = [key for key, row in self.kept.items() if row[2] <= self._now()][:limit]
        for key in expired:
            del self.kept[key]
        return len(expired)
