"""What the file feature needs from the database and from the object store."""

from collections.abc import AsyncGenerator, AsyncIterator
from datetime import timedelta
from typing import Protocol

from retrieval.files.model import File, FileMetadata
from retrieval.files.page import Page
from retrieval.quotas.model import UNLIMITED, Quota


class ObjectStore(Protocol):
    """Bytes by key."""

    async def put(self, key: str, data: AsyncIterator[bytes]) -> int:
        """Write all of `data` or nothing, and return its size in bytes.

        Errors of `data` are raised unchanged. Raises Unavailable when the store fails.
        """

    def read(self, key: str) -> AsyncGenerator[bytes, None]:
        """The bytes in order, in pieces of at most a few hundred KB. Raises FileNotFound, Unavailable."""

    async def exists(self, key: str) -> bool:
        """Whether there is an object, or parts that an interrupted `put` left behind. Raises Unavailable."""

    async def delete(self, key: str) -> None:
        """Delete the object and the parts that an interrupted `put` left behind. Deleting a missing one succeeds."""


class Files(Protocol):
    """Records of files."""

    async def begin_upload(
        self, tenant_id: str, file_id: str, lifetime: timedelta, quota: Quota = UNLIMITED
    ) -> File | None:
        """Schedule the deletion of the file's object after `lifetime`, unless the upload is committed before.

        Returns the file where another upload of its id was committed meanwhile: its bytes stay, and nothing is begun.
        An upload that is begun again postpones the deletion. Raises Unavailable when it is due, or due within
        DELETION_LEASE, and StorageQuotaExceeded when there is no room for any file.
        """

    async def commit_upload(
        self, tenant_id: str, file_id: str, metadata: FileMetadata, size_bytes: int, quota: Quota = UNLIMITED
    ) -> File:
        """Cancel the scheduled deletion and record the file.

        Returns the file of another upload of its id that was committed before.
        Raises DeadlineExceeded when the deletion is due, or due within DELETION_LEASE: it may be running, and
        StorageQuotaExceeded when there is no room for the file: then the deletion stays scheduled.
        """

    async def get(self, tenant_id: str, file_id: str) -> File:
        """Raises FileNotFound."""

    async def list(self, tenant_id: str, *, limit: int, after: str, purpose: str) -> Page[File]:
        """Newest first, after the id `after`; empty strings do not restrict."""

    async def delete(self, tenant_id: str, file_id: str) -> None:
        """Delete the record and the file's attachments, and schedule the deletion of bytes and chunks.

        Raises FileNotFound.
        """
