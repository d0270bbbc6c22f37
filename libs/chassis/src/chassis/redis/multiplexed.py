"""Redis for the hot path: all callers share one connection, at a fraction of the CPU of a pool (docs/adr/0011)."""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections import deque
from collections.abc import Callable, Sequence
from contextvars import copy_context
from typing import Any, Final, Self, cast

import hiredis
from redis.asyncio.connection import Connection as Address
from redis.asyncio.connection import SSLConnection, UnixDomainSocketConnection, parse_url
from redis.exceptions import NoScriptError, ResponseError

from chassis.aio import Backoff, ConnectionLog
from chassis.circuit_breaker import CircuitBreaker
from chassis.errors import Unavailable
from chassis.settings import RedisSection
from chassis.telemetry import logger

TIMEOUT_SECONDS: Final = 0.05  # of a command
CONNECT_TIMEOUT_SECONDS: Final = 1.0  # of connecting, with the TLS handshake and the log-in
MAX_RETRY_SECONDS: Final = 1.0
MAX_IN_FLIGHT: Final = 8192  # commands
MAX_UNSENT_BYTES: Final = 1024 * 1024
UNRESPONSIVE_SECONDS: Final = 0.5  # the connection is closed when a command is overdue for this long
MIN_SWEEP_SECONDS: Final = 0.005
# Error replies that another node, or the same one later, would not give.
TRANSIENT_ERRORS: Final = ("READONLY", "LOADING", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "NOREPLICAS", "OOM")
# Redis 6 puts the place in the script before the error.
SCRIPT_ERROR_PREFIX: Final = re.compile(r"ERR Error running script .*?: -(?=[A-Z]+ )")

Argument = bytes | str | int | float

log = logger("chassis.redis")


class Connection(asyncio.Protocol):
    """One connection: commands are sent together, replies come back in the same order.

    A command costs one future; there is no task or timer per command, only one timer for the connection. It calls
    `on_success` for replies in time, `on_failure` for others; the future `lost` is done at the end.
    """

    def __init__(self, timeout_seconds: float, on_success: Callable[[], None], on_failure: Callable[[], None]) -> None:
        self._timeout = timeout_seconds
        self._on_success = on_success
        self._on_failure = on_failure
        self._loop = asyncio.get_running_loop()
        # Otherwise timers would run in the context of the request that set them, and log its ids.
        self._context = copy_context()
        self.lost: asyncio.Future[None] = self._loop.create_future()
        self._reader = hiredis.Reader()
        self._unsent: list[bytes] = []
        self._pending: deque[tuple[asyncio.Future[Any], float]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._transport: asyncio.WriteTransport | None = None
        self._paused = False

    def send(self, arguments: tuple[Argument, ...]) -> asyncio.Future[Any]:
        """Send a command at the end of this event loop turn; the future has its reply. Raises `Unavailable`."""
        if self._transport is None:
            raise Unavailable("redis is not connected")
        if self._paused or len(self._pending) >= MAX_IN_FLIGHT:
            raise Unavailable("redis does not keep up")
        packed = hiredis.pack_command(arguments)  # type: ignore[arg-type]  # its stub says one argument; it takes any
        if not self._unsent:
            self._loop.call_soon(self._flush, context=self._context)
        self._unsent.append(packed)
        reply = self._loop.create_future()
        due = self._loop.time() + self._timeout
        self._pending.append((reply, due))
        if self._timer is None:
            self._timer = self._loop.call_at(due, self._fail_overdue, context=self._context)
        return reply

    def set_timeout(self, seconds: float) -> None:
        """Set the timeout of the commands that are sent from now on; call it while none is pending."""
        self._timeout = seconds
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def close(self) -> None:
        """Close the connection; pending commands fail with `Unavailable`."""
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.WriteTransport", transport)
        self._transport.set_write_buffer_limits(MAX_UNSENT_BYTES)

    def data_received(self, data: bytes) -> None:
        """Match each reply with the oldest pending command."""
        self._reader.feed(data)
        in_time = False
        try:
            while (value := self._reader.gets()) is not False:
                reply, _ = self._pending.popleft()
                if reply.done():
                    continue  # it was overdue, or its caller was cancelled
                if isinstance(value, hiredis.ReplyError):
                    in_time = self._fail(reply, str(value)) or in_time
                else:
                    reply.set_result(value)
                    in_time = True
        except (hiredis.ProtocolError, IndexError):
            self.close()  # not a Redis, or replies and commands no longer match: no reply can be trusted
        if in_time:
            self._on_success()

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False

    def connection_lost(self, _error: Exception | None) -> None:
        self._transport = None
        if self._timer is not None:
            self._timer.cancel()
        for reply, _ in self._pending:
            if not reply.done():
                reply.set_exception(Unavailable("redis closed the connection"))
        self._pending.clear()
        if not self.lost.done():
            self.lost.set_result(None)

    def _flush(self) -> None:
        if self._transport is not None:
            self._transport.write(b"".join(self._unsent))
        self._unsent.clear()

    def _fail(self, reply: asyncio.Future[Any], message: str) -> bool:
        """Fail a command by an error reply; returns whether Redis itself is healthy."""
        reason = SCRIPT_ERROR_PREFIX.sub("", message)
        if not reason.startswith(TRANSIENT_ERRORS):
            reply.set_exception((NoScriptError if message.startswith("NOSCRIPT") else ResponseError)(message))
            return True
        reply.set_exception(Unavailable("redis cannot do this now"))
        self._on_failure()
        if reason.startswith("READONLY"):
            self.close()  # after a fail-over this is a replica; reconnecting may find the new primary
        return False

    def _fail_overdue(self) -> None:
        """Fail overdue commands. They stay in the queue, because their replies may still arrive and must be matched."""
        now = self._loop.time()
        self._timer = None
        late = False
        next_due = now + self._timeout
        for reply, due in self._pending:
            if due > now:
                next_due = due
                break
            if not reply.done():
                reply.set_exception(Unavailable("redis does not answer in time"))
                late = True
        if late:
            self._on_failure()
        if not self._pending:
            return
        if now - self._pending[0][1] >= UNRESPONSIVE_SECONDS:
            self.close()
            return
        next_sweep = max(next_due, now + MIN_SWEEP_SECONDS)
        self._timer = self._loop.call_at(next_sweep, self._fail_overdue, context=self._context)


class Script:
    """A Lua script, called by its digest."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.digest = hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest()


class MultiplexedRedis:
    """Redis over one connection, with a timeout of 50 ms by default and a circuit breaker; an async context manager.

    It reconnects by itself. A command raises `Unavailable` without a connection and when it is not answered in time;
    in the latter case it may have taken effect, and it is not sent again. Blocking commands must not be sent, because
    all other commands would wait behind them.
    """

    def __init__(
        self, section: RedisSection, breaker: CircuitBreaker | None = None, *, timeout_seconds: float | None = None
    ) -> None:
        """`timeout_seconds` is of a command; a longer one is for commands that nothing waits for."""
        self._timeout_seconds = timeout_seconds
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
        made.set_timeout(TIMEOUT_SECONDS if self._timeout_seconds is None else self._timeout_seconds)
        return made


def _address(url: str) -> Any:
    """Let redis-py parse the URL, with its many forms of users, passwords, TLS and sockets."""
    options: dict[str, Any] = dict(parse_url(url))
    return options.pop("connection_class", Address)(**options)
