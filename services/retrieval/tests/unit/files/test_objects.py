"""The object store in a local folder and in memory: complete objects or none."""

from __future__ import annotations

import asyncio
import os
import tracemalloc
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from chassis.errors import Unavailable
from retrieval.files.model import FileNotFound, FileTooLarge
from retrieval.files.objects import ObstoreObjectStore
from retrieval.files.ports import ObjectStore

from services.retrieval.tests.fake_peers import FakeObjectStore

MEGABYTE = 1024 * 1024


@pytest.fixture(params=["fake", "folder", "memory"])
def objects(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectStore:
    if request.param == "fake":
        return FakeObjectStore()
    return ObstoreObjectStore(f"{tmp_path.as_uri()}/new%20folder" if request.param == "folder" else "memory:///")


async def megabytes(count: int, error: BaseException | None = None) -> AsyncIterator[bytes]:
    for number in range(count):
        yield bytes([number % 256]) * MEGABYTE
    if error:
        raise error


async def read(objects: ObjectStore, key: str) -> bytes:
    return b"".join([piece async for piece in objects.read(key)])


@pytest.mark.parametrize("count", [0, 1, 12])
async def test_a_stored_object_is_read_back(objects: ObjectStore, count: int) -> None:
    assert await objects.put("ten_one/file-1", megabytes(count)) == count * MEGABYTE

    assert await read(objects, "ten_one/file-1") == b"".join([piece async for piece in megabytes(count)])


async def test_a_failed_upload_leaves_no_object_and_raises_its_own_error(objects: ObjectStore) -> None:
    with pytest.raises(FileTooLarge):
        await objects.put("ten_one/file-1", megabytes(12, FileTooLarge("too large")))

    with pytest.raises(FileNotFound):
        await read(objects, "ten_one/file-1")


async def test_an_object_can_be_deleted_twice(objects: ObjectStore) -> None:
    await objects.put("ten_one/file-1", megabytes(1))

    for _ in range(2):
        await objects.delete("ten_one/file-1")

    with pytest.raises(FileNotFound):
        await read(objects, "ten_one/file-1")


async def test_a_failed_or_cancelled_upload_leaves_no_files(tmp_path: Path) -> None:
    objects = ObstoreObjectStore(tmp_path.as_uri())

    async def endless() -> AsyncIterator[bytes]:
        async for piece in megabytes(12):
            yield piece
        await asyncio.Event().wait()

    with pytest.raises(FileTooLarge):
        await objects.put("ten_one/file-1", megabytes(12, FileTooLarge("too large")))
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.5):
            await objects.put("ten_one/file-2", endless())
    async with asyncio.timeout(30):
        while [path for path in tmp_path.rglob("*") if path.is_file()]:
            await asyncio.sleep(0.01)


async def test_the_parts_of_a_killed_upload_are_deleted_with_the_object(tmp_path: Path) -> None:
    objects = ObstoreObjectStore(tmp_path.as_uri())
    await objects.put("ten_one/file-1", megabytes(1))
    (tmp_path / "ten_one" / "file-2#1").write_bytes(b"part")

    await objects.delete("ten_one/file-2")

    assert [path.name for path in (tmp_path / "ten_one").iterdir()] == ["file-1"]


async def test_a_part_that_cannot_be_deleted_raises_unavailable(tmp_path: Path) -> None:
    objects = ObstoreObjectStore(tmp_path.as_uri())
    await objects.put("ten_one/file-1", megabytes(1))
    (tmp_path / "ten_one" / "file-1#1").mkdir()  # unlink fails for a folder

    with pytest.raises(Unavailable):
        await objects.delete("ten_one/file-1")


def modes(folder: Path) -> dict[str, int]:
    """The permissions of a folder and of all below it."""
    return {str(path.relative_to(folder)): path.stat().st_mode & 0o777 for path in (folder, *folder.rglob("*"))}


async def test_an_object_exists_until_it_is_deleted_with_what_an_interrupted_upload_left(tmp_path: Path) -> None:
    objects = ObstoreObjectStore(tmp_path.as_uri())
    assert not await objects.exists("ten_one/file-1")
    await objects.put("ten_one/file-1", megabytes(1))
    assert await objects.exists("ten_one/file-1")
    (tmp_path / "ten_one" / "file-2#1").write_bytes(b"a part")
    assert await objects.exists("ten_one/file-2")

    for key in ("ten_one/file-1", "ten_one/file-2"):
        await objects.delete(key)
        assert not await objects.exists(key)


async def test_objects_are_readable_by_their_owner_alone(tmp_path: Path) -> None:
    mask = os.umask(0o022)
    objects = ObstoreObjectStore(f"{tmp_path.as_uri()}/objects")
    await objects.put("ten_one/file-1", megabytes(6))
    os.umask(mask)

    assert modes(tmp_path / "objects") == {".": 0o700, "ten_one": 0o700, "ten_one/file-1": 0o600}


async def test_objects_of_an_older_version_are_closed_to_others(tmp_path: Path) -> None:
    folder = tmp_path / "objects"
    (folder / "ten_one").mkdir(parents=True)
    (folder / "ten_one" / "file-1").write_bytes(b"bytes")
    for path, mode in ((folder, 0o755), (folder / "ten_one", 0o755), (folder / "ten_one" / "file-1", 0o644)):
        path.chmod(mode)

    objects = ObstoreObjectStore(folder.as_uri())

    assert modes(folder) == {".": 0o700, "ten_one": 0o700, "ten_one/file-1": 0o600}
    assert await read(objects, "ten_one/file-1") == b"bytes"


async def test_a_hundred_megabytes_pass_through_little_memory(tmp_path: Path) -> None:
    objects = ObstoreObjectStore(tmp_path.as_uri())
    tracemalloc.start()

    await objects.put("ten_one/file-1", megabytes(100))
    size_bytes = 0
    async for piece in objects.read("ten_one/file-1"):
        size_bytes += len(piece)

    assert size_bytes == 100 * MEGABYTE
    assert tracemalloc.get_traced_memory()[1] < 16 * MEGABYTE
    tracemalloc.stop()


async def test_a_store_that_cannot_be_written_is_unavailable(tmp_path: Path) -> None:
    objects = ObstoreObjectStore(tmp_path.as_uri())
    (tmp_path / "ten_one").write_bytes(b"in the way of a folder")

    with pytest.raises(Unavailable):
        await objects.put("ten_one/file-1", megabytes(1))
