"""A transport that coalesces the writes of one event loop turn: uvicorn writes a response's head and body separately.

A system call costs about a third of a whole request on the loopback. Delaying a write to the end of the turn costs
no time that a client could measure.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

# More than this is written at once, so that the real transport notices a slow client and pauses the writer.
MAX_BUFFERED_BYTES: Final = 32 * 1024


class CoalescingTransport(asyncio.Transport):
    """Wraps the real transport."""

    __slots__ = ("_chunks", "_loop", "_size_bytes", "_transport")

    def __init__(self, transport: asyncio.Transport) -> None:
        super().__init__()
        self._transport = transport
        self._loop = asyncio.get_running_loop()
        self._chunks: list[bytes] = []
        self._size_bytes = 0

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Write `data` at the end of this turn."""
        if not self._chunks:
            self._loop.call_soon(self._flush)
        self._chunks.append(bytes(data))
        self._size_bytes += len(data)
        if self._size_bytes > MAX_BUFFERED_BYTES:
            self._flush()

    def close(self) -> None:
        """Write what is buffered, then close."""
        self._flush()
        self._transport.close()

    def abort(self) -> None:
        """Close and drop what is buffered."""
        self._chunks.clear()
        self._transport.abort()

    def write_eof(self) -> None:
        """Write what is buffered, then close this half."""
        self._flush()
        self._transport.write_eof()

    def can_write_eof(self) -> bool:
        return self._transport.can_write_eof()

    def get_write_buffer_size(self) -> int:
        return self._size_bytes + self._transport.get_write_buffer_size()

    def is_closing(self) -> bool:
        return self._transport.is_closing()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._transport.get_extra_info(name, default)

    def pause_reading(self) -> None:
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        self._transport.resume_reading()

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._transport.set_protocol(protocol)

    def _flush(self) -> None:
        chunks = self._chunks
        if not chunks:
            return
        data = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        chunks.clear()
        self._size_bytes = 0
        self._transport.write(data)


class CoalescingProtocol(HttpToolsProtocol):
    """uvicorn's HTTP protocol over a coalescing transport."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # uvicorn's own
        super().connection_made(CoalescingTransport(transport))
