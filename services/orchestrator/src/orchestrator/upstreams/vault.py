"""Seals credentials: a random data key for each tenant, which a ring of keys of the settings wraps."""

from collections.abc import Sequence

from chassis.sealing import DataKey, KeyRing, NoSealingKey
from values.credentials import SEALING_PURPOSE, credential_owner, data_key_owner

from orchestrator.upstreams.model import CredentialKey, CredentialsNotConfigured


class Vault:
    """Opens only what it needs to seal more: the secrets of credentials are opened by workers."""

    def __init__(self, keys: Sequence[str]) -> None:
        """The first key wraps, all unwrap."""
        self._ring = KeyRing(keys, SEALING_PURPOSE)

    def new_data_key(self, tenant_id: str) -> bytes:
        """Make a data key and return it wrapped. Raises CredentialsNotConfigured."""
        return self._wrap(DataKey.generate(), tenant_id)

    def rewrap(self, wrapped: bytes, tenant_id: str) -> bytes | None:
        """Wrap a data key with the first key; None when it is. Raises SealUnreadable, CredentialsNotConfigured."""
        if self._ring.is_current(wrapped):
            return None
        return self._wrap(self._ring.open(wrapped, data_key_owner(tenant_id)), tenant_id)

    def seal(self, secret: str, key: CredentialKey, wrapped: bytes) -> bytes:
        """Seal a secret for its row. Raises SealUnreadable when the data key cannot be unwrapped."""
        data_key = DataKey(self._ring.open(wrapped, data_key_owner(key.tenant_id)))
        return data_key.seal(secret.encode(), credential_owner(key.tenant_id, key.upstream, key.credential_id))

    def _wrap(self, data_key: bytes, tenant_id: str) -> bytes:
        try:
            return self._ring.seal(data_key, data_key_owner(tenant_id))
        except NoSealingKey:
            raise CredentialsNotConfigured(
                "Credentials cannot be stored: ORCHESTRATOR_UPSTREAMS__CREDENTIAL_KEYS is not set."
            ) from None
