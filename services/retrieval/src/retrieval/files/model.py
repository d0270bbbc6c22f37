"""Rows to values and back."""

import struct
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from retrieval.domain.embedding import DIMENSIONS, Vector
from retrieval.domain.files import File
from retrieval.domain.listing import Listing
from retrieval.domain.vector_stores import Attachment, AttachmentState, FileCounts, VectorStore

Row = Mapping[str, Any]
T = TypeVar("T")


def from_row_file(row: Row) -> File:
    """Columns of `files`."""
    return File(row["file_id"], row["filename"], row["purpose"], row["size_bytes"], row["created_at"])


def from_row_vector_store(row: Row) -> VectorStore:
    """Columns of `vector_stores` and the sums over its attachments."""
    return VectorStore(
        vector_store_id=row["vector_store_id"],
        name=row["name"],
        created_at=row["created_at"],
        file_counts=FileCounts(row["in_progress"], row["completed"], row["failed"]),
        usage_bytes=row["usage_bytes"],
    )


def from_row_attachment(row: Row) -> Attachment:
    """Columns of `attachments`."""
    return Attachment(
        vector_store_id=row["vector_store_id"],
        file_id=row["file_id"],
        state=AttachmentState(row["state"]),
        failure_reason=row["failure_reason"],
        failure_message=row["failure_message"],
        chunks=row["chunks"],
        usage_bytes=row["usage_bytes"],
        created_at=row["created_at"],
    )


def cut(items: Sequence[T], limit: int) -> Listing[T]:
    """A page out of the `limit` + 1 items that were asked for."""
    return Listing(tuple(items[:limit]), len(items) > limit)


def to_floats(vector: Vector) -> tuple[float, ...]:
    """For a parameter of type real[]. Raises ValueError when the vector has another number of dimensions."""
    if len(vector) != DIMENSIONS * 4:
        raise ValueError(f"a vector of {len(vector) // 4} dimensions, the index has {DIMENSIONS}")
    return struct.unpack(f"<{DIMENSIONS}f", vector)


def from_floats(floats: Sequence[float]) -> Vector:
    """From a column cast to real[]."""
    return Vector(struct.pack(f"<{len(floats)}f", *floats))
