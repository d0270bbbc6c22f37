"""Deletions that are scheduled: written in the transaction that made bytes or chunks unreachable."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PendingDeletion:
    """An object, or the chunks of an attachment, to delete. `epoch` is that of the claim."""

    tenant_id: str
    deletion_id: str
    epoch: int
    object_key: str = ""
    vector_store_id: str = ""
    attachment: int = 0
