"""An upstream that responds with exactly the bytes of a test."""

import asyncio
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from inference_worker.providers.transport.http import Endpoint, HttpClient
from provider_contract import until

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"
CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
UNTIL_CLOSED = b"HTTP/1.1 200 OK\r\n\r\n"


class RawHttpServer:
    """Sends the same pieces for every request, and then calls `then` with the connection."""

    def __init__(self, *pieces: bytes, then: Callable[[asyncio.StreamWriter], Any] | None = None) -> None:
        self.pieces = pieces
        self.then = then
        self.heads: list[bytes] = []
        self.bodies: list[bytes] = []
        self.connections = 0
        self.open = 0
        self.before_response: Awaitable[Any] | None = None

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.open += 1
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                self.heads.append(head)
                length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
                self.bodies.append(await reader.readexactly(length))
                if self.before_response is not None:
                    await self.before_response
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
    async def client(self, tls: ssl.SSLContext | None = None, **limits: Any) -> AsyncIterator[HttpClient]:
        """Serve, and open a client."""
        async with await asyncio.start_server(self.handle, "127.0.0.1", 0, ssl=tls) as server:
            port = server.sockets[0].getsockname()[1]
            scheme, host = ("https", "localhost") if tls else ("http", "127.0.0.1")
            async with HttpClient(Endpoint(f"{scheme}://{host}:{port}/v1/", {}, **limits)) as client:
                yield client
            await until(lambda: not self.open)


def close(writer: asyncio.StreamWriter) -> None:
    writer.close()


def reset(writer: asyncio.StreamWriter) -> None:
    # With a linger time of zero the kernel sends RST instead of FIN.
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def post(client: HttpClient, body: bytes = b"{}") -> bytes:
    return await client.read_all(await client.post("/chat", body))
