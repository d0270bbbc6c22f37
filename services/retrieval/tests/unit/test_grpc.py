"""The servicer over gRPC, in process, with in-memory stores."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from argosy.retrieval.v1 import retrieval_pb2 as pb
from argosy.retrieval.v1.retrieval_pb2_grpc import RetrievalServiceStub
from chassis.errors import RemoteError
from chassis.in_flight import InFlightLimit
from chassis.tenancy import as_caller
from chassis.testing import a_caller, a_principal
from chassis.testing.grpc import serving
from retrieval.chunking.token_counter import EstimatedTokenCounter
from retrieval.deletions.grpc import DeletionMethods
from retrieval.file_batches.grpc import FileBatchMethods
from retrieval.files.grpc import FileMethods
from retrieval.grpc import RetrievalServicer, registration
from retrieval.search.grpc import SearchMethods
from retrieval.store_migrations.grpc import StoreMigrationMethods
from retrieval.vector_stores.grpc import VectorStoreMethods
from retrieval.vector_stores.model import EmbeddingModels

from services.retrieval.tests.fake_deletions import FakeDeletionRecords
from services.retrieval.tests.fake_peers import FakeEmbedder, FakeObjectStore
from services.retrieval.tests.tenants import Tenant

UPLOADS = InFlightLimit("uploads", max_total=3, max_per_key=2, on_refused=lambda _: None)
MODELS = EmbeddingModels({"fake": 384, "wide": 96}, "fake")
Part = pb.UploadFileRequest


@pytest.fixture
def objects() -> FakeObjectStore:
    return FakeObjectStore()


@pytest.fixture
async def stub(one: Tenant, objects: FakeObjectStore) -> AsyncIterator[Any]:
    servicer = RetrievalServicer(
        files=FileMethods(one.ports.files, objects, max_upload_bytes=1_000_000, uploads=UPLOADS),
        vector_stores=VectorStoreMethods(one.ports.stores, MODELS),
        file_batches=FileBatchMethods(one.ports.batches),
        search=SearchMethods(one.ports.index, FakeEmbedder(), EstimatedTokenCounter()),
        store_migrations=StoreMigrationMethods(one.ports.migrations, MODELS, lambda _: None),
        deletions=DeletionMethods(FakeDeletionRecords(), objects),
    )
    async with serving(registration(servicer)) as channel:
        with as_caller(a_caller(a_principal("ten_one"))):
            yield RetrievalServiceStub(channel)


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not true():
            await asyncio.sleep(0.01)


async def parts(*given: pb.UploadFileRequest) -> AsyncIterator[pb.UploadFileRequest]:
    for part in given:
        yield part


def metadata(filename: str = "a.txt") -> pb.UploadFileRequest:
    return Part(metadata=pb.FileMetadata(filename=filename, purpose="assistants"))


def ended(size_bytes: int) -> pb.UploadFileRequest:
    return Part(end=pb.UploadEnd(bytes=size_bytes))


async def uploaded(stub: Any, *data: bytes) -> pb.File:
    pieces = (Part(data=piece) for piece in data)
    response: pb.UploadFileResponse = await stub.UploadFile(parts(metadata(), *pieces, ended(len(b"".join(data)))))
    return response.file


async def test_a_file_is_uploaded_listed_read_and_deleted(stub: Any) -> None:
    file = await uploaded(stub, b"a" * 300_000, b"b" * 300_000)

    assert (file.filename, file.bytes) == ("a.txt", 600_000)
    assert (await stub.GetFile(pb.GetFileRequest(file_id=file.file_id))).file == file
    assert list((await stub.ListFiles(pb.ListFilesRequest())).files) == [file]
    content = [part.data async for part in stub.DownloadFile(pb.DownloadFileRequest(file_id=file.file_id))]
    assert b"".join(content) == b"a" * 300_000 + b"b" * 300_000
    await stub.DeleteFile(pb.DeleteFileRequest(file_id=file.file_id))
    with pytest.raises(RemoteError) as unknown:
        await stub.GetFile(pb.GetFileRequest(file_id=file.file_id))
    assert unknown.value.reason == "FILE_NOT_FOUND"


async def test_uploads_in_flight_are_bounded_for_each_tenant_and_in_all(stub: Any) -> None:
    begun = asyncio.Event()

    async def endless() -> AsyncIterator[pb.UploadFileRequest]:
        yield metadata()
        begun.set()
        await asyncio.Event().wait()

    async def begin(tenant: str) -> Any:
        begun.clear()
        running = UPLOADS.total
        with as_caller(a_caller(a_principal(tenant))):
            call = stub.UploadFile(endless())
        await begun.wait()
        await until(lambda: UPLOADS.total == running + 1)
        return call

    calls = [await begin("ten_one"), await begin("ten_one")]
    with pytest.raises(RemoteError) as of_tenant:
        await uploaded(stub, b"x")
    calls.append(await begin("ten_two"))
    with as_caller(a_caller(a_principal("ten_three"))), pytest.raises(RemoteError) as of_all:
        await uploaded(stub, b"x")
    for call in calls:
        call.cancel()
    await until(lambda: UPLOADS.total == 0)

    assert (of_tenant.value.reason, of_all.value.reason) == ("TOO_MUCH_IN_FLIGHT", "OVERLOADED")
    assert (await uploaded(stub, b"x")).bytes == 1


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ([], "INVALID_REQUEST"),
        ([Part(data=b"x")], "INVALID_REQUEST"),
        ([metadata(), metadata(), ended(0)], "INVALID_REQUEST"),
        ([metadata(""), Part(data=b"x"), ended(1)], "INVALID_REQUEST"),
        ([metadata(), *[Part(data=b"x" * 300_000)] * 4, ended(1_200_000)], "FILE_TOO_LARGE"),
        ([metadata(), Part(data=b"half")], "INVALID_REQUEST"),
        ([metadata(), Part(data=b"half"), ended(8)], "INVALID_REQUEST"),
        ([metadata(), Part(data=b"half"), ended(2)], "INVALID_REQUEST"),
        ([metadata(), Part(data=b"half"), Part(), ended(4)], "INVALID_REQUEST"),
    ],
    ids=[
        "nothing",
        "no-metadata",
        "two-metadata",
        "no-name",
        "too-large",
        "no-end",
        "too-short",
        "too-long",
        "an-unknown-part",
    ],
)
async def test_an_invalid_upload_is_rejected(
    stub: Any, objects: FakeObjectStore, given: list[pb.UploadFileRequest], reason: str
) -> None:
    with pytest.raises(RemoteError) as refused:
        await stub.UploadFile(parts(*given))

    assert refused.value.reason == reason
    assert not (await stub.ListFiles(pb.ListFilesRequest())).files
    assert not objects.stored


async def test_a_store_is_created_filled_read_and_deleted(stub: Any) -> None:
    first, second = await uploaded(stub, b"one"), await uploaded(stub, b"two")
    made = await stub.CreateVectorStore(
        pb.CreateVectorStoreRequest(name="mine", file_ids=[first.file_id, first.file_id])
    )
    store_id = made.vector_store.vector_store_id

    attached = await stub.AttachFile(pb.AttachFileRequest(vector_store_id=store_id, file_id=second.file_id))

    assert attached.attachment.state == pb.ATTACHMENT_STATE_IN_PROGRESS
    store = (await stub.GetVectorStore(pb.GetVectorStoreRequest(vector_store_id=store_id))).vector_store
    assert (store.name, store.file_counts.in_progress) == ("mine", 2)
    assert list((await stub.ListVectorStores(pb.ListVectorStoresRequest())).vector_stores) == [store]
    listed = await stub.ListAttachments(pb.ListAttachmentsRequest(vector_store_id=store_id))
    assert [attachment.file_id for attachment in listed.attachments] == [second.file_id, first.file_id]
    where = {"vector_store_id": store_id, "file_id": first.file_id}
    assert (await stub.GetAttachment(pb.GetAttachmentRequest(**where))).attachment == listed.attachments[1]
    await stub.DetachFile(pb.DetachFileRequest(**where))
    with pytest.raises(RemoteError):
        await stub.GetAttachment(pb.GetAttachmentRequest(**where))
    await stub.DeleteVectorStore(pb.DeleteVectorStoreRequest(vector_store_id=store_id))
    with pytest.raises(RemoteError) as unknown:
        await stub.GetVectorStore(pb.GetVectorStoreRequest(vector_store_id=store_id))
    assert unknown.value.reason == "VECTOR_STORE_NOT_FOUND"


async def test_a_search_returns_passages(one: Tenant, stub: Any) -> None:
    store, file = await one.indexed("the price of apples", "the colour of pears")

    found = await stub.Search(
        pb.SearchRequest(vector_store_ids=[store.vector_store_id] * 2, query="price of apples", limit=1)
    )

    [passage] = found.passages
    assert (passage.file_id, passage.filename, passage.page) == (file.file_id, "a.txt", 1)
    assert (passage.text, passage.vector_store_id) == ("the price of apples", store.vector_store_id)
    assert passage.score > 0.03


BAD_REQUESTS: list[tuple[Callable[[Any], Any], str]] = [
    (lambda stub: stub.ListFiles(pb.ListFilesRequest(limit=10_001)), "limit"),
    (lambda stub: stub.ListVectorStores(pb.ListVectorStoresRequest(limit=-1)), "limit"),
    (lambda stub: stub.CreateVectorStore(pb.CreateVectorStoreRequest(name="x" * 257)), "name"),
    (
        lambda stub: stub.CreateVectorStore(pb.CreateVectorStoreRequest(file_ids=[str(n) for n in range(501)])),
        "file_ids",
    ),
    (lambda stub: stub.GetFile(pb.GetFileRequest(file_id="a\0")), "file_id"),
    (lambda stub: stub.CreateVectorStore(pb.CreateVectorStoreRequest(file_ids=["a", "b\0"])), "file_ids"),
    (lambda stub: stub.Search(pb.SearchRequest(query="q")), "vector_store_ids"),
    (lambda stub: stub.Search(pb.SearchRequest(vector_store_ids=["vs_1"])), "query"),
    (lambda stub: stub.Search(pb.SearchRequest(vector_store_ids=["vs_1"], query="q", limit=51)), "limit"),
]


@pytest.mark.parametrize(("call", "param"), BAD_REQUESTS)
async def test_an_invalid_request_names_its_parameter(stub: Any, call: Callable[[Any], Any], param: str) -> None:
    with pytest.raises(RemoteError) as refused:
        await call(stub)

    assert (refused.value.reason, refused.value.param) == ("INVALID_REQUEST", param)


async def test_an_unknown_state_is_rejected(stub: Any, one: Tenant) -> None:
    store = await one.store()

    with pytest.raises(RemoteError) as refused:
        await stub.ListAttachments(
            pb.ListAttachmentsRequest(vector_store_id=store.vector_store_id, state=9)  # type: ignore[arg-type]
        )
    assert refused.value.param == "state"


async def test_a_call_without_a_valid_principal_is_rejected(stub: Any) -> None:
    with as_caller(a_caller()) as caller:
        stranger = type(caller)(caller.principal, "not-a-token", caller.request_id)
        with as_caller(stranger), pytest.raises(RemoteError) as refused:
            await stub.ListFiles(pb.ListFilesRequest())
    assert refused.value.reason == "PRINCIPAL_INVALID"


async def test_another_tenant_finds_nothing(one: Tenant, stub: Any) -> None:
    store, file = await one.indexed("secret")

    with as_caller(a_caller(a_principal("ten_other"))):
        assert not (await stub.ListFiles(pb.ListFilesRequest())).files
        for call, reason in (
            (stub.GetFile(pb.GetFileRequest(file_id=file.file_id)), "FILE_NOT_FOUND"),
            (
                stub.Search(pb.SearchRequest(vector_store_ids=[store.vector_store_id], query="q")),
                "VECTOR_STORE_NOT_FOUND",
            ),
        ):
            with pytest.raises(RemoteError) as unknown:
                await call
            assert unknown.value.reason == reason


@pytest.mark.parametrize("method", list(pb.DESCRIPTOR.services_by_name["RetrievalService"].methods))
async def test_every_method_refuses_a_caller_that_is_no_member(stub: Any, method: Any) -> None:
    async def call() -> None:
        if method.name == "UploadFile":
            await uploaded(stub, b"text")
        elif method.server_streaming:
            await anext(aiter(stub.DownloadFile(pb.DownloadFileRequest(file_id="file-1"))))
        else:
            await getattr(stub, method.name)(getattr(pb, method.input_type.name)())

    with as_caller(a_caller(a_principal("ten_one", roles=["platform_admin"]))), pytest.raises(RemoteError) as refused:
        await call()
    assert refused.value.reason == "PERMISSION_DENIED"


async def test_a_batch_of_files_is_made_read_listed_and_cancelled(stub: Any) -> None:
    store = (await stub.CreateVectorStore(pb.CreateVectorStoreRequest(name="harbours"))).vector_store
    file = await uploaded(stub, b"text")
    key = {"vector_store_id": store.vector_store_id}

    made = (await stub.CreateFileBatch(pb.CreateFileBatchRequest(file_ids=[file.file_id], **key))).file_batch
    assert made.file_counts == pb.FileCounts(in_progress=1)
    key["batch_id"] = made.batch_id
    assert (await stub.GetFileBatch(pb.GetFileBatchRequest(**key))).file_batch == made
    listed = await stub.ListFileBatchFiles(pb.ListFileBatchFilesRequest(**key))
    assert [attachment.file_id for attachment in listed.attachments] == [file.file_id]

    cancelled = (await stub.CancelFileBatch(pb.CancelFileBatchRequest(**key))).file_batch
    assert cancelled.cancelled
    assert cancelled.file_counts == pb.FileCounts(cancelled=1)
    key["batch_id"] = "vsfb_unknown"
    with pytest.raises(RemoteError) as unknown:
        await stub.GetFileBatch(pb.GetFileBatchRequest(**key))
    assert unknown.value.reason == "FILE_BATCH_NOT_FOUND"
