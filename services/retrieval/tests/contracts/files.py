"""Tests of Files: on the fake in `unit`, on Postgres in `integration`."""

from __future__ import annotations

import pytest
from chassis.errors import DeadlineExceeded, Unavailable
from retrieval.files.model import DELETION_LEASE, FileMetadata, FileNotFound

from services.retrieval.tests.tenants import LONG, NOW, Tenant


class FilesContract:
    async def test_a_committed_file_is_read_back(self, one: Tenant) -> None:
        file = await one.file("guide.pdf", "user_data")

        assert await one.ports.files.get(one.tenant_id, file.file_id) == file
        assert (file.filename, file.purpose, file.size_bytes) == ("guide.pdf", "user_data", 10)
        assert file.created_at.tzinfo is not None

    async def test_an_upload_is_committed_only_before_its_scheduled_deletion(self, one: Tenant) -> None:
        await one.ports.files.begin_upload(one.tenant_id, "file-late", NOW)

        with pytest.raises(DeadlineExceeded):
            await one.ports.files.commit_upload(one.tenant_id, "file-late", FileMetadata("a.txt", "assistants"), 1)
        with pytest.raises(DeadlineExceeded):
            await one.ports.files.commit_upload(one.tenant_id, "file-never", FileMetadata("a.txt", "assistants"), 1)

    async def test_the_object_of_an_upload_without_commit_is_deleted_after_its_lifetime(self, one: Tenant) -> None:
        await one.ports.files.begin_upload(one.tenant_id, "file-orphan", NOW)
        await one.ports.files.begin_upload(one.tenant_id, "file-young", LONG)

        removed = {deletion.object_key for deletion in await one.ports.deletions.claim(1000, LONG)}

        assert f"{one.tenant_id}/file-orphan" in removed
        assert f"{one.tenant_id}/file-young" not in removed

    async def test_an_upload_is_not_committed_while_its_object_is_being_deleted(self, one: Tenant) -> None:
        await one.ports.files.begin_upload(one.tenant_id, "file-slow", NOW)
        claimed = await one.ports.deletions.claim(1000, DELETION_LEASE)
        assert "object-file-slow" in {deletion.deletion_id for deletion in claimed}

        with pytest.raises(DeadlineExceeded):
            await one.ports.files.commit_upload(one.tenant_id, "file-slow", FileMetadata("a.txt", "assistants"), 1)

    async def test_an_upload_that_is_begun_again_postpones_the_deletion_of_its_object(self, one: Tenant) -> None:
        await one.ports.files.begin_upload(one.tenant_id, "file-again", 2 * DELETION_LEASE)
        await one.ports.files.begin_upload(one.tenant_id, "file-again", LONG)

        file = await one.ports.files.commit_upload(one.tenant_id, "file-again", FileMetadata("a.txt", "batch"), 1)
        assert file.file_id == "file-again"

    async def test_of_two_uploads_of_one_id_the_first_that_is_committed_is_the_file_of_both(self, one: Tenant) -> None:
        metadata = FileMetadata("a.txt", "batch")
        for _ in range(2):
            await one.ports.files.begin_upload(one.tenant_id, "file-twice", LONG)
        first = await one.ports.files.commit_upload(one.tenant_id, "file-twice", metadata, 1)
        assert await one.ports.files.commit_upload(one.tenant_id, "file-twice", metadata, 1) == first

        # One that was begun when the file was there already does not leave the deletion of its bytes.
        await one.ports.files.begin_upload(one.tenant_id, "file-twice", 2 * DELETION_LEASE)
        assert await one.ports.files.commit_upload(one.tenant_id, "file-twice", metadata, 1) == first
        await one.ports.files.delete(one.tenant_id, "file-twice")

    async def test_an_upload_that_is_begun_when_its_file_is_there_does_not_schedule_the_deletion_of_its_bytes(
        self, one: Tenant
    ) -> None:
        file = await one.file()

        begun = await one.ports.files.begin_upload(one.tenant_id, file.file_id, NOW)

        due = {deletion.object_key for deletion in await one.ports.deletions.claim(1000, LONG)}
        assert f"{one.tenant_id}/{file.file_id}" not in due
        assert begun == file
        await one.ports.files.delete(one.tenant_id, file.file_id)

    async def test_an_upload_is_not_begun_again_while_its_object_is_being_deleted(self, one: Tenant) -> None:
        await one.ports.files.begin_upload(one.tenant_id, "file-gone", NOW)

        with pytest.raises(Unavailable):
            await one.ports.files.begin_upload(one.tenant_id, "file-gone", LONG)

    async def test_files_are_listed_newest_first_page_by_page_and_by_purpose(self, one: Tenant) -> None:
        files = [await one.file(purpose="batch" if n == 1 else "assistants") for n in range(4)]
        newest_first = files[::-1]

        first = await one.ports.files.list(one.tenant_id, limit=2, after="", purpose="")
        rest = await one.ports.files.list(one.tenant_id, limit=2, after=first.items[-1].file_id, purpose="")
        of_batch = await one.ports.files.list(one.tenant_id, limit=2, after="", purpose="batch")

        assert [*first.items, *rest.items] == newest_first
        assert (first.has_more, rest.has_more) == (True, False)
        assert of_batch.items == (files[1],)

    async def test_deleting_a_file_deletes_its_attachments_and_later_its_object(self, one: Tenant) -> None:
        store, file = await one.indexed("some text")

        await one.ports.files.delete(one.tenant_id, file.file_id)

        with pytest.raises(FileNotFound):
            await one.ports.files.get(one.tenant_id, file.file_id)
        with pytest.raises(FileNotFound):
            await one.ports.stores.attachment(one.tenant_id, store.vector_store_id, file.file_id)
        assert (await one.ports.index.contents(one.tenant_id, [store.vector_store_id])).chunks == 0
        assert await one.ports.index.keyword_search(one.tenant_id, [store.vector_store_id], "text", 9) == {}
        mine = [r for r in await one.ports.deletions.claim(1000, LONG) if r.tenant_id == one.tenant_id]
        assert {bool(deletion.object_key) for deletion in mine} == {True, False}

    async def test_another_tenant_s_file_is_not_found(self, one: Tenant, other: Tenant) -> None:
        file = await other.file()

        with pytest.raises(FileNotFound):
            await one.ports.files.get(one.tenant_id, file.file_id)
        with pytest.raises(FileNotFound):
            await one.ports.files.delete(one.tenant_id, file.file_id)
        assert (await one.ports.files.list(one.tenant_id, limit=9, after="", purpose="")).items == ()
