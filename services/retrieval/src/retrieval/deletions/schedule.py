"""Deletions run periodically in every replica."""

from retrieval import metrics
from retrieval.deletions.delete import DeletionQueue, delete_pending
from retrieval.files.ports import ObjectStore


async def sweep(queue: DeletionQueue, objects: ObjectStore) -> bool:
    """Run a batch of deletions; True when there may be more."""
    deleted = await delete_pending(queue=queue, objects=objects)
    metrics.DELETIONS.inc(deleted)
    return deleted > 0
