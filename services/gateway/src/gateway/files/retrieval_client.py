"""Files and vector stores, through retrieval."""

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from datetime import timedelta

from argosy.retrieval.v1 import retrieval_pb2 as pb
from argosy.retrieval.v1.retrieval_pb2_grpc import RetrievalServiceStub
from chassis.grpc import Channel, proto_to_timestamp

from gateway.domain.knowledge import Attachment, AttachmentState, File, Passage, VectorStore
from gateway.domain.tenants import Listed, Page

# A large file over a slow line; what is stuck for longer is not coming.
TRANSFER = timedelta(minutes=30)
# gRPC refuses messages above 16 MiB, and small ones keep the flow-control window honest.
PIECE_BYTES = 256 * 1024

STATES: dict[pb.AttachmentState.ValueType, AttachmentState] = {
    pb.ATTACHMENT_STATE_IN_PROGRESS: AttachmentState.IN_PROGRESS,
    pb.ATTACHMENT_STATE_COMPLETED: AttachmentState.COMPLETED,
    pb.ATTACHMENT_STATE_FAILED: AttachmentState.FAILED,
}
FILTERS = {state: number for number, state in STATES.items()}


class GrpcKnowledge:
    """`Knowledge` over gRPC."""

    def __init__(self, channel: Channel) -> None:
        self._stub = RetrievalServiceStub(channel)

    async def upload(self, filename: str, purpose: str, content: AsyncIterator[bytes]) -> File:
        """Store a file as its bytes come; each piece waits until the peer takes it, and the end makes it a file."""
        call = self._stub.UploadFile(timeout=TRANSFER.total_seconds())
        try:
            await call.write(pb.UploadFileRequest(description=pb.FileDescription(filename=filename, purpose=purpose)))
            size_bytes = 0
            async for data in content:
                for start in range(0, len(data), PIECE_BYTES):
                    await call.write(pb.UploadFileRequest(data=data[start : start + PIECE_BYTES]))
                size_bytes += len(data)
            await call.write(pb.UploadFileRequest(end=pb.UploadEnd(bytes=size_bytes)))
            await call.done_writing()
            response = await call
        finally:
            call.cancel()  # harmless when it is over; else the peer need not wait for more
        return from_proto_file(response.file)

    async def list_files(self, page: Page, purpose: str) -> Listed[File]:
        """Newest first."""
        response = await self._stub.ListFiles(pb.ListFilesRequest(limit=page.limit, after=page.after, purpose=purpose))
        return Listed([from_proto_file(file) for file in response.files], response.has_more)

    async def get_file(self, file_id: str) -> File:
        """Read a file's record."""
        return from_proto_file((await self._stub.GetFile(pb.GetFileRequest(file_id=file_id))).file)

    async def download(self, file_id: str) -> AsyncGenerator[bytes, None]:
        """Read a file's bytes in order."""
        call = self._stub.DownloadFile(pb.DownloadFileRequest(file_id=file_id), timeout=TRANSFER.total_seconds())
        try:
            async for message in call:
                yield message.data
        finally:
            call.cancel()

    async def delete_file(self, file_id: str) -> None:
        """Delete a file everywhere."""
        await self._stub.DeleteFile(pb.DeleteFileRequest(file_id=file_id))

    async def create_vector_store(self, name: str, file_ids: Sequence[str]) -> VectorStore:
        """Make a store with these files."""
        response = await self._stub.CreateVectorStore(pb.CreateVectorStoreRequest(name=name, file_ids=file_ids))
        return from_proto_vector_store(response.vector_store)

    async def list_vector_stores(self, page: Page) -> Listed[VectorStore]:
        """Newest first."""
        response = await self._stub.ListVectorStores(pb.ListVectorStoresRequest(limit=page.limit, after=page.after))
        return Listed([from_proto_vector_store(store) for store in response.vector_stores], response.has_more)

    async def get_vector_store(self, vector_store_id: str) -> VectorStore:
        """Read one store."""
        response = await self._stub.GetVectorStore(pb.GetVectorStoreRequest(vector_store_id=vector_store_id))
        return from_proto_vector_store(response.vector_store)

    async def delete_vector_store(self, vector_store_id: str) -> None:
        """Delete a store; its files stay."""
        await self._stub.DeleteVectorStore(pb.DeleteVectorStoreRequest(vector_store_id=vector_store_id))

    async def attach(self, vector_store_id: str, file_id: str) -> Attachment:
        """Put a file into a store."""
        response = await self._stub.AttachFile(pb.AttachFileRequest(vector_store_id=vector_store_id, file_id=file_id))
        return from_proto_attachment(response.attachment)

    async def get_attachment(self, vector_store_id: str, file_id: str) -> Attachment:
        """Read how far indexing is."""
        response = await self._stub.GetAttachment(
            pb.GetAttachmentRequest(vector_store_id=vector_store_id, file_id=file_id)
        )
        return from_proto_attachment(response.attachment)

    async def list_attachments(
        self, vector_store_id: str, page: Page, state: AttachmentState | None
    ) -> Listed[Attachment]:
        """Newest first."""
        request = pb.ListAttachmentsRequest(vector_store_id=vector_store_id, limit=page.limit, after=page.after)
        if state is not None:
            request.state = FILTERS[state]
        response = await self._stub.ListAttachments(request)
        return Listed([from_proto_attachment(attachment) for attachment in response.attachments], response.has_more)

    async def detach(self, vector_store_id: str, file_id: str) -> None:
        """Take a file out of a store."""
        await self._stub.DetachFile(pb.DetachFileRequest(vector_store_id=vector_store_id, file_id=file_id))

    async def search(self, vector_store_id: str, query: str, limit: int) -> Sequence[Passage]:
        """The best passages first."""
        response = await self._stub.Search(
            pb.SearchRequest(vector_store_ids=[vector_store_id], query=query, limit=limit)
        )
        return [
            Passage(passage.file_id, passage.filename, passage.page, passage.text, passage.score)
            for passage in response.passages
        ]


def from_proto_file(file: pb.File) -> File:
    """Read a file's record."""
    return File(file.file_id, file.filename, file.purpose, file.bytes, proto_to_timestamp(file.created_at))


def from_proto_vector_store(store: pb.VectorStore) -> VectorStore:
    """Read a store."""
    return VectorStore(
        vector_store_id=store.vector_store_id,
        name=store.name,
        created_at=proto_to_timestamp(store.created_at),
        usage_bytes=store.usage_bytes,
        in_progress=store.file_counts.in_progress,
        completed=store.file_counts.completed,
        failed=store.file_counts.failed,
    )


def from_proto_attachment(attachment: pb.Attachment) -> Attachment:
    """Read an attachment; a state that is not known here is not over, as far as a client can tell."""
    return Attachment(
        vector_store_id=attachment.vector_store_id,
        file_id=attachment.file_id,
        state=STATES.get(attachment.state, AttachmentState.IN_PROGRESS),
        failure_reason=attachment.failure_reason,
        failure_message=attachment.failure_message,
        chunks=attachment.chunks,
        created_at=proto_to_timestamp(attachment.created_at),
        usage_bytes=attachment.usage_bytes,
    )
