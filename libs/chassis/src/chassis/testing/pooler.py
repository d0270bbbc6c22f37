"""A fake connection pooler in front of Postgres that drops start-up parameters, as pgbouncer can be told to."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

KEPT = (b"user", b"database", b"client_encoding", b"application_name")
SSL_REQUEST = 80877103


@asynccontextmanager
async def dropping_pooler(target_port: int) -> AsyncIterator[int]:
    """Serve on a port of the loopback, which it yields, what Postgres serves on `target_port`."""
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.IncompleteReadError):
            code, body = await _startup(reader)
            if code == SSL_REQUEST:
                writer.write(b"N")
                code, body = await _startup(reader)
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", target_port)
            far_writer.write(_without_parameters(code, body))
            back = asyncio.create_task(_pump(far_reader, writer))
            tasks.add(back)
            await _pump(reader, far_writer)
        writer.transport.abort()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _startup(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    length, code = struct.unpack("!II", await reader.readexactly(8))
    return code, await reader.readexactly(length - 8)


def _without_parameters(code: int, body: bytes) -> bytes:
    fields = body.rstrip(b"\0").split(b"\0")
    pairs = zip(fields[::2], fields[1::2], strict=False)
    kept = b"".join(name + b"\0" + value + b"\0" for name, value in pairs if name in KEPT) + b"\0"
    return struct.pack("!II", len(kept) + 8, code) + kept


async def _pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await source.read(65536):
            sink.write(data)
            await sink.drain()
    sink.transport.abort()
