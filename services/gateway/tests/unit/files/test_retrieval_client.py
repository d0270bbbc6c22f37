"""What `Knowledge` promises: by the fake, and over gRPC through the adapter."""

from collections.abc import AsyncIterator, Iterator

import pytest
from argosy.retrieval.v1.retrieval_pb2_grpc import add_RetrievalServiceServicer_to_server
from chassis.errors import InvalidRequest, RemoteError
from chassis.tenancy import as_caller
from chassis.testing import a_caller, a_principal
from chassis.testing.grpc import serving
from gateway.adapters.retrieval import PIECE_BYTES, GrpcKnowledge
from gateway.domain.knowledge import AttachmentState, Knowledge, Passage
from gateway.domain.tenants import Page

from services.gateway.tests.fakes.knowledge import FakeKnowledge
from services.gateway.tests.fakes.retrieval import Retrieval

ALL = Page(100)


async def bytes_of(*pieces: bytes) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


@pytest.fixture
def shelves() -> FakeKnowledge:
    """What there is, wherever it is asked from."""
    return FakeKnowledge()


@pytest.fixture(params=["fake", "grpc"])
async def knowledge(request: pytest.FixtureRequest, shelves: FakeKnowledge) -> AsyncIterator[Knowledge]:
    if request.param == "fake":
        yield shelves
        return
    name = "argosy.retrieval.v1.RetrievalService"
    async with serving((add_RetrievalServiceServicer_to_server, Retrieval(shelves), name)) as channel:
        yield GrpcKnowledge(channel)


@pytest.fixture(autouse=True)
def demo() -> Iterator[None]:
    with as_caller(a_caller(a_principal("ten_demo"))):
        yield


async def test_a_file_is_stored_listed_read_and_deleted(knowledge: Knowledge) -> None:
    stored = await knowledge.upload("a.txt", "assistants", bytes_of(b"he", b"", b"llo"))

    assert (stored.filename, stored.purpose, stored.size_bytes) == ("a.txt", "assistants", 5)
    assert await knowledge.get_file(stored.file_id) == stored
    assert (await knowledge.list_files(ALL, "")).items == [stored]
    assert (await knowledge.list_files(ALL, "batch")).items == []
    assert b"".join([piece async for piece in knowledge.download(stored.file_id)]) == b"hello"
    await knowledge.delete_file(stored.file_id)
    with pytest.raises(RemoteError) as caught:
        await knowledge.get_file(stored.file_id)
    assert caught.value.reason == "FILE_NOT_FOUND"


async def test_a_large_piece_travels_in_small_ones(knowledge: Knowledge, shelves: FakeKnowledge) -> None:
    content = bytes(range(256)) * (PIECE_BYTES // 256 * 3)
    stored = await knowledge.upload("a.bin", "assistants", bytes_of(content))

    assert b"".join([piece async for piece in knowledge.download(stored.file_id)]) == content
    if isinstance(knowledge, GrpcKnowledge):
        assert shelves.largest_piece == PIECE_BYTES


async def test_what_breaks_the_upload_is_raised_and_nothing_is_stored(knowledge: Knowledge) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield b"half"
        raise InvalidRequest("The multipart body breaks off.")

    with pytest.raises(InvalidRequest, match="breaks off"):
        await knowledge.upload("a.txt", "assistants", broken())
    assert (await knowledge.list_files(ALL, "")).items == []


async def test_lists_have_pages(knowledge: Knowledge) -> None:
    stored = [await knowledge.upload("a.txt", "assistants", bytes_of(b"x")) for _ in range(3)]
    ids = sorted((file.file_id for file in stored), reverse=True)

    first = await knowledge.list_files(Page(2), "")
    rest = await knowledge.list_files(Page(2, after=first.items[-1].file_id), "")

    assert [file.file_id for file in (*first.items, *rest.items)] == ids
    assert (first.has_more, rest.has_more) == (True, False)


async def test_a_file_that_is_none_is_not_downloaded(knowledge: Knowledge) -> None:
    with pytest.raises(RemoteError) as caught:
        await anext(aiter(knowledge.download("file-none")))
    assert caught.value.reason == "FILE_NOT_FOUND"


async def test_a_store_counts_its_files(knowledge: Knowledge) -> None:
    good = await knowledge.upload("a.txt", "assistants", bytes_of(b"x"))
    bad = await knowledge.upload("bad.txt", "assistants", bytes_of(b"x"))
    store = await knowledge.create_vector_store("s", [good.file_id, bad.file_id])
    assert (store.name, store.in_progress, store.completed) == ("s", 2, 0)

    for file in (good, bad):
        await knowledge.get_attachment(store.vector_store_id, file.file_id)

    now = await knowledge.get_vector_store(store.vector_store_id)
    assert (now.in_progress, now.completed, now.failed) == (0, 1, 1)
    assert (await knowledge.list_vector_stores(ALL)).items == [now]
    failed = await knowledge.get_attachment(store.vector_store_id, bad.file_id)
    assert (failed.state, failed.failure_reason) == (AttachmentState.FAILED, "UNREADABLE_FILE")
    assert failed.failure_message


async def test_files_are_attached_listed_by_state_and_detached(knowledge: Knowledge) -> None:
    done, waiting = [await knowledge.upload("a.txt", "assistants", bytes_of(b"x")) for _ in range(2)]
    store = (await knowledge.create_vector_store("s", [])).vector_store_id
    for file in (done, waiting):
        attached = await knowledge.attach(store, file.file_id)
        assert await knowledge.attach(store, file.file_id) == attached
    await knowledge.get_attachment(store, done.file_id)

    async def listed(state: AttachmentState | None) -> set[str]:
        return {attachment.file_id for attachment in (await knowledge.list_attachments(store, ALL, state)).items}

    assert await listed(None) == {done.file_id, waiting.file_id}
    assert await listed(AttachmentState.COMPLETED) == {done.file_id}
    assert await listed(AttachmentState.FAILED) == set()
    await knowledge.detach(store, waiting.file_id)
    assert await listed(AttachmentState.IN_PROGRESS) == set()
    indexed = await knowledge.get_attachment(store, done.file_id)
    assert (indexed.chunks, indexed.usage_bytes) == (3, 90)


async def test_passages_are_found(knowledge: Knowledge, shelves: FakeKnowledge) -> None:
    passages = [Passage("file-1", "a.pdf", page, f"text {page}", 0.5 / page) for page in (1, 2, 3)]
    shelves.found = {"q": passages}
    store = (await knowledge.create_vector_store("s", [])).vector_store_id

    assert await knowledge.search(store, "q", 2) == passages[:2]


async def test_another_tenant_finds_nothing(knowledge: Knowledge) -> None:
    file = await knowledge.upload("a.txt", "assistants", bytes_of(b"x"))
    store = await knowledge.create_vector_store("s", [file.file_id])

    with as_caller(a_caller(a_principal("ten_other"))):
        for asked in (
            knowledge.get_vector_store(store.vector_store_id),
            knowledge.delete_vector_store(store.vector_store_id),
            knowledge.attach(store.vector_store_id, file.file_id),
            knowledge.detach(store.vector_store_id, file.file_id),
            knowledge.search(store.vector_store_id, "q", 1),
        ):
            with pytest.raises(RemoteError) as caught:
                await asked
            assert caught.value.reason == "VECTOR_STORE_NOT_FOUND"
    await knowledge.delete_vector_store(store.vector_store_id)
    assert (await knowledge.list_vector_stores(ALL)).items == []
