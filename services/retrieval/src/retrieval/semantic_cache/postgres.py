"""Prompts in Postgres: table `cached_prompts`, scanned exactly within a tenant and partition."""

from collections.abc import Sequence
from typing import Any

from chassis.postgres import Database

from retrieval.embeddings.model import Vector, vector_to_floats
from retrieval.semantic_cache.model import MAX_PER_PARTITION, CachedPrompt, NearPrompt

# No HNSW index: it would hold the vectors of all tenants, and the few of a partition would be filtered out of it. An
# exact scan takes about 4 µs for each prompt; the bound of a partition keeps it short.
HAS_PROMPTS = """
SELECT EXISTS (SELECT FROM cached_prompts WHERE tenant_id = $1 AND partition = $2 AND expires_at > now())
"""
FIND = """
SELECT entry_id, prompt, 1 - distance AS similarity FROM (
    SELECT entry_id, prompt, embedding <=> $3::real[]::halfvec AS distance FROM cached_prompts
    WHERE tenant_id = $1 AND partition = $2 AND expires_at > now() ORDER BY distance LIMIT $5
) AS near WHERE distance <= 1 - $4::float8 ORDER BY distance
"""
_PUT = """
INSERT INTO cached_prompts (tenant_id, partition, entry_id, model, prompt, embedding, expires_at)
VALUES ($1, $2, $3, $4, $5, $6::real[]::halfvec, now() + $7)
ON CONFLICT (tenant_id, partition, entry_id) DO UPDATE
SET model = excluded.model, prompt = excluded.prompt, embedding = excluded.embedding, expires_at = excluded.expires_at
"""
# Puts of a tenant take turns, so that together they cannot exceed its bound, and those who remove its prompts wait for
# them: both delete many rows, in any order.
_LOCK = "SELECT pg_advisory_xact_lock(hashtextextended('cached_prompts ' || $1, 0))"
BOUND = """
DELETE FROM cached_prompts WHERE tenant_id = $1 AND expires_at <= (
    SELECT expires_at FROM cached_prompts WHERE tenant_id = $1 ORDER BY expires_at DESC OFFSET $2 LIMIT 1)
"""
# The sum keeps the planner from reading all prompts of the tenant in the order of an index.
PARTITION_BOUND = """
DELETE FROM cached_prompts WHERE ctid = ANY(ARRAY(
    SELECT ctid FROM cached_prompts WHERE tenant_id = $1 AND partition = $2
    ORDER BY expires_at + interval '0' DESC OFFSET $3))
"""
_REMOVE = "DELETE FROM cached_prompts WHERE tenant_id = $1 AND ($2::text IS NULL OR model = $2)"
_TENANTS = "SELECT DISTINCT tenant_id FROM cached_prompts WHERE $1::text IS NULL OR model = $1"
EXPIRED = """
DELETE FROM cached_prompts WHERE ctid = ANY(ARRAY(
    SELECT ctid FROM cached_prompts WHERE expires_at <= now() ORDER BY expires_at LIMIT $1 FOR UPDATE SKIP LOCKED))
"""


class PostgresPromptStore:
    """Implements PromptStore."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def has_prompts(self, tenant_id: str, partition: bytes) -> bool:
        async with self._database.tenant(tenant_id) as connection:
            found: bool = await connection.fetchval(HAS_PROMPTS, tenant_id, partition)
        return found

    async def find(
        self, tenant_id: str, partition: bytes, vector: Vector, min_similarity: float, limit: int
    ) -> Sequence[NearPrompt]:
        async with self._database.tenant(tenant_id) as connection:
            rows = await connection.fetch(FIND, tenant_id, partition, vector_to_floats(vector), min_similarity, limit)
        return [row_to_near_prompt(row) for row in rows]

    async def put(
        self,
        tenant_id: str,
        prompt: CachedPrompt,
        vector: Vector,
        max_entries: int,
        max_per_partition: int = MAX_PER_PARTITION,
    ) -> None:
        async with self._database.tenant(tenant_id) as connection:
            await connection.execute(_LOCK, tenant_id)
            await connection.execute(
                _PUT,
                tenant_id,
                prompt.partition,
                prompt.entry_id,
                prompt.model,
                prompt.prompt,
                vector_to_floats(vector),
                prompt.lifetime,
            )
            await connection.execute(PARTITION_BOUND, tenant_id, prompt.partition, max_per_partition)
            await connection.execute(BOUND, tenant_id, max_entries)

    async def remove(self, tenant_id: str | None, model: str | None) -> None:
        tenants = [tenant_id] if tenant_id is not None else await self._tenants(model)
        for one in tenants:
            async with self._database.tenant(one) as connection:
                await connection.execute(_LOCK, one)
                await connection.execute(_REMOVE, one, model)

    async def _tenants(self, model: str | None) -> Sequence[str]:
        """Those that have prompts, of this model or of any."""
        async with self._database.system() as connection:
            return [row["tenant_id"] for row in await connection.fetch(_TENANTS, model)]

    async def remove_expired(self, limit: int) -> int:
        async with self._database.system() as connection:
            status: str = await connection.execute(EXPIRED, limit)
        return int(status.rpartition(" ")[2])


def row_to_near_prompt(row: Any) -> NearPrompt:
    return NearPrompt(row["entry_id"], row["prompt"], row["similarity"])
