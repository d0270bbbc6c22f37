"""Opens credentials that the orchestrator has sealed: each only for its tenant, upstream and id."""

from chassis.sealing import DataKey, KeyRing, SealUnreadable
from values.credentials import credential_owner, data_key_owner

from inference_worker.providers.credentials import Credential, SealedCredential


def open_sealed(ring: KeyRing, row: SealedCredential) -> Credential:
    """Raises `SealUnreadable` for a row that belongs elsewhere, a key that is not configured, or an unfit secret."""
    key = DataKey(ring.open(row.wrapped_key, data_key_owner(row.tenant_id)))
    secret = key.open(row.sealed, credential_owner(row.tenant_id, row.upstream, row.credential_id))
    try:
        return Credential(row.credential_id, row.tenant_id, secret.decode(), row.weight)
    except ValueError:
        raise SealUnreadable("A sealed credential holds a character that cannot be sent.") from None
