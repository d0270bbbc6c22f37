"""Multipart uploads, taken apart as they arrive: never more than one network read of a file is in memory."""

import asyncio
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass
from typing import IO

from chassis.errors import InvalidRequest, Unavailable
from chassis.http import RequestTooLarge
from python_multipart import MultipartParser
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import parse_options_header

LONGEST_FIELD = 64 * 1024
MOST_FIELDS = 32
SPOOL_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Field:
    """A field that is not a file."""

    name: str
    value: str


@dataclass(frozen=True, slots=True)
class FileBegun:
    """A file's bytes follow."""

    name: str
    filename: str


@dataclass(frozen=True, slots=True)
class FileEnded:
    """All bytes of the file have come."""


Event = Field | FileBegun | bytes | FileEnded


class Form:
    """A push parser: bytes in, events out."""

    def __init__(self, content_type: str) -> None:
        kind, options = parse_options_header(content_type)
        if kind != b"multipart/form-data" or not options.get(b"boundary"):
            raise InvalidRequest("The body must be multipart/form-data.")
        self.ended = False
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
        """Parse what came. Raises InvalidRequest."""
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
        _, options = parse_options_header(self._headers.get(b"content-disposition", b""))
        self._name = options.get(b"name", b"").decode("utf-8", "replace")
        self._fields += 1
        if self._fields > MOST_FIELDS:
            raise InvalidRequest(f"The form has more than {MOST_FIELDS} parts.")
        filename = options.get(b"filename")
        self._text = bytearray() if filename is None else None
        if filename is not None:
            self._events.append(FileBegun(self._name, filename.decode("utf-8", "replace")))

    def _on_part_data(self, data: bytes, start: int, end: int) -> None:
        if self._text is None:
            self._events.append(data[start:end])
            return
        self._text += data[start:end]
        if len(self._text) > LONGEST_FIELD:
            raise InvalidRequest(f"{self._name} is too long.", param=self._name)

    def _on_part_end(self) -> None:
        if self._text is None:
            self._events.append(FileEnded())
        else:
            self._events.append(Field(self._name, self._text.decode("utf-8", "replace")))

    def _on_end(self) -> None:
        self.ended = True


class Upload:
    """One file and the fields around it, read once, in the order the client sends them."""

    def __init__(self, chunks: AsyncIterator[bytes], content_type: str, limit_bytes: int) -> None:
        self.filename = ""
        self.fields: dict[str, str] = {}
        self.size_bytes = 0
        self._form = Form(content_type)
        self._chunks = chunks
        self._limit_bytes = limit_bytes
        self._waiting: list[Event] = []

    async def open(self) -> None:
        """Read up to the file's first byte. Raises InvalidRequest when there is no file."""
        while (event := await self._next()) is not None:
            if isinstance(event, Field):
                self.fields[event.name] = event.value
            elif isinstance(event, FileBegun) and event.name == "file":
                self.filename = event.filename
                return
            elif isinstance(event, FileBegun):
                raise InvalidRequest(f"{event.name or 'a part'} must not be a file.", param=event.name or None)
        raise InvalidRequest("The form has no part named file.", param="file")

    async def content(self) -> AsyncGenerator[bytes, None]:
        """Read the file, then what follows it. Raises InvalidRequest when the form breaks off, RequestTooLarge."""
        while isinstance(event := await self._next(), bytes):
            self.size_bytes += len(event)
            if self.size_bytes > self._limit_bytes:
                raise RequestTooLarge(f"A file may have at most {self._limit_bytes} bytes.", param="file")
            yield event
        while (event := await self._next()) is not None:
            if isinstance(event, FileBegun):
                raise InvalidRequest("The form has more than one file.", param="file")
            if isinstance(event, Field):
                self.fields[event.name] = event.value
        if not self._form.ended:
            raise InvalidRequest("The multipart body breaks off.")

    async def _next(self) -> Event | None:
        while not self._waiting:
            # What follows the end of the form is nothing, however much of it comes.
            chunk = None if self._form.ended else await anext(self._chunks, None)
            if chunk is None:
                return None
            self._waiting = self._form.feed(chunk)
            self._waiting.reverse()
        return self._waiting.pop()


async def spooled(content: AsyncIterator[bytes]) -> IO[bytes]:
    """Keep a file on disk until its fields are known. Raises Unavailable when the disk does not take it."""
    spool = await asyncio.to_thread(tempfile.TemporaryFile)
    try:
        async for data in content:
            await asyncio.to_thread(spool.write, data)
        await asyncio.to_thread(spool.seek, 0)
    except BaseException as error:
        spool.close()
        if isinstance(error, OSError):
            raise Unavailable("There is no room for the file right now.") from error
        raise
    return spool


async def read_back(spool: IO[bytes]) -> AsyncIterator[bytes]:
    """Read what was spooled."""
    while data := await asyncio.to_thread(spool.read, SPOOL_BYTES):
        yield data
