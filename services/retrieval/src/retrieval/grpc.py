"""RetrievalService: translates, decides nothing. The tenant is always the caller's."""

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

from argosy.retrieval.v1 import retrieval_pb2 as pb
from argosy.retrieval.v1.retrieval_pb2_grpc import RetrievalServiceServicer, add_RetrievalServiceServicer_to_server
from chassis.errors import InvalidRequest
from chassis.grpc import Registration
from chassis.tenancy import Principal, current_caller
from google.protobuf.message import Message

from retrieval import metrics
from retrieval.api.convert import (
    from_proto_state,
    to_proto_attachment,
    to_proto_file,
    to_proto_passage,
    to_proto_vector_store,
)
from retrieval.domain.embedding import Embedder
from retrieval.domain.files import Description, Files, Objects, object_key, upload
from retrieval.domain.listing import page_size
from retrieval.domain.searching import DEFAULT_PASSAGES, MOST_PASSAGES, Index, Question, search
from retrieval.domain.vector_stores import VectorStores, create_vector_store


class RetrievalServicer(RetrievalServiceServicer):
    """The methods of the proto."""

    def __init__(
        self,
        *,
        files: Files,
        objects: Objects,
        stores: VectorStores,
        index: Index,
        embedder: Embedder,
        max_upload_bytes: int,
    ) -> None:
        self._files = files
        self._objects = objects
        self._stores = stores
        self._index = index
        self._embedder = embedder
        self._max_upload_bytes = max_upload_bytes

    async def UploadFile(
        self, request_iterator: AsyncIterator[pb.UploadFileRequest], context: Any
    ) -> pb.UploadFileResponse:
        """Store a file."""
        parts = aiter(request_iterator)
        first = await anext(parts, None)
        if first is None or first.WhichOneof("part") != "description":
            raise InvalidRequest("an upload begins with its description", param="file")
        file = await upload(
            current_caller().principal.tenant_id,
            Description(first.description.filename, first.description.purpose),
            _data(parts),
            files=self._files,
            objects=self._objects,
            max_bytes=self._max_upload_bytes,
        )
        metrics.FILES.labels("stored").inc()
        metrics.UPLOADED_BYTES.inc(file.size_bytes)
        return pb.UploadFileResponse(file=to_proto_file(file))

    async def ListFiles(self, request: pb.ListFilesRequest, context: Any) -> pb.ListFilesResponse:
        """List files."""
        page = await self._files.list(
            _principal(request).tenant_id,
            limit=page_size(request.limit, default=100, most=10_000),
            after=request.after,
            purpose=request.purpose,
        )
        return pb.ListFilesResponse(files=[to_proto_file(file) for file in page.items], has_more=page.has_more)

    async def GetFile(self, request: pb.GetFileRequest, context: Any) -> pb.GetFileResponse:
        """Read a record."""
        file = await self._files.get(_principal(request).tenant_id, request.file_id)
        return pb.GetFileResponse(file=to_proto_file(file))

    async def DownloadFile(
        self, request: pb.DownloadFileRequest, context: Any
    ) -> AsyncIterator[pb.DownloadFileResponse]:
        """Read the bytes."""
        tenant_id = _principal(request).tenant_id
        file = await self._files.get(tenant_id, request.file_id)
        async with aclosing(self._objects.read(object_key(tenant_id, file.file_id))) as pieces:
            async for piece in pieces:
                yield pb.DownloadFileResponse(data=piece)

    async def DeleteFile(self, request: pb.DeleteFileRequest, context: Any) -> pb.DeleteFileResponse:
        """Forget a file."""
        await self._files.delete(_principal(request).tenant_id, request.file_id)
        metrics.FILES.labels("deleted").inc()
        return pb.DeleteFileResponse()

    async def CreateVectorStore(
        self, request: pb.CreateVectorStoreRequest, context: Any
    ) -> pb.CreateVectorStoreResponse:
        """Make a store."""
        store = await create_vector_store(
            _principal(request), request.name, list(request.file_ids), stores=self._stores
        )
        return pb.CreateVectorStoreResponse(vector_store=to_proto_vector_store(store))

    async def ListVectorStores(self, request: pb.ListVectorStoresRequest, context: Any) -> pb.ListVectorStoresResponse:
        """List stores."""
        page = await self._stores.list(
            _principal(request).tenant_id,
            limit=page_size(request.limit, default=20, most=100),
            after=request.after,
        )
        stores = [to_proto_vector_store(store) for store in page.items]
        return pb.ListVectorStoresResponse(vector_stores=stores, has_more=page.has_more)

    async def GetVectorStore(self, request: pb.GetVectorStoreRequest, context: Any) -> pb.GetVectorStoreResponse:
        """Read a store."""
        store = await self._stores.get(_principal(request).tenant_id, request.vector_store_id)
        return pb.GetVectorStoreResponse(vector_store=to_proto_vector_store(store))

    async def DeleteVectorStore(
        self, request: pb.DeleteVectorStoreRequest, context: Any
    ) -> pb.DeleteVectorStoreResponse:
        """Forget a store."""
        await self._stores.delete(_principal(request).tenant_id, request.vector_store_id)
        return pb.DeleteVectorStoreResponse()

    async def AttachFile(self, request: pb.AttachFileRequest, context: Any) -> pb.AttachFileResponse:
        """Put a file in."""
        attachment = await self._stores.attach(_principal(request), request.vector_store_id, request.file_id)
        return pb.AttachFileResponse(attachment=to_proto_attachment(attachment))

    async def GetAttachment(self, request: pb.GetAttachmentRequest, context: Any) -> pb.GetAttachmentResponse:
        """Say how far it is."""
        attachment = await self._stores.attachment(
            _principal(request).tenant_id, request.vector_store_id, request.file_id
        )
        return pb.GetAttachmentResponse(attachment=to_proto_attachment(attachment))

    async def ListAttachments(self, request: pb.ListAttachmentsRequest, context: Any) -> pb.ListAttachmentsResponse:
        """List a store's files."""
        page = await self._stores.attachments(
            _principal(request).tenant_id,
            request.vector_store_id,
            limit=page_size(request.limit, default=20, most=100),
            after=request.after,
            state=from_proto_state(request.state),
        )
        attachments = [to_proto_attachment(attachment) for attachment in page.items]
        return pb.ListAttachmentsResponse(attachments=attachments, has_more=page.has_more)

    async def DetachFile(self, request: pb.DetachFileRequest, context: Any) -> pb.DetachFileResponse:
        """Take a file out."""
        await self._stores.detach(_principal(request).tenant_id, request.vector_store_id, request.file_id)
        return pb.DetachFileResponse()

    async def Search(self, request: pb.SearchRequest, context: Any) -> pb.SearchResponse:
        """Answer a question."""
        question = Question(
            vector_store_ids=tuple(dict.fromkeys(request.vector_store_ids)),
            query=request.query,
            limit=page_size(request.limit, default=DEFAULT_PASSAGES, most=MOST_PASSAGES),
        )
        with metrics.SEARCH_SECONDS.time():
            passages = await search(_principal(request).tenant_id, question, index=self._index, embedder=self._embedder)
        return pb.SearchResponse(passages=[to_proto_passage(passage) for passage in passages])


