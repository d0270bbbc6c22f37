"""HTTP/1.1 as far as providers need it: one POST at a time on a connection, and its response as it arrives.

llhttp parses (through httptools, as in uvicorn); bounds, back-pressure and the reuse of connections are decided here.
"""

import asyncio
from collections.abc import Sequence
from time import monotonic
from typing import Protocol, cast

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

from inference_worker.providers.transport.content_encoding import ContentDecoder

MAX_BUFFERED_BYTES = 128 * 1024
"""Receive-buffer limit; reading pauses above it."""

MAX_OVERHEAD_BYTES = 64 * 1024
"""Limit of heads, trailers and chunk extensions in a row; providers' heads are below 8 KiB."""


class ConnectionLost(Exception):
    """The connection ended before its response did; `clean` when the peer closed it without an error."""

    def __init__(self, message: str = "the connection was lost", *, clean: bool = False) -> None:
        super().__init__(message)
        self.clean = clean


class ProtocolError(ConnectionLost):
    """The peer does not follow HTTP, or exceeds a limit."""


class ConnectionOwner(Protocol):
    """The pool, as its connections see it."""

    def release(self, connection: "Connection") -> None:
        """Take back a connection that can carry another request."""

    def discard(self, connection: "Connection") -> None:
        """Forget a connection that is closed."""


