"""A provider with minimal CPU cost, for the bench: prepared bytes, one process, no framework.

The first word of the path says how it answers: `instant` (at once; a stream as fast as the socket takes it, a write
per chunk), `paced` (a chunk every 50 ms), `silent` (one chunk, then nothing until the caller leaves).
Run it: python -m tests.load.upstream --port 8100. It ends when its standard input does, so never after its parent.
"""

import argparse
import asyncio
import sys
from typing import Any

import httptools
import uvloop

from tests.load.payloads import complete_response, stream_pieces

INTERVAL_SECONDS = 0.05
ANSWER, PIECES = complete_response(), stream_pieces()
MODELS = b'HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 27\r\n\r\n{"object":"list","data":[]}'


class Provider(asyncio.Protocol):
    """One connection, one request at a time."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._transport: Any = None
        self._parser: Any = httptools.HttpRequestParser(self)
        self._body: list[bytes] = []
        self._path = b""
        self._waiting: list[tuple[bytes, bool]] = []
        self._streaming = False
        self._timer: asyncio.Handle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._transport.abort()

    def connection_lost(self, error: Exception | None) -> None:
        if self._timer:
            self._timer.cancel()

    def abort(self) -> None:
        """Close without a shutdown."""
        self._transport.abort()

    def on_url(self, url: bytes) -> None:
        self._path = url

    def on_body(self, part: bytes) -> None:
        self._body.append(part)

    def on_message_complete(self) -> None:
        body, self._body = b"".join(self._body), []
        # Compact or with a space; no other text of the bench's bodies matches.
        streamed = b'"stream":true' in body or b'"stream": true' in body
        if self._streaming:
            self._waiting.append((self._path, streamed))
        else:
            self._answer(self._path, streamed)

    def _answer(self, path: bytes, streamed: bool) -> None:
        if not path.startswith((b"/instant/", b"/paced/", b"/silent/")) or path.endswith(b"/models"):
            self._transport.write(MODELS)
        elif not streamed:
            self._transport.write(ANSWER)
        elif path.startswith(b"/silent/"):
            self._transport.write(PIECES[0] + PIECES[1])
        else:
            self._streaming = True
            pause = INTERVAL_SECONDS if path.startswith(b"/paced/") else 0.0
            self._next(0, pause, self._loop.time())

    def _next(self, index: int, pause: float, due: float) -> None:
        """Write piece `index` and schedule the next, relative to the first, so that delays do not add up."""
        self._transport.write(PIECES[index])
        index += 1
        if index == len(PIECES):
            self._end()
        elif pause and index < len(PIECES) - 1:  # the end follows the last chunk immediately
            self._timer = self._loop.call_at(due + pause, self._next, index, pause, due + pause)
        else:
            self._timer = self._loop.call_soon(self._next, index, pause, due)

    def _end(self) -> None:
        self._streaming, self._timer = False, None
        while self._waiting and not self._streaming:
            self._answer(*self._waiting.pop(0))


async def serve(port: int) -> None:
    """Serve until standard input closes."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Provider(loop), "127.0.0.1", port, backlog=2048)
    print("ready", flush=True)
    ended = asyncio.Event()
    loop.add_reader(sys.stdin.fileno(), ended.set)
    await ended.wait()
    server.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, required=True)
    uvloop.run(serve(parser.parse_args().port))
