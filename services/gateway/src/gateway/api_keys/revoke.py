"""Revoke an API key."""

from collections.abc import Awaitable, Callable

from chassis.clock import Clock
from chassis.tenancy import Caller
from values.roles import PLATFORM_ADMIN

from gateway.api_keys.model import ApiKeyStore, KeyNotFound
from gateway.audit.model import caller_entry
from gateway.audit.record import RecordRefusal
from gateway.auth.api_key import ApiKey

PublishRevocation = Callable[[str], Awaitable[None]]
"""Publishes a key id to all gateways. Never raises: while Redis is down, it is published later."""


class RevokeApiKey:
    def __init__(
        self, keys: ApiKeyStore, record_refusal: RecordRefusal, publish_revocation: PublishRevocation, clock: Clock
    ) -> None:
        self._keys = keys
        self._record_refusal = record_refusal
        self._publish_revocation = publish_revocation
        self._clock = clock

    async def __call__(self, caller: Caller, key_id: str) -> ApiKey:
        """Revoke a key on all gateways, for good; idempotent. Raises PermissionDenied, KeyNotFound."""
        caller.principal.require(PLATFORM_ADMIN)
        key = await self._keys.find_key(key_id)
        now = self._clock.now()
        tenant_id = caller.principal.tenant_id if key is None else key.tenant_id
        entry = caller_entry(caller, now, tenant_id, "key.revoke", key_id)
        async with self._record_refusal(entry):
            if key is None:
                raise KeyNotFound(f"There is no key {key_id}.")
            revoked = await self._keys.revoke_key(key.tenant_id, key_id, now, entry)
        await self._publish_revocation(key_id)
        return revoked
