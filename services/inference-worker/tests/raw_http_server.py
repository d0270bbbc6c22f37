"""An upstream that answers with the very bytes that a test wants."""

import asyncio
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from inference_worker.adapters.http import Endpoint, HttpUpstream
from provider_contract import until

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"
CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
UNTIL_CLOSED = b"HTTP/1.1 200 OK\r\n\r\n"


class Peer:
    """Answers every request with the same bytes, in pieces, and does `then` with the connection."""

    def __init__(self, *pieces: bytes, then: Callable[[asyncio.StreamWriter], Any] | None = None) -> None:
        self.pieces = pieces
        self.then = then
        self.heads: list[bytes] = []
        self.connections = 0
        self.open = 0
        self.hold: Awaitable[Any] | None = None

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.open += 1
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                self.heads.append(head)
                length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
                await reader.readexactly(length)
                if self.hold is not None:
                    await self.hold
                for piece in self.pieces:
                    writer.write(piece)
                    await writer.drain()
                    await asyncio.sleep(0)
                if self.then is not None:
                    self.then(writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self.open -= 1
            writer.close()

    @asynccontextmanager
    async def upstream(self, tls: ssl.SSLContext | None = None, **bounds: Any) -> AsyncIterator[HttpUpstream]:
        async with await asyncio.start_server(self.answer, "127.0.0.1", 0, ssl=tls) as server:
            port = server.sockets[0].getsockname()[1]
            scheme, host = ("https", "localhost") if tls else ("http", "127.0.0.1")
            async with HttpUpstream(Endpoint(f"{scheme}://{host}:{port}/v1/", {}, **bounds)) as upstream:
                yield upstream
            await until(lambda: not self.open)


def close(writer: asyncio.StreamWriter) -> None:
    writer.close()


def reset(writer: asyncio.StreamWriter) -> None:
    # Without lingering the end is no orderly one.
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def ask(upstream: HttpUpstream, body: bytes = b"{}") -> bytes:
    return await upstream.read_whole(await upstream.post("/chat", body))
