"""What ingestion needs from the database."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Protocol

from retrieval.embeddings.model import Vector
from retrieval.ingestion.model import Claim, EmbeddedChunk
from retrieval.parsing.model import FileWarning
from retrieval.quotas.model import UNLIMITED, Quota
from retrieval.vector_stores.model import AttachmentKey


class KnownVectors(Protocol):
    """The vectors that tenants have."""

    async def known_vectors(self, tenant_id: str, fingerprints: Sequence[bytes]) -> dict[bytes, Vector]:
        """Vectors of equal texts that the tenant has paid for already."""


class IngestionStore(KnownVectors, Protocol):
    """State of ingestion. Methods that take a claim raise ClaimLost when it is not the latest one."""

    async def claim(self, key: AttachmentKey, lease: timedelta) -> Claim | None:
        """None when the attachment is finished, deleted, not due, or claimed by another process."""

    async def overdue(self, limit: int) -> list[AttachmentKey]:
        """Attachments that no process claimed in time, oldest first; tenants take turns."""

    async def extend(self, claim: Claim, lease: timedelta) -> None:
        """Extend the lease (the heartbeat)."""

    async def add_chunks(
        self, claim: Claim, batch: Sequence[EmbeddedChunk], lease: timedelta, quota: Quota = UNLIMITED
    ) -> Claim:
        """Store the next chunks, move the cursor past them and extend the lease, in one transaction.

        Returns the claim with the spaces that the store has now. Raises SpacesChanged, and stores nothing, when the
        chunks have no vectors in the space of the store, and StorageQuotaExceeded when there is no room for all.
        """

    async def index_keywords(self, claim: Claim, lease: timedelta) -> bool:
        """Index the keywords of the next thousand chunks and extend the lease. Returns False when none was left."""

    async def complete(self, claim: Claim, warnings: Sequence[FileWarning] = ()) -> None:
        """Index the keywords that are left, make the chunks visible to searches, and store what was left out."""

    async def finish(
        self,
        claim: Claim,
        batch: Sequence[EmbeddedChunk],
        warnings: Sequence[FileWarning] = (),
        quota: Quota = UNLIMITED,
    ) -> None:
        """Store all chunks of a file that has none yet and complete it, in one transaction.

        Raises what add_chunks raises.
        """

    async def fail(self, claim: Claim, reason: str, message: str) -> None:
        """Mark the attachment as failed and schedule the deletion of its chunks."""

    async def release(self, claim: Claim, delay: timedelta, *, failed: bool) -> None:
        """End the lease; the attachment is due again after `delay`. `failed` counts a retry."""