def registration(servicer: RetrievalServicer) -> Registration:
    """Return what a `GrpcServer` needs to serve it."""
    return add_RetrievalServiceServicer_to_server, servicer, "argosy.retrieval.v1.RetrievalService"


def _principal(request: Message) -> Principal:
    """Who asks. Raises InvalidRequest for a text that no database can hold."""
    for field, value in request.ListFields():
        texts = [value] if isinstance(value, str) else value if field.type == field.TYPE_STRING else []
        if any("\0" in text for text in texts):
            raise InvalidRequest(f"{field.name} must not have a zero character", param=field.name)
    return current_caller().principal


async def _data(parts: AsyncIterator[pb.UploadFileRequest]) -> AsyncIterator[bytes]:
    """The bytes up to the end that was said. Raises InvalidRequest without one: a cut stream looks like a whole one."""
    size_bytes = 0
    async for part in parts:
        if part.HasField("end"):
            if part.end.bytes != size_bytes:
                raise InvalidRequest(f"{size_bytes} bytes of {part.end.bytes} came", param="file")
            return
        if not part.HasField("data"):
            raise InvalidRequest("after its description an upload has only bytes and an end", param="file")
        size_bytes += len(part.data)
        yield part.data
    raise InvalidRequest("the upload broke off before its end", param="file")
