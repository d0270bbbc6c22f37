"""File batches in retrieval, over gRPC. Another tenant's vector store is not found."""

from collections.abc import Sequence

from argosy.retrieval.v1 import retrieval_pb2 as pb
from argosy.retrieval.v1.retrieval_pb2_grpc import RetrievalServiceStub
from chassis.grpc import Channel
from values.protos import proto_to_timestamp

from gateway.file_batches.schemas import FileBatchRead
from gateway.vector_stores.retrieval_client import (
    chunking_to_proto,
    given_attributes,
    proto_to_attachment,
    proto_to_file_counts,
    status_to_proto,
)
from gateway.vector_stores.schemas import AttachmentCreate, AttachmentRead, AttachmentStatus
from gateway.web.pagination import PageRequest
from gateway.web.schemas import ListResponse, unix_seconds


class FileBatchesClient:
    """Acts on behalf of the current caller. All calls raise retrieval's error, or Unavailable."""

    def __init__(self, channel: Channel) -> None:
        self._stub = RetrievalServiceStub(channel)

    async def create(self, vector_store_id: str, files: Sequence[AttachmentCreate]) -> FileBatchRead:
        """Attach all files or none. Raises VECTOR_STORE_NOT_FOUND, FILE_NOT_FOUND."""
        request = pb.CreateFileBatchRequest(
            vector_store_id=vector_store_id,
            files=[file_to_attach(file) for file in files],
        )
        return proto_to_file_batch((await self._stub.CreateFileBatch(request)).file_batch)

    async def get(self, vector_store_id: str, batch_id: str) -> FileBatchRead:
        """Raises VECTOR_STORE_NOT_FOUND, FILE_BATCH_NOT_FOUND."""
        request = pb.GetFileBatchRequest(vector_store_id=vector_store_id, batch_id=batch_id)
        return proto_to_file_batch((await self._stub.GetFileBatch(request)).file_batch)

    async def cancel(self, vector_store_id: str, batch_id: str) -> FileBatchRead:
        """Raises VECTOR_STORE_NOT_FOUND, FILE_BATCH_NOT_FOUND."""
        request = pb.CancelFileBatchRequest(vector_store_id=vector_store_id, batch_id=batch_id)
        return proto_to_file_batch((await self._stub.CancelFileBatch(request)).file_batch)

    async def list_files(
        self, vector_store_id: str, batch_id: str, page: PageRequest, status: AttachmentStatus | None
    ) -> ListResponse[AttachmentRead]:
        """Raises VECTOR_STORE_NOT_FOUND, FILE_BATCH_NOT_FOUND, FILE_NOT_FOUND."""
        request = pb.ListFileBatchFilesRequest(
            vector_store_id=vector_store_id,
            batch_id=batch_id,
            limit=page.limit,
            after=page.after,
            state=status_to_proto(status),
        )
        response = await self._stub.ListFileBatchFiles(request)
        return ListResponse.of(map(proto_to_attachment, response.attachments), has_more=response.has_more)


def file_to_attach(file: AttachmentCreate) -> pb.FileToAttach:
    return pb.FileToAttach(
        file_id=file.file_id,
        attributes=given_attributes(file.attributes),
        chunking=chunking_to_proto(file.chunking_strategy),
    )


def proto_to_file_batch(message: pb.FileBatch) -> FileBatchRead:
    counts = proto_to_file_counts(message.file_counts)
    status = "cancelled" if message.cancelled else "in_progress" if counts.in_progress else "completed"
    return FileBatchRead(
        id=message.batch_id,
        created_at=unix_seconds(proto_to_timestamp(message.created_at)),
        vector_store_id=message.vector_store_id,
        status=status,
        file_counts=counts,
    )
