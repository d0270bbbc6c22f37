"""RetrievalService: each method delegates to its feature. The tenant is always the caller's."""

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any, TypeVar

from argosy.retrieval.v1 import retrieval_pb2 as pb
from argosy.retrieval.v1.retrieval_pb2_grpc import RetrievalServiceServicer, add_RetrievalServiceServicer_to_server
from chassis.errors import InvalidRequest
from chassis.grpc import Registration
from google.protobuf.message import Message

from retrieval.deletions.grpc import DeletionMethods
from retrieval.file_batches.grpc import FileBatchMethods
from retrieval.files.grpc import FileMethods
from retrieval.search.grpc import SearchMethods
from retrieval.store_migrations.grpc import StoreMigrationMethods
from retrieval.vector_stores.grpc import VectorStoreMethods

M = TypeVar("M", bound=Message)


class RetrievalServicer(RetrievalServiceServicer):
    def __init__(
        self,
        *,
        files: FileMethods,
        vector_stores: VectorStoreMethods,
        file_batches: FileBatchMethods,
        search: SearchMethods,
        store_migrations: StoreMigrationMethods,
        deletions: DeletionMethods,
    ) -> None:
        self._files = files
        self._vector_stores = vector_stores
        self._file_batches = file_batches
        self._search = search
        self._store_migrations = store_migrations
        self._deletions = deletions

    async def UploadFile(self, request_iterator: Any, context: Any) -> pb.UploadFileResponse:
        return await self._files.upload(request_iterator)

    async def ListFiles(self, request: pb.ListFilesRequest, context: Any) -> pb.ListFilesResponse:
        return await self._files.list(_checked(request))

    async def GetFile(self, request: pb.GetFileRequest, context: Any) -> pb.GetFileResponse:
        return await self._files.get(_checked(request))

    async def DownloadFile(
        self, request: pb.DownloadFileRequest, context: Any
    ) -> AsyncIterator[pb.DownloadFileResponse]:
        # An async generator, as gRPC requires, not a function that returns one.
        async with aclosing(self._files.download(_checked(request))) as responses:
            async for response in responses:
                yield response

    async def DeleteFile(self, request: pb.DeleteFileRequest, context: Any) -> pb.DeleteFileResponse:
        return await self._files.delete(_checked(request))

    async def CreateVectorStore(
        self, request: pb.CreateVectorStoreRequest, context: Any
    ) -> pb.CreateVectorStoreResponse:
        return await self._vector_stores.create(_checked(request))

    async def ListVectorStores(self, request: pb.ListVectorStoresRequest, context: Any) -> pb.ListVectorStoresResponse:
        return await self._vector_stores.list(_checked(request))

    async def GetVectorStore(self, request: pb.GetVectorStoreRequest, context: Any) -> pb.GetVectorStoreResponse:
        return await self._vector_stores.get(_checked(request))

    async def UpdateVectorStore(
        self, request: pb.UpdateVectorStoreRequest, context: Any
    ) -> pb.UpdateVectorStoreResponse:
        return await self._vector_stores.update(_checked(request))

    async def DeleteVectorStore(
        self, request: pb.DeleteVectorStoreRequest, context: Any
    ) -> pb.DeleteVectorStoreResponse:
        return await self._vector_stores.delete(_checked(request))

    async def AttachFile(self, request: pb.AttachFileRequest, context: Any) -> pb.AttachFileResponse:
        return await self._vector_stores.attach(_checked(request))

    async def GetAttachment(self, request: pb.GetAttachmentRequest, context: Any) -> pb.GetAttachmentResponse:
        return await self._vector_stores.get_attachment(_checked(request))

    async def ListAttachments(self, request: pb.ListAttachmentsRequest, context: Any) -> pb.ListAttachmentsResponse:
        return await self._vector_stores.list_attachments(_checked(request))

    async def UpdateAttachment(self, request: pb.UpdateAttachmentRequest, context: Any) -> pb.UpdateAttachmentResponse:
        return await self._vector_stores.update_attachment(_checked(request))

    async def DetachFile(self, request: pb.DetachFileRequest, context: Any) -> pb.DetachFileResponse:
        return await self._vector_stores.detach(_checked(request))

    async def CreateFileBatch(self, request: pb.CreateFileBatchRequest, context: Any) -> pb.CreateFileBatchResponse:
        return await self._file_batches.create(_checked(request))

    async def GetFileBatch(self, request: pb.GetFileBatchRequest, context: Any) -> pb.GetFileBatchResponse:
        return await self._file_batches.get(_checked(request))

    async def CancelFileBatch(self, request: pb.CancelFileBatchRequest, context: Any) -> pb.CancelFileBatchResponse:
        return await self._file_batches.cancel(_checked(request))

    async def ListFileBatchFiles(
        self, request: pb.ListFileBatchFilesRequest, context: Any
    ) -> pb.ListFileBatchFilesResponse:
        return await self._file_batches.list_files(_checked(request))

    async def StartStoreMigration(
        self, request: pb.StartStoreMigrationRequest, context: Any
    ) -> pb.StartStoreMigrationResponse:
        return await self._store_migrations.start(_checked(request))

    async def GetStoreMigration(
        self, request: pb.GetStoreMigrationRequest, context: Any
    ) -> pb.GetStoreMigrationResponse:
        return await self._store_migrations.get(_checked(request))

    async def ListStoreMigrations(
        self, request: pb.ListStoreMigrationsRequest, context: Any
    ) -> pb.ListStoreMigrationsResponse:
        return await self._store_migrations.list(_checked(request))

    async def CancelStoreMigration(
        self, request: pb.CancelStoreMigrationRequest, context: Any
    ) -> pb.CancelStoreMigrationResponse:
        return await self._store_migrations.cancel(_checked(request))

    async def GetDeletionReport(
        self, request: pb.GetDeletionReportRequest, context: Any
    ) -> pb.GetDeletionReportResponse:
        return await self._deletions.get(_checked(request))

    async def Search(self, request: pb.SearchRequest, context: Any) -> pb.SearchResponse:
        return await self._search.search(_checked(request))


def registration(servicer: RetrievalServicer) -> Registration:
    """What a `GrpcServer` needs to serve it."""
    return add_RetrievalServiceServicer_to_server, servicer, "argosy.retrieval.v1.RetrievalService"


def _checked(request: M) -> M:
    """The request. Raises InvalidRequest for a string with a zero character, which Postgres cannot store."""
    for field, value in request.ListFields():
        texts = [value] if isinstance(value, str) else value if field.type == field.TYPE_STRING else []
        if any("\0" in text for text in texts):
            raise InvalidRequest(f"{field.name} must not have a zero character", param=field.name)
    return request
