"""HTTP connections: their limits, and a transport that coalesces what is written to them.

uvicorn has no limits: a connection that sends nothing, or a byte per minute, would stay open for ever, and a URL
of 100 MB would be copied once for each piece that arrives. `chassis.http.bounded` enforces them.
"""

from __future__ import annotations

import asyncio
import resource
import socket
from collections import Counter
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final, Protocol

import orjson
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from chassis.errors import ArgosyError, Kind
from chassis.http.errors import STATUS, error_headers, openai_error
from chassis.telemetry import counter, gauge, logger
from chassis.telemetry.rate_limited import RateLimitedLog

CONNECTIONS = gauge("argosy_http_connections", "Open HTTP connections by server, updated every second.", ("server",))
REJECTED = counter(
    "argosy_http_connections_rejected_total",
    "HTTP connections closed because they broke a limit, by server and reason.",
    ("server", "reason"),
)
PHRASES: Final = {
    400: b"Bad Request",
    408: b"Request Timeout",
    414: b"URI Too Long",
    431: b"Request Header Fields Too Large",
    503: b"Service Unavailable",
}
# Descriptors that are not for clients of the public port: databases, other services, files, and the ops port.
RESERVED_DESCRIPTORS: Final = 512
# An idle connection takes about 20 KB of memory, so that descriptors alone do not bound it.
MAX_DEFAULT_CONNECTIONS: Final = 16_384
# More than this is written at once, so that the real transport notices a slow client and pauses the writer.
MAX_BUFFERED_BYTES: Final = 32 * 1024

log = RateLimitedLog(logger("chassis.http"), interval_seconds=10.0)


class UriTooLong(ArgosyError):
    """The URL of the request is longer than the server accepts. The status is 414."""

    kind, reason = Kind.INVALID, "URI_TOO_LONG"


class HeadersTooLarge(ArgosyError):
    """The headers of the request are together larger, or more, than the server accepts. The status is 431."""

    kind, reason = Kind.INVALID, "HEADERS_TOO_LARGE"


class RequestTimedOut(ArgosyError):
    """The client took too long to send the request. The status is 408."""

    kind, reason = Kind.INVALID, "REQUEST_TIMED_OUT"


class TooManyConnections(ArgosyError):
    """The server, or the client's address, has as many connections open as are allowed; try again."""

    kind, reason = Kind.UNAVAILABLE, "TOO_MANY_CONNECTIONS"


# RFC 9110 and RFC 6585 have statuses for these, where the kind alone would say 400.
_STATUS_BY_ERROR: Final[dict[type[ArgosyError], int]] = {UriTooLong: 414, HeadersTooLarge: 431, RequestTimedOut: 408}


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """What one server allows.

    `max_connections` None takes what the process's limit of open files leaves, `max_connections_per_address` None a
    quarter of all connections; 0 is no limit per address. An IPv6 client's address is its /64 network.
    """

    max_connections: int | None = None
    max_connections_per_address: int | None = None
    max_url_bytes: int = 8 * 1024
    max_head_bytes: int = 32 * 1024
    max_headers: int = 128
    head_timeout: timedelta = timedelta(seconds=15)
    body_timeout: timedelta = timedelta(seconds=30)
    min_body_bytes: int = 64 * 1024
    """A body that brings less than this within a `body_timeout` is given up."""
    send_timeout: timedelta = timedelta(seconds=60)
    """A client that accepts no byte of its answer for this long is given up."""
    keep_alive: timedelta = timedelta(seconds=75)
    """Longer than the 60 s of common proxies, so that they never reuse a connection that is being closed."""


class Guarded(Protocol):
    """A connection, as the guard sees it."""

    def check_progress(self, now: float) -> None:
        """Close the connection if its client takes too long."""


