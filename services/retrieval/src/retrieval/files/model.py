"""Uploaded files: a record in `Files`, the bytes in an `ObjectStore`."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from chassis.errors import ArgosyError, Kind

UPLOAD_TIMEOUT = timedelta(minutes=30)
# Twice the upload timeout, so that an object is not deleted while its upload can still succeed.
UPLOAD_LIFETIME = 2 * UPLOAD_TIMEOUT
# An upload is not committed when its object is due for deletion sooner than this: a deletion may be running already.
DELETION_LEASE = timedelta(minutes=2)


class FileNotFound(ArgosyError):
    """The tenant has no file with this id, or the vector store does not hold it."""

    kind, reason = Kind.NOT_FOUND, "FILE_NOT_FOUND"


class FileTooLarge(ArgosyError):
    """The upload is larger than a file may be; nothing of it is kept."""

    kind, reason = Kind.TOO_LARGE, "FILE_TOO_LARGE"


@dataclass(frozen=True, slots=True)
class FileMetadata:
    filename: str
    purpose: str
    file_id: str = ""
    """Chosen by a service, which may upload the file again; empty for a new one."""


@dataclass(frozen=True, slots=True)
class File:
    """A stored file: its bytes are durable."""

    file_id: str
    filename: str
    purpose: str
    size_bytes: int
    created_at: datetime


def object_key(tenant_id: str, file_id: str) -> str:
    """The key of a file's bytes in the object store. It begins with the tenant."""
    return f"{tenant_id}/{file_id}"


def object_deletion_id(file_id: str) -> str:
    """The id of the pending deletion of a file's bytes."""
    return f"object-{file_id}"


def file_not_found(file_id: str) -> FileNotFound:
    """The same message for a file that never existed, was deleted, or belongs to another tenant."""
    return FileNotFound(f"there is no file {file_id!r}", param="file_id")
