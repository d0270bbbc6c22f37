"""Uploading a file."""

import asyncio
import re
import unicodedata
from collections.abc import AsyncIterator
from contextlib import suppress

from chassis.errors import DeadlineExceeded, InvalidRequest
from chassis.ids import new_id

from retrieval.files.model import (
    UPLOAD_LIFETIME,
    UPLOAD_TIMEOUT,
    File,
    FileMetadata,
    FileNotFound,
    FileTooLarge,
    object_key,
)
from retrieval.files.ports import Files, ObjectStore
from retrieval.quotas.model import UNLIMITED, Quota

MAX_FILENAME_CHARACTERS = 255
MAX_PURPOSE_CHARACTERS = 64
FILE_ID = re.compile(r"file-[0-9a-f]{32}", re.ASCII)


async def upload(
    tenant_id: str,
    metadata: FileMetadata,
    data: AsyncIterator[bytes],
    *,
    files: Files,
    objects: ObjectStore,
    max_bytes: int,
    quota: Quota = UNLIMITED,
) -> File:
    """Store a file: first the scheduled deletion of its object, then the object, then the record.

    So a crash between two steps leaves no object behind for ever. A file of the caller's own id that exists already is
    returned as it is, and nothing is read.
    Raises InvalidRequest, FileTooLarge, DeadlineExceeded, StorageQuotaExceeded.
    """
    _check("filename", metadata.filename, MAX_FILENAME_CHARACTERS)
    _check("purpose", metadata.purpose, MAX_PURPOSE_CHARACTERS)
    file_id = metadata.file_id or new_id("file-")
    if metadata.file_id:
        if FILE_ID.fullmatch(file_id) is None:
            raise InvalidRequest("file_id must be file- and 32 hexadecimal digits", param="file_id")
        with suppress(FileNotFound):
            return await files.get(tenant_id, file_id)
    if there := await files.begin_upload(tenant_id, file_id, UPLOAD_LIFETIME, quota):
        return there
    try:
        async with asyncio.timeout(UPLOAD_TIMEOUT.total_seconds()):
            size_bytes = await objects.put(object_key(tenant_id, file_id), _limited(data, max_bytes))
    except TimeoutError:
        raise DeadlineExceeded(f"the upload took more than {UPLOAD_TIMEOUT}") from None
    return await files.commit_upload(tenant_id, file_id, metadata, size_bytes, quota)


def _check(param: str, value: str, max_characters: int) -> None:
    if (
        not value.strip()
        or len(value) > max_characters
        or any(unicodedata.category(character) == "Cc" for character in value)
    ):
        raise InvalidRequest(f"{param} must be 1 to {max_characters} characters, none of control", param=param)


async def _limited(data: AsyncIterator[bytes], max_bytes: int) -> AsyncIterator[bytes]:
    size_bytes = 0
    async for piece in data:
        size_bytes += len(piece)
        if size_bytes > max_bytes:
            raise FileTooLarge(f"a file may have at most {max_bytes} bytes", param="file")
        yield piece
