"""Deleting bytes and chunks for good, in batches.

Deletions are scheduled in the transaction that makes bytes or chunks unreachable, and run later.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol

from chassis.errors import ArgosyError

from retrieval.files.model import DELETION_LEASE
from retrieval.files.ports import ObjectStore


@dataclass(frozen=True, slots=True)
class PendingDeletion:
    """An object, or the chunks of an attachment, to delete. `epoch` is that of the claim."""

    tenant_id: str
    deletion_id: str
    epoch: int
    object_key: str = ""
    vector_store_id: str = ""
    attachment: int = 0


class DeletionQueue(Protocol):
    """Pending deletions of all tenants."""

    async def claim(self, limit: int, lease: timedelta) -> Sequence[PendingDeletion]:
        """Claim deletions that are due; no other process gets them during the lease."""

    async def delete_chunks(self, deletion: PendingDeletion, limit: int) -> bool:
        """Delete at most `limit` chunks of the attachment. False when none was left, or the lease is lost."""

    async def complete(self, deletion: PendingDeletion) -> None:
        """Remove the deletion from the queue. Does nothing when another process has claimed it since."""


async def delete_pending(
    *,
    queue: DeletionQueue,
    objects: ObjectStore,
    on_deleted: Callable[[int], None] = lambda _: None,
    batch_size: int = 20,
    chunk_batch_size: int = 1_000,
) -> bool:
    """Run a batch of the deletions that are due, report how many to `on_deleted`; False when none was due.

    A deletion that fails is due again after its lease and does not stop the others. The last error is raised.
    """
    claimed = await queue.claim(batch_size, DELETION_LEASE)
    last_error: ArgosyError | None = None
    for deletion in claimed:
        try:
            await _delete(deletion, queue, objects, chunk_batch_size)
        except ArgosyError as error:
            last_error = error
    if last_error is not None:
        raise last_error
    on_deleted(len(claimed))
    return bool(claimed)


async def _delete(deletion: PendingDeletion, queue: DeletionQueue, objects: ObjectStore, chunk_batch_size: int) -> None:
    if deletion.object_key:
        await objects.delete(deletion.object_key)
    while deletion.attachment and await queue.delete_chunks(deletion, chunk_batch_size):
        pass
    await queue.complete(deletion)
