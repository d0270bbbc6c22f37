"""Create an API key."""

from collections.abc import Iterable
from datetime import datetime

from chassis.clock import Clock
from chassis.errors import InvalidRequest
from chassis.tenancy import Caller
from values.roles import PLATFORM_ADMIN

from gateway.api_keys.model import ApiKeyStore
from gateway.audit.model import caller_entry
from gateway.audit.record import RecordRefusal
from gateway.auth.api_key import ApiKey, mint_key
from gateway.auth.roles import ROLES, check_grant


class CreateApiKey:
    """The use case of administrators. `env` is the environment in new keys."""

    def __init__(self, keys: ApiKeyStore, record_refusal: RecordRefusal, clock: Clock, env: str) -> None:
        self._keys = keys
        self._record_refusal = record_refusal
        self._clock = clock
        self._env = env

    async def __call__(
        self,
        caller: Caller,
        tenant_id: str,
        project_id: str,
        *,
        name: str,
        roles: Iterable[str],
        expires_at: datetime | None,
    ) -> tuple[ApiKey, str]:
        """Return the key's record and its text, which is not kept. Raises PermissionDenied, ProjectNotFound,
        InvalidRequest."""
        caller.principal.require(PLATFORM_ADMIN)
        granted = frozenset(roles)
        if not granted or granted - ROLES:
            raise InvalidRequest(f"roles must be some of {', '.join(sorted(ROLES))}.", param="roles")
        now = self._clock.now()
        if expires_at is not None and expires_at <= now:
            raise InvalidRequest("expires_at must be in the future.", param="expires_at")
        minted, text = mint_key(self._env)
        key = ApiKey(
            tenant_id=tenant_id,
            project_id=project_id,
            key_id=minted.key_id,
            name=name,
            env=self._env,
            roles=granted,
            created_at=now,
            sha256=minted.sha256,
            expires_at=expires_at,
        )
        detail = {"project_id": project_id, "roles": ",".join(sorted(granted))}
        entry = caller_entry(caller, now, tenant_id, "key.create", key.key_id, **detail)
        async with self._record_refusal(entry):
            check_grant(caller.principal, tenant_id, granted)
            await self._keys.add_key(key, entry)
        return key, text
