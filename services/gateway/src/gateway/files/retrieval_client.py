"""Files in retrieval, over gRPC. Another tenant's file is not found."""

from collections.abc import AsyncGenerator, AsyncIterator
from datetime import timedelta

from argosy.retrieval.v1 import retrieval_pb2 as pb
from argosy.retrieval.v1.retrieval_pb2_grpc import RetrievalServiceStub
from chassis.grpc import Channel
from values.protos import proto_to_timestamp

from gateway.files.schemas import FileRead
from gateway.web.pagination import PageRequest
from gateway.web.schemas import ListResponse, unix_seconds

# Enough for a large file over a slow connection.
TRANSFER_TIMEOUT = timedelta(minutes=30)
# gRPC refuses messages above 16 MiB, and with small ones flow control is more exact.
MAX_PIECE_BYTES = 256 * 1024


class FilesClient:
    """Acts on behalf of the current caller. All calls raise retrieval's error, or Unavailable."""

    def __init__(self, channel: Channel) -> None:
        self._stub = RetrievalServiceStub(channel)

    async def upload(self, filename: str, purpose: str, content: AsyncIterator[bytes]) -> FileRead:
        """Send a file as it arrives. An error of `content` is raised, and no file is stored."""
        call = self._stub.UploadFile(timeout=TRANSFER_TIMEOUT.total_seconds())
        try:
            await call.write(pb.UploadFileRequest(metadata=pb.FileMetadata(filename=filename, purpose=purpose)))
            size_bytes = 0
            async for data in content:
                for start in range(0, len(data), MAX_PIECE_BYTES):
                    await call.write(pb.UploadFileRequest(data=data[start : start + MAX_PIECE_BYTES]))
                size_bytes += len(data)
            await call.write(pb.UploadFileRequest(end=pb.UploadEnd(bytes=size_bytes)))
            await call.done_writing()
            response = await call
        finally:
            call.cancel()  # does nothing when the call is over
        return proto_to_file(response.file)

    async def list(self, page: PageRequest, purpose: str) -> ListResponse[FileRead]:
        """Files of one purpose, or of all when it is empty."""
        response = await self._stub.ListFiles(pb.ListFilesRequest(limit=page.limit, after=page.after, purpose=purpose))
        return ListResponse.of(map(proto_to_file, response.files), has_more=response.has_more)

    async def get(self, file_id: str) -> FileRead:
        """Raises FILE_NOT_FOUND."""
        return proto_to_file((await self._stub.GetFile(pb.GetFileRequest(file_id=file_id))).file)

    async def download(self, file_id: str) -> AsyncGenerator[bytes, None]:
        """Read a file's bytes; close the generator to stop. Raises FILE_NOT_FOUND at the first step."""
        call = self._stub.DownloadFile(
            pb.DownloadFileRequest(file_id=file_id), timeout=TRANSFER_TIMEOUT.total_seconds()
        )
        try:
            async for message in call:
                yield message.data
        finally:
            call.cancel()

    async def delete(self, file_id: str) -> None:
        """Raises FILE_NOT_FOUND."""
        await self._stub.DeleteFile(pb.DeleteFileRequest(file_id=file_id))


def proto_to_file(message: pb.File) -> FileRead:
    return FileRead(
        id=message.file_id,
        bytes=message.bytes,
        created_at=unix_seconds(proto_to_timestamp(message.created_at)),
        filename=message.filename,
        purpose=message.purpose,
    )
