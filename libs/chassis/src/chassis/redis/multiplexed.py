"""Redis for the hot path: all callers share one connection, at a fraction of the CPU of a pool (docs/adr/0011)."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from typing import Any, Final, Self

from redis.asyncio.connection import Connection as Address
from redis.asyncio.connection import SSLConnection, UnixDomainSocketConnection, parse_url
from redis.exceptions import NoScriptError

from chassis.aio import ConnectionLog
from chassis.backoff import Backoff
from chassis.circuit_breaker import CircuitBreaker
from chassis.errors import Unavailable
from chassis.redis.connection import Argument, Connection
from chassis.settings import RedisSection
from chassis.telemetry import logger

TIMEOUT_SECONDS: Final = 0.05  # of a command
CONNECT_TIMEOUT_SECONDS: Final = 1.0  # of connecting, with the TLS handshake and the log-in
MAX_RETRY_SECONDS: Final = 1.0

log = logger("chassis.redis")


class Script:
    """A Lua script, called by its digest."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.digest = hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest()


class MultiplexedRedis:
    """Redis over one connection, with a timeout of 50 ms and a circuit breaker; an async context manager.

    It reconnects by itself. A command raises `Unavailable` without a connection and when it is not answered in time;
    in the latter case it may have taken effect, and it is not sent again. Blocking commands must not be sent, because
    all other commands would wait behind them.
    """

    def __init__(self, section: RedisSection, breaker: CircuitBreaker | None = None) -> None:
        self.breaker = breaker or CircuitBreaker("redis (multiplexed)")
        self._address = _address(section.url)
        self._connection: Connection | None = None
        self._connection_log = ConnectionLog(log, "redis_connection_lost", "redis_connection_recovered")

    async def __aenter__(self) -> Self:
        attempted = asyncio.Event()
        self._task = asyncio.create_task(self._keep_connected(attempted), name="redis connection")
        await attempted.wait()  # a service that starts while Redis is up has a connection from its first request on
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    def send(self, *arguments: Argument) -> asyncio.Future[Any]:
        """Send a command; await its reply. Both may raise `Unavailable`, the reply also redis-py's `ResponseError`."""
        connection = self._connection
        if connection is None:
            raise Unavailable("redis is not connected")
        self.breaker.before_call()
        return connection.send(arguments)

    async def run(self, script: Script, keys: Sequence[Argument], arguments: Sequence[Argument]) -> Any:
        """Run a script; its source is sent only when Redis does not have it."""
        try:
            return await self.send("EVALSHA", script.digest, len(keys), *keys, *arguments)
        except NoScriptError:
            return await self.send("EVAL", script.source, len(keys), *keys, *arguments)

    async def ping(self) -> None:
        """Raise `Unavailable` unless Redis answers."""
        await self.send("PING")

    async def _keep_connected(self, attempted: asyncio.Event) -> None:
        backoff = Backoff(min_seconds=0.05, max_seconds=MAX_RETRY_SECONDS)
        while True:
            connection: Connection | None = None
            try:
                async with asyncio.timeout(CONNECT_TIMEOUT_SECONDS):
                    connection = await self._connect()
                self._connection = connection
                self._connection_log.set(connected=True)
                attempted.set()
                await self._wait_until_lost(connection, backoff)
                self._connection_log.set(connected=False, error="the connection ended")
            except Exception as error:  # noqa: BLE001 - any other end of this task would end all reconnecting
                self._connection_log.set(connected=False, error=str(error) or type(error).__name__)
            finally:
                self._connection = None
                attempted.set()
                if connection is not None:
                    connection.close()
            await asyncio.sleep(backoff.next())

    async def _wait_until_lost(self, connection: Connection, backoff: Backoff) -> None:
        """Wait for the connection's end. Only a connection that lasted resets the backoff."""
        loop = asyncio.get_running_loop()
        connected_at = loop.time()
        await connection.lost
        if loop.time() - connected_at > MAX_RETRY_SECONDS:
            backoff.reset()

    async def _connect(self) -> Connection:
        loop, address = asyncio.get_running_loop(), self._address
        made = Connection(CONNECT_TIMEOUT_SECONDS, self.breaker.record_success, self.breaker.record_failure)
        if isinstance(address, UnixDomainSocketConnection):
            await loop.create_unix_connection(lambda: made, address.path)
        else:
            tls = address.ssl_context.get() if isinstance(address, SSLConnection) else None
            await loop.create_connection(lambda: made, address.host, address.port, ssl=tls)
        try:
            if address.password:
                await made.send(("AUTH", address.username or "default", address.password))
            if address.db:
                await made.send(("SELECT", address.db))
            await made.send(("PING",))  # an open port does not mean that Redis answers
        except BaseException:
            made.close()
            raise
        made.set_timeout(TIMEOUT_SECONDS)
        return made


def _address(url: str) -> Any:
    """Let redis-py parse the URL, with its many forms of users, passwords, TLS and sockets."""
    options: dict[str, Any] = dict(parse_url(url))
    return options.pop("connection_class", Address)(**options)
