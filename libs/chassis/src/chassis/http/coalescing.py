"""Writes of one turn of the event loop, sent as one: uvicorn would send an answer's head and its body apart.

A system call through the loopback costs as much as a third of the request. What is written alone waits for nothing but
the end of the turn in which it was written.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

# Beyond this they are sent at once, so that the real transport can tell when the client is slower than we are.
MOST_WAITING_BYTES: Final = 32 * 1024


class GatheringTransport(asyncio.Transport):
    """A transport in front of another one."""

    __slots__ = ("_loop", "_pieces", "_size_bytes", "_transport")

    def __init__(self, transport: asyncio.Transport) -> None:
        super().__init__()
        self._transport = transport
        self._loop = asyncio.get_running_loop()
        self._pieces: list[bytes] = []
        self._size_bytes = 0

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send `data` at the end of this turn."""
        if not self._pieces:
            self._loop.call_soon(self._flush)
        self._pieces.append(bytes(data))
        self._size_bytes += len(data)
        if self._size_bytes > MOST_WAITING_BYTES:
            self._flush()

    def close(self) -> None:
        """Send what waits, then close."""
        self._flush()
        self._transport.close()

    def abort(self) -> None:
        """Close, and forget what waits."""
        self._pieces.clear()
        self._transport.abort()

    def is_closing(self) -> bool:
        """Whether it is closed or being closed."""
        return self._transport.is_closing()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """What is known of the connection."""
        return self._transport.get_extra_info(name, default)

    def pause_reading(self) -> None:
        """Stop handing data to the protocol."""
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Go on handing data to the protocol."""
        self._transport.resume_reading()

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Hand data to another protocol."""
        self._transport.set_protocol(protocol)

    def _flush(self) -> None:
        pieces = self._pieces
        if not pieces:
            return
        data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        pieces.clear()
        self._size_bytes = 0
        self._transport.write(data)


class GatheringProtocol(HttpToolsProtocol):
    """uvicorn's HTTP, over a transport that gathers."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # uvicorn's own
        """Begin."""
        super().connection_made(GatheringTransport(transport))