@dataclass(slots=True)
class ConnectionGuard:
    """Counts the connections of one server, and closes those that break its limits. One per server, on its loop."""

    server: str
    limits: ConnectionLimits
    max_connections: int = field(init=False)
    max_per_address: int = field(init=False)
    _connections: set[Guarded] = field(default_factory=set)
    _by_address: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        limits = self.limits
        self.max_connections = limits.max_connections or default_max_connections()
        per_address = limits.max_connections_per_address
        self.max_per_address = max(1, self.max_connections // 4) if per_address is None else per_address

    def admit(self, connection: Guarded, address: str) -> TooManyConnections | None:
        """Count a new connection, or return why it is refused. An empty address (a Unix socket) has no own limit."""
        if len(self._connections) >= self.max_connections:
            return self._refuse("connections", "The server has too many connections open.", address)
        if address and 0 < self.max_per_address <= self._by_address[address]:
            return self._refuse("connections_per_address", "Your address has too many connections open.", address)
        self._connections.add(connection)
        self._by_address[address] += 1
        return None

    def release(self, connection: Guarded, address: str) -> None:
        """Forget a connection that was admitted."""
        self._connections.discard(connection)
        self._by_address[address] -= 1
        if self._by_address[address] <= 0:
            del self._by_address[address]

    def reject(self, reason: str, address: str) -> None:
        """Count a connection that is given up, and log it at a bounded rate."""
        REJECTED.labels(self.server, reason).inc()
        log.warning(
            "http_connection_rejected",
            key=f"{self.server}.{reason}",
            server=self.server,
            reason=reason,
            address=address,
            open=len(self._connections),
        )

    def sweep(self, now: float) -> None:
        """Close the connections whose clients take too long. Call it about once per second."""
        CONNECTIONS.labels(self.server).set(len(self._connections))
        for connection in list(self._connections):
            connection.check_progress(now)

    def _refuse(self, reason: str, message: str, address: str) -> TooManyConnections:
        self.reject(reason, address)
        return TooManyConnections(message, retry_after=timedelta(seconds=1))


def default_max_connections() -> int:
    """What the process's limit of open files leaves for clients."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return MAX_DEFAULT_CONNECTIONS
    return min(MAX_DEFAULT_CONNECTIONS, soft - min(RESERVED_DESCRIPTORS, soft // 2))


def client_network(peer: object) -> str:
    """What is counted as one client: an IPv4 address, or the /64 network that an IPv6 client chooses addresses from."""
    if not isinstance(peer, tuple):
        return ""
    address = str(peer[0])
    if ":" not in address:
        return address
    packed = socket.inet_pton(socket.AF_INET6, address.partition("%")[0])
    if packed[:12] == b"\0" * 10 + b"\xff\xff":
        return socket.inet_ntop(socket.AF_INET, packed[12:])
    return socket.inet_ntop(socket.AF_INET6, packed[:8] + b"\0" * 8) + "/64"


def raw_response(error: ArgosyError) -> bytes:
    """An error response, for a connection that is closed after it."""
    body = orjson.dumps(openai_error(error))
    status = _STATUS_BY_ERROR.get(type(error), STATUS[error.kind])
    headers = b"".join(b"%s: %s\r\n" % header for header in error_headers(error))
    return (
        b"HTTP/1.1 %d %s\r\ncontent-type: application/json\r\ncontent-length: %d\r\n%sconnection: close\r\n\r\n%s"
        % (status, PHRASES.get(status, b"Error"), len(body), headers, body)
    )


class CoalescingTransport(asyncio.Transport):
    """Coalesces the writes of one event loop turn: uvicorn writes a response's head and body separately.

    A system call costs about a third of a whole request on the loopback. Delaying a write to the end of the turn costs
    no time that a client could measure.
    """

    __slots__ = ("_chunks", "_loop", "_size_bytes", "_transport")

    def __init__(self, transport: asyncio.Transport) -> None:
        super().__init__()
        self._transport = transport
        self._loop = asyncio.get_running_loop()
        self._chunks: list[bytes] = []
        self._size_bytes = 0

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Write `data` at the end of this turn."""
        if not self._chunks:
            self._loop.call_soon(self._flush)
        self._chunks.append(bytes(data))
        self._size_bytes += len(data)
        if self._size_bytes > MAX_BUFFERED_BYTES:
            self._flush()

    def close(self) -> None:
        """Write what is buffered, then close."""
        self._flush()
        self._transport.close()

    def abort(self) -> None:
        """Close and drop what is buffered."""
        self._chunks.clear()
        self._transport.abort()

    def write_eof(self) -> None:
        """Write what is buffered, then close this half."""
        self._flush()
        self._transport.write_eof()

    def can_write_eof(self) -> bool:
        return self._transport.can_write_eof()

    def get_write_buffer_size(self) -> int:
        return self._size_bytes + self._transport.get_write_buffer_size()

    def is_closing(self) -> bool:
        return self._transport.is_closing()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._transport.get_extra_info(name, default)

    def pause_reading(self) -> None:
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        self._transport.resume_reading()

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._transport.set_protocol(protocol)

    def _flush(self) -> None:
        chunks = self._chunks
        if not chunks:
            return
        data = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        chunks.clear()
        self._size_bytes = 0
        self._transport.write(data)


class CoalescingProtocol(HttpToolsProtocol):
    """uvicorn's HTTP protocol over a coalescing transport."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # uvicorn's own
        super().connection_made(CoalescingTransport(transport))
