"""Kept-alive connections to one upstream, bounded in number."""

import asyncio
import socket
import ssl
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache

from inference_worker.adapters.connection import Connection

PROBES = (("TCP_KEEPIDLE", 30), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 3))
"""Seconds of silence before the first probe, seconds between them, and how many may stay unanswered."""


@dataclass(frozen=True, slots=True)
class Address:
    """Whom to connect to."""

    host: str
    port: int
    tls: bool


class Pool:
    """Connections are taken, and come back by themselves when their reply is complete."""

    def __init__(self, address: Address, *, most: int, connect_seconds: float, keep_alive_seconds: float) -> None:
        """Taking one takes at most `connect_seconds`, with the wait for a free one."""
        self._address = address
        self._connect_seconds = connect_seconds
        self._keep_alive_seconds = keep_alive_seconds
        self._free = asyncio.Semaphore(most)
        self._idle: dict[Connection, None] = {}
        self._open: set[Connection] = set()
        self._sweeping: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()

    async def take(self) -> Connection:
        """A usable connection for one request. Raises `OSError`: `TimeoutError` when there is none in time."""
        if self._idle and not self._free.locked():
            # Neither waits, so that no timer is needed.
            await self._free.acquire()
            connection = self._kept()
            if connection is not None:
                return connection
            self._free.release()
        async with asyncio.timeout(self._connect_seconds):
            await self._free.acquire()
            return self._kept() or await self._connect()

    async def close(self) -> None:
        """Drop all connections."""
        if self._sweeping is not None:
            self._sweeping.cancel()
        for connection in tuple(self._open):
            connection.abort()
        # They hear of it in the loop's next turn.
        await asyncio.sleep(0)

    def _kept(self) -> Connection | None:
        """Whichever was used last: the others may then grow old and be closed."""
        while self._idle:
            connection, _ = self._idle.popitem()
            if connection.usable and self._loop.time() - connection.idle_since < self._keep_alive_seconds:
                connection.busy = True
                return connection
            connection.abort()
        return None

    async def _connect(self) -> Connection:
        at = self._address
        tls = _tls() if at.tls else None
        try:
            made, connection = await self._loop.create_connection(lambda: Connection(self), at.host, at.port, ssl=tls)
        except BaseException:
            self._free.release()
            raise
        if not connection.usable:
            self._free.release()
            raise ConnectionResetError("closed as soon as it was open")
        connection.busy = True
        self._open.add(connection)
        with suppress(OSError):  # lost meanwhile: whoever asks next will hear of it
            _probe(made.get_extra_info("socket"))
        return connection

    def back(self, connection: Connection) -> None:
        """Keep it for the next request."""
        self._release(connection)
        connection.idle_since = self._loop.time()
        self._idle[connection] = None
        if self._sweeping is None:
            self._sweeping = self._loop.call_later(self._keep_alive_seconds, self._sweep)

    def gone(self, connection: Connection) -> None:
        """Forget it."""
        self._release(connection)
        self._open.discard(connection)
        self._idle.pop(connection, None)

    def _release(self, connection: Connection) -> None:
        if connection.busy:
            connection.busy = False
            self._free.release()

    def _sweep(self) -> None:
        """Close what has been idle for too long, and come again for the others."""
        self._sweeping = None
        for connection in tuple(self._idle):
            left = connection.idle_since + self._keep_alive_seconds - self._loop.time()
            if left > 0:
                self._sweeping = self._loop.call_later(left, self._sweep)
                return
            del self._idle[connection]
            connection.abort()


def _probe(sock: socket.socket) -> None:
    """Notice within a minute that a peer has vanished while its model thinks; by itself the system asks after hours."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in PROBES:
        if hasattr(socket, option):  # not every system has them
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)


@lru_cache(maxsize=1)
def _tls() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    return context
