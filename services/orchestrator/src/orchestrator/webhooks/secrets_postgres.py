"""Secrets of endpoints in Postgres, for a key rotation: once the new key stands first, all are encrypted with it."""

from __future__ import annotations

from typing import Final

from chassis.postgres import Database

from orchestrator.webhooks.ports import SecretCipher
from orchestrator.webhooks.postgres import secret_owner

PAGE: Final = 500
_SECRETS: Final = """
SELECT tenant_id, endpoint_id, secret, previous_secret FROM webhook_endpoints
WHERE (tenant_id, endpoint_id) > ($1, $2) ORDER BY tenant_id, endpoint_id LIMIT $3
"""
# By its bytes, wherever it stands now: a rotation meanwhile makes the current secret the previous one.
_UPDATE: Final = """
UPDATE webhook_endpoints
SET secret = CASE WHEN secret = $3 THEN $4 ELSE secret END,
    previous_secret = CASE WHEN previous_secret = $3 THEN $4 ELSE previous_secret END
WHERE tenant_id = $1 AND endpoint_id = $2 AND $3 IN (secret, previous_secret)
"""


class PostgresSecrets:
    """The secrets of the endpoints of all tenants."""

    def __init__(self, database: Database, cipher: SecretCipher) -> None:
        self._database = database
        self._cipher = cipher

    async def reseal(self) -> int:
        """Encrypt with the first key what is not; returns how many secrets. It can be repeated while services run.

        Raises WebhooksNotConfigured for a secret that no key opens: those before it stay encrypted anew.
        """
        done, after = 0, ("", "")
        while rows := await self._database.system().fetch(_SECRETS, *after, PAGE):
            for row in rows:
                after = tenant_id, endpoint_id = row["tenant_id"], row["endpoint_id"]
                for sealed in (row["secret"], row["previous_secret"]):
                    done += sealed is not None and await self._update(tenant_id, endpoint_id, sealed)
        return done

    async def _update(self, tenant_id: str, endpoint_id: str, sealed: bytes) -> bool:
        fresh = self._cipher.reseal(sealed, secret_owner(tenant_id, endpoint_id))
        if fresh is None:
            return False
        async with self._database.tenant(tenant_id) as connection:
            status: str = await connection.execute(_UPDATE, tenant_id, endpoint_id, sealed, fresh)
        return status != "UPDATE 0"
