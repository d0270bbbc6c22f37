"""HTTP servers on loopback that receive webhooks: scripted, and counting every connection."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from ssl import SSLContext


@dataclass
class Request:
    line: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Reply:
    """An answer; `drip` sends it a byte at a time and never ends, `hang` says nothing."""

    status: int = 200
    body: bytes = b"ok"
    headers: dict[str, str] = field(default_factory=dict)
    hang: bool = False
    drip: bool = False


Script = Callable[[Request], Awaitable[Reply] | Reply]


class Receiver:
    """Counts connections, keeps requests, answers by `script`."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.connections = 0
        self.requests: list[Request] = []
        self.port = 0
        self._handlers: set[asyncio.Task[None]] = set()

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.current_task()
        assert task is not None
        self._handlers.add(task)
        try:
            with suppress(ConnectionError, asyncio.IncompleteReadError):
                request = await read_request(reader)
                self.requests.append(request)
                answer = self.script(request)
                await send(reader, writer, answer if isinstance(answer, Reply) else await answer)
        except asyncio.CancelledError:
            pass  # the test is over
        finally:
            self._handlers.discard(task)
            writer.close()

    async def close(self) -> None:
        for task in list(self._handlers):
            task.cancel()
        await asyncio.gather(*self._handlers, return_exceptions=True)


async def read_request(reader: asyncio.StreamReader) -> Request:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    headers = {}
    for line in head[1:]:
        name, separator, value = line.partition(":")
        if separator:
            headers[name.strip().lower()] = value.strip()
    body = await reader.readexactly(int(headers.get("content-length", 0)))
    return Request(head[0], headers, body)


async def read_to_end(reader: asyncio.StreamReader) -> None:
    with suppress(ConnectionError):
        await reader.read()


async def send(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, reply: Reply) -> None:
    if reply.hang:
        await read_to_end(reader)  # until the client gives up
        return
    head = f"HTTP/1.1 {reply.status} Status\r\nContent-Length: {len(reply.body)}\r\nConnection: close\r\n"
    head += "".join(f"{name}: {value}\r\n" for name, value in reply.headers.items()) + "\r\n"
    if reply.drip:
        left = asyncio.create_task(read_to_end(reader))
        for byte in head.encode()[:-2]:
            writer.write(bytes([byte]))
            await writer.drain()
            if (await asyncio.wait([left], timeout=0.5))[0]:
                return
        await left
        return
    writer.write(head.encode() + reply.body)
    await writer.drain()


@asynccontextmanager
async def receiving(
    script: Script, host: str = "127.0.0.1", port: int = 0, ssl: SSLContext | None = None
) -> AsyncIterator[Receiver]:
    receiver = Receiver(script)
    server = await asyncio.start_server(receiver.handle, host, port, ssl=ssl, backlog=1024)
    receiver.port = server.sockets[0].getsockname()[1]
    try:
        yield receiver
    finally:
        server.close()
        await receiver.close()
        await server.wait_closed()


def always(reply: Reply) -> Script:
    return lambda _: reply
