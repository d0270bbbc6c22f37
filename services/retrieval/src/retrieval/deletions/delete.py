"""Deleting bytes and chunks for good, in batches."""

from chassis.errors import ArgosyError

from retrieval.deletions.model import PendingDeletion
from retrieval.deletions.ports import DeletionQueue
from retrieval.files.model import DELETION_LEASE
from retrieval.files.ports import ObjectStore


async def delete_pending(
    *, queue: DeletionQueue, objects: ObjectStore, batch_size: int = 20, chunk_batch_size: int = 1_000
) -> int:
    """Run a batch of the deletions that are due, and return how many.

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
    return len(claimed)


async def _delete(deletion: PendingDeletion, queue: DeletionQueue, objects: ObjectStore, chunk_batch_size: int) -> None:
    if deletion.object_key:
        await objects.delete(deletion.object_key)
    while deletion.attachment and await queue.delete_chunks(deletion, chunk_batch_size):
        pass
    await queue.complete(deletion)