class Response:
    """The response to one request. It holds its connection until it is complete, or closed."""

    __slots__ = (
        *("_connection", "_error", "_linger_timer", "_pieces", "_waiter"),
        *(
            "buffered_bytes",
            "complete",
            "compute_tokens",
            "content_encoding",
            "content_type",
            "decoder",
            "last_byte_at",
            "on_body",
        ),
        *("reusable", "secrets", "self_delimited", "status", "waits"),
    )

    def __init__(self, connection: "Connection") -> None:
        self._connection = connection
        self._error: ConnectionLost | None = None
        self._linger_timer: asyncio.TimerHandle | None = None
        self._pieces: list[bytes] = []
        # The parser appends pieces of the body itself: there are as many as tokens.
        self.on_body = self._pieces.append
        self._waiter: asyncio.Future[None] | None = None
        self.buffered_bytes = 0
        """Received and not read yet, with framing."""
        self.status = 0
        self.waits: dict[str, str] = {}
        """Headers that tell how long to wait, by their names in lower case; kept for refusals only."""
        self.secrets: tuple[str, ...] = ()
        """What the request was sent with, and no message may quote."""
        self.content_type = ""
        """The media type in lower case, without its parameters."""
        self.content_encoding = ""
        self.compute_tokens = ""
        """The header in which Text Embeddings Inference reports its usage."""
        self.decoder: ContentDecoder | None = None
        """Set by the client, for a body that is compressed."""
        self.last_byte_at = monotonic()
        """When anything arrived, on the monotonic clock: keep-alives count, too."""
        self.self_delimited = False
        """Whether a header tells where the body ends; else it ends with the connection."""
        self.complete = False
        self.reusable = False
        """Whether the connection may carry another request afterwards."""

    @property
    def started(self) -> bool:
        """Whether the final head has arrived: a 1xx only announces another."""
        return self.status >= 200

    @property
    def exhausted(self) -> bool:
        """Whether everything has arrived and was read."""
        return self.complete and not self._pieces

    @property
    def pieces(self) -> int:
        """How many pieces of the body wait to be read."""
        return len(self._pieces)

    async def read_head(self) -> int:
        """Wait for the head and return its status. Raises `ConnectionLost`."""
        while not self.started:
            await self._wait()
        return self.status

    async def read(self) -> bytes:
        """Wait for a byte of the body and return all that has arrived; empty at the end. Raises `ConnectionLost`."""
        while not self._pieces:
            if self.complete:
                return b""
            await self._wait()
        body = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
        self._pieces.clear()
        self.buffered_bytes = 0
        if not self.complete:
            self._connection.resume()
        return body

    def close(self) -> None:
        """Abort the connection, unless the response is complete. May be called again."""
        if not self.complete:
            self._connection.abort()

    def linger(self, seconds: float) -> None:
        """Allow the unread rest `seconds` to arrive, so that the connection can be reused; then close."""
        if not self.complete:
            self._linger_timer = asyncio.get_running_loop().call_later(seconds, self.close)

    def wake_reader(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def end(self, error: ConnectionLost | None) -> None:
        if self._linger_timer is not None:
            self._linger_timer.cancel()
        if error is not None and not self.complete:
            self.complete = self.started and not self.self_delimited and error.clean
            self._error = error
        self.wake_reader()

    async def _wait(self) -> None:
        if self._error is not None:
            raise self._error
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    # httptools calls the methods below.

    def on_message_begin(self) -> None:
        """Stop the parser at a second response to one request."""
        if self.complete:
            raise ProtocolError("more responses than requests")

    def on_header(self, name: bytes, value: bytes) -> None:
        name = name.lower()
        if name in (b"content-length", b"transfer-encoding"):
            self.self_delimited = True
        elif name == b"content-encoding":
            self.content_encoding = value.decode("latin-1").strip().lower()
        elif name == b"content-type":
            self.content_type = value.decode("latin-1").partition(";")[0].strip().lower()
        elif name == b"x-compute-tokens":
            self.compute_tokens = value.decode("latin-1").strip()
        elif b"retry-after" in name or b"ratelimit" in name:
            self.waits[name.decode("latin-1")] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        """Called for each 1xx head, too."""
        self.status, self.reusable = self._connection.parsed_head()

    def on_message_complete(self) -> None:
        self.complete = self.started


class Connection(asyncio.Protocol):
    __slots__ = ("_overhead_bytes", "_owner", "_parser", "_paused", "_response", "busy", "idle_since", "transport")

    def __init__(self, owner: ConnectionOwner) -> None:
        self._owner = owner
        self.transport: asyncio.Transport | None = None
        self._parser: HttpResponseParser | None = None
        self._response: Response | None = None
        self._paused = False
        self._overhead_bytes = 0
        # Set by the owner alone.
        self.busy = False
        self.idle_since = 0.0

    @property
    def usable(self) -> bool:
        """Whether a request can be sent."""
        return self.transport is not None and self._response is None and not self.transport.is_closing()

    def send(self, parts: Sequence[bytes]) -> Response:
        """Send the parts of a request; the connection must be usable."""
        if self.transport is None:
            raise RuntimeError("not connected")
        response = self._response = Response(self)
        self._parser = HttpResponseParser(response)
        self._overhead_bytes = 0
        self.transport.writelines(parts)
        return response

    def abort(self) -> None:
        if self.transport is not None:
            self.transport.abort()

    def resume(self) -> None:
        """Read on, after the buffer was emptied."""
        if self._paused and self.transport is not None:
            self._paused = False
            self.transport.resume_reading()

    def parsed_head(self) -> tuple[int, bool]:
        """Return the parsed status, and whether the connection stays open after the body."""
        parser = self._parser
        return (0, False) if parser is None else (parser.get_status_code(), bool(parser.should_keep_alive()))

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Parse; bytes without a request end the connection."""
        response, parser = self._response, self._parser
        if response is None or parser is None:
            self.abort()
            return
        pieces = response.pieces
        try:
            parser.feed_data(data)
        except (HttpParserError, HttpParserUpgrade) as error:
            # A response that was complete before stays valid.
            self._finish(ProtocolError(str(error)))
            return
        if response.complete:
            self._finish(None)
            return
        response.wake_reader()
        response.last_byte_at = monotonic()
        response.buffered_bytes += len(data)
        self._overhead_bytes = 0 if response.pieces > pieces else self._overhead_bytes + len(data)
        if self._overhead_bytes > MAX_OVERHEAD_BYTES:
            self._finish(ProtocolError("headers or framing without a body exceed the limit"))
        elif response.buffered_bytes > MAX_BUFFERED_BYTES and not self._paused and self.transport is not None:
            self._paused = True
            self.transport.pause_reading()

    def connection_lost(self, error: Exception | None) -> None:
        self.transport = None
        self._finish(ConnectionLost(clean=error is None))
        self._owner.discard(self)

    def _finish(self, error: ConnectionLost | None) -> None:
        response, self._response, self._parser = self._response, None, None
        if response is None:
            return
        response.end(error)
        # After an early response the unsent rest of its request would be taken for the next one.
        sent = self.transport is not None and not self.transport.get_write_buffer_size()
        if error is None and response.reusable and sent:
            self.resume()
            self._owner.release(self)
        else:
            self.abort()
