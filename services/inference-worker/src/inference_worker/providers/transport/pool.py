"""Kept-alive connections to one upstream, bounded in number."""

import asyncio
import socket
import ssl
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache

from values.addresses import is_link_local, to_address

from inference_worker.providers.transport.connection import Connection
from inference_worker.providers.transport.dial import dial
from inference_worker.providers.transport.proxy import Proxy

KEEPALIVE_OPTIONS = (("TCP_KEEPIDLE", 30), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 3))
"""Idle seconds before the first probe, seconds between probes, and how many may stay unanswered."""


@dataclass(frozen=True, slots=True)
class Address:
    host: str
    port: int
    tls: bool
    proxy: Proxy | None = None
    """A proxy that opens a tunnel to the host."""


class Pool:
    """Hands out connections; a connection is released by itself when its response is complete."""

    def __init__(
        self,
        address: Address,
        *,
        max_connections: int,
        connect_seconds: float,
        keep_alive_seconds: float,
        refuse_link_local: bool = False,
    ) -> None:
        """`connect_seconds` bounds `acquire`, with the wait for a free connection."""
        self._refuse_link_local = refuse_link_local
        self._address = address
        self._connect_seconds = connect_seconds
        self._keep_alive_seconds = keep_alive_seconds
        self._slots = asyncio.Semaphore(max_connections)
        self._idle: dict[Connection, None] = {}
        self._open: set[Connection] = set()
        self._expiry_timer: asyncio.TimerHandle | None = None
        self._retired = False
        self._loop = asyncio.get_running_loop()

    @property
    def size(self) -> int:
        """How many connections are open."""
        return len(self._open)

    @property
    def idle(self) -> int:
        """How many of them wait for a request."""
        return len(self._idle)

    async def acquire(self) -> Connection:
        """Return a usable connection for one request. Raises `OSError`: `TimeoutError` when there is none in time."""
        if self._idle and not self._slots.locked():
            # Nothing here waits, so no timer is needed.
            await self._slots.acquire()
            connection = self._pop_idle()
            if connection is not None:
                return connection
            self._slots.release()
        async with asyncio.timeout(self._connect_seconds):
            await self._slots.acquire()
            return self._pop_idle() or await self._connect()

    async def close(self) -> None:
        if self._expiry_timer is not None:
            self._expiry_timer.cancel()
        for connection in tuple(self._open):
            connection.abort()
        # asyncio calls their `connection_lost` in the loop's next turn.
        await asyncio.sleep(0)

    def retire(self) -> None:
        """Close idle connections now, and each other one when it is released. Calls may still open new ones."""
        self._retired = True
        for connection in tuple(self._idle):
            del self._idle[connection]
            connection.abort()

    def _pop_idle(self) -> Connection | None:
        """Return the connection that was used last: the others may then expire."""
        while self._idle:
            connection, _ = self._idle.popitem()
            if connection.usable and self._loop.time() - connection.idle_since < self._keep_alive_seconds:
                connection.busy = True
                return connection
            connection.abort()
        return None

    async def _connect(self) -> Connection:
        host, port = self._address.host, self._address.port
        tls = tls_context() if self._address.tls else None
        try:
            proxy = self._address.proxy
            transport, connection = await dial(lambda: Connection(self), host, port, tls=tls, proxy=proxy)
        except BaseException:
            self._slots.release()
            raise
        # Looked at after the name was resolved and before anything is sent: names change what they resolve to.
        if self._refuse_link_local and _is_refused(transport.get_extra_info("peername")):
            transport.abort()
            self._slots.release()
            raise PermissionError("the upstream's address is link-local, or of a metadata service")
        if not connection.usable:
            self._slots.release()
            raise ConnectionResetError("closed as soon as it was open")
        connection.busy = True
        self._open.add(connection)
        with suppress(OSError):  # lost meanwhile: the request will fail
            _enable_keepalive(transport.get_extra_info("socket"))
        return connection

    def release(self, connection: Connection) -> None:
        self._free_slot(connection)
        if self._retired:
            connection.abort()
            return
        connection.idle_since = self._loop.time()
        self._idle[connection] = None
        if self._expiry_timer is None:
            self._expiry_timer = self._loop.call_later(self._keep_alive_seconds, self._close_expired)

    def discard(self, connection: Connection) -> None:
        self._free_slot(connection)
        self._open.discard(connection)
        self._idle.pop(connection, None)

    def _free_slot(self, connection: Connection) -> None:
        if connection.busy:
            connection.busy = False
            self._slots.release()

    def _close_expired(self) -> None:
        self._expiry_timer = None
        # In the order in which they became idle.
        for connection in tuple(self._idle):
            left = connection.idle_since + self._keep_alive_seconds - self._loop.time()
            if left > 0:
                self._expiry_timer = self._loop.call_later(left, self._close_expired)
                return
            del self._idle[connection]
            connection.abort()


def _is_refused(peer: tuple[str, int] | None) -> bool:
    address = None if peer is None else to_address(peer[0])
    return address is not None and is_link_local(address)


def _enable_keepalive(sock: socket.socket) -> None:
    """Detect a vanished peer within a minute while its model computes; the system's default is hours."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in KEEPALIVE_OPTIONS:
        if hasattr(socket, option):  # not every system has them
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)


@lru_cache(maxsize=1)
def tls_context() -> ssl.SSLContext:
    """Trust what the system trusts; loaded once per process."""
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    return context
