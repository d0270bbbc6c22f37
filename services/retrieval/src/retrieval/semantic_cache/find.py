"""Finding the prompts that mean the same as another, and removing those that have expired."""

from collections.abc import Callable, Sequence
from typing import Final

from retrieval.embeddings.model import Embedder
from retrieval.semantic_cache.model import CachedPrompt, NearPrompt, PromptQuery
from retrieval.semantic_cache.ports import PromptStore

EXPIRED_BATCH: Final = 1_000


async def find_prompts(
    tenant_id: str, query: PromptQuery, *, store: PromptStore, embedder: Embedder
) -> Sequence[NearPrompt]:
    """Return prompts that are near, nearest first.

    The caller pays for the embedding of the query. It is made only where the partition has prompts to compare it to.
    """
    if not await store.has_prompts(tenant_id, query.partition):
        return []
    [vector] = await embedder.embed([query.prompt])
    return await store.find(tenant_id, query.partition, vector, query.min_similarity, query.limit)


async def put_prompt(
    tenant_id: str, prompt: CachedPrompt, *, store: PromptStore, embedder: Embedder, max_entries: int
) -> None:
    """Keep a prompt, for whose embedding the caller pays."""
    [vector] = await embedder.embed([prompt.prompt])
    await store.put(tenant_id, prompt, vector, max_entries)


async def remove_expired(store: PromptStore, on_removed: Callable[[int], None] = lambda _: None) -> bool:
    """Remove a batch of expired prompts; False when there may be no more."""
    removed = await store.remove_expired(EXPIRED_BATCH)
    on_removed(removed)
    return removed == EXPIRED_BATCH
