"""Uploading: all of a file or nothing of it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
from chassis.errors import DeadlineExceeded, InvalidRequest, Unavailable
from retrieval.domain.files import INTENT_LIFETIME, Description, File, FileTooLarge, upload
from retrieval.domain.listing import page_size
from retrieval.domain.removal import sweep

from services.retrieval.tests.fakes import FakeFiles, FakeObjects, FakeRemovals, Knowledge

GUIDE = Description("guide.pdf", "assistants")
# As a Mac names its pictures: with a narrow space that cannot be broken.
SCREENSHOT = Description("Screenshot 2026-01-01 at 9.41.00\u202fPM größe.pdf", "user_data")


class Shelf:
    """Where uploads go."""

    def __init__(self) -> None:
        self.knowledge = Knowledge()
        self.files = FakeFiles(self.knowledge)
        self.objects = FakeObjects()

    async def sweep(self) -> int:
        return await sweep(removals=FakeRemovals(self.knowledge), objects=self.objects)


@pytest.fixture
def shelf() -> Shelf:
    return Shelf()


async def pieces(*given: bytes) -> AsyncIterator[bytes]:
    for piece in given:
        yield piece


async def test_an_upload_is_an_object_of_the_tenant_s_and_a_record(shelf: Shelf) -> None:
    file = await upload("ten_one", GUIDE, pieces(b"ab", b"c"), files=shelf.files, objects=shelf.objects, max_bytes=3)

    assert file.file_id.startswith("file-")
    assert (file.filename, file.purpose, file.size_bytes) == ("guide.pdf", "assistants", 3)
    assert shelf.objects.stored == {f"ten_one/{file.file_id}": b"abc"}
    assert shelf.knowledge.removals == {}


async def test_names_are_taken_in_any_language(shelf: Shelf) -> None:
    file = await upload("ten_one", SCREENSHOT, pieces(b"a"), files=shelf.files, objects=shelf.objects, max_bytes=3)

    assert file.filename == SCREENSHOT.filename


async def test_an_object_that_cannot_be_removed_keeps_no_other_and_comes_back(shelf: Shelf) -> None:
    class Stubborn(FakeObjects):
        async def delete(self, key: str) -> None:
            if key.endswith("stubborn"):
                raise Unavailable("the object store does not answer")
            await super().delete(key)

    objects = Stubborn()
    for name in ("stubborn", "other"):
        objects.stored[f"ten_one/{name}"] = b"bytes"
        await shelf.files.intend("ten_one", name, timedelta(0))

    with pytest.raises(Unavailable):
        await sweep(removals=FakeRemovals(shelf.knowledge), objects=objects)

    assert list(objects.stored) == ["ten_one/stubborn"]
    assert [removal.object_key for removal, _ in shelf.knowledge.removals.values()] == ["ten_one/stubborn"]


async def test_an_upload_that_is_too_large_leaves_nothing(shelf: Shelf) -> None:
    with pytest.raises(FileTooLarge) as refused:
        await upload("ten_one", GUIDE, pieces(b"ab", b"cd"), files=shelf.files, objects=shelf.objects, max_bytes=3)

    assert refused.value.reason == "FILE_TOO_LARGE"
    assert (shelf.objects.stored, shelf.knowledge.files) == ({}, {})


async def test_an_object_without_a_record_is_removed_once_no_upload_can_still_want_it(shelf: Shelf) -> None:
    class Crashing(FakeFiles):
        async def record(self, *_: object) -> File:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        await upload(
            "ten_one", GUIDE, pieces(b"ab"), files=Crashing(shelf.knowledge), objects=shelf.objects, max_bytes=3
        )
    assert len(shelf.objects.stored) == 1
    assert await shelf.sweep() == 0
    shelf.knowledge.clock.advance(INTENT_LIFETIME)

    assert await shelf.sweep() == 1
    assert shelf.objects.stored == {}
    assert shelf.knowledge.removals == {}


async def test_an_upload_that_outlived_its_intent_is_no_file(shelf: Shelf) -> None:
    class Dawdling(FakeObjects):
        async def put(self, key: str, data: AsyncIterator[bytes]) -> int:
            shelf.knowledge.clock.advance(INTENT_LIFETIME + timedelta(seconds=1))
            return await super().put(key, data)

    with pytest.raises(DeadlineExceeded):
        await upload("ten_one", GUIDE, pieces(b"ab"), files=shelf.files, objects=Dawdling(), max_bytes=3)
    assert shelf.knowledge.files == {}


@pytest.mark.parametrize(
    ("description", "param"),
    [
        (Description("", "assistants"), "filename"),
        (Description("x" * 256, "assistants"), "filename"),
        (Description("a\n.txt", "assistants"), "filename"),
        (Description("a\0.txt", "assistants"), "filename"),
        (Description("a\x85.txt", "assistants"), "filename"),
        (Description("a.txt", " "), "purpose"),
        (Description("a.txt", "x" * 65), "purpose"),
    ],
)
async def test_a_description_that_cannot_be_is_refused_before_any_byte(
    shelf: Shelf, description: Description, param: str
) -> None:
    with pytest.raises(InvalidRequest) as refused:
        await upload("ten_one", description, pieces(b"a"), files=shelf.files, objects=shelf.objects, max_bytes=3)

    assert refused.value.param == param
    assert shelf.knowledge.removals == {}


@pytest.mark.parametrize(("asked", "size"), [(0, 20), (1, 1), (100, 100)])
def test_a_page_has_the_size_that_was_asked_for(asked: int, size: int) -> None:
    assert page_size(asked, default=20, most=100) == size


@pytest.mark.parametrize("asked", [-1, 101])
def test_a_page_of_another_size_is_refused(asked: int) -> None:
    with pytest.raises(InvalidRequest) as refused:
        page_size(asked, default=20, most=100)
    assert refused.value.param == "limit"
