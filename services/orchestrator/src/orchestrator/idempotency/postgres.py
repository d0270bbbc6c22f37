"""Idempotency keys in Postgres."""

from chassis.postgres import Database

from orchestrator.idempotency.model import KEPT_FOR, IdempotencyKey

_RESOLVE = """
INSERT INTO idempotency_keys AS k (tenant_id, key_id, resource, idempotency_key, resource_id, expires_at)
VALUES ($1, $2, $3, $4, $5, now() + $6)
ON CONFLICT (tenant_id, key_id, resource, idempotency_key) DO UPDATE SET
    resource_id = CASE WHEN k.expires_at <= now() THEN excluded.resource_id ELSE k.resource_id END,
    expires_at = CASE WHEN k.expires_at <= now() THEN excluded.expires_at ELSE k.expires_at END
RETURNING resource_id
"""
_FORGET = "DELETE FROM idempotency_keys WHERE expires_at <= now()"


class PostgresIdempotencyKeys:
    """Implements `IdempotencyKeys`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def resolve(self, key: IdempotencyKey, new_id: str) -> str:
        async with self._database.tenant(key.tenant_id) as connection:
            resource_id: str = await connection.fetchval(_RESOLVE, *key, new_id, KEPT_FOR)
        return resource_id

    async def forget_expired(self) -> None:
        await self._database.system().fetch(_FORGET)
