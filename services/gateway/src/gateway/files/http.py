"""`/v1/files`: contents are streamed in both directions, never held in memory."""

from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Annotated
from urllib.parse import quote

from chassis.http import Receive, Scope, Send
from fastapi import APIRouter, Depends, Request
from fastapi.responses import StreamingResponse

from gateway.files.retrieval_client import FilesClient
from gateway.files.schemas import UPLOAD_SCHEMA, FileRead, ListedPurpose, check_filename, check_purpose
from gateway.flags.http import requires_feature
from gateway.metrics import UPLOADED_BYTES
from gateway.web.dependencies import NEWEST_FIRST, LongPageQuery, PathId, provided
from gateway.web.multipart import Upload, read_spool, spool_to_disk
from gateway.web.schemas import DeletedResponse, ListResponse

router = APIRouter(prefix="/v1/files", tags=["Files"], dependencies=[Depends(requires_feature("files"))])


@dataclass(frozen=True, slots=True)
class UploadLimits:
    """Limits of an upload."""

    max_file_bytes: int


Files = Annotated[FilesClient, Depends(provided(FilesClient))]
Limits = Annotated[UploadLimits, Depends(provided(UploadLimits))]


class DownloadResponse(StreamingResponse):
    """A file's bytes. Closes its source however it ends: a client that disconnects must not keep a call open."""

    def __init__(self, content: AsyncGenerator[bytes, None], headers: Mapping[str, str]) -> None:
        super().__init__(content, media_type="application/octet-stream", headers=headers)
        self._content = content

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with aclosing(self._content):
            await super().__call__(scope, receive, send)


@router.post("", openapi_extra=UPLOAD_SCHEMA)
async def upload_file(request: Request, files: Files, limits: Limits) -> FileRead:
    """Store a file. When `purpose` comes before the file, the file is not spooled to disk."""
    upload = Upload(request.stream(), request.headers.get("content-type", ""), limits.max_file_bytes)
    await upload.open()
    filename = check_filename(upload.filename)
    async with aclosing(upload.content()) as content:
        stored = await _store(files, filename, upload, content)
    UPLOADED_BYTES.inc(upload.size_bytes)
    return stored


@router.get("", dependencies=[NEWEST_FIRST])
async def list_files(files: Files, page: LongPageQuery, purpose: ListedPurpose | None = None) -> ListResponse[FileRead]:
    """List files, newest first."""
    return await files.list(page, purpose or "")


@router.get("/{file_id}")
async def get_file(file_id: PathId, files: Files) -> FileRead:
    """Read a file's record."""
    return await files.get(file_id)


@router.get("/{file_id}/content", response_class=StreamingResponse)
async def get_file_content(file_id: PathId, files: Files) -> DownloadResponse:
    """Read a file's bytes."""
    file = await files.get(file_id)
    content = files.download(file_id)
    # The first piece is awaited before the status line: a file that was deleted meanwhile is still a 404.
    first = await anext(content, b"")
    headers = {
        "content-length": str(file.bytes),
        "content-disposition": f"attachment; filename*=UTF-8''{quote(file.filename, safe='')}",
    }
    return DownloadResponse(_prepend(first, content), headers)


@router.delete("/{file_id}")
async def delete_file(file_id: PathId, files: Files) -> DeletedResponse:
    """Delete a file, and remove it from all vector stores."""
    await files.delete(file_id)
    return DeletedResponse(id=file_id, object="file")


async def _store(files: FilesClient, filename: str, upload: Upload, content: AsyncIterator[bytes]) -> FileRead:
    if "purpose" in upload.fields:
        return await files.upload(filename, check_purpose(upload.fields["purpose"]), content)
    # Some clients send the purpose after the file, and retrieval needs it first.
    with await spool_to_disk(content) as spool:
        return await files.upload(filename, check_purpose(upload.fields.get("purpose")), read_spool(spool))


async def _prepend(first: bytes, rest: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    async with aclosing(rest):
        yield first
        async for piece in rest:
            yield piece
