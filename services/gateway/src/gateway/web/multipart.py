"""Parse multipart uploads as they arrive: at most one network read of a file is in memory."""

import asyncio
import re
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass
from typing import IO

from chassis.errors import InvalidRequest, Unavailable
from chassis.http import RequestTooLarge
from python_multipart import MultipartParser
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import parse_options_header

MAX_FIELD_BYTES = 64 * 1024
MAX_FIELDS = 32
SPOOL_READ_BYTES = 1024 * 1024

_QUOTED = re.compile(rb'"(?:[^"\\]|\\.)*"')
_EXTENDED_PARAMETER = re.compile(rb";\s*(?:file)?name\*", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Field:
    name: str
    value: str


@dataclass(frozen=True, slots=True)
class FileStart:
    """A file part starts; its bytes follow."""

    name: str
    filename: str


@dataclass(frozen=True, slots=True)
class FileEnd:
    """The file part is complete."""


Event = Field | FileStart | bytes | FileEnd


class FormParser:
    """A push parser: bytes in, events out."""

    def __init__(self, content_type: str) -> None:
        kind, options = parse_options_header(content_type)
        if kind != b"multipart/form-data" or not options.get(b"boundary"):
            raise InvalidRequest("The body must be multipart/form-data.")
        self.finished = False
        self._events: list[Event] = []
        self._headers: dict[bytes, bytes] = {}
        self._header, self._value = b"", b""
        self._name = ""
        self._text: bytearray | None = None
        self._fields = 0
        try:
            self._parser = MultipartParser(
                options[b"boundary"],
                {
                    "on_part_begin": self._headers.clear,
                    "on_header_field": self._on_header_field,
                    "on_header_value": self._on_header_value,
                    "on_header_end": self._on_header_end,
                    "on_headers_finished": self._on_headers_finished,
                    "on_part_data": self._on_part_data,
                    "on_part_end": self._on_part_end,
                    "on_end": self._on_end,
                },
            )
        except FormParserError as error:
            raise InvalidRequest("The multipart boundary is malformed.") from error

    def feed(self, data: bytes) -> list[Event]:
        try:
            self._parser.write(data)
        except FormParserError as error:
            raise InvalidRequest("The multipart body is malformed.") from error
        events, self._events = self._events, []
        return events

    def _on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _on_header_end(self) -> None:
        self._headers[self._header.lower()] = self._value
        self._header, self._value = b"", b""

    def _on_headers_finished(self) -> None:
        disposition = self._headers.get(b"content-disposition", b"")
        _, options = parse_options_header(disposition)
        if _EXTENDED_PARAMETER.search(_QUOTED.sub(b'""', disposition)):
            raise InvalidRequest(
                "A part has filename* or name*, which RFC 7578 forbids in forms; send filename, in UTF-8.",
                param="filename*",
            )
        self._name = options.get(b"name", b"").decode("utf-8", "replace")
        self._fields += 1
        if self._fields > MAX_FIELDS:
            raise InvalidRequest(f"The form has more than {MAX_FIELDS} parts.")
        filename = options.get(b"filename")
        self._text = bytearray() if filename is None else None
        if filename is not None:
            self._events.append(FileStart(self._name, filename.decode("utf-8", "replace")))

    def _on_part_data(self, data: bytes, start: int, end: int) -> None:
        if self._text is None:
            self._events.append(data[start:end])
            return
        self._text += data[start:end]
        if len(self._text) > MAX_FIELD_BYTES:
            raise InvalidRequest(f"{self._name} is too long.", param=self._name)

    def _on_part_end(self) -> None:
        if self._text is None:
            self._events.append(FileEnd())
        else:
            self._events.append(Field(self._name, self._text.decode("utf-8", "replace")))

    def _on_end(self) -> None:
        self.finished = True


class Upload:
    """One file and the fields around it, read once, in the order in which the client sends them."""

    def __init__(self, chunks: AsyncIterator[bytes], content_type: str, limit_bytes: int) -> None:
        self.filename = ""
        self.fields: dict[str, str] = {}
        self.size_bytes = 0
        self._parser = FormParser(content_type)
        self._chunks = chunks
        self._limit_bytes = limit_bytes
        self._pending: list[Event] = []

    async def open(self) -> None:
        """Read up to the file's first byte. Raises InvalidRequest when there is no file."""
        while (event := await self._next()) is not None:
            if isinstance(event, Field):
                self.fields[event.name] = event.value
            elif isinstance(event, FileStart) and event.name == "file":
                self.filename = event.filename
                return
            elif isinstance(event, FileStart):
                raise InvalidRequest(f"{event.name or 'a part'} must not be a file.", param=event.name or None)
        raise InvalidRequest("The form has no part named file.", param="file")

    async def content(self) -> AsyncGenerator[bytes, None]:
        """Read the file, then the fields after it. Raises RequestTooLarge, or InvalidRequest for an incomplete form."""
        while isinstance(event := await self._next(), bytes):
            self.size_bytes += len(event)
            if self.size_bytes > self._limit_bytes:
                raise RequestTooLarge(f"A file may have at most {self._limit_bytes} bytes.", param="file")
            yield event
        while (event := await self._next()) is not None:
            if isinstance(event, FileStart):
                raise InvalidRequest("The form has more than one file.", param="file")
            if isinstance(event, Field):
                self.fields[event.name] = event.value
        if not self._parser.finished:
            raise InvalidRequest("The multipart body is incomplete.")

    async def _next(self) -> Event | None:
        while not self._pending:
            # Bytes after the end of the form are ignored.
            chunk = None if self._parser.finished else await anext(self._chunks, None)
            if chunk is None:
                return None
            self._pending = self._parser.feed(chunk)
            self._pending.reverse()
        return self._pending.pop()


async def spool_to_disk(content: AsyncIterator[bytes]) -> IO[bytes]:
    """Keep a file on disk until the fields after it are known. Raises Unavailable when the disk is full."""
    spool = await asyncio.to_thread(tempfile.TemporaryFile)
    try:
        async for data in content:
            await asyncio.to_thread(spool.write, data)
        await asyncio.to_thread(spool.seek, 0)
    except BaseException as error:
        spool.close()
        if isinstance(error, OSError):
            raise Unavailable("There is no space for the file right now.") from error
        raise
    return spool


async def read_spool(spool: IO[bytes]) -> AsyncIterator[bytes]:
    """Read a spooled file, and leave it open."""
    while data := await asyncio.to_thread(spool.read, SPOOL_READ_BYTES):
        yield data
