"""Methods of RetrievalService about file batches. The tenant is the caller's."""

from argosy.retrieval.v1 import retrieval_pb2 as pb
from values.roles import current_member

from retrieval.file_batches.create import create_file_batch
from retrieval.file_batches.ports import FileBatches
from retrieval.file_batches.protos import file_batch_to_proto
from retrieval.files.page import page_size
from retrieval.vector_stores.model import FileToAttach
from retrieval.vector_stores.protos import (
    attachment_to_proto,
    proto_to_given_attributes,
    proto_to_given_chunking,
    proto_to_state,
)


class FileBatchMethods:
    def __init__(self, batches: FileBatches) -> None:
        self._batches = batches

    async def create(self, request: pb.CreateFileBatchRequest) -> pb.CreateFileBatchResponse:
        files = [FileToAttach(file_id) for file_id in request.file_ids]
        files += [proto_to_file_to_attach(file) for file in request.files]
        batch = await create_file_batch(current_member(), request.vector_store_id, files, batches=self._batches)
        return pb.CreateFileBatchResponse(file_batch=file_batch_to_proto(batch))

    async def get(self, request: pb.GetFileBatchRequest) -> pb.GetFileBatchResponse:
        batch = await self._batches.get(current_member().tenant_id, request.vector_store_id, request.batch_id)
        return pb.GetFileBatchResponse(file_batch=file_batch_to_proto(batch))

    async def cancel(self, request: pb.CancelFileBatchRequest) -> pb.CancelFileBatchResponse:
        batch = await self._batches.cancel(current_member().tenant_id, request.vector_store_id, request.batch_id)
        return pb.CancelFileBatchResponse(file_batch=file_batch_to_proto(batch))

    async def list_files(self, request: pb.ListFileBatchFilesRequest) -> pb.ListFileBatchFilesResponse:
        page = await self._batches.files(
            current_member().tenant_id,
            request.vector_store_id,
            request.batch_id,
            limit=page_size(request.limit, default=20, maximum=100),
            after=request.after,
            state=proto_to_state(request.state),
        )
        attachments = [attachment_to_proto(attachment) for attachment in page.items]
        return pb.ListFileBatchFilesResponse(attachments=attachments, has_more=page.has_more)


def proto_to_file_to_attach(file: pb.FileToAttach) -> FileToAttach:
    return FileToAttach(file.file_id, proto_to_given_attributes(file), proto_to_given_chunking(file))
