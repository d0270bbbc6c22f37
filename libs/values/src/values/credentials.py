"""What binds sealed credentials of upstreams to their rows: the orchestrator seals them, the workers open them."""

from typing import Final

SEALING_PURPOSE: Final = b"argosy upstream credentials"
"""Of the ring of keys that wraps the data keys of tenants."""


def data_key_owner(tenant_id: str) -> str:
    """Return the associated data of a tenant's wrapped data key."""
    return f"data key\n{tenant_id}"


def credential_owner(tenant_id: str, upstream: str, credential_id: str) -> str:
    """Return the associated data of a sealed credential. None of the three can have a line break."""
    return f"credential\n{tenant_id}\n{upstream}\n{credential_id}"
