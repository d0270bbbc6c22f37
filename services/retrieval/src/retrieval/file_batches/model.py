"""File batches: files that were attached to a vector store together."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from chassis.errors import ArgosyError, Kind

MAX_FILE_BATCHES: Final = 200
"""Of a vector store. A further one takes the place of the oldest whose files are all indexed or failed."""


class FileBatchNotFound(ArgosyError):
    """The vector store has no file batch with this id."""

    kind, reason = Kind.NOT_FOUND, "FILE_BATCH_NOT_FOUND"


class TooManyFileBatches(ArgosyError):
    """The vector store has as many file batches in progress as it may have; wait until one has ended."""

    kind, reason = Kind.THROTTLED, "TOO_MANY_FILE_BATCHES"


@dataclass(frozen=True, slots=True)
class FileBatchCounts:
    """Files of a batch by state; `cancelled` are those that were taken out of the store, also if another request
    has attached them again."""

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


def too_many_file_batches() -> TooManyFileBatches:
    return TooManyFileBatches(
        f"This vector store has {MAX_FILE_BATCHES} file batches in progress; wait until one has ended.",
        retry_after=timedelta(seconds=30),
    )


def file_batch_not_found(batch_id: str) -> FileBatchNotFound:
    """The same message for a batch that never existed, or belongs to another store or tenant."""
    return FileBatchNotFound(f"there is no file batch {batch_id!r} in this vector store", param="batch_id")
