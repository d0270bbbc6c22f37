"""Files that a tenant uploaded: a record in `Files`, bytes in `Objects`."""

import asyncio
import unicodedata
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from chassis.errors import ArgosyError, DeadlineExceeded, InvalidRequest, Kind
from chassis.ids import new_id

from retrieval.domain.listing import Listing

UPLOAD_LIMIT = timedelta(minutes=30)
# Twice the time an upload is given, so an object is never removed under an upload that may still succeed.
INTENT_LIFETIME = 2 * UPLOAD_LIMIT


class FileNotFound(ArgosyError):
    """The tenant has no file with this id, or the vector store does not hold it."""

    kind, reason = Kind.NOT_FOUND, "FILE_NOT_FOUND"


class FileTooLarge(ArgosyError):
    """The upload is larger than a file may be; nothing of it is kept."""

    kind, reason = Kind.TOO_LARGE, "FILE_TOO_LARGE"


@dataclass(frozen=True, slots=True)
class Description:
    """What the uploader says about a file."""

    filename: str
    purpose: str


@dataclass(frozen=True, slots=True)
class File:
    """A stored file: its bytes are durable."""

    file_id: str
    filename: str
    purpose: str
    size_bytes: int
    created_at: datetime


class Objects(Protocol):
    """Bytes by key."""

    async def put(self, key: str, data: AsyncIterator[bytes]) -> int:
        """Write all of `data` or nothing, and return its size in bytes.

        An error of `data` is raised as it is. Raises Unavailable when the store does not take it.
        """

    def read(self, key: str) -> AsyncGenerator[bytes, None]:
        """The bytes in order, in pieces of at most a few hundred KB. Raises FileNotFound, Unavailable."""

    async def delete(self, key: str) -> None:
        """Remove the object and what an interrupted `put` left of it; fine if there is none."""


class Files(Protocol):
    """Records of files."""

    async def intend(self, tenant_id: str, file_id: str, lifetime: timedelta) -> None:
        """Note that the object of `file_id` is about to be written: it goes after `lifetime` unless recorded."""

    async def record(self, tenant_id: str, file_id: str, description: Description, size_bytes: int) -> File:
        """Turn the intent into a file.

        Raises DeadlineExceeded when the intent has expired, or has less left than the lease of a removal: then the
        sweeper may be removing the object at this moment.
        """

    async def get(self, tenant_id: str, file_id: str) -> File:
        """Raises FileNotFound."""

    async def list(self, tenant_id: str, *, limit: int, after: str, purpose: str) -> Listing[File]:
        """Newest first, after the id `after`; empty strings do not restrict."""

    async def delete(self, tenant_id: str, file_id: str) -> None:
        """Forget the file and its attachments at once; bytes and chunks are removed soon. Raises FileNotFound."""


def object_key(tenant_id: str, file_id: str) -> str:
    """Where a file's bytes are: partitioned by tenant."""
    return f"{tenant_id}/{file_id}"


async def upload(
    tenant_id: str,
    description: Description,
    data: AsyncIterator[bytes],
    *,
    files: Files,
    objects: Objects,
    max_bytes: int,
) -> File:
    """Store a file: intent, then bytes, then the record, so a crash in between leaves nothing for ever.

    Raises InvalidRequest, FileTooLarge, DeadlineExceeded.
    """
    _check(description)
    file_id = new_id("file-")
    await files.intend(tenant_id, file_id, INTENT_LIFETIME)
    try:
        async with asyncio.timeout(UPLOAD_LIMIT.total_seconds()):
            size_bytes = await objects.put(object_key(tenant_id, file_id), _limited(data, max_bytes))
    except TimeoutError:
        raise DeadlineExceeded(f"the upload took more than {UPLOAD_LIMIT}") from None
    return await files.record(tenant_id, file_id, description, size_bytes)


def _check(description: Description) -> None:
    for param, value, most in (("filename", description.filename, 255), ("purpose", description.purpose, 64)):
        if not value.strip() or len(value) > most or any(unicodedata.category(sign) == "Cc" for sign in value):
            raise InvalidRequest(f"{param} must be 1 to {most} characters, none of control", param=param)


async def _limited(data: AsyncIterator[bytes], max_bytes: int) -> AsyncIterator[bytes]:
    size_bytes = 0
    async for piece in data:
        size_bytes += len(piece)
        if size_bytes > max_bytes:
            raise FileTooLarge(f"a file may have at most {max_bytes} bytes", param="file")
        yield piece
