"""uvicorn's HTTP protocol with limits: sizes of heads, time to send and to receive, and which requests are well-formed.

A timer per connection would cost more than the checks: the server sweeps all connections once per second instead.
"""

from __future__ import annotations

import asyncio
import socket
from typing import Any, Final

import httptools
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from chassis.errors import ArgosyError, InvalidRequest
from chassis.http.connections import (
    CoalescingProtocol,
    ConnectionGuard,
    HeadersTooLarge,
    RequestTimedOut,
    UriTooLong,
    client_network,
    raw_response,
)

# After an error, what the client still sends is read and dropped for this long: closing at once would reset the
# connection, and most clients would never see the response.
LINGER_SECONDS: Final = 2.0
MAX_DRAINED_BYTES: Final = 1024 * 1024
# Of a body that was refused: most clients send all of it before they read the response.
MAX_DRAINED_BODY_BYTES: Final = 64 * 1024 * 1024
# Each request that waits for an earlier one of its connection takes some kilobytes, and one read brings thousands.
MAX_PIPELINED: Final = 32
TCP_CLOSE: Final = 7  # Linux, include/net/tcp_states.h


class BoundedProtocol(CoalescingProtocol):
    """Enforces the limits of a `ConnectionGuard`, which the server's config has as `guard`."""

    def __init__(self, config: Any, *args: Any, **options: Any) -> None:
        super().__init__(config, *args, **options)
        self._guard: ConnectionGuard = config.guard
        self._limits = self._guard.limits
        self._max_url_bytes = self._limits.max_url_bytes
        self._max_head_bytes = self._limits.max_head_bytes
        self._max_headers = self._limits.max_headers
        self._address = ""
        self.url: bytes = b""
        self.headers: list[tuple[bytes, bytes]] = []
        self._admitted = False
        # What the client owes: a head, the rest of a body, or neither; since when, or 0 until the next sweep sees it.
        self._in_head = True
        self._in_body = False
        self._since = 0.0
        self._read_bytes = 0
        # Received since the last part of a body: a head, the sizes of chunks, or trailers.
        self._framing_bytes = 0
        self._body_bytes = 0
        self._drained_bytes = 0
        self._unsent_bytes = 0
        self._unsent_since = 0.0
        self._half_closed = False
        self._discarding = True  # until it is admitted, and after an error
        self._linger_until: float | None = None
        self._error: ArgosyError | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # uvicorn's own
        self._address = client_network(transport.get_extra_info("peername"))
        error = self._guard.admit(self, self._address)
        if error is not None:
            transport.write(raw_response(error))
            transport.close()
            return
        self._admitted, self._discarding = True, False
        super().connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._admitted:
            self._guard.release(self, self._address)
            super().connection_lost(exc)
            # Requests that wait refer to this connection, and the garbage collector comes rarely.
            self.pipeline.clear()

    def eof_received(self) -> bool | None:  # type: ignore[override]  # uvicorn closes at once
        """Keep a connection whose client has sent its request and waits for the answer (RFC 9112, 9.6).

        A client that has closed altogether looks the same until something was written to it.
        """
        if not self._admitted or self._linger_until is not None or self._in_body:
            return None
        cycle: RequestResponseCycle | None = self.cycle
        if cycle is None or cycle.response_complete:
            return None
        cycle.keep_alive = False
        self._half_closed = True
        return True

    def data_received(self, data: bytes) -> None:
        if self._discarding:
            self._drain(data, MAX_DRAINED_BYTES)
            return
        self._read_bytes = len(data)
        if self._in_head or self._in_body:
            if self._framing_bytes > self._max_head_bytes:
                self._refuse(self._head_too_large())
                return
            self._framing_bytes += self._read_bytes
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            pass  # the server offers no other protocol, and answers the ordinary request
        except httptools.HttpParserError:
            error, self._error = self._error, None
            if error is None:
                self._refuse(InvalidRequest("This is not a valid HTTP request."), "malformed")
            else:
                self._refuse(error)
        else:
            if self._in_head and (len(self.url) > self._max_url_bytes or len(self.headers) > self._max_headers):
                self._refuse(self._head_too_large())

    def on_message_begin(self) -> None:
        # uvicorn cancels the keep-alive timer for any byte: an empty line would keep the connection for ever.
        self._unset_keepalive_if_required()
        if not self._in_head:
            self._in_head = True
            self._since = 0.0
            self._framing_bytes = self._drained_bytes = 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        # Only an upper bound of the head's size is known, and most are far below the limit.
        if self._framing_bytes + self._read_bytes > self._max_head_bytes and (
            sum(len(name) + len(value) + 4 for name, value in self.headers) > self._max_head_bytes
        ):
            self._fail(self._head_too_large())
        if len(self.url) > self._max_url_bytes or len(self.headers) > self._max_headers:
            self._fail(self._head_too_large())
        hosts = credentials = 0
        for name, _ in self.headers:
            if name == b"host":
                hosts += 1
            elif name == b"authorization":
                credentials += 1
        if (hosts != 1 or credentials > 1) and self._is_ambiguous(hosts, credentials):
            self._fail(InvalidRequest("A request has exactly one Host header, and at most one Authorization header."))
        if len(self.pipeline) >= MAX_PIPELINED:
            self._fail(InvalidRequest("Too many requests wait on this connection."))
        self._in_head = False
        self._in_body = True
        self._body_bytes = self._framing_bytes = 0
        self._since = 0.0
        super().on_headers_complete()
        self.headers = []  # for trailers, which are dropped: the list before belongs to the request

    def on_body(self, body: bytes) -> None:
        # uvicorn's own without WebSockets, and here on the hot path.
        self._framing_bytes = 0
        self._body_bytes += len(body)
        cycle = self.cycle
        if cycle.response_complete:
            self._drain(body, MAX_DRAINED_BODY_BYTES)
            return
        cycle.body += body
        if len(cycle.body) > HIGH_WATER_LIMIT:
            self.flow.pause_reading()
        cycle.message_event.set()

    def on_message_complete(self) -> None:
        self._in_body = False
        cycle = self.cycle
        if not cycle.response_complete:
            cycle.more_body = False
            cycle.message_event.set()

    def on_response_complete(self) -> None:
        cycle = self.cycle
        if cycle.body and cycle.response_complete:
            cycle.body.clear()  # what the application did not read would stay until the next request
        super().on_response_complete()

    def check_progress(self, now: float) -> None:
        """Close the connection when its client takes too long for a head, the next part of a body, or to read."""
        if self._linger_until is not None:
            if now >= self._linger_until:
                self.transport.abort()
            return
        if self._is_unread(now):
            self._guard.reject("send_timeout", self._address)
            self.transport.abort()
        elif self.transport.is_closing():
            return
        elif self._half_closed:
            if self._is_reset():
                self.transport.abort()
        elif self._discarding or self.flow.read_paused or self._since == 0.0:
            self._since = now  # while the server does not read, the client cannot be late
        elif self._in_head:
            if now - self._since > self._limits.head_timeout.total_seconds():
                self._refuse(RequestTimedOut("The request's head did not arrive in time."), "head_timeout")
        elif self._in_body and now - self._since > self._limits.body_timeout.total_seconds():
            if self._body_bytes < self._limits.min_body_bytes:
                self._refuse(RequestTimedOut("The request's body did not arrive in time."), "body_timeout")
            self._since, self._body_bytes = now, 0

    def _is_unread(self, now: float) -> bool:
        """Whether the client has accepted no byte of what waits for it for too long."""
        unsent_bytes: int = self.transport.get_write_buffer_size()
        if unsent_bytes == 0 or unsent_bytes != self._unsent_bytes:
            self._unsent_bytes, self._unsent_since = unsent_bytes, now
            return False
        stalled: bool = now - self._unsent_since > self._limits.send_timeout.total_seconds()
        return stalled

    def _is_reset(self) -> bool:
        """Whether the client answered bytes by a reset; the event loop watches no descriptor after its end of file."""
        connection = self.transport.get_extra_info("socket")
        if connection is None or not hasattr(socket, "TCP_INFO"):
            return False
        state: int = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0]
        return state == TCP_CLOSE

    def _is_ambiguous(self, hosts: int, credentials: int) -> bool:
        # RFC 9112, 3.2: a proxy before us could use another of two hosts or keys than we do. HTTP/1.0 may have no host.
        return credentials > 1 or hosts > 1 or self.parser.get_http_version() == "1.1"

    def _head_too_large(self) -> ArgosyError:
        if len(self.url) > self._max_url_bytes:
            return UriTooLong(f"The URL is longer than {self._max_url_bytes} bytes.")
        return HeadersTooLarge(
            f"The headers have more than {self._max_head_bytes} bytes, or {self._max_headers} lines."
        )

    def _drain(self, data: bytes, max_bytes: int) -> None:
        """Drop what comes after the response; from a client that does not stop it is no longer read."""
        self._drained_bytes += len(data)
        if self._drained_bytes > max_bytes and self._admitted and not self.transport.is_closing():
            self.flow.pause_reading()
            cycle: RequestResponseCycle | None = self.cycle
            if self._linger_until is None and (cycle is None or cycle.response_complete):
                self._discarding = True
                self._linger_until = self.loop.time() + LINGER_SECONDS

    def _fail(self, error: ArgosyError) -> None:
        """Stop the parser from within one of its callbacks; `data_received` responds."""
        self._error = error
        raise ValueError(error.reason)

    def _refuse(self, error: ArgosyError, reason: str = "") -> None:
        """Respond with an error when the client can still take one, and close."""
        self._guard.reject(reason or error.code, self._address)
        self._discarding = True
        cycle: RequestResponseCycle | None = self.cycle
        if cycle is not None and not cycle.response_complete:
            if self._in_head:
                cycle.keep_alive = False  # an earlier request of this connection is answered first, and alone
                return
            cycle.disconnected = True
            cycle.message_event.set()
            if cycle.response_started:
                self.transport.abort()
                return
        if self._in_head and self._framing_bytes == 0:
            self.transport.close()  # it never sent anything
            return
        if cycle is None or not cycle.response_complete or self._in_head:
            self.transport.write(raw_response(error))
        self.transport.write_eof()
        self.flow.resume_reading()
        self._linger_until = self.loop.time() + LINGER_SECONDS
