"""Methods of RetrievalService about files. The tenant is the caller's."""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing

from argosy.retrieval.v1 import retrieval_pb2 as pb
from chassis.errors import InvalidRequest
from chassis.in_flight import InFlightLimit
from chassis.tenancy import current_caller
from values.protos import timestamp_to_proto
from values.roles import SERVICE, current_member

from retrieval import metrics
from retrieval.files.model import File, FileMetadata, object_key
from retrieval.files.page import page_size
from retrieval.files.ports import Files, ObjectStore
from retrieval.files.upload import upload
from retrieval.quotas.model import NO_QUOTAS, UNLIMITED, Quotas


class FileMethods:
    def __init__(
        self,
        files: Files,
        objects: ObjectStore,
        max_upload_bytes: int,
        uploads: InFlightLimit,
        quotas: Quotas = NO_QUOTAS,
    ) -> None:
        self._quotas = quotas
        self._files = files
        self._objects = objects
        self._max_upload_bytes = max_upload_bytes
        self._uploads = uploads

    async def upload(self, requests: AsyncIterator[pb.UploadFileRequest]) -> pb.UploadFileResponse:
        with self._uploads.reserve(_tenant_id(), 1):
            return await self._upload(requests)

    async def _upload(self, requests: AsyncIterator[pb.UploadFileRequest]) -> pb.UploadFileResponse:
        parts = aiter(requests)
        first = await anext(parts, None)
        if first is None or first.WhichOneof("part") != "metadata":
            raise InvalidRequest("an upload begins with its metadata", param="file")
        metadata = first.metadata
        if metadata.file_id:
            current_caller().principal.require(SERVICE)
        file = await upload(
            _tenant_id(),
            FileMetadata(metadata.filename, metadata.purpose, metadata.file_id),
            _data(parts),
            files=self._files,
            objects=self._objects,
            max_bytes=self._max_upload_bytes,
            # What a service keeps for a tenant, such as the results of a batch, was paid for already.
            quota=UNLIMITED if metadata.file_id else self._quotas.of(current_member().plan),
        )
        metrics.FILES.labels("stored").inc()
        metrics.UPLOADED_BYTES.inc(file.size_bytes)
        return pb.UploadFileResponse(file=file_to_proto(file))

    async def list(self, request: pb.ListFilesRequest) -> pb.ListFilesResponse:
        page = await self._files.list(
            _tenant_id(),
            limit=page_size(request.limit, default=100, maximum=10_000),
            after=request.after,
            purpose=request.purpose,
        )
        return pb.ListFilesResponse(files=[file_to_proto(file) for file in page.items], has_more=page.has_more)

    async def get(self, request: pb.GetFileRequest) -> pb.GetFileResponse:
        return pb.GetFileResponse(file=file_to_proto(await self._files.get(_tenant_id(), request.file_id)))

    async def download(self, request: pb.DownloadFileRequest) -> AsyncGenerator[pb.DownloadFileResponse, None]:
        file = await self._files.get(_tenant_id(), request.file_id)
        async with aclosing(self._objects.read(object_key(_tenant_id(), file.file_id))) as pieces:
            async for piece in pieces:
                yield pb.DownloadFileResponse(data=piece)

    async def delete(self, request: pb.DeleteFileRequest) -> pb.DeleteFileResponse:
        await self._files.delete(_tenant_id(), request.file_id)
        metrics.FILES.labels("deleted").inc()
        return pb.DeleteFileResponse()


def file_to_proto(file: File) -> pb.File:
    return pb.File(
        file_id=file.file_id,
        filename=file.filename,
        purpose=file.purpose,
        bytes=file.size_bytes,
        created_at=timestamp_to_proto(file.created_at),
    )


def _tenant_id() -> str:
    return current_member().tenant_id


async def _data(parts: AsyncIterator[pb.UploadFileRequest]) -> AsyncIterator[bytes]:
    """The bytes up to the `end` part.

    Raises InvalidRequest when there is no `end` or its size differs: a stream that was cut can look complete.
    """
    size_bytes = 0
    async for part in parts:
        if part.HasField("end"):
            if part.end.bytes != size_bytes:
                raise InvalidRequest(f"received {size_bytes} of {part.end.bytes} bytes", param="file")
            return
        if not part.HasField("data"):
            raise InvalidRequest("after its metadata an upload has only bytes and an end", param="file")
        size_bytes += len(part.data)
        yield part.data
    raise InvalidRequest("the upload was cut before its end", param="file")
