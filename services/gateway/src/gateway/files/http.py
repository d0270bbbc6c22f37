"""`/v1/files`: bytes pass through, in both directions, without being held."""

import unicodedata
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing
from typing import Annotated
from urllib.parse import quote

from chassis.errors import InvalidRequest
from chassis.http import Receive, Scope, Send
from fastapi import APIRouter, Query, Request
from fastapi.responses import StreamingResponse

from gateway.domain.knowledge import PURPOSES, File, Knowledge
from gateway.metrics import UPLOADED_BYTES

from .multipart import Upload, read_back, spooled
from .ports import NEWEST_FIRST, KnowledgePort, LongPage, PathId, UploadBytes
from .schemas import Deleted, FileRead, ListOf

router = APIRouter(prefix="/v1/files", tags=["Files"])

LONGEST_FILENAME = 255
UPLOAD_SCHEMA = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file", "purpose"],
                    "properties": {
                        "file": {"type": "string", "format": "binary"},
                        "purpose": {"type": "string", "enum": sorted(PURPOSES)},
                    },
                }
            }
        },
    }
}


class Download(StreamingResponse):
    """A file's bytes. However it ends, what they come from is closed: a client that left must not hold a call open."""

    def __init__(self, pieces: AsyncGenerator[bytes, None], headers: Mapping[str, str]) -> None:
        super().__init__(pieces, media_type="application/octet-stream", headers=headers)
        self._pieces = pieces

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send them."""
        async with aclosing(self._pieces):
            await super().__call__(scope, receive, send)


@router.post("", openapi_extra=UPLOAD_SCHEMA)
async def upload_file(request: Request, knowledge: KnowledgePort, upload_bytes: UploadBytes) -> FileRead:
    """Store a file. A `purpose` that comes before the file spares it a stop on disk."""
    upload = Upload(request.stream(), request.headers.get("content-type", ""), upload_bytes)
    await upload.open()
    filename = checked_filename(upload.filename)
    async with aclosing(upload.content()) as content:
        stored = await _store(knowledge, filename, upload, content)
    UPLOADED_BYTES.inc(upload.size_bytes)
    return FileRead.of(stored)


@router.get("", dependencies=[NEWEST_FIRST])
async def list_files(
    knowledge: KnowledgePort, page: LongPage, purpose: Annotated[str, Query(max_length=64)] = ""
) -> ListOf[FileRead]:
    """List files, newest first."""
    listed = await knowledge.list_files(page, purpose)
    return ListOf.of((FileRead.of(file) for file in listed.items), has_more=listed.has_more)


@router.get("/{file_id}")
async def get_file(file_id: PathId, knowledge: KnowledgePort) -> FileRead:
    """Read a file's record."""
    return FileRead.of(await knowledge.get_file(file_id))


@router.get("/{file_id}/content", response_class=StreamingResponse)
async def get_file_content(file_id: PathId, knowledge: KnowledgePort) -> Download:
    """Read a file's bytes."""
    file = await knowledge.get_file(file_id)
    pieces = knowledge.download(file_id)
    # The first piece before the status line: a file that is gone by now is still a 404.
    first = await anext(pieces, b"")
    headers = {
        "content-length": str(file.size_bytes),
        "content-disposition": f"attachment; filename*=UTF-8''{quote(file.filename, safe='')}",
    }
    return Download(_from(first, pieces), headers)


@router.delete("/{file_id}")
async def delete_file(file_id: PathId, knowledge: KnowledgePort) -> Deleted:
    """Delete a file, and what was indexed of it."""
    await knowledge.delete_file(file_id)
    return Deleted(id=file_id, object="file")


def checked_filename(filename: str) -> str:
    """Keep the last part of a path, as browsers do. Raises InvalidRequest when nothing is left."""
    name = filename.replace("\\", "/").rsplit("/", 1)[-1].strip()
    if not 1 <= len(name) <= LONGEST_FILENAME or any(unicodedata.category(sign) == "Cc" for sign in name):
        raise InvalidRequest(
            f"A file needs a name of 1 to {LONGEST_FILENAME} characters, none of control.", param="file"
        )
    return name


def checked_purpose(purpose: str | None) -> str:
    """Raises InvalidRequest."""
    if purpose not in PURPOSES:
        raise InvalidRequest(f"purpose must be one of {', '.join(sorted(PURPOSES))}.", param="purpose")
    return purpose


async def _store(knowledge: Knowledge, filename: str, upload: Upload, content: AsyncIterator[bytes]) -> File:
    if "purpose" in upload.fields:
        return await knowledge.upload(filename, checked_purpose(upload.fields["purpose"]), content)
    # Some clients send the purpose after the file, and retrieval wants to know it first.
    with await spooled(content) as spool:
        return await knowledge.upload(filename, checked_purpose(upload.fields.get("purpose")), read_back(spool))


async def _from(first: bytes, rest: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    async with aclosing(rest):
        yield first
        async for piece in rest:
            yield piece
