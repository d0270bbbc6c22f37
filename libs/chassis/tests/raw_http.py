"""Raw HTTP connections to a server with short limits."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

from chassis.http import HttpServer, Receive, Scope, Send, read_body, send_json
from chassis.http.connections import ConnectionLimits

GET = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 100000\r\n\r\n"
QUICK = ConnectionLimits(
    head_timeout=timedelta(seconds=0.2),
    body_timeout=timedelta(seconds=0.2),
    send_timeout=timedelta(seconds=0.3),
    min_body_bytes=1000,
)
"""For tests of what happens when a client is late."""
PATIENT = ConnectionLimits(
    head_timeout=timedelta(seconds=60), body_timeout=timedelta(seconds=60), send_timeout=timedelta(seconds=60)
)
"""For all other tests: on a busy machine anything may take a second."""


async def echo(_scope: Scope, receive: Receive, send: Send) -> None:
    await send_json(send, 200, b"%d" % len(await read_body(receive, 10_000_000)))


@asynccontextmanager
async def served(app: Any = echo, limits: ConnectionLimits = PATIENT) -> AsyncIterator[HttpServer]:
    server = HttpServer(app, "127.0.0.1", 0, limits=limits)
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


class Client:
    """A raw connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def response(self) -> tuple[int, Any]:
        head = await self.reader.readuntil(b"\r\n\r\n")
        length = next(int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.startswith(b"content-length"))
        return int(head.split()[1]), json.loads(await self.reader.readexactly(length))

    async def closed(self) -> bytes:
        """What comes until the server closes."""
        async with asyncio.timeout(30):
            try:
                return await self.reader.read()
            except ConnectionError:
                return b""


@asynccontextmanager
async def connected(server: HttpServer, source: str = "127.0.0.1") -> AsyncIterator[Client]:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port, local_addr=(source, 0))
    try:
        yield Client(reader, writer)
    finally:
        writer.transport.abort()
