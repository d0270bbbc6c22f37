"""What the deletion feature needs from the database."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Protocol

from retrieval.deletions.model import PendingDeletion


class DeletionQueue(Protocol):
    """Pending deletions of all tenants."""

    async def claim(self, limit: int, lease: timedelta) -> Sequence[PendingDeletion]:
        """Claim deletions that are due; no other process gets them during the lease."""

    async def delete_chunks(self, deletion: PendingDeletion, limit: int) -> bool:
        """Delete at most `limit` chunks of the attachment. Returns False when none was left."""

    async def complete(self, deletion: PendingDeletion) -> None:
        """Remove the deletion from the queue. Does nothing when another process has claimed it since."""
