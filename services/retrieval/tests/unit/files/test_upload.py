"""Uploads store a complete file or nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
from chassis.errors import DeadlineExceeded, InvalidRequest
from retrieval.deletions.delete import delete_pending
from retrieval.files.model import UPLOAD_LIFETIME, File, FileMetadata, FileNotFound, FileTooLarge
from retrieval.files.page import page_size
from retrieval.files.upload import upload

from services.retrieval.tests.fake_deletions import FakeDeletionQueue
from services.retrieval.tests.fake_files import FakeFiles
from services.retrieval.tests.fake_peers import FakeObjectStore
from services.retrieval.tests.fakes import InMemoryDatabase

GUIDE = FileMetadata("guide.pdf", "assistants")
# As macOS names screenshots: with a narrow no-break space.
SCREENSHOT = FileMetadata("Screenshot 2026-01-01 at 9.41.00\u202fPM größe.pdf", "user_data")


class Storage:
    def __init__(self) -> None:
        self.database = InMemoryDatabase()
        self.files = FakeFiles(self.database)
        self.objects = FakeObjectStore()

    async def sweep(self) -> bool:
        return await delete_pending(queue=FakeDeletionQueue(self.database), objects=self.objects)


@pytest.fixture
def storage() -> Storage:
    return Storage()


async def pieces(*given: bytes) -> AsyncIterator[bytes]:
    for piece in given:
        yield piece


async def test_an_upload_stores_an_object_below_the_tenant_and_a_record(storage: Storage) -> None:
    file = await upload(
        "ten_one", GUIDE, pieces(b"ab", b"c"), files=storage.files, objects=storage.objects, max_bytes=3
    )

    assert file.file_id.startswith("file-")
    assert (file.filename, file.purpose, file.size_bytes) == ("guide.pdf", "assistants", 3)
    assert storage.objects.stored == {f"ten_one/{file.file_id}": b"abc"}
    assert storage.database.deletions == {}


async def test_an_upload_with_an_id_of_the_callers_choice_is_safe_to_repeat(storage: Storage) -> None:
    named = FileMetadata("out.jsonl", "batch_output", "file-" + "0" * 32)
    first = await upload("ten_one", named, pieces(b"a"), files=storage.files, objects=storage.objects, max_bytes=3)

    again = await upload("ten_one", named, pieces(b"b"), files=storage.files, objects=storage.objects, max_bytes=3)

    assert again == first
    assert storage.objects.stored == {f"ten_one/{named.file_id}": b"a"}


async def test_an_upload_whose_file_another_one_commits_meanwhile_leaves_its_bytes(storage: Storage) -> None:
    named = FileMetadata("out.jsonl", "batch_output", "file-" + "0" * 32)

    class Slower(FakeFiles):
        async def get(self, tenant_id: str, file_id: str) -> File:
            if (tenant_id, file_id) in storage.database.files:
                return await super().get(tenant_id, file_id)
            await upload(tenant_id, named, pieces(b"a"), files=storage.files, objects=storage.objects, max_bytes=3)
            raise FileNotFound("not yet")

    slower = Slower(storage.database)
    file = await upload("ten_one", named, pieces(b"bcde"), files=slower, objects=storage.objects, max_bytes=3)

    assert file == await storage.files.get("ten_one", named.file_id)
    assert storage.objects.stored == {f"ten_one/{named.file_id}": b"a"}
    assert storage.database.deletions == {}


@pytest.mark.parametrize("file_id", ["file-1", "../ten_two/file-" + "0" * 32, "file-" + "0" * 32 + "\n"])
async def test_an_id_of_the_callers_choice_has_the_form_of_an_id(storage: Storage, file_id: str) -> None:
    named = FileMetadata("out.jsonl", "batch_output", file_id)

    with pytest.raises(InvalidRequest):
        await upload("ten_one", named, pieces(b"a"), files=storage.files, objects=storage.objects, max_bytes=3)


async def test_file_names_may_be_in_any_language(storage: Storage) -> None:
    file = await upload("ten_one", SCREENSHOT, pieces(b"a"), files=storage.files, objects=storage.objects, max_bytes=3)

    assert file.filename == SCREENSHOT.filename


async def test_an_upload_that_is_too_large_leaves_nothing(storage: Storage) -> None:
    with pytest.raises(FileTooLarge) as refused:
        await upload("ten_one", GUIDE, pieces(b"ab", b"cd"), files=storage.files, objects=storage.objects, max_bytes=3)

    assert refused.value.reason == "FILE_TOO_LARGE"
    assert (storage.objects.stored, storage.database.files) == ({}, {})


async def test_an_object_without_a_record_is_deleted_after_the_lifetime_of_its_upload(storage: Storage) -> None:
    class CrashingFiles(FakeFiles):
        async def commit_upload(self, *_: object) -> File:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        await upload(
            "ten_one", GUIDE, pieces(b"ab"), files=CrashingFiles(storage.database), objects=storage.objects, max_bytes=3
        )
    assert len(storage.objects.stored) == 1
    assert not await storage.sweep()
    storage.database.clock.advance(UPLOAD_LIFETIME)

    assert await storage.sweep()
    assert storage.objects.stored == {}
    assert storage.database.deletions == {}


async def test_an_upload_after_its_lifetime_creates_no_file(storage: Storage) -> None:
    class SlowObjectStore(FakeObjectStore):
        async def put(self, key: str, data: AsyncIterator[bytes]) -> int:
            storage.database.clock.advance(UPLOAD_LIFETIME + timedelta(seconds=1))
            return await super().put(key, data)

    with pytest.raises(DeadlineExceeded):
        await upload("ten_one", GUIDE, pieces(b"ab"), files=storage.files, objects=SlowObjectStore(), max_bytes=3)
    assert storage.database.files == {}


@pytest.mark.parametrize(
    ("metadata", "param"),
    [
        (FileMetadata("", "assistants"), "filename"),
        (FileMetadata("x" * 256, "assistants"), "filename"),
        (FileMetadata("a\n.txt", "assistants"), "filename"),
        (FileMetadata("a\0.txt", "assistants"), "filename"),
        (FileMetadata("a\x85.txt", "assistants"), "filename"),
        (FileMetadata("a.txt", " "), "purpose"),
        (FileMetadata("a.txt", "x" * 65), "purpose"),
    ],
)
async def test_invalid_metadata_is_rejected_before_any_byte_is_stored(
    storage: Storage, metadata: FileMetadata, param: str
) -> None:
    with pytest.raises(InvalidRequest) as refused:
        await upload("ten_one", metadata, pieces(b"a"), files=storage.files, objects=storage.objects, max_bytes=3)

    assert refused.value.param == param
    assert storage.database.deletions == {}


@pytest.mark.parametrize(("requested", "size"), [(0, 20), (1, 1), (100, 100)])
def test_a_page_has_the_requested_size(requested: int, size: int) -> None:
    assert page_size(requested, default=20, maximum=100) == size


@pytest.mark.parametrize("requested", [-1, 101])
def test_a_page_size_outside_of_its_range_is_rejected(requested: int) -> None:
    with pytest.raises(InvalidRequest) as refused:
        page_size(requested, default=20, maximum=100)
    assert refused.value.param == "limit"
