"""Files in memory."""

from __future__ import annotations

from datetime import timedelta

from chassis.errors import DeadlineExceeded, Unavailable
from retrieval.deletions.delete import PendingDeletion
from retrieval.files.model import DELETION_LEASE, File, FileMetadata, FileNotFound, object_key
from retrieval.files.page import Page
from retrieval.quotas.model import UNLIMITED, Quota, check_quota

from services.retrieval.tests.fakes import InMemoryDatabase


class FakeFiles:
    def __init__(self, database: InMemoryDatabase) -> None:
        self._database = database

    async def begin_upload(
        self, tenant_id: str, file_id: str, lifetime: timedelta, quota: Quota = UNLIMITED
    ) -> File | None:
        self._check(tenant_id, quota, 0)
        if file := self._database.files.get((tenant_id, file_id)):
            return file
        pending = self._database.deletions.get((tenant_id, f"object-{file_id}"))
        if pending is not None and pending[1] <= self._database.clock.now() + DELETION_LEASE:
            raise Unavailable("an earlier upload of this file is being deleted; try again in some minutes")
        self._schedule(tenant_id, file_id, lifetime)
        return None

    def _schedule(self, tenant_id: str, file_id: str, lifetime: timedelta) -> None:
        deletion = PendingDeletion(tenant_id, f"object-{file_id}", 0, object_key=object_key(tenant_id, file_id))
        self._database.deletions[tenant_id, deletion.deletion_id] = (deletion, self._database.clock.now() + lifetime)

    async def commit_upload(
        self, tenant_id: str, file_id: str, metadata: FileMetadata, size_bytes: int, quota: Quota = UNLIMITED
    ) -> File:
        self._check(tenant_id, quota, size_bytes)
        key = (tenant_id, f"object-{file_id}")
        held_until = self._database.clock.now() + DELETION_LEASE
        if file := self._database.files.get((tenant_id, file_id)):
            self._database.deletions.pop(key, None)
            return file
        if key not in self._database.deletions or self._database.deletions[key][1] <= held_until:
            raise DeadlineExceeded("the upload took too long")
        del self._database.deletions[key]
        file = File(file_id, metadata.filename, metadata.purpose, size_bytes, self._database.clock.now())
        self._database.files[tenant_id, file_id] = file
        return file

    def _check(self, tenant_id: str, quota: Quota, size_bytes: int) -> None:
        sizes = [file.size_bytes for (owner, _), file in self._database.files.items() if owner == tenant_id]
        check_quota("files", quota.files, len(sizes), 1)
        check_quota("file_bytes", quota.file_bytes, sum(sizes), size_bytes)

    async def get(self, tenant_id: str, file_id: str) -> File:
        if (tenant_id, file_id) not in self._database.files:
            raise FileNotFound(f"there is no file {file_id!r}", param="file_id")
        return self._database.files[tenant_id, file_id]

    async def list(self, tenant_id: str, *, limit: int, after: str, purpose: str) -> Page[File]:
        found = sorted(
            (
                file
                for (owner, file_id), file in self._database.files.items()
                if owner == tenant_id and (not after or file_id < after) and (not purpose or file.purpose == purpose)
            ),
            key=lambda file: file.file_id,
            reverse=True,
        )
        return Page(tuple(found[:limit]), len(found) > limit)

    async def delete(self, tenant_id: str, file_id: str) -> None:
        await self.get(tenant_id, file_id)
        for key in [key for key in self._database.rows if (key.tenant_id, key.file_id) == (tenant_id, file_id)]:
            self._database.schedule_deletion(self._database.rows.pop(key))
        self._schedule(tenant_id, file_id, timedelta(0))
        del self._database.files[tenant_id, file_id]
