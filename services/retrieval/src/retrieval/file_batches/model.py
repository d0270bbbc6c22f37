"""File batches: files that were attached to a vector store together."""

from dataclasses import dataclass
from datetime import datetime

from chassis.errors import ArgosyError, Kind


class FileBatchNotFound(ArgosyError):
    """The vector store has no file batch with this id."""

    kind, reason = Kind.NOT_FOUND, "FILE_BATCH_NOT_FOUND"


@dataclass(frozen=True, slots=True)
class FileBatchCounts:
    """Files of a batch by state; `cancelled` are those that are no longer in the store, for whatever reason."""

    in_progress: int = 0
    completed: int = 0
    failed: int = 0
    cancelled: int = 0


@dataclass(frozen=True, slots=True)
class FileBatch:
    """Files that were attached together."""

    batch_id: str
    vector_store_id: str
    created_at: datetime
    cancelled: bool
    file_counts: FileBatchCounts


def file_batch_not_found(batch_id: str) -> FileBatchNotFound:
    """The same message for a batch that never existed, or belongs to another store or tenant."""
    return FileBatchNotFound(f"there is no file batch {batch_id!r} in this vector store", param="batch_id")
