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
# A secret that its tenant has rotated meanwhile is not what was read, and is encrypted with the first key anyway.
_UPDATE_CURRENT: Final = """
UPDATE webhook_endpoints SET secret = $4 WHERE tenant_id = $1 AND endpoint_id = $2 AND secret = $3
"""
_UPDATE_PREVIOUS: Final = """
UPDATE webhook_endpoints SET previous_secret = $4 WHERE tenant_id = $1 AND endpoint_id = $2 AND previous_secret = $3
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
                done += await self._update(_UPDATE_CURRENT, tenant_id, endpoint_id, row["secret"])
                if row["previous_secret"] is not None:
                    done += await self._update(_UPDATE_PREVIOUS, tenant_id, endpoint_id, row["previous_secret"])
        return done

    async def _update(self, statement: str, tenant_id: str, endpoint_id: str, sealed: bytes) -> bool:
        fresh = self._cipher.reseal(sealed, secret_owner(tenant_id, endpoint_id))
        if fresh is None:
            return False
        async with self._database.tenant(tenant_id) as connection:
            await connection.execute(statement, tenant_id, endpoint_id, sealed, fresh)
        return True
