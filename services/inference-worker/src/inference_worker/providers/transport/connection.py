"""HTTP/1.1 as far as calling providers needs it: a POST at a time on a connection, and its reply as it comes.

llhttp parses (through httptools, as in uvicorn); bounds, backpressure and what may be used again are decided here.
"""

import asyncio
from collections.abc import Sequence
from typing import Protocol, cast

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

HIGH_BYTES = 128 * 1024
"""Of a reply that nobody reads, more than this stays with its sender."""

WASTE_BYTES = 64 * 1024
"""Heads, trailers and chunk extensions that are listened to in a row; providers' heads are below 8 KiB."""


class Broken(Exception):
    """The connection ended before its reply did; `orderly` if the other side just closed it."""

    def __init__(self, message: str = "the connection was lost", *, orderly: bool = False) -> None:
        super().__init__(message)
        self.orderly = orderly


class NotHttp(Broken):
    """What came does not follow HTTP, or not within bounds."""


class Home(Protocol):
    """Where connections come from and go back to."""

    def back(self, connection: "Connection") -> None:
        """It may carry another request."""

    def gone(self, connection: "Connection") -> None:
        """It is closed."""


class Reply:
    """What comes back for one request. The connection is its own until it is complete, or closed."""

    __slots__ = (
        *("_connection", "_failure", "_lingering", "_pieces", "_waiter"),
        *("complete", "encoded", "framed", "held", "on_body", "retry_after", "reusable", "status"),
    )

    def __init__(self, connection: "Connection") -> None:
        self._connection = connection
        self._failure: Broken | None = None
        self._lingering: asyncio.TimerHandle | None = None
        self._pieces: list[bytes] = []
        # The parser puts pieces there itself: there are as many as tokens.
        self.on_body = self._pieces.append
        self._waiter: asyncio.Future[None] | None = None
        self.held = 0
        """Bytes that wait to be read, with what frames them."""
        self.status = 0
        self.retry_after = ""
        self.encoded = False
        """Compressed, although nobody asked for it."""
        self.framed = False
        """It says itself where its body ends; else the end of the connection is the end of the body."""
        self.complete = False
        self.reusable = False
        """Whether the connection may carry another request afterwards."""

    @property
    def begun(self) -> bool:
        """Whether the head is there: 1xx only says to wait for another."""
        return self.status >= 200

    @property
    def exhausted(self) -> bool:
        """Whether everything has arrived and was read."""
        return self.complete and not self._pieces

    async def head(self) -> int:
        """Wait for the head; answers its status. Raises `Broken`."""
        while not self.begun:
            await self._news()
        return self.status

    async def read(self) -> bytes:
        """Whatever of the body has arrived, waiting for the first byte of it; empty at the end. Raises `Broken`."""
        while not self._pieces:
            if self.complete:
                return b""
            await self._news()
        body = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
        self._pieces.clear()
        self.held = 0
        if not self.complete:
            self._connection.resume()
        return body

    def close(self) -> None:
        """Break the connection off, unless the reply is complete. Safe to repeat."""
        if not self.complete:
            self._connection.abort()

    def linger(self, seconds: float) -> None:
        """Nobody waits for the rest any more: what has not come within `seconds` is broken off."""
        if not self.complete:
            self._lingering = asyncio.get_running_loop().call_later(seconds, self.close)

    @property
    def pieces(self) -> int:
        """How many pieces of the body wait to be read."""
        return len(self._pieces)

    def wake(self) -> None:
        """Let the reader look again."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def end(self, failure: Broken | None) -> None:
        """Nothing more comes."""
        if self._lingering is not None:
            self._lingering.cancel()
        if failure is not None and not self.complete:
            self.complete = self.begun and not self.framed and failure.orderly
            self._failure = failure
        self.wake()

    async def _news(self) -> None:
        if self._failure is not None:
            raise self._failure
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    # From here on: what the parser says.

    def on_message_begin(self) -> None:
        """A second reply to one request is nobody's: the parser stops here."""
        if self.complete:
            raise NotHttp("more replies than requests")

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep what decides on anything."""
        name = name.lower()
        if name in (b"content-length", b"transfer-encoding"):
            self.framed = True
        elif name == b"content-encoding":
            self.encoded = value.lower() != b"identity"
        elif name == b"retry-after":
            self.retry_after = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        """The head is there, perhaps one of several."""
        self.status, self.reusable = self._connection.parsed()

    def on_message_complete(self) -> None:
        """The reply is whole."""
        self.complete = self.begun


class Connection(asyncio.Protocol):
    """One connection."""

    __slots__ = ("_home", "_parser", "_paused", "_reply", "_transport", "_wasted", "busy", "idle_since")

    def __init__(self, home: Home) -> None:
        self._home = home
        self._transport: asyncio.Transport | None = None
        self._parser: HttpResponseParser | None = None
        self._reply: Reply | None = None
        self._paused = False
        self._wasted = 0
        # The home's own notes.
        self.busy = False
        self.idle_since = 0.0

    @property
    def usable(self) -> bool:
        """Whether a request can be sent."""
        return self._transport is not None and self._reply is None and not self._transport.is_closing()

    def request(self, parts: Sequence[bytes]) -> Reply:
        """Send a request's bytes; the connection must be usable."""
        if self._transport is None:
            raise RuntimeError("not connected")
        reply = self._reply = Reply(self)
        self._parser = HttpResponseParser(reply)
        self._wasted = 0
        self._transport.writelines(parts)
        return reply

    def abort(self) -> None:
        """Drop the connection, at once."""
        if self._transport is not None:
            self._transport.abort()

    def resume(self) -> None:
        """Let more come, once what came was read."""
        if self._paused and self._transport is not None:
            self._paused = False
            self._transport.resume_reading()

    def parsed(self) -> tuple[int, bool]:
        """The status that was read, and whether the connection stays open after the body."""
        parser = self._parser
        return (0, False) if parser is None else (parser.get_status_code(), bool(parser.should_keep_alive()))

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Parse; what nobody asked for ends the connection."""
        reply, parser = self._reply, self._parser
        if reply is None or parser is None:
            self.abort()
            return
        pieces = reply.pieces
        try:
            parser.feed_data(data)
        except (HttpParserError, HttpParserUpgrade) as error:
            # A complete reply stays one, whatever came after it.
            self._finish(NotHttp(str(error)))
            return
        if reply.complete:
            self._finish(None)
            return
        reply.wake()
        reply.held += len(data)
        self._wasted = 0 if reply.pieces > pieces else self._wasted + len(data)
        if self._wasted > WASTE_BYTES:
            self._finish(NotHttp("much was said, and no body"))
        elif reply.held > HIGH_BYTES and not self._paused and self._transport is not None:
            self._paused = True
            self._transport.pause_reading()

    def connection_lost(self, error: Exception | None) -> None:
        """Whatever was being waited for does not come any more."""
        self._transport = None
        self._finish(Broken(orderly=error is None))
        self._home.gone(self)

    def _finish(self, failure: Broken | None) -> None:
        reply, self._reply, self._parser = self._reply, None, None
        if reply is None:
            return
        reply.end(failure)
        # A request that was answered before all of it was sent leaves its rest in the way of the next.
        sent = self._transport is not None and not self._transport.get_write_buffer_size()
        if failure is None and reply.reusable and sent:
            self.resume()
            self._home.back(self)
        else:
            self.abort()
