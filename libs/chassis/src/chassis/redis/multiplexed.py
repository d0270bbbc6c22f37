"""Redis for the hot path: one connection that all share, at a fraction of what a pool of them costs."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from typing import Any, Final, Self

from redis.asyncio.connection import Connection as Address
from redis.asyncio.connection import SSLConnection, UnixDomainSocketConnection, parse_url
from redis.exceptions import NoScriptError

from chassis.backoff import Backoff
from chassis.errors import Unavailable
from chassis.redis.breaker import Breaker
from chassis.redis.connection import Argument, Connection
from chassis.settings import RedisSection
from chassis.telemetry import logger

PATIENCE_SECONDS: Final = 0.05
CONNECT_SECONDS: Final = 1.0
LONGEST_PAUSE_SECONDS: Final = 1.0

log = logger("chassis.redis")


class Script:
    """A Lua script, known to Redis by its digest."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.digest = hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest()


class MultiplexedRedis:
    """Redis over one connection, with 50 ms of patience and a breaker; an async context manager.

    It connects by itself, again and again. A command is Unavailable while there is no connection, and when it is not
    answered in time; it may have been done then, and is not sent again. Commands that block must not be sent: all
    others would wait behind them.
    """

    def __init__(self, section: RedisSection, breaker: Breaker | None = None) -> None:
        self.breaker = breaker or Breaker("redis (multiplexed)")
        self._address = _address(section.url)
        self._connection: Connection | None = None
        self._connected = True

    async def __aenter__(self) -> Self:
        tried = asyncio.Event()
        self._keeper = asyncio.create_task(self._keep(tried), name="redis connection")
        await tried.wait()  # so that who starts with Redis there begins with it
        return self

    async def __aexit__(self, *_: object) -> None:
        self._keeper.cancel()
        await asyncio.gather(self._keeper, return_exceptions=True)

    def send(self, *arguments: Argument) -> asyncio.Future[Any]:
        """Send a command; await what this answers. Raises Unavailable, there or here, or redis-py's ResponseError."""
        connection = self._connection
        if connection is None:
            raise Unavailable("redis is not connected")
        self.breaker.admit()
        return connection.send(arguments)

    async def run(self, script: Script, keys: Sequence[Argument], arguments: Sequence[Argument]) -> Any:
        """Run a script; Redis is given its text when it does not know it."""
        try:
            return await self.send("EVALSHA", script.digest, len(keys), *keys, *arguments)
        except NoScriptError:
            return await self.send("EVAL", script.source, len(keys), *keys, *arguments)

    async def ping(self) -> None:
        """Return when Redis answers; raise `Unavailable` when it does not."""
        await self.send("PING")

    async def _keep(self, tried: asyncio.Event) -> None:
        """Be connected, until cancelled."""
        backoff = Backoff(first=0.05, longest=LONGEST_PAUSE_SECONDS)
        while True:
            connection: Connection | None = None
            try:
                async with asyncio.timeout(CONNECT_SECONDS):
                    connection = await self._connect()
                self._connection = connection
                self._say(connected=True)
                tried.set()
                await self._lasting(connection, backoff)
                self._say(connected=False, error="the connection ended")
            except Exception as error:  # noqa: BLE001 - nobody else would connect
                self._say(connected=False, error=str(error) or type(error).__name__)
            finally:
                self._connection = None
                tried.set()
                if connection is not None:
                    connection.close()
            await asyncio.sleep(backoff.next())

    async def _lasting(self, connection: Connection, backoff: Backoff) -> None:
        """Wait for the connection's end; one that ends soon does not make the next come sooner."""
        loop = asyncio.get_running_loop()
        began_at = loop.time()
        await connection.lost
        if loop.time() - began_at > LONGEST_PAUSE_SECONDS:
            backoff.reset()

    async def _connect(self) -> Connection:
        loop, address = asyncio.get_running_loop(), self._address
        made = Connection(PATIENCE_SECONDS, self.breaker.succeeded, self.breaker.failed)
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
            await made.send(("PING",))  # a port that takes connections is no Redis that answers
        except BaseException:
            made.close()
            raise
        return made

    def _say(self, *, connected: bool, error: str = "") -> None:
        if connected == self._connected:
            return
        self._connected = connected
        if connected:
            log.info("redis_connected_again")
        else:
            log.warning("redis_not_connected", error=error)


def _address(url: str) -> Any:
    """Let redis-py read the URL: users, passwords, TLS and sockets are written in it in many ways."""
    options: dict[str, Any] = dict(parse_url(url))
    return options.pop("connection_class", Address)(**options)
