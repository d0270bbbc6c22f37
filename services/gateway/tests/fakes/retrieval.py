"""Retrieval's gRPC service, answering out of the fake knowledge: what the adapter is tested against."""
# ruff: noqa: N802 - the names are the protos'

from collections.abc import AsyncIterator
from typing import Any

from argosy.retrieval.v1 import retrieval_pb2 as pb
from argosy.retrieval.v1.retrieval_pb2_grpc import RetrievalServiceServicer
from chassis.errors import InvalidRequest
from chassis.grpc import timestamp_to_proto
from gateway.domain.knowledge import Attachment, AttachmentState, File, VectorStore
from gateway.domain.tenants import Page

from services.gateway.tests.fakes.knowledge import FakeKnowledge

STATES = {
    AttachmentState.IN_PROGRESS: pb.ATTACHMENT_STATE_IN_PROGRESS,
    AttachmentState.COMPLETED: pb.ATTACHMENT_STATE_COMPLETED,
    AttachmentState.FAILED: pb.ATTACHMENT_STATE_FAILED,
}
FILTERS = {number: state for state, number in STATES.items()}


def to_proto_file(file: File) -> pb.File:
    return pb.File(
        file_id=file.file_id,
        filename=file.filename,
        purpose=file.purpose,
        bytes=file.size_bytes,
        created_at=timestamp_to_proto(file.created_at),
    )


def to_proto_store(store: VectorStore) -> pb.VectorStore:
    counts = pb.FileCounts(in_progress=store.in_progress, completed=store.completed, failed=store.failed)
    return pb.VectorStore(
        vector_store_id=store.vector_store_id,
        name=store.name,
        created_at=timestamp_to_proto(store.created_at),
        file_counts=counts,
        usage_bytes=store.usage_bytes,
    )


def to_proto_attachment(attachment: Attachment) -> pb.Attachment:
    return pb.Attachment(
        vector_store_id=attachment.vector_store_id,
        file_id=attachment.file_id,
        state=STATES[attachment.state],
        failure_reason=attachment.failure_reason,
        failure_message=attachment.failure_message,
        chunks=attachment.chunks,
        created_at=timestamp_to_proto(attachment.created_at),
        usage_bytes=attachment.usage_bytes,
    )


class Retrieval(RetrievalServiceServicer):
    """Answers out of fake knowledge."""

    def __init__(self, knowledge: FakeKnowledge) -> None:
        self._knowledge = knowledge

    async def UploadFile(self, request_iterator: Any, context: Any) -> pb.UploadFileResponse:
        first = await anext(request_iterator)
        assert first.WhichOneof("part") == "description"

        async def content() -> AsyncIterator[bytes]:
            size_bytes = 0
            async for request in request_iterator:
                if request.HasField("end"):
                    assert request.end.bytes == size_bytes
                    return
                assert request.WhichOneof("part") == "data"
                size_bytes += len(request.data)
                yield request.data
            raise InvalidRequest("the upload broke off")

        file = await self._knowledge.upload(first.description.filename, first.description.purpose, content())
        return pb.UploadFileResponse(file=to_proto_file(file))

    async def ListFiles(self, request: pb.ListFilesRequest, context: Any) -> pb.ListFilesResponse:
        listed = await self._knowledge.list_files(Page(request.limit, request.after), request.purpose)
        return pb.ListFilesResponse(files=[to_proto_file(file) for file in listed.items], has_more=listed.has_more)

    async def GetFile(self, request: pb.GetFileRequest, context: Any) -> pb.GetFileResponse:
        return pb.GetFileResponse(file=to_proto_file(await self._knowledge.get_file(request.file_id)))

    async def DownloadFile(
        self, request: pb.DownloadFileRequest, context: Any
    ) -> AsyncIterator[pb.DownloadFileResponse]:
        async for data in self._knowledge.download(request.file_id):
            yield pb.DownloadFileResponse(data=data)

    async def DeleteFile(self, request: pb.DeleteFileRequest, context: Any) -> pb.DeleteFileResponse:
        await self._knowledge.delete_file(request.file_id)
        return pb.DeleteFileResponse()

    async def CreateVectorStore(
        self, request: pb.CreateVectorStoreRequest, context: Any
    ) -> pb.CreateVectorStoreResponse:
        store = await self._knowledge.create_vector_store(request.name, list(request.file_ids))
        return pb.CreateVectorStoreResponse(vector_store=to_proto_store(store))

    async def ListVectorStores(self, request: pb.ListVectorStoresRequest, context: Any) -> pb.ListVectorStoresResponse:
        listed = await self._knowledge.list_vector_stores(Page(request.limit, request.after))
        stores = [to_proto_store(store) for store in listed.items]
        return pb.ListVectorStoresResponse(vector_stores=stores, has_more=listed.has_more)

    async def GetVectorStore(self, request: pb.GetVectorStoreRequest, context: Any) -> pb.GetVectorStoreResponse:
        store = await self._knowledge.get_vector_store(request.vector_store_id)
        return pb.GetVectorStoreResponse(vector_store=to_proto_store(store))

    async def DeleteVectorStore(
        self, request: pb.DeleteVectorStoreRequest, context: Any
    ) -> pb.DeleteVectorStoreResponse:
        await self._knowledge.delete_vector_store(request.vector_store_id)
        return pb.DeleteVectorStoreResponse()

    async def AttachFile(self, request: pb.AttachFileRequest, context: Any) -> pb.AttachFileResponse:
        attachment = await self._knowledge.attach(request.vector_store_id, request.file_id)
        return pb.AttachFileResponse(attachment=to_proto_attachment(attachment))

    async def GetAttachment(self, request: pb.GetAttachmentRequest, context: Any) -> pb.GetAttachmentResponse:
        attachment = await self._knowledge.get_attachment(request.vector_store_id, request.file_id)
        return pb.GetAttachmentResponse(attachment=to_proto_attachment(attachment))

    async def ListAttachments(self, request: pb.ListAttachmentsRequest, context: Any) -> pb.ListAttachmentsResponse:
        listed = await self._knowledge.list_attachments(
            request.vector_store_id, Page(request.limit, request.after), FILTERS.get(request.state)
        )
        attachments = [to_proto_attachment(attachment) for attachment in listed.items]
        return pb.ListAttachmentsResponse(attachments=attachments, has_more=listed.has_more)

    async def DetachFile(self, request: pb.DetachFileRequest, context: Any) -> pb.DetachFileResponse:
        await self._knowledge.detach(request.vector_store_id, request.file_id)
        return pb.DetachFileResponse()

    async def Search(self, request: pb.SearchRequest, context: Any) -> pb.SearchResponse:
        (store,) = request.vector_store_ids
        found = await self._knowledge.search(store, request.query, request.limit)
        passages = [
            pb.Passage(
                file_id=passage.file_id,
                filename=passage.filename,
                page=passage.page,
                text=passage.text,
                score=passage.score,
                vector_store_id=store,
            )
            for passage in found
        ]
        return pb.SearchResponse(passages=passages)
